"""A block file of a voxel table: the rows of one run and one block of voxels, as Parquet."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkneuro.data import store
from sparkneuro.errors import FormatError, StorageError

_PAGE_BYTES = 1 << 17
_FLOAT = pa.field("element", pa.float32(), nullable=False)
BLOCK_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("session", "task", "run")]
    + [pa.field("voxel", pa.int32(), nullable=False), pa.field("series", pa.list_(_FLOAT), nullable=False)]
)


def block_path(table_path, run, block):
    """Tell where the rows of a run and block are.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    run : Run or SourceRun
        Anything with the labels of a run.
    block : int
        Number of the block.

    Returns
    -------
    path : str
        Path or URI of the Parquet file.
    """
    name = "_".join(label or "none" for label in (run.session, run.task, run.run))
    return store.join(table_path, f"subject={run.subject}", f"block={block:05d}", f"{name}.parquet")


def write_block(table_path, run, block, voxel, series):
    """Write the rows of a run and block, atomically.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    run : Run or SourceRun
        Anything with the labels of a run.
    block : int
        Number of the block.
    voxel : ndarray of shape (n,), int32
        Numbers of the voxels, ascending.
    series : ndarray of shape (n, n_scans), float32
        Their series, contiguous.
    """
    with open_block(block_path(table_path, run, block), run) as append:
        append(voxel, series)


@contextmanager
def open_block(path, run):
    """Write the rows of a run and block in parts, atomically and without holding them.

    Snappy is as fast as no compression on z-scored noise, which does not shrink, and shrinks features that are often zero;
    a dictionary of floats would cost time for nothing.

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.
    run : Run or SourceRun
        Anything with the labels of a run.

    Yields
    ------
    append : callable
        ``append(voxel, series)`` adds rows as a row group: numbers (n,) above those that are there, and series (n, n_scans).
    """
    with store.open_replacement(path) as stream, pq.ParquetWriter(
        stream, BLOCK_SCHEMA, compression="snappy", use_dictionary=["session", "task", "run"], write_statistics=["voxel"],
        data_page_size=_PAGE_BYTES,
    ) as writer:
        yield partial(_append, writer, (run.session, run.task, run.run))


def _append(writer, labels, voxel, series):
    n, n_scans = series.shape
    if not n:
        return
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * n_scans)
    lists = pa.ListArray.from_arrays(offsets, pa.array(series.reshape(-1)), type=pa.list_(_FLOAT))
    columns = [*(pa.array([label] * n, pa.string()) for label in labels), pa.array(voxel, pa.int32()), lists]
    writer.write_table(pa.Table.from_arrays(columns, schema=BLOCK_SCHEMA))


def read_block(path, length):
    """Read a block file.

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.
    length : int
        What every series must hold.

    Returns
    -------
    voxel : ndarray of shape (n,), int32
        Numbers of the voxels.
    series : ndarray of shape (n, length), float32
        Their series: a read-only view on an Arrow buffer.

    Raises
    ------
    FormatError
        When the file is missing or damaged, or a series has another length.
    """
    if not store.exists(path):
        raise FormatError(f"{path}: this file of the voxel table is missing; make the table again.")
    try:
        with store.open_file(path) as file:
            rows = pq.ParquetFile(file).read(columns=["voxel", "series"], use_threads=False)
    except StorageError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise FormatError(f"{path}: this file of the voxel table is damaged ({error}); make the table again.") from error
    return rows["voxel"].combine_chunks().to_numpy(), flatten_lists(rows["series"].combine_chunks(), length, path)


def flatten_lists(lists, length, where):
    """View equally long lists as a matrix.

    Parameters
    ----------
    lists : pyarrow.ListArray of float32
        One list a row.
    length : int
        What every list must hold.
    where : str
        Whose lists, for the message.

    Returns
    -------
    matrix : ndarray of shape (n, length), float32
        A view where the lists lie in one piece.

    Raises
    ------
    FormatError
        When a list is missing or has another length.
    """
    lengths = np.diff(lists.offsets.to_numpy())
    if lists.null_count or (lengths != length).any():
        odd = "a missing one" if lists.null_count else f"one of {int(lengths[lengths != length][0])}"
        raise FormatError(f"{where}: every series must have {length} values; there is {odd}.")
    return lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(lists), length)
