"""Parcels: the mean series of each region of a labels image, over the voxels that can be used."""

import numpy as np
from scipy import sparse

_SCANS = 64


def average_parcels(baseline, deviation, parcel, n_parcels):
    """Average the voxels of each parcel.

    A voxel that is constant or not finite (outside the field of view, say) is left out of the mean, where
    `nilearn.maskers.NiftiLabelsMasker` would count it; `coverage` says what share is in it.

    Parameters
    ----------
    baseline : ndarray of shape (n_voxels,), float64
        Signal of the first scan.
    deviation : ndarray of shape (n_scans, n_voxels), float32
        What each scan has above it.
    parcel : ndarray of shape (n_voxels,), int
        The parcel of each voxel, from 0 on.
    n_parcels : int
        How many there are.

    Returns
    -------
    baseline : ndarray of shape (n_parcels,), float64
        Mean signal of the first scan; 0 for a parcel without a usable voxel.
    deviation : ndarray of shape (n_scans, n_parcels), float32
        What each scan has above it; 0 for such a parcel.
    coverage : ndarray of shape (n_parcels,), float64
        Share of the parcel's voxels that can be used; 0 for a parcel without voxels.

    Examples
    --------
    >>> baseline, deviation = np.array([1.0, 3.0, np.nan]), np.array([[0, 0, 0], [2, 4, np.nan]], np.float32)
    >>> mean, change, coverage = average_parcels(baseline, deviation, np.array([0, 0, 0]), 2)
    >>> mean.tolist(), change.tolist(), coverage.round(2).tolist()
    ([2.0, 0.0], [[0.0, 0.0], [3.0, 0.0]], [0.67, 0.0])
    """
    usable = np.isfinite(baseline) & np.isfinite(deviation).all(axis=0) & (deviation != 0).any(axis=0)
    n_all, n_usable = (np.bincount(parcel[chosen], minlength=n_parcels) for chosen in (slice(None), usable))
    places = np.flatnonzero(usable)
    weights = 1 / np.maximum(n_usable, 1)[parcel[places]]
    mean = sparse.csr_array((weights, (parcel[places], places)), shape=(n_parcels, len(parcel)))
    averaged = np.empty((len(deviation), n_parcels), np.float32)
    for start in range(0, len(deviation), _SCANS):
        part = deviation[start : start + _SCANS].astype(np.float64)
        averaged[start : start + _SCANS] = (mean @ np.where(usable, part, 0).T).T
    return mean @ np.where(usable, baseline, 0), averaged, n_usable / np.maximum(n_all, 1)
