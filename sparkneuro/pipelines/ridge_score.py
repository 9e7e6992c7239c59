"""Score predictions against the voxel table that was measured: Pearson r and R^2 of every voxel.

PREDICTIONS is a voxel table of predicted series (of 'sparkneuro ridge predict'), or the folder of an encoding model, whose
predictions of held-out runs are taken. Each of its runs is compared with the same run of TABLE, all runs of a subject together;
a voxel is scored where both tables have it in every run. Maps, tables, a summary and pictures come out; see scores.json first.
A scoring that was interrupted goes on when the same command is given again.
"""

import json
import logging
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.target_block import read_columns, read_targets, write_columns
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.encoding.encoder_record import RECORD, read_record, read_scores
from sparkneuro.encoding.fit_encoder import PREDICTIONS
from sparkneuro.encoding.scores import correlation, merge, r2, score_sums
from sparkneuro.encoding.spark import run_or_raise
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.score_maps import write_scores
from sparkneuro.pipelines.settings import argument, option

log = logging.getLogger(__name__)

WORK = "_work"
OPTIONS = {"command": "ridge score"}


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ridge score``; see each field's help."""

    predictions: str = argument("voxel table of predicted series, or folder of an encoding model")
    table: str = argument("voxel table that was measured")
    output: str = option("scores", "folder of maps and scores, on a filesystem that all machines share")


@dataclass(frozen=True)
class Comparison:
    """Predictions, what was measured, and the runs that are compared.

    Parameters
    ----------
    predictions : VoxelTable
        Predicted series.
    table : VoxelTable
        Measured series, on the same voxels and in the same blocks.
    runs : dict of str to list of str
        Keys of each subject's runs; both tables have them, with equally many scans.
    model : str or None
        Folder of the encoding model that holds the predictions.
    """

    predictions: VoxelTable
    table: VoxelTable
    runs: dict
    model: str | None

    def n_scans(self, subject):
        """Count the scans that are compared.

        Parameters
        ----------
        subject : str
            Label.

        Returns
        -------
        n_scans : int
            Of all its runs.
        """
        return sum(self.table.find_run(key).n_scans for key in self.runs[subject])


def needs_spark(settings):
    """Say whether a Spark session is needed: when blocks are missing, once the tables are known to go together.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.

    Raises
    ------
    FormatError
        When a table is not one, or they do not go together.
    SettingsError
        When the output folder holds something else.
    """
    return bool(find_missing(match_predictions(settings.predictions, settings.table), settings.output, OPTIONS))


def run(settings, spark):
    """Score the predictions, and write maps, tables, a summary and pictures.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when no block is missing.

    Returns
    -------
    result : dict
        Where the scores are, and how good.
    """
    comparison = match_predictions(settings.predictions, settings.table)
    scores = compute_blocks(comparison, settings.output, score_block, OPTIONS, spark)
    if comparison.predictions.units != comparison.table.units:
        units = f"{comparison.predictions.units}, and those of {settings.table} in {comparison.table.units}"
        log.warning("the series of %s are in %s: r can be compared, R^2 cannot.", settings.predictions, units)
    summary = write_scores(settings.output, comparison.table, scores, describe(comparison, scores))
    result = {"scores": settings.output}
    for subject, facts in summary["subjects"].items():
        r = facts["r"]
        said = "no r" if r["mean"] is None else f"r {r['mean']:.3f} in the mean, {r['max']:.3f} at most"
        result[f"sub-{subject}"] = f"{facts['n_targets']:,} voxels, {facts['n_scans']:,} scans, {said}"
    return result


def score_block(job):
    """Score one block of one subject's targets.

    Parameters
    ----------
    job : dict
        See `read_pairs`; ``output``, the file that is written: voxel, r and r2, one row a target.

    Returns
    -------
    result : dict
        ``n_targets``.
    """
    parts = [(voxel, score_sums(Y, prediction)) for voxel, Y, prediction in read_pairs(job)]
    voxel = reduce(np.intersect1d, [own for own, _ in parts])
    sums = reduce(merge, [_take(sums, np.isin(own, voxel)) for own, sums in parts])
    columns = {"voxel": voxel, "r": correlation(sums).astype(np.float32), "r2": r2(sums).astype(np.float32)}
    write_columns(job["output"], columns)
    return {"n_targets": len(voxel)}


