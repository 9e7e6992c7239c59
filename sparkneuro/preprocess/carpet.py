"""Carpets: many voxels by scans in one small picture, on which what all voxels share (motion, breathing) shows as stripes."""

import numpy as np

MOST_ROWS, MOST_COLUMNS = 300, 1200
STEPS_PER_SD = 16
"""Levels of a stored carpet between one standard deviation and the next."""


def choose_step(n_voxels, n_scans, n_rows=MOST_ROWS):
    """Tell which voxels become rows: those whose number is a multiple of the step.

    The rows are the same ones in every run of a table, so that runs can be compared voxel by voxel.

    Parameters
    ----------
    n_voxels : int
        Voxels of the table's mask.
    n_scans : int
        Scans of a run; a very long one gets fewer rows (whole multiples of the step), so that memory stays bounded.
    n_rows : int
        Rows at most.

    Returns
    -------
    step : int
        At least 1.

    Examples
    --------
    >>> choose_step(48751, 150), choose_step(48751, 4800), choose_step(20, 150)
    (163, 652, 1)
    """
    step = max(1, -(-n_voxels // n_rows))
    return step * max(1, -(-n_scans // MOST_COLUMNS))


def standardise_rows(rows):
    """Bring every row to mean 0 and standard deviation 1.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_scans)
        Series.

    Returns
    -------
    z : ndarray of shape (n_rows, n_scans), float32
        z-scores; 0 in rows that never change.
    sd : ndarray of shape (n_rows,), float64
        What each row was divided by, 0 where it never changes.
    """
    rows = np.asarray(rows, np.float32)
    z = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    sd = np.sqrt(np.einsum("vt,vt->v", z, z, dtype=np.float64) / max(z.shape[1], 1))  # np.std would hold it all as float64
    z /= np.where(sd > 0, sd, 1).astype(np.float32)[:, None]
    return z, sd


def pack_carpet(z, n_columns=MOST_COLUMNS):
    """Make a carpet small enough to keep: few columns, and a byte a cell.

    Parameters
    ----------
    z : ndarray of shape (n_rows, n_scans)
        z-scores.
    n_columns : int
        Columns at most; where there are more scans, neighbours are averaged, as many for each column as for any other (the last
        may have fewer).

    Returns
    -------
    packed : ndarray of shape (n_rows, n_columns or fewer), int8
        z-scores times 16, those beyond -7 and 7 cut.
    """
    width = max(1, -(-z.shape[1] // n_columns))
    if width > 1:
        starts = np.arange(0, z.shape[1], width)
        z = np.add.reduceat(z, starts, axis=1) / np.diff(np.r_[starts, z.shape[1]])
    return np.rint(np.clip(z, -7, 7) * STEPS_PER_SD).astype(np.int8)


def unpack_carpet(packed):
    """Read a carpet that `pack_carpet` has made.

    Parameters
    ----------
    packed : ndarray of shape (n_rows, n_columns), int8
        As it was kept.

    Returns
    -------
    z : ndarray of shape (n_rows, n_columns), float32
        z-scores, good to 1/32.
    """
    return packed.astype(np.float32) / STEPS_PER_SD
