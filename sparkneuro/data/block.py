"""A block file of a voxel table: the rows of one run and one block of voxels, as Parquet."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkneuro.data import store
from sparkneuro.errors import FormatError, StorageError

_PAGE_BYTES = 1 << 17
_GROUP_BYTES, _GROUP_ROWS = 1 << 20, 1 << 13
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

    Snappy shrinks features that are often zero, and is as fast as no compression on others.

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
    with store.open_replacement(block_path(table_path, run, block)) as stream:
        _write_rows(stream, _labels(run), voxel, series, compression="snappy", data_page_size=_PAGE_BYTES)


@contextmanager
def open_block(path, run):
    """Write the rows of a run and block in parts, atomically; they are held until all are there.

    Not compressed: z-scored noise does not shrink. That is also what makes a block cheap to write: but for its numbers it is the
    same file as any other block of so many rows and scans, and pyarrow makes that file once (see `_make_frame`).

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.
    run : Run or SourceRun
        Anything with the labels of a run.

    Yields
    ------
    append : callable
        ``append(voxel, series)`` adds rows: numbers (n,) above those that are there, and series (n, n_scans), float32 and
        contiguous. They are not copied: leave them as they are until the block is closed.
    """
    parts = []
    yield lambda voxel, series: parts.append((voxel, series))
    with store.open_replacement(path) as stream:
        if parts:
            _write_framed(stream, _labels(run), *(parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))))
        else:
            _write_rows(stream, _labels(run), np.empty(0, np.int32), np.empty((0, 0), np.float32))


def _write_framed(stream, labels, voxel, series):
    """Write rows into a frame; without one by pyarrow, to the same bytes."""
    frame = _make_frame(labels, *series.shape) if series.size else None
    if frame is None:
        _write_rows(stream, labels, voxel, series, **_plainly(*series.shape))
        return
    for group, (before, between) in enumerate(frame.pieces):
        part = slice(group * frame.rows, (group + 1) * frame.rows)
        stream.write(before)
        stream.write(np.ascontiguousarray(voxel[part], np.int32).data)
        stream.write(between)
        stream.write(series[part].data)
    stream.write(frame.end)


@dataclass(frozen=True)
class _Frame:
    """A block file without its numbers: for each row group what stands before those of the voxels and of the series."""

    rows: int
    pieces: tuple
    end: bytes


@lru_cache(maxsize=32)
def _make_frame(labels, n_rows, n_scans):
    """Cut the numbers out of a file that pyarrow writes; None where it does not write them in one piece a row group.

    A list costs pyarrow more time than its floats, because it encodes where each ends, value by value; lists of equal length
    all end alike.
    """
    sink, options = pa.BufferOutputStream(), _plainly(n_rows, n_scans)
    voxel, series = np.arange(n_rows, dtype=np.int32), np.arange(n_rows * n_scans, dtype=np.uint32).view(np.float32)
    _write_rows(sink, labels, voxel, series.reshape(n_rows, n_scans), **options)
    content, rows = sink.getvalue(), options["row_group_size"]
    metadata, content, pieces, place = pq.read_metadata(pa.BufferReader(content)), np.frombuffer(content, np.uint8), [], 0
    for group in range(metadata.num_row_groups):
        between = []
        for column, numbers in ((3, voxel), (4, series)):
            chunk, width = metadata.row_group(group).column(column), len(numbers) // n_rows
            expected = numbers[group * rows * width:(group + 1) * rows * width].view(np.uint8)
            end = chunk.data_page_offset + chunk.total_compressed_size
            if not np.array_equal(content[end - len(expected):end], expected):
                return None
            between.append(content[place:end - len(expected)].tobytes())
            place = end
        pieces.append(tuple(between))
    return _Frame(rows, tuple(pieces), content[place:].tobytes())


def _plainly(n_rows, n_scans):
    """How pyarrow is to write rows that one frame fits: as they are, a page a row group, no numbers outside the pages."""
    rows = max(1, min(n_rows, _GROUP_BYTES // (4 * max(1, n_scans)), _GROUP_ROWS))
    return {"row_group_size": rows, "compression": "none", "write_statistics": False, "data_page_size": 1 << 30}


def _write_rows(stream, labels, voxel, series, **options):
    n, n_scans = series.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * n_scans)
    lists = pa.ListArray.from_arrays(offsets, pa.array(series.reshape(-1)), type=pa.list_(_FLOAT))
    columns = [*(pa.array([label] * n, pa.string()) for label in labels), pa.array(voxel, pa.int32()), lists]
    options = {"use_dictionary": ["session", "task", "run"], "write_statistics": ["voxel"], **options}
    pq.write_table(pa.Table.from_arrays(columns, schema=BLOCK_SCHEMA), stream, **options)


def _labels(run):
    return run.session, run.task, run.run


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
    rows = _read_columns(path, ["voxel", "series"])
    return rows["voxel"].combine_chunks().to_numpy(), flatten_lists(rows["series"].combine_chunks(), length, path)


def read_voxels(path):
    """Read which voxels a block file has, without their series.

    Parameters
    ----------
    path : str
        Path or URI of the Parquet file.

    Returns
    -------
    voxel : ndarray of shape (n,), int32
        Numbers of the voxels.

    Raises
    ------
    FormatError
        When the file is missing or damaged.
    """
    return _read_columns(path, ["voxel"])["voxel"].combine_chunks().to_numpy()


def _read_columns(path, names):
    if not store.exists(path):
        raise FormatError(f"{path}: this file of the voxel table is missing; make the table again.")
    try:
        with store.open_file(path) as file:
            return pq.ParquetFile(file).read(columns=names, use_threads=False)
    except StorageError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise FormatError(f"{path}: this file of the voxel table is damaged ({error}); make the table again.") from error


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