def read_pairs(job):
    """Read one block of measured and predicted series, run by run.

    Parameters
    ----------
    job : dict
        ``predictions`` and ``table`` (paths), ``runs`` (keys) and ``block``.

    Yields
    ------
    voxel : ndarray of shape (n_targets,), int32
        Numbers of the voxels that both tables have in this run.
    Y, prediction : ndarray of shape (n_scans, n_targets), float32
        Measured and predicted series. Writable.
    """
    predictions, table = VoxelTable.open(job["predictions"]), VoxelTable.open(job["table"])
    for key in job["runs"]:
        names, Y, _ = read_targets(table, [table.find_run(key)], job["block"])
        other_names, prediction, _ = read_targets(predictions, [predictions.find_run(key)], job["block"])
        voxel = np.intersect1d(names, other_names, assume_unique=True)
        yield voxel, _keep(Y, names, voxel), _keep(prediction, other_names, voxel)


def match_predictions(predictions, table):
    """Find the measured run of every predicted one.

    Parameters
    ----------
    predictions : str
        Path or URI of a voxel table, or of an encoding model.
    table : str
        Path or URI of the voxel table that was measured.

    Returns
    -------
    comparison : Comparison
        What is compared; nothing large has been read.

    Raises
    ------
    FormatError
        When one is no table, or they differ in their voxels, lack a run, or have runs of other lengths.
    """
    predicted, model = _open_predictions(_absolute(predictions))
    measured, runs = VoxelTable.open(_absolute(table)), {}
    _check_grids(predicted, measured)
    for run in predicted.runs:
        other = measured.find_run(run.key)
        if other.n_scans != run.n_scans:
            lengths = f"{run.n_scans} scans, in {measured.path} it has {other.n_scans}"
            raise FormatError(f"{predicted.path}: run {run.key} has {lengths}; predict it from features with a row a scan.")
        runs.setdefault(run.subject, []).append(run.key)
    return Comparison(predicted, measured, runs, model)


def find_missing(comparison, output, options):
    """Describe a job for each block whose result is not there yet.

    Parameters
    ----------
    comparison : Comparison
        What is compared.
    output : str
        Folder of the results.
    options : dict
        ``command``, and what else the numbers depend on.

    Returns
    -------
    jobs : list of dict
        See `read_pairs`; ``subject``, ``output`` (the file of the result) and `options`.

    Raises
    ------
    SettingsError
        When the folder holds something else.
    """
    jobs, recipe = _make_jobs(comparison, output, options), _make_recipe(comparison, options)
    path = store.join(output, WORK, "recipe.json")
    before = json.loads(store.read_bytes(path)) if store.exists(path) else None
    if before is None and store.list_files(output):
        raise SettingsError(f"{output}: this folder holds something else than results of {options['command']}; choose another.")
    if before is None or before == recipe:
        return [job for job in jobs if not store.exists(job["output"])]
    others = [name for name in recipe if name != "changed" and before.get(name) != recipe[name]]
    if others:
        raise SettingsError(f"{output} holds results with other {', '.join(others)}; delete it or choose another folder.")
    return jobs  # a table was made again since


def compute_blocks(comparison, output, function, options, spark):
    """Call a task for each block whose result is not there yet, one Spark task a block, and read all results.

    Parameters
    ----------
    comparison : Comparison
        What is compared.
    output : str
        Folder of the results.
    function : callable
        ``job -> result`` that writes the file ``job["output"]``, at last.
    options : dict
        See `find_missing`.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when no block is missing.

    Returns
    -------
    scores : dict of str to dict of str to ndarray
        Each subject's columns, by voxel; a few numbers a target come to the driver.
    """
    store.delete_unfinished(output)
    jobs, missing = _make_jobs(comparison, output, options), find_missing(comparison, output, options)
    if len(missing) == len(jobs):
        store.delete(store.join(output, WORK))
        recipe = json.dumps(_make_recipe(comparison, options), indent=1)
        store.write_bytes(store.join(output, WORK, "recipe.json"), recipe.encode())
    else:
        log.warning("%d of %d blocks are there already.", len(jobs) - len(missing), len(jobs))
    n_bytes = 8 * comparison.table.block_size
    sizes = {job["output"]: n_bytes * comparison.n_scans(job["subject"]) for job in missing}
    with show_progress(options["command"], sizes, lambda: filter(store.exists, sizes), "blocks"):
        if missing:
            run_or_raise(spark, function, missing)
    parts = {}
    for job in jobs:
        parts.setdefault(job["subject"], []).append(read_columns(job["output"]))
    return {
        subject: {name: np.concatenate([part[name] for part in mine]) for name in mine[0]} for subject, mine in parts.items()
    }


