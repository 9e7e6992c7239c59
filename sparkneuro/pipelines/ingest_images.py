"""The images that choose an ingest's rows: a mask file on the runs' grid, and a parcellation."""

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.nifti import read_header, read_volume
from sparkneuro.errors import FormatError, SettingsError


def read_mask(path, source):
    """Read a mask file, and resample it to the grid of a run when it has another one.

    Parameters
    ----------
    path : str
        Path or URI of a 3-D NIfTI file.
    source : SourceRun
        A run, for its grid.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
        Its voxels on the run's grid; on its own where the run's is not known.
    affine : array_like of shape (4, 4)
        From voxel indices of that grid to mm.

    Raises
    ------
    FormatError
        When it is no mask, empty, or does not touch the run's grid.
    """
    from sparkneuro.preprocess.resample_labels import resample_labels

    volume, affine = _read_image(path, "mask", "group, subject or a file")
    values = np.unique(volume)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or not np.isfinite(values).all():
        raise FormatError(f"{path}: a mask holds 0 and one other value; this image holds {len(values)} values, is it a mask?")
    if not values.any():
        raise FormatError(f"{path}: the mask is empty.")
    if not source.affine:
        return volume != 0, affine
    mask = resample_labels(volume != 0, affine, source.shape, source.affine)
    if not mask.any():
        raise FormatError(f"{path}: no voxel of the mask lies on the grid of {source.path}; are they in the same space?")
    return mask, source.affine


def read_labels(path):
    """Read a parcellation and number its parcels.

    Parameters
    ----------
    path : str
        Path or URI of a 3-D NIfTI file of whole numbers; 0 is background. Names are read from the .tsv of the same name beside
        it (columns index and name), when there is one.

    Returns
    -------
    numbers : ndarray of shape (x, y, z), int32
        0 outside; else 1 + the row.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    names : list of (int, str)
        Value in the image and name of each row, in the order of the values.

    Raises
    ------
    FormatError
        When it is no labels image.
    """
    volume, affine = _read_image(path, "labels", "a labels image")
    if not np.isfinite(volume).all() or (volume != np.rint(volume)).any() or volume.min() < 0:
        raise FormatError(f"{path}: a labels image holds whole numbers from 0 on; is it a probabilistic atlas?")
    values = np.unique(volume[volume > 0]).astype(np.int64)
    if not len(values):
        raise FormatError(f"{path}: the labels image is empty.")
    beside = path.removesuffix(".gz").removesuffix(".nii") + ".tsv"
    known = row_space.read_names(beside) if store.exists(beside) else {}
    numbers = np.where(volume > 0, np.searchsorted(values, volume) + 1, 0).astype(np.int32)
    return numbers, affine, [(int(value), known.get(int(value), str(value))) for value in values]


def _read_image(path, name, expected):
    if not store.exists(path):
        raise SettingsError(f"{name} must be {expected}; there is no file {path}.")
    shape = read_header(path).shape
    if len(shape) != 3:
        what = "a mask" if name == "mask" else "a labels image"
        raise FormatError(f"{path}: {what} is a 3-D image, and this one has shape {shape}.")
    return read_volume(path)
