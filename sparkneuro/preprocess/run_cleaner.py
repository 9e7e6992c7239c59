"""Clean the voxels of a long run fast: what nilearn does to any series of that run, as two thin matrix products.

Detrending, filtering and confound regression are linear and the same for every voxel of a run, and what they take away (a mean,
a trend, slow drifts, the confounds' time courses) has few dimensions. So nilearn is asked once a run, what it makes of an
impulse at each scan; what it takes away is factored, and every voxel then costs two products with as many columns as there are
dimensions, in float32, instead of passes over float64 copies and a filter that is run forward and backward.
"""

import numpy as np
from scipy.linalg import qr, svd
from scipy.linalg.blas import sgemm

from sparkneuro.preprocess.clean import clean_bold

_IMPULSES = 1024
_TOLERANCE = 1e-7
_LEAST_LEFT = 0.01
_SAFE_SQUARES = 1e-20, 1e20
_LEAST_CHANGE = 1e-4


class RunCleaner:
    """What `clean_bold` does to the series of one run, prepared once and applied to rows of float32.

    ``cleaned = x - (x @ A.T) @ B.T``, with ``B @ A`` what is taken away. Results agree with `clean_bold` to about 1e-6 of a
    standard deviation. Float32 is not enough where cleaning leaves next to nothing of a series, nor for constant ones or
    those with infinities: `clean` names such rows, and `clean_bold` is to be asked about them.

    Parameters
    ----------
    n_scans : int
        Scans of the run.
    t_r : float
        Repetition time (s).
    detrend : bool
        Whether the linear trend is removed.
    high_pass : float or None
        Cut-off frequency (Hz).
    confounds : ndarray of shape (n_scans, n_confounds) or None
        Nuisance regressors, finite.
    standardize : bool
        Whether each series is divided by its sample standard deviation, after its mean was removed.

    Attributes
    ----------
    rank : int
        Dimensions that are taken away; `n_scans` where so many are that one whole matrix is cheaper.

    Raises
    ------
    SettingsError
        When the run is too short for the filter or the confounds.

    Examples
    --------
    >>> rows = np.float32([[1, 5, 3, 9, 4], [2, 2, 7, 1, 0]])
    >>> level, deviation, sure = RunCleaner(5, t_r=2.0).clean(rows, baseline=np.array([100.0, 200.0]))
    >>> rows.std(axis=1, ddof=1).round(5).tolist(), level.round(3).tolist(), sure.tolist()
    ([1.0, 1.0], [104.4, 202.4], [True, True])
    """

    def __init__(self, n_scans, t_r, detrend=True, high_pass=None, confounds=None, standardize=True):
        removed = _find_removed(n_scans, t_r, detrend, high_pass, confounds)
        kept = 1 - removed.sum(axis=1)  # what is left of a series of ones: the offset stays where nothing takes it
        self.standardize = standardize
        self._offset = 0.0 if standardize else float(kept.mean())
        self._ripple = np.float32(kept - kept.mean()) if np.ptp(kept) > 1e-9 else None
        self._centred = np.abs(1 - removed.sum(axis=0)).max() < 1e-9  # whether the mean is among what is taken away
        self._average = np.full(n_scans, 1 / n_scans, np.float32)
        self._ones = np.ones(n_scans, np.float32)
        # A filter pins the first scan, which often stands far above all others: what its jump leaves is added by itself.
        self._jump = np.float32(np.eye(n_scans, 1)[:, 0] - removed[:, 0]) if high_pass else None
        left, right = _factor(removed)
        self.rank = left.shape[1]
        self._least_left = _LEAST_LEFT * np.sqrt(self.rank)
        self._left, self._right = np.asfortranarray(left, np.float32), np.asfortranarray(right.T, np.float32)

    def clean(self, rows, baseline):
        """Clean series in place.

        Parameters
        ----------
        rows : ndarray of shape (n_voxels, n_scans), float32, contiguous
            Deviations of each series from its baseline; cleaned afterwards.
        baseline : ndarray of shape (n_voxels,), float64
            What they deviate from.

        Returns
        -------
        level : ndarray of shape (n_voxels,), float64
            Mean of each series as it was.
        deviation : ndarray of shape (n_voxels,), float64
            Its standard deviation as it was (that of the population: divided by `n_scans`).
        sure : ndarray of shape (n_voxels,), bool
            Rows that are right. The others are for `clean_bold`; they hold nothing of use now.

        Raises
        ------
        ValueError
            When the rows cannot be cleaned in place.
        """
        n_scans = rows.shape[1]
        if rows.dtype != np.float32 or not rows.flags.c_contiguous:
            raise ValueError(f"rows must be contiguous rows of float32; got {rows.dtype} with strides {rows.strides}.")
        with np.errstate(all="ignore"):  # what overflows is not sure
            mean = rows @ self._average
            _subtract_outer(rows, mean, self._ones)
            before = np.vecdot(rows, rows)
            level = baseline + mean
            if self.rank:
                self._take_away(rows)
            if self._ripple is not None:
                _subtract_outer(rows, -level.astype(np.float32), self._ripple)
            if self.standardize and not self._centred:
                _subtract_outer(rows, rows @ self._average, self._ones)
            after = np.vecdot(rows, rows)
            if self.standardize:
                rows *= np.sqrt((n_scans - 1) / after)[:, None]
            elif self._offset:
                rows += (level * self._offset).astype(np.float32)[:, None]
            deviation = np.sqrt(before.astype(np.float64) / n_scans)
            sure = (_SAFE_SQUARES[0] < before) & (before < _SAFE_SQUARES[1]) & (after > self._least_left * before)
            # A constant series differs from its mean by rounding.
            return level, deviation, sure & (deviation > _LEAST_CHANGE * np.abs(mean)) & np.isfinite(level)

    def _take_away(self, rows):
        if self._jump is not None:
            jump = rows[:, 1] - rows[:, 0]
            rows[:, 0] = rows[:, 1]
        weights = rows @ self._right
        # In place: `rows.T` lies as Fortran's matrices do.
        sgemm(-1.0, self._left, weights.T, beta=1.0, c=rows.T, overwrite_c=1)
        if self._jump is not None:
            _subtract_outer(rows, jump, self._jump)


