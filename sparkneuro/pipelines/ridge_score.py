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
from sparkneuro.encoding.encoder_record import RECORD, read_record
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
    predictions, table : VoxelTable
        Predicted and measured series, of the same voxels in the same blocks.
    subjects : dict of str to dict
        Of each subject ``runs``, keys that both tables have, and ``n_scans``, how many scans these are.
    """

    predictions: VoxelTable
    table: VoxelTable
    subjects: dict

    @property
    def paths(self):
        """Where the two tables are: a dict."""
        return {"predictions": self.predictions.path, "table": self.table.path}


def needs_spark(settings):
    """Say whether a Spark session is needed: when blocks are missing, once the inputs are known to go together.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.
    """
    return bool(plan_blocks(match_predictions(settings.predictions, settings.table), settings.output, OPTIONS)[1])


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
    extra = {**comparison.paths, "subjects": comparison.subjects}
    if (mine := comparison.predictions.units) != (other := comparison.table.units):
        log.warning("predictions are in %s and the table in %s: r compares them, R^2 cannot.", mine, other)
    summary, result = write_scores(settings.output, comparison.table, scores, extra), {"scores": settings.output}
    for subject, facts in summary["subjects"].items():
        mean, largest = facts["r"]["mean"], facts["r"]["max"]
        r = "no voxel has an r" if mean is None else f"r {mean:.3f} in the mean, {largest:.3f} at most"
        result[f"sub-{subject}"] = f"{facts['n_targets']:,} voxels, {facts['n_scans']:,} scans, {r}"
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
    parts = [(names, score_sums(Y, prediction)) for names, Y, prediction in read_pairs(job)]
    voxel = reduce(np.intersect1d, [names for names, _ in parts])
    sums = reduce(merge, [_take(sums, np.isin(names, voxel)) for names, sums in parts])
    write_columns(job["output"], {"voxel": voxel, "r": correlation(sums).astype(np.float32), "r2": r2(sums).astype(np.float32)})
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
        yield voxel, Y.T[np.isin(names, voxel)].T, prediction.T[np.isin(other_names, voxel)].T


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
        What is compared; no series has been read.

    Raises
    ------
    FormatError
        When one is no table, or they differ in their voxels, lack a run, or have runs of other lengths.
    """
    predicted, measured, subjects = _open_predictions(predictions), VoxelTable.open(_absolute(table)), {}
    _check_grids(predicted, measured)
    for run in predicted.runs:
        other = measured.find_run(run.key)
        if other.n_scans != run.n_scans:
            lengths = f"run {run.key} has {run.n_scans} scans, that of {measured.path} has {other.n_scans}"
            raise FormatError(f"{predicted.path}: {lengths}; predict it from features with one row a scan.")
        facts = subjects.setdefault(run.subject, {"runs": [], "n_scans": 0})
        facts["runs"].append(run.key)
        facts["n_scans"] += run.n_scans
    return Comparison(predicted, measured, subjects)


def plan_blocks(comparison, output, options):
    """Describe a job for each block, and find those whose result is not there yet.

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
    jobs, missing : list of dict
        See `read_pairs`; ``subject``, ``output`` (the file of the result) and `options`.
    recipe : dict
        What the results follow from, and size and time of the tables' metadata, which a table that is made again writes again.

    Raises
    ------
    SettingsError
        When the folder holds something else.
    """
    jobs = [
        {**options, **comparison.paths, "subject": subject, "runs": facts["runs"], "block": block,
         "output": store.join(_absolute(output), WORK, f"subject={subject}", f"block={block:05d}.parquet")}
        for subject, facts in comparison.subjects.items() for block in range(comparison.table.n_blocks)
    ]  # fmt: skip
    changed = [list(store.stat(store.join(path, METADATA))) for path in comparison.paths.values()]
    recipe, path = {**options, **comparison.paths, "changed": changed}, store.join(output, WORK, "recipe.json")
    before = json.loads(store.read_bytes(path)) if store.exists(path) else {}
    if before.get("command") != options["command"] and (before or store.list_files(output)):
        raise SettingsError(f"{output}: this folder holds something else than a {options['command']}; choose another.")
    if others := [name for name in recipe if before and name != "changed" and before.get(name) != recipe[name]]:
        raise SettingsError(f"{output} holds results with other {', '.join(others)}; delete it or choose another folder.")
    there = _list_results(output) if before == recipe else set()
    return jobs, [job for job in jobs if job["output"] not in there], recipe


def compute_blocks(comparison, output, function, options, spark):
    """Call a task for each block whose result is not there yet, one Spark task a block, and read all results.

    Parameters
    ----------
    comparison : Comparison
        What is compared.
    output : str
        Folder of the results.
    function : callable
        ``job -> result`` that writes the file ``job["output"]``, the last thing it does.
    options : dict
        See `plan_blocks`.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when no block is missing.

    Returns
    -------
    scores : dict of str to dict of str to ndarray
        Each subject's columns, by voxel: a few numbers a target.
    """
    jobs, missing, recipe = plan_blocks(comparison, output, options)
    store.delete_unfinished(output)
    if len(missing) == len(jobs):
        store.delete(store.join(output, WORK))
        store.write_bytes(store.join(output, WORK, "recipe.json"), json.dumps(recipe, indent=1).encode())
    else:
        log.warning("%d of %d blocks are there already.", len(jobs) - len(missing), len(jobs))
    sizes = {job["output"]: 8 * comparison.table.block_size * comparison.subjects[job["subject"]]["n_scans"] for job in missing}
    with show_progress(options["command"], sizes, lambda: _list_results(output), "blocks"):
        if missing:
            run_or_raise(spark, function, missing)
    parts = {}
    for job in jobs:
        parts.setdefault(job["subject"], []).append(read_columns(job["output"]))
    return {key: {name: np.concatenate([part[name] for part in mine]) for name in mine[0]} for key, mine in parts.items()}


def _open_predictions(path):
    path = _absolute(path)
    if not store.exists(store.join(path, RECORD)):
        return VoxelTable.open(path)
    predictions = store.join(path, PREDICTIONS)
    if not store.exists(store.join(predictions, METADATA)):
        held_out = read_record(path)["settings"]["split"] == "runs"
        remedy = "fit it again, with all blocks and --predictions" if held_out else "make some with 'sparkneuro ridge predict'"
        raise FormatError(f"{path}: this model keeps no predictions of held-out runs; {remedy}.")
    return VoxelTable.open(predictions)


def _check_grids(predicted, measured):
    remedy = "they must be of the same voxels"
    for name, words in (("shape", "grid"), ("n_voxels", "number of voxels"), ("block_size", "block size")):
        if (mine := getattr(predicted, name)) != (other := getattr(measured, name)):
            raise FormatError(f"{predicted.path}: the {words} is {mine}, that of {measured.path} is {other}; {remedy}.")
    off = float(np.abs(np.subtract(predicted.affine, measured.affine)).max())
    if off > 1e-3:
        raise FormatError(f"{predicted.path}: the affine is off by up to {off:.4g} from that of {measured.path}; {remedy}.")
    if not np.array_equal(predicted.mask(), measured.mask()):
        raise FormatError(f"{predicted.path}: the mask differs from that of {measured.path}; {remedy}.")


def _absolute(path):
    return path if "://" in path else store.locate(path)[1]  # executors have working directories of their own


def _list_results(output):
    folder = store.join(_absolute(output), WORK)
    return {store.join(folder, name) for name in store.list_files(folder, recursive=True)}


def _take(sums, kept):
    return replace(sums, **{name: values[kept] for name, values in vars(sums).items() if name != "n_scans"})
