"""Which signals of one run become which rows of a table."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.nifti import read_volume
from sparkneuro.errors import FormatError


@dataclass(frozen=True, eq=False)
class Selection:
    """Which signals of one run become which rows.

    Parameters
    ----------
    selected : ndarray of the recording's shape, bool
        Signals that are read.
    row : ndarray of shape (n_selected,), int32
        The row of each, ascending; of parcels, many signals share a row.
    n_rows : int
        Rows of the table, and so of its blocks.
    numbers : ndarray of shape (x, y, z), int32, or None
        Where the table's rows lie; None where they have no grid.
    inside : ndarray of shape (n_rows,) or None
        Share of each parcel that lies on the run's grid; None where rows are no parcels.
    """

    selected: np.ndarray
    row: np.ndarray
    n_rows: int
    numbers: np.ndarray | None
    inside: np.ndarray | None = None


def select_rows(job, recording):
    """Tell which signals of a run become which rows.

    Parameters
    ----------
    job : dict
        `table` (path), `mask` (path of the run's own mask, "" for the table's) and `rows` (their kind).
    recording : Recording
        The run.

    Returns
    -------
    selection : Selection
        What is to be read, and where it goes.

    Raises
    ------
    FormatError
        When no parcel lies on the run's grid, or the grayordinates are others than the table's.
    """
    if job["rows"] in (row_space.GRAYORDINATES, row_space.SERIES):
        if job["rows"] == row_space.GRAYORDINATES:
            _check_brain_models(job["table"], recording)
        n_rows = recording.shape[0]
        return Selection(np.ones(n_rows, bool), np.arange(n_rows, dtype=np.int32), n_rows, None)
    if job["rows"] == row_space.PARCELS:
        return _select_parcels(job["table"], recording)
    mask = read_volume(store.join(job["table"], row_space.MASK))[0] != 0
    numbers = row_space.number_voxels(mask)
    selected = (read_volume(job["mask"])[0] != 0) & mask if job["mask"] else mask
    return Selection(selected, numbers[selected] - 1, int(numbers.max()), numbers)


def _select_parcels(table, recording):
    from sparkneuro.preprocess.resample_labels import resample_labels

    numbers, affine = read_volume(store.join(table, row_space.LABELS))
    here = resample_labels(numbers, affine, recording.shape, recording.affine)
    if not here.any():
        raise FormatError(f"{recording.path}: no parcel lies on the grid of this run; are they in the same space?")
    inside = _measure_inside(numbers, affine, recording)
    return Selection(here > 0, here[here > 0] - 1, int(numbers.max()), numbers, inside)


def _measure_inside(numbers, affine, recording):
    """Share of each parcel's voxels whose centres lie within the run's voxels."""
    places = np.argwhere(numbers)
    to_run = np.linalg.inv(recording.affine) @ affine
    there = places @ to_run[:3, :3].T + to_run[:3, 3]
    within = ((there >= -0.5) & (there <= np.array(recording.shape) - 0.5)).all(axis=1)
    parcel = numbers[tuple(places.T)] - 1
    return np.bincount(parcel, within) / np.bincount(parcel)


def _check_brain_models(table, recording):
    from sparkneuro.data.cifti import read_brain_models

    if recording.brain_models != read_brain_models(store.join(table, row_space.BRAIN_MODELS)):
        others = "its grayordinates are others than the table's"
        raise FormatError(f"{recording.path}: {others}; choose files of one kind with --space.")
