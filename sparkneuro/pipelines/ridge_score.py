"""Score predictions against the voxel table that was measured: Pearson r and R^2 of every voxel.

PREDICTIONS is a voxel table of predicted series (of 'sparkneuro ridge predict'), or the folder of an encoding model, whose
predictions of held-out runs are taken. Each of its runs is compared with the same run of TABLE, all runs of a subject together;
a voxel is scored where both tables have it in every run. Maps, tables, a summary and pictures come out; see scores.json first.
A scoring that was interrupted goes on when the same command is given again.
"""

import logging
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from sparkneuro.data.target_block import write_columns
from sparkneuro.encoding.scores import correlation, merge, r2, score_sums
from sparkneuro.pipelines.comparison import compute_blocks, match_predictions, plan_blocks, read_pairs
from sparkneuro.pipelines.score_maps import write_scores
from sparkneuro.pipelines.settings import argument, option

log = logging.getLogger(__name__)

OPTIONS = {"command": "ridge score"}


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ridge score``; see each field's help."""

    predictions: str = argument("voxel table of predicted series, or folder of an encoding model")
    table: str = argument("voxel table that was measured")
    output: str = option("scores", "folder of maps and scores, on a filesystem that all machines share")


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


def _take(sums, kept):
    return replace(sums, **{name: values[kept] for name, values in vars(sums).items() if name != "n_scans"})
