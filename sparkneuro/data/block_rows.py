"""Rows of a voxel table as Arrow batches, read by the Python workers where Spark's own readers do not reach."""

import numpy as np
import pyarrow as pa

ARROW = pa.schema(
    [("session", pa.string()), ("task", pa.string()), ("run", pa.string()), ("voxel", pa.int32())]
    + [("series", pa.list_(pa.float32())), ("subject", pa.string()), ("block", pa.int32())]
)


def read_rows(batches, table):
    """Read block files.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Column ``id``: numbers of files, ``run * n_blocks + block``.
    table : VoxelTable
        The table.

    Yields
    ------
    batch : pyarrow.RecordBatch
        All rows of one file.

    Raises
    ------
    FormatError, StorageError
        When a file is missing, damaged, or cannot be reached.
    """
    for batch in batches:
        for number in batch.column("id").to_pylist():
            run, block = table.runs[number // table.n_blocks], number % table.n_blocks
            voxel, series = table.read_block(run, block)
            yield _to_batch(run, block, voxel, series)


def _to_batch(run, block, voxel, series):
    n_rows, n_scans = series.shape
    offsets = pa.array(np.arange(n_rows + 1, dtype=np.int32) * n_scans)
    lists = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(series).reshape(-1)))
    labels = [pa.repeat(pa.scalar(label, pa.string()), n_rows) for label in (run.session, run.task, run.run, run.subject)]
    blocks = pa.repeat(pa.scalar(block, pa.int32()), n_rows)
    columns = [*labels[:3], pa.array(voxel, pa.int32()), lists, labels[3], blocks]
    return pa.RecordBatch.from_arrays(columns, schema=ARROW)