def describe(comparison, scores):
    """Describe a comparison for the summary, and add the penalties of the model that predicted.

    Parameters
    ----------
    comparison : Comparison
        What is compared.
    scores : dict of str to dict of str to ndarray
        Each subject's columns; alpha is added where a model holds the predictions.

    Returns
    -------
    facts : dict
        For `write_scores`.
    """
    subjects = {
        subject: {"runs": runs, "n_scans": comparison.n_scans(subject)} for subject, runs in comparison.runs.items()
    }
    facts = {"predictions": comparison.predictions.path, "table": comparison.table.path, "subjects": subjects}
    if comparison.model is None:
        return facts
    record = read_record(comparison.model)
    for subject, columns in scores.items():
        fit = record["subjects"][subject]
        fitted = read_scores(comparison.model, subject, fit["blocks"])
        columns["alpha"] = fitted["alpha"][np.searchsorted(fitted["voxel"], columns["voxel"])]
        subjects[subject] |= {name: fit[name] for name in ("alpha", "losses", "criterion")}
    return {**facts, "model": comparison.model, "settings": record["settings"]}


def _make_jobs(comparison, output, options):
    pair = {"predictions": comparison.predictions.path, "table": comparison.table.path}
    folder = store.join(_absolute(output), WORK)
    return [
        {**options, **pair, "subject": subject, "runs": runs, "block": block,
         "output": store.join(folder, f"subject={subject}", f"block={block:05d}.parquet")}
        for subject, runs in comparison.runs.items() for block in range(comparison.table.n_blocks)
    ]  # fmt: skip


def _make_recipe(comparison, options):
    """What the results follow from; a table that is made again writes its metadata again."""
    pair = {"predictions": comparison.predictions.path, "table": comparison.table.path}
    return {**options, **pair, "changed": [list(store.stat(store.join(path, METADATA))) for path in pair.values()]}


def _open_predictions(path):
    if not store.exists(store.join(path, RECORD)):
        return VoxelTable.open(path), None
    read_record(path)
    predictions = store.join(path, PREDICTIONS)
    if not store.exists(store.join(predictions, METADATA)):
        held = "holds no predictions of held-out runs"
        raise FormatError(f"{path}: this model {held}; fit it again with --split runs, or make them with 'sparkneuro ridge predict'.")
    return VoxelTable.open(predictions), path


def _check_grids(predicted, measured):
    remedy = "predict with a model that was fitted on that table"
    for name, words in (("shape", "grid"), ("n_voxels", "number of voxels"), ("block_size", "block size")):
        mine, other = getattr(predicted, name), getattr(measured, name)
        if mine != other:
            raise FormatError(f"{predicted.path}: the {words} is {mine}, that of {measured.path} is {other}; {remedy}.")
    off = float(np.abs(np.subtract(predicted.affine, measured.affine)).max())
    if off > 1e-3:
        raise FormatError(f"{predicted.path}: the affine is off by up to {off:.4g} from that of {measured.path}; {remedy}.")
    if not np.array_equal(predicted.mask(), measured.mask()):
        raise FormatError(f"{predicted.path}: the mask is not that of {measured.path}, voxel by voxel; {remedy}.")


def _absolute(path):
    """Executors have working directories of their own."""
    return path if "://" in path else store.locate(path)[1]


def _keep(series, names, voxel):
    return series if len(voxel) == len(names) else series[:, np.isin(names, voxel)]


def _take(sums, kept):
    return replace(sums, **{name: values[kept] for name, values in vars(sums).items() if name != "n_scans"})