def _subtract_outer(rows, factors, series):
    """Subtract a multiple of one series from each row, in place."""
    sgemm(-1.0, series[:, None], factors[None], beta=1.0, c=rows.T, overwrite_c=1)


def _find_removed(n_scans, t_r, detrend, high_pass, confounds):
    """The matrix of what nilearn takes away from a series: impulse minus what it leaves of an impulse."""
    removed = np.zeros((n_scans, n_scans))
    if not (detrend or high_pass or confounds is not None):
        return removed
    for first in range(0, n_scans, _IMPULSES):
        impulses = np.eye(n_scans, min(_IMPULSES, n_scans - first), -first)
        cleaned = clean_bold(impulses, t_r, detrend, high_pass, confounds, standardize=False)
        removed[:, first:first + impulses.shape[1]] = impulses - cleaned
    return removed


def _factor(matrix):
    """Factor a square matrix of few dimensions: those that random vectors are mapped to, as many as it takes."""
    n, rng, rank = len(matrix), np.random.default_rng(0), 8
    if not matrix.any():
        return np.zeros((n, 0)), np.zeros((0, n))
    while 2 * rank < n:
        basis = qr(matrix @ rng.standard_normal((n, rank)), mode="economic")[0]
        weights = basis.T @ matrix
        if np.linalg.norm(matrix - basis @ weights) < _TOLERANCE:
            left, values, right = svd(weights, full_matrices=False)
            rank = int((values > _TOLERANCE).sum())
            return basis @ (left[:, :rank] * values[:rank]), right[:rank]
        rank *= 2
    return matrix, np.eye(n)
