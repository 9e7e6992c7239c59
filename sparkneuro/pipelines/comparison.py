"""Predicted and measured series compared, block by block of targets: which runs go together, and what is done already."""

import json
import logging
from dataclasses import dataclass

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.target_block import read_columns, read_targets
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.encoding.encoder_folder import read_recipe
from sparkneuro.encoding.encoder_record import RECORD, read_record
from sparkneuro.encoding.fit_encoder import PREDICTIONS
from sparkneuro.encoding.spark import run_or_raise
from sparkneuro.errors import FormatError, SettingsError

log = logging.getLogger(__name__)

WORK = "_work"


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
    predicted, measured, subjects = _open_predictions(predictions), VoxelTable.open(store.make_absolute(table)), {}
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
         "output": store.join(store.make_absolute(output), WORK, f"subject={subject}", f"block={block:05d}.parquet")}
        for subject, facts in comparison.subjects.items() for block in range(comparison.table.n_blocks)
    ]  # fmt: skip
    changed = [list(store.stat(store.join(path, METADATA))) for path in comparison.paths.values()]
    recipe, path = {**options, **comparison.paths, "changed": changed}, store.join(output, WORK, "recipe.json")
    before = read_recipe(path) if store.exists(path) else {}
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
    path = store.make_absolute(path)
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
    properties = {"rows": "kind of rows", "shape": "grid", "n_voxels": "number of voxels", "block_size": "block size"}
    for name, words in properties.items():
        if (mine := getattr(predicted, name)) != (other := getattr(measured, name)):
            raise FormatError(f"{predicted.path}: the {words} is {mine}, that of {measured.path} is {other}; {remedy}.")
    if not predicted.has_grid:
        return
    off = float(np.abs(np.subtract(predicted.affine, measured.affine)).max())
    if off > 1e-3:
        raise FormatError(f"{predicted.path}: the affine is off by up to {off:.4g} from that of {measured.path}; {remedy}.")
    if not np.array_equal(predicted.row_numbers(), measured.row_numbers()):
        raise FormatError(f"{predicted.path}: the mask differs from that of {measured.path}; {remedy}.")


def _list_results(output):
    folder = store.join(store.make_absolute(output), WORK)
    return {store.join(folder, name) for name in store.list_files(folder, recursive=True)}
