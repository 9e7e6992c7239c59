"""Parcels: the mean series of each region of a labels image, over the voxels that can be used."""

import numpy as np
from scipy import sparse

from sparkneuro.data.recordings.masked_series import MaskedSeries

_SCANS = 64


def average_parcels(series, parcel, n_parcels):
    """Average the voxels of each parcel.

    A voxel that is constant or not finite (outside the field of view, say) is left out of the mean, where
    `nilearn.maskers.NiftiLabelsMasker` would count it; `coverage` says what share is in it.

    Parameters
    ----------
    series : MaskedSeries
        Of the voxels.
    parcel : ndarray of shape (n_voxels,), int
        The parcel of each voxel, from 0 on.
    n_parcels : int
        How many there are.

    Returns
    -------
    averaged : MaskedSeries
        Of the parcels; 0 for one without a usable voxel.
    coverage : ndarray of shape (n_parcels,), float64
        Share of the parcel's voxels that can be used; 0 for a parcel without voxels.

    Examples
    --------
    >>> series = MaskedSeries(np.array([1.0, 3.0, np.nan]), np.array([[0, 0, 0], [2, 4, np.nan]], np.float32))
    >>> averaged, coverage = average_parcels(series, np.array([0, 0, 0]), 2)
    >>> averaged.bold(slice(None)).tolist(), coverage.round(2).tolist()
    ([[2.0, 0.0], [5.0, 0.0]], [0.67, 0.0])
    """
    usable = _find_usable(series)
    n_all, n_usable = (np.bincount(parcel[chosen], minlength=n_parcels) for chosen in (slice(None), usable))
    places = np.flatnonzero(usable)
    weights = 1 / np.maximum(n_usable, 1)[parcel[places]]
    mean = sparse.csr_array((weights, (parcel[places], places)), shape=(n_parcels, len(parcel)))
    averaged, first = np.empty((series.n_scans, n_parcels), np.float32), None
    for start in range(0, series.n_scans, _SCANS):
        part = (mean @ np.where(usable, series.scans(start, start + _SCANS), 0).T).T
        first = part[0] if first is None else first
        averaged[start : start + _SCANS] = part - first
    baseline = mean @ np.where(usable, series.baseline, 0) + first
    return MaskedSeries(baseline, averaged), n_usable / np.maximum(n_all, 1)


def _find_usable(series):
    """Voxels that are finite and change."""
    first, usable, changes = series.scans(0, 1)[0], np.isfinite(series.baseline), np.zeros(len(series.baseline), bool)
    for start in range(0, series.n_scans, _SCANS):
        part = series.scans(start, start + _SCANS)
        usable &= np.isfinite(part).all(axis=0)
        changes |= (part != first).any(axis=0)
    return usable & changes
