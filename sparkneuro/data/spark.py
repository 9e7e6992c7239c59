"""The voxel table on Spark: as a DataFrame, from a DataFrame, and any function over a list of jobs."""

import json
from collections import defaultdict
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from sparkneuro import errors
from sparkneuro.data import store
from sparkneuro.data.bids import run_key
from sparkneuro.data.block import flatten_lists, write_block
from sparkneuro.data.block_rows import read_rows
from sparkneuro.data.receipts import RECEIPTS, write_recipe
from sparkneuro.data.row_space import copy_row_space
from sparkneuro.data.storage.jvm_path import find_jvm_path
from sparkneuro.data.voxel_table import METADATA, Run, VoxelTable

COLUMNS = "session string, task string, run string, voxel int, series array<float>"
KEYS = "subject string, block int"
ROWS = ("subject", "block", "session", "task", "run", "voxel", "series")
WRITTEN = "subject string, session string, task string, run string, block int, rows long, length int"
_ONE_FILE = str(1 << 30)


def read_voxel_table(spark, path):
    """Read a voxel table as a DataFrame.

    Each file (one run and block) is one input partition: no file is split and no two are joined, so a task sees whole blocks.
    Spark itself reads the files where it can. In a bucket it can when S3A (or EMR's own reader) is on its classpath and starts;
    otherwise, and for public buckets without credentials, the Python workers read them, and no jar is needed.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session; two of its settings, how files become partitions, are changed.
    path : str
        Path or URI of the table.

    Returns
    -------
    rows : pyspark.sql.DataFrame
        Columns subject (string), block (int), session, task, run (string), voxel (int), series (array<float>).

    Raises
    ------
    FormatError
        When it is not a finished voxel table.
    """
    table = VoxelTable.open(store.make_absolute(path))
    root, options = find_jvm_path(spark, table.path)
    if root is None:
        tasks = spark.range(0, len(table.runs) * table.n_blocks, 1, len(table.runs) * table.n_blocks)
        return tasks.mapInArrow(partial(read_rows, table=table), f"{COLUMNS}, {KEYS}").select(*ROWS)
    spark.conf.set("spark.sql.files.maxPartitionBytes", _ONE_FILE)
    spark.conf.set("spark.sql.files.openCostInBytes", _ONE_FILE)
    folders = [f"{root}/subject={subject}" for subject in sorted({run.subject for run in table.runs})]
    return spark.read.schema(f"{COLUMNS}, {KEYS}").options(basePath=root, **options).parquet(*folders).select(*ROWS)


def write_voxel_table(dataframe, path, like, column, units, step):
    """Write a column of a DataFrame as a voxel table of the same form as another one.

    The rows must be those of `read_voxel_table`, each partition holding whole blocks as that gives them. No shuffle; one small
    row a file comes to the driver.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Columns of `read_voxel_table` (`series` may be missing) and `column`.
    path : str
        Path or URI of the new table; an old one there is replaced.
    like : VoxelTable
        The table that the rows came from.
    column : str
        Name of an array<float> column; all rows of a run have the same length.
    units : str
        Of its values, e.g. ``"feature"``.
    step : str
        What was done, added to the steps of `like`.

    Returns
    -------
    table : VoxelTable
        The new table.

    Raises
    ------
    FormatError
        When rows were lost, repeated or of unequal length; the folder is removed then.
    """
    path = store.make_absolute(path)
    _clear(path, like)
    chosen = dataframe.select(*ROWS[:-1], column)
    sink = partial(_write_blocks, table_path=path, column=column)
    written = defaultdict(list)
    for file in chosen.mapInArrow(sink, WRITTEN).collect():
        written[run_key(file.subject, file.session, file.task, file.run)].append(file)
    try:
        runs = tuple(_count_rows(path, run, like.n_blocks, written[run.key]) for run in like.runs)
    except errors.FormatError:
        store.delete(path)  # every task has ended, so nobody writes there any more
        raise
    table = VoxelTable(
        path,
        like.space,
        like.affine,
        like.shape,
        runs,
        like.block_size,
        like.n_voxels,
        (*like.steps, step),
        units,
        settings={"made_from": like.path},
        rows=like.rows,
    )
    _check_files(table)
    copy_row_space(like.rows, like.path, path)
    table.save()
    return table


def run_jobs(spark, function, jobs):
    """Call a function for each job, one Spark task a job.

    An error of the input (`SparkneuroError`) is a result like others: Spark does not try it again, and the other jobs go on.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    function : callable
        Module-level function, ``job -> result``; both are dicts that JSON can hold.
    jobs : list of dict
        What to do.

    Returns
    -------
    results : list of dict
        In the order of the jobs; come to the driver, so keep them small.
    failures : list of SparkneuroError
        Of the jobs that have no result.
    """
    words = [json.dumps(job) for job in jobs]
    tasks = spark.range(0, len(jobs), 1, len(jobs))
    rows = tasks.mapInArrow(partial(_call, function=function, words=words), "job long, kind string, result string").collect()
    rows = sorted(rows, key=lambda row: row.job)
    failures = [getattr(errors, row.kind, errors.SparkneuroError)(row.result) for row in rows if row.kind]
    return [json.loads(row.result) for row in rows if not row.kind], failures


