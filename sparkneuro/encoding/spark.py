"""Encoding models on Spark: blocks of targets as a DataFrame, tasks on the executors, predictions as rows."""

from functools import partial

import numpy as np
import pyarrow as pa

from sparkneuro.data.spark import run_jobs
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.encoding.cohort import choose_subjects
from sparkneuro.encoding.predict import predict_run
from sparkneuro.errors import SettingsError

PREDICTED = (
    "subject string, block int, session string, task string, run string, voxel int, prediction array<float>"
)


def read_target_blocks(spark, path, subjects=()):
    """List the blocks of a voxel table, one row each, in partitions of one row.

    What an encoding model is fitted on: a task reads its block of all runs itself, as it lies on disk, so nothing is moved
    between machines. Filter the rows to fit fewer blocks or subjects.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    path : str
        Path or URI of the table.
    subjects : sequence of str
        Labels; all when empty.

    Returns
    -------
    blocks : pyspark.sql.DataFrame
        Columns table, subject (string), block (int).
    """
    table = VoxelTable.open(path)
    rows = [(table.path, subject, block) for subject in choose_subjects(table, subjects) for block in range(table.n_blocks)]
    return spark.createDataFrame(rows, "table string, subject string, block int").repartition(len(rows))


def collect_blocks(dataset):
    """Bring the list of blocks to the driver.

    Parameters
    ----------
    dataset : pyspark.sql.DataFrame
        Of `read_target_blocks`.

    Returns
    -------
    table : str
        Path or URI of their voxel table.
    blocks : dict of str to list of int
        Numbers of blocks, by subject.

    Raises
    ------
    SettingsError
        When the rows are no blocks, or of several tables.
    """
    missing = {"table", "subject", "block"} - set(dataset.columns)
    if missing:
        raise SettingsError(f"the rows must be blocks of targets, see read_target_blocks; got {', '.join(dataset.columns)}.")
    rows = dataset.select("table", "subject", "block").distinct().collect()
    tables = {row.table for row in rows}
    if len(tables) != 1:
        raise SettingsError(f"the rows must be blocks of one voxel table; got {len(tables)} tables.")
    blocks = {}
    for row in sorted(rows, key=lambda row: (row.subject, row.block)):
        blocks.setdefault(row.subject, []).append(row.block)
    return tables.pop(), blocks


def run_or_raise(spark, function, jobs):
    """Call a function for each job, one Spark task a job, and raise the first failure.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    function : callable
        See `run_jobs`.
    jobs : list of dict
        See `run_jobs`.

    Returns
    -------
    results : list of dict
        In the order of the jobs.

    Raises
    ------
    SparkneuroError
        The first failure's, when there is one.
    """
    results, failures = run_jobs(spark, function, jobs)
    if failures:
        raise failures[0]
    return results


def predict_blocks(batches, path, members):
    """Predict the series of blocks of targets, for `mapInArrow`.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Of `read_target_blocks`.
    path : str
        Path or URI of the model.
    members : dict of str to list of dict
        Runs to predict of each subject, see `predict_run`.

    Yields
    ------
    rows : pyarrow.RecordBatch
        Columns of `PREDICTED`; one run of one block each.
    """
    for batch in batches:
        for subject, block in zip(batch.column("subject").to_pylist(), batch.column("block").to_pylist(), strict=True):
            for run in members.get(subject, ()):
                voxel, series = predict_run(path, subject, block, run)
                yield _to_batch(subject, block, run, voxel, series)


def bind_prediction(path, members):
    """Bind `predict_blocks` to a model and runs.

    Parameters
    ----------
    path : str
        Path or URI of the model.
    members : dict of str to list of dict
        Runs to predict of each subject.

    Returns
    -------
    task : callable
        Of batches alone.
    """
    return partial(predict_blocks, path=path, members=members)


def _to_batch(subject, block, run, voxel, series):
    n = len(voxel)
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * series.shape[1])
    prediction = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(series, np.float32).reshape(-1)))
    columns = {
        "subject": pa.array([subject] * n, pa.string()), "block": pa.array([block] * n, pa.int32()),
        **{name: pa.array([run[name]] * n, pa.string()) for name in ("session", "task", "run")},
        "voxel": pa.array(voxel, pa.int32()), "prediction": prediction,
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns)
