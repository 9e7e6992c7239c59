"""A block of brain targets: the series of all voxels of one block that every run has, as one matrix."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkneuro.data import store
from sparkneuro.errors import FormatError, StorageError


def read_targets(table, runs, block, order=None):
    """Read a block of a subject's voxels over several runs.

    Parameters
    ----------
    table : VoxelTable
        The table.
    runs : sequence of Run
        Runs of one subject; their scans follow each other.
    block : int
        Number of the block.
    order : ndarray of int or None
        Scans in the order that is wanted, where it is not that of the runs.

    Returns
    -------
    voxel : ndarray of shape (n_targets,), int32
        Numbers of the voxels that all runs have.
    Y : ndarray of shape (n_scans, n_targets), float32
        Their series; a target's values together in memory. Writable.
    n_missing : int
        Voxels that only some of the runs have.

    Raises
    ------
    FormatError
        When a file is missing or damaged, or a value is not finite.
    """
    parts = [table.read_block(run, block) for run in runs]
    voxel, n_all = parts[0][0], len(parts[0][0])
    for other, _ in parts[1:]:
        n_all = max(n_all, len(other))
        if not np.array_equal(voxel, other):
            voxel = np.intersect1d(voxel, other, assume_unique=True)
    series = np.empty((len(voxel), sum(run.n_scans for run in runs)), np.float32)
    start = 0
    for run, (names, values) in zip(runs, parts, strict=True):
        stop = start + run.n_scans
        series[:, start:stop] = values if len(names) == len(voxel) else values[np.isin(names, voxel)]
        start = stop
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(series.sum())
    if not finite:
        _refuse_non_finite(table, runs, voxel, series)
    if order is not None:
        series = series[:, order]
    return voxel, series.T, n_all - len(voxel)


def write_columns(path, columns):
    """Write named columns as one Parquet file, atomically.

    Parameters
    ----------
    path : str
        Path or URI.
    columns : dict of str to ndarray
        One-dimensional columns, and matrices (n_rows, length) as lists.
    """
    arrays = {}
    for name, values in columns.items():
        if values.ndim == 2:
            offsets = pa.array(np.arange(len(values) + 1, dtype=np.int64) * values.shape[1])
            values = pa.LargeListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values).reshape(-1)))
        arrays[name] = pa.array(values) if isinstance(values, np.ndarray) else values
    with store.open_replacement(path) as stream:
        pq.write_table(pa.table(arrays), stream, compression="snappy", use_dictionary=False)


def read_columns(path, names=None):
    """Read columns that `write_columns` wrote.

    Parameters
    ----------
    path : str
        Path or URI.
    names : sequence of str or None
        Which; all when absent.

    Returns
    -------
    columns : dict of str to ndarray
        As they were written.

    Raises
    ------
    FormatError
        When the file is missing or damaged.
    """
    if not store.exists(path):
        raise FormatError(f"{path}: this file is missing; make it again.")
    try:
        with store.open_file(path) as file:
            rows = pq.ParquetFile(file).read(columns=names, use_threads=False)
    except StorageError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise FormatError(f"{path}: this file is damaged ({error}); make it again.") from error
    return {name: _to_numpy(rows[name].combine_chunks()) for name in rows.column_names}


def _to_numpy(column):
    if pa.types.is_large_list(column.type):
        values = column.flatten().to_numpy()
        return values.reshape(len(column), len(values) // max(len(column), 1))
    return column.to_numpy(zero_copy_only=False)


def _refuse_non_finite(table, runs, voxel, series):
    finite = np.isfinite(series)
    if finite.all():
        return
    row, scan = np.argwhere(~finite)[0]
    for run in runs:
        if scan < run.n_scans:
            break
        scan -= run.n_scans
    raise FormatError(f"{table.path}: voxel {voxel[row]}, scan {scan} of run {run.key} is not finite; ingest that run again.")