def count_slots(spark):
    """Count the tasks that run at once.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    slots : int
        Cores of the executors that have come, in tasks; at least one.
    """
    cores_per_task = int(spark.conf.get("spark.task.cpus", "1"))
    return max(spark.sparkContext.defaultParallelism // cores_per_task, 1)


def _call(batches, function, words):
    for batch in batches:
        for job in batch.column("id").to_pylist():
            kind, result = "", ""
            try:
                result = json.dumps(function(json.loads(words[job])))
            except errors.SparkneuroError as error:
                kind, result = error.__class__.__name__, str(error)
            yield pa.RecordBatch.from_pydict({"job": [job], "kind": [kind], "result": [result]})


def _clear(path, like):
    if store.exists(path):
        ours = store.exists(store.join(path, METADATA)) or store.exists(store.join(path, RECEIPTS))
        if not ours and store.list_files(path, recursive=True):
            raise errors.SettingsError(f"{path}: this folder holds something else than a voxel table; choose another.")
        if store.locate(path)[1] == store.locate(like.path)[1]:
            raise errors.SettingsError(f"{path}: a voxel table cannot replace the one it is made from; choose another folder.")
        store.delete(path)
    write_recipe(path, {"made_from": like.path})


def _count_rows(path, run, n_blocks, files):
    """Check that a run is whole, write the files of blocks that had no rows, and tell the run's new length."""
    blocks = [file.block for file in files]
    n_rows, lengths = sum(file.rows for file in files), {file.length for file in files}
    if n_rows != run.n_voxels or len(set(blocks)) != len(blocks):
        what = "blocks came in pieces" if len(set(blocks)) != len(blocks) else f"{n_rows} rows came"
        raise errors.FormatError(f"{path}: run {run.key} has {run.n_voxels} rows, but {what}; do not filter or repartition them.")
    if len(lengths) > 1:
        raise errors.FormatError(f"{path}: run {run.key} has series of different lengths, {sorted(lengths)}; they must be equal.")
    length = lengths.pop() if lengths else run.n_scans
    for block in set(range(n_blocks)) - set(blocks):
        write_block(path, run, block, np.empty(0, np.int32), np.empty((0, length), np.float32))
    return replace(run, n_scans=length)


def _check_files(table):
    """Check that the driver sees the files that the tasks say they have written."""
    missing = [
        path for run in table.runs for block in range(table.n_blocks) if not store.exists(path := table.block_path(run, block))
    ]
    if missing:
        raise errors.StorageError(
            f"{missing[0]} was written by an executor and is not here ({len(missing)} such files); the table must be on a"
            " filesystem that driver and executors share, e.g. hdfs:// or s3://."
        )


def _write_blocks(batches, table_path, column):
    """Write each (run, block) of a partition when its last row has come; rows of one block are contiguous."""
    key, parts = None, []
    for batch in batches:
        for start, stop in _equal_stretches(batch):
            part = batch.slice(start, stop - start)
            labels = tuple(part.column(name)[0].as_py() for name in ("subject", "session", "task", "run", "block"))
            if labels != key and parts:
                yield _write_one(table_path, key, parts, column)
                parts = []
            key = labels
            parts.append(part)
    if parts:
        yield _write_one(table_path, key, parts, column)


def _equal_stretches(batch):
    changes = np.zeros(batch.num_rows, bool)
    for name in ("subject", "session", "task", "run", "block"):
        codes = batch.column(name).dictionary_encode().indices.to_numpy(zero_copy_only=False)
        changes[1:] |= codes[1:] != codes[:-1]
    bounds = [0, *np.flatnonzero(changes).tolist(), batch.num_rows]
    return [(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False) if stop > start]


def _write_one(table_path, labels, parts, column):
    subject, session, task, run, block = labels
    rows = pa.Table.from_batches(parts).combine_chunks()
    lists = rows[column].combine_chunks()
    where = f"{table_path}, block {block} of subject {subject}"
    length = len(lists[0]) if lists[0].is_valid else 0
    values = flatten_lists(lists, length, where)
    voxel = rows["voxel"].to_numpy()
    order = np.argsort(voxel, kind="stable")
    if (order[1:] < order[:-1]).any():
        voxel, values = voxel[order], values[order]
    write_block(table_path, Run(subject, session, task, run, length, 1.0, "", "", len(voxel)), block, voxel, values)
    names = ("subject", "session", "task", "run", "block", "rows", "length")
    types = (pa.string(), pa.string(), pa.string(), pa.string(), pa.int32(), pa.int64(), pa.int32())
    row = (*labels, len(voxel), length)
    return pa.RecordBatch.from_arrays([pa.array([v], t) for v, t in zip(row, types, strict=True)], names=names)
