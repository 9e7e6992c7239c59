"""Voxel tables, or some of their runs, as one HDF5 file that plain h5py reads.

    /                      attributes: format, version, voxel_table (the table's metadata as JSON, with the runs that are here)
    /mask, /affine         which voxels, (x, y, z) uint8, and from voxel indices to mm, (4, 4)
    /runs/KEY/series       (n_rows, n_scans) float32, a chunk a block of voxels; attributes: labels, t_r, units
    /runs/KEY/voxel        (n_rows,) int32: the row's place in ``volume[mask]``
    /files/...             every other file of the table, byte by byte: the mask, receipts, maps

Each dataset carries HDF5's own checksum (fletcher32), so damage is found when it is read. Equal tables give equal bytes.
"""

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.hdf5 import open_hdf5
from sparkneuro.data.nifti import read_volume
from sparkneuro.data.row_space import MASK
from sparkneuro.errors import FormatError, SparkneuroError, require

FORMAT = 1
NAME = "sparkneuro voxel table"
_FILES, _RUNS = "files", "runs"
_FILE_CHUNK = 1 << 20


@dataclass(frozen=True)
class TableContents:
    """What a file holds of a voxel table, without its rows.

    Parameters
    ----------
    metadata : dict
        What the table's ``voxel_table.json`` says, with the runs that are in the file.
    files : dict of str to bytes
        Other files of the table, by name relative to it.
    """

    metadata: dict
    files: dict = field(default_factory=dict)


def write_table(path, table, runs, contents, compression="none"):
    """Write runs of a voxel table as an HDF5 file, a block of voxels at a time.

    Parameters
    ----------
    path : str
        Plain path of the file to make.
    table : VoxelTable
        The table.
    runs : sequence of Run
        Those of its runs that are written.
    contents : TableContents
        What is written beside their rows.
    compression : str
        "gzip" (bytes shuffled first) or "none".

    Raises
    ------
    FormatError
        When a file of the table is damaged, or has other rows than the metadata say.
    OSError
        When it cannot be written.
    """
    h5py = require("h5py", "keras")
    try:
        # The oldest layout: any HDF5 since 1.8 reads it, and it notes no times.
        with h5py.File(path, "w", libver=("earliest", "v108"), locking=False) as file:
            file.attrs.update({"format": NAME, "version": FORMAT, "voxel_table": json.dumps(contents.metadata, indent=1)})
            _write_grid(file, table)
            for name, content in contents.files.items():
                values = np.frombuffer(content, np.uint8)
                _create(file, f"{_FILES}/{name}", values.shape, np.uint8, (_FILE_CHUNK,))[...] = values
            for run in runs:
                _write_run(file, table, run, compression)
    except SparkneuroError:
        raise
    except RuntimeError as error:  # how h5py tells a full disk when it closes the file
        raise OSError(str(error)) from error


def _write_grid(file, table):
    file.create_dataset("affine", data=np.asarray(table.affine, np.float64), track_times=False)
    if store.exists(store.join(table.path, MASK)):
        mask = (read_volume(store.join(table.path, MASK))[0] != 0).astype(np.uint8)
        _create(file, "mask", mask.shape, np.uint8, mask.shape, "gzip")[...] = mask


def _write_run(file, table, run, compression):
    group = file.create_group(f"{_RUNS}/{run.key}")
    labels = {name: value for name, value in asdict(run).items() if isinstance(value, str | int | float)}
    group.attrs.update({**labels, "units": table.units})
    rows = min(table.block_size, run.n_voxels)
    series = _create(group, "series", (run.n_voxels, run.n_scans), np.float32, (rows, run.n_scans), compression)
    voxels, start = [], 0
    # A chunk is written once and whole: h5py would otherwise read it back, and compress it twice.
    sizes = [min(rows, run.n_voxels - first) for first in range(0, run.n_voxels, rows or 1)]
    for chunk in _regroup(_read_blocks(table, run, voxels), sizes, run.n_scans, f"{table.path}, run {run.key}"):
        series[start : start + len(chunk)] = chunk
        start += len(chunk)
    voxel = np.concatenate(voxels) if voxels else np.empty(0, np.int32)
    _create(group, "voxel", voxel.shape, np.int32, voxel.shape, compression)[...] = voxel


