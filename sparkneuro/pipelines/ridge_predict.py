"""Predict the BOLD of other runs with a fitted encoding model, as a voxel table.

The features are z-scored and delayed as they were in the fit; predictions are in the unit of the targets. Rows are not moved
between machines.
"""

import logging
from dataclasses import dataclass, replace

from sparkneuro.data.feature_table import FeatureTable
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.encoding.encoder_record import read_record
from sparkneuro.pipelines.settings import argument, option

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ridge predict``; see each field's help."""

    model: str = argument("folder of a fitted encoding model, with coefficients")
    features: tuple = option((), "feature tables, in the order of the fit (default: those of the fit)", many=True)
    output: str = option("predictions.voxels", "folder of the new voxel table")


def needs_spark(settings):
    """Say whether a Spark session is needed: always, once model and features are known to fit.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        True.

    Raises
    ------
    FormatError
        When the folder is no model, holds no coefficients, or the features do not fit.
    """
    from sparkneuro.encoding.predict import plan_prediction

    plan_prediction(settings.model, settings.features)
    return True


def run(settings, spark):
    """Predict the runs of the feature tables for every subject of the model.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    result : dict
        Where the predictions are, and how many.
    """
    from sparkneuro.data.spark import write_voxel_table
    from sparkneuro.encoding.predict import plan_prediction
    from sparkneuro.encoding.spark import PREDICTED, bind_prediction, read_target_blocks

    record = read_record(settings.model)
    table = VoxelTable.open(record["table"])
    members = plan_prediction(settings.model, settings.features)
    spaces = [FeatureTable.open(path) for path in settings.features or record["settings"]["features"]]
    runs = [
        _as_run(run, subject, record["subjects"][subject]["n_targets"], table)
        for subject in members
        for run in spaces[0].of_subject(subject)
    ]
    like = replace(table, runs=tuple(sorted(runs, key=lambda run: run.key)))
    blocks = read_target_blocks(spark, table.path, tuple(members))
    rows = blocks.select("subject", "block").mapInArrow(bind_prediction(settings.model, members), PREDICTED)
    step = f"prediction by {settings.model}"
    made = write_voxel_table(rows, settings.output, like=like, column="prediction", units=table.units, step=step)
    seen = {key for facts in record["subjects"].values() for key in facts["training_runs"]}
    if not settings.features and (n_seen := sum(run.key in seen for run in made.runs)):
        log.warning("%d of %d runs are those the model was trained on: a score of them says nothing about its predictions;"
                    " 'sparkneuro ridge score MODEL TABLE' scores the held-out runs.", n_seen, len(made.runs))  # fmt: skip
    return {"predictions": made.path, "runs": len(made.runs), "voxels of a run": f"{made.runs[0].n_voxels:,}"}


def _as_run(run, subject, n_targets, table):
    return Run(subject, run.session, run.task, run.run, run.n_scans, table.runs[0].t_r, run.path, "", n_targets)