def _read_blocks(table, run, voxels):
    for block in range(table.n_blocks):
        voxel, series = table.read_block(run, block)
        covered = table.voxels_of(block)
        if len(voxel) and (voxel[0] < covered.start or voxel[-1] >= covered.stop or (np.diff(voxel) <= 0).any()):
            raise FormatError(f"{table.block_path(run, block)}: its voxels are not those of the block; make the table again.")
        voxels.append(voxel)
        yield series


def _regroup(pieces, sizes, n_scans, where):
    """Cut rows that come in pieces into groups of other sizes, holding one of each."""
    left = next(pieces, None)
    for size in sizes:
        parts, missing = [] if size else [np.empty((0, n_scans), np.float32)], size
        while missing:
            if left is None:
                raise FormatError(f"{where}: there are fewer rows than the metadata say; is a file of another version?")
            parts.append(left[:missing])
            left, missing = left[missing:], missing - len(parts[-1])
            left = left if len(left) else next(pieces, None)
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)
    if (len(left) if left is not None else 0) or any(len(piece) for piece in pieces):
        raise FormatError(f"{where}: there are more rows than the metadata say; is a file of another version?")


def _create(group, name, shape, dtype, chunks, compression="none"):
    if not all(shape):
        return group.create_dataset(name, shape, dtype, track_times=False)
    filters = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if compression == "gzip" else {}
    chunks = tuple(min(side, length) for side, length in zip(chunks, shape, strict=True))
    return group.create_dataset(name, shape, dtype, chunks=chunks, fletcher32=True, track_times=False, **filters)


def read_contents(path, with_files=True):
    """Read what an exported file holds, without its rows.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    with_files : bool
        Whether the bytes of the table's other files are read; they are empty otherwise.

    Returns
    -------
    contents : TableContents
        The contents.

    Raises
    ------
    FormatError
        When it is no whole HDF5 file, not one of ours, or of a newer format.
    StorageError
        When there is no such file.
    """
    h5py = require("h5py", "keras")
    with open_hdf5(path) as file:
        if file.attrs.get("format") != NAME:
            raise FormatError(f"{path}: this HDF5 file is no exported voxel table; make one with 'sparkneuro export'.")
        if file.attrs["version"] > FORMAT:
            newer = f"this export has format {file.attrs['version']}, and this sparkneuro reads up to {FORMAT}"
            raise FormatError(f"{path}: {newer}; update sparkneuro.")
        names = []
        if _FILES in file:
            file[_FILES].visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        files = {name: file[f"{_FILES}/{name}"][()].tobytes() if with_files else b"" for name in names}
        return TableContents(json.loads(file.attrs["voxel_table"]), files)


@contextmanager
def open_run(path, key, n_scans, n_voxels, block_size):
    """Read a run of an exported file, a block of voxels at a time.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    key : str
        The run's key.
    n_scans : int
        Length of its series.
    n_voxels : int
        Voxels of the table's mask.
    block_size : int
        Voxels of a block.

    Yields
    ------
    blocks : iterator of (voxel, series)
        Numbers (n,), int32, and series (n, n_scans), float32, of each block in turn; n may be 0.

    Raises
    ------
    FormatError
        When the run is missing or damaged.
    """
    with open_hdf5(path) as file:
        group = file[f"{_RUNS}/{key}"]
        voxel, series = group["voxel"][()], group["series"]
        ascending = voxel.ndim == 1 and not (np.diff(voxel) <= 0).any()
        inside = ascending and (not len(voxel) or (voxel[0] >= 0 and voxel[-1] < n_voxels))
        if voxel.dtype != np.int32 or series.dtype != np.float32 or not inside or series.shape != (len(voxel), n_scans):
            raise FormatError(f"{path}: run {key} is not {n_scans} scans of ascending voxels; export the table again.")
        bounds = np.searchsorted(voxel, np.arange(-(-n_voxels // block_size) + 1) * block_size)
        rows = series.chunks[0] if series.chunks else 1
        chunks = (series[first : first + rows] for first in range(0, len(voxel), rows))
        yield zip(np.split(voxel, bounds[1:-1]), _regroup(chunks, np.diff(bounds).tolist(), n_scans, path), strict=True)
