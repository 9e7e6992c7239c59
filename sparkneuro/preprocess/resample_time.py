"""Resample time series to another repetition time, with a filter against aliasing: one linear filter for every ratio of TRs."""

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number

HALF_WIDTH = 32
"""Reach of the filter to each side, in scans of the coarser TR: 0.88 of the Nyquist frequency passes, above it nothing does."""

ATTENUATION = 60.0
"""What the filter leaves of frequencies that it shall stop (dB below)."""

SAME = 1e-5
"""Two TRs are the same when they differ by less than this share: headers keep them as float32."""

_BLOCK = 64


def same_t_r(t_r, other):
    """Tell whether two repetition times are the same but for rounding.

    Parameters
    ----------
    t_r, other : float
        Repetition times (s).

    Returns
    -------
    same : bool
        Whether they are.

    Examples
    --------
    >>> same_t_r(0.72, 0.72000003), same_t_r(2.0, 2.01)
    (True, False)
    """
    return abs(t_r - other) <= SAME * max(t_r, other)


def count_resampled(n_scans, t_r, new_t_r):
    """Count the scans of a resampled run: the times ``j * new_t_r`` from its first scan to its last, none beyond it.

    Parameters
    ----------
    n_scans : int
        Scans of the run.
    t_r, new_t_r : float
        Repetition times before and after (s).

    Returns
    -------
    n_resampled : int
        Scans afterwards.

    Examples
    --------
    >>> count_resampled(100, 1.0, 2.0), count_resampled(50, 2.0, 1.0), count_resampled(100, 1.35, 2.0)
    (50, 99, 67)
    """
    if same_t_r(t_r, new_t_r):
        return n_scans
    return int((n_scans - 1) * t_r / new_t_r * (1 + 1e-12) + 1e-9) + 1


def check_resampling(n_scans, t_r, new_t_r):
    """Check that a run can be resampled.

    Parameters
    ----------
    n_scans : int
        Scans of the run.
    t_r, new_t_r : float
        Repetition times before and after (s).

    Raises
    ------
    SettingsError
        When a TR is not positive, or a run is shorter than two new scans.
    """
    check_number("t_r", t_r, minimum=0, exclusive=True)
    check_number("t_r", new_t_r, minimum=0, exclusive=True)
    if count_resampled(n_scans, t_r, new_t_r) < 2:
        raise SettingsError(f"t_r must be shorter than a run: {n_scans} scans of {t_r:g} s hold no two of {new_t_r:g} s.")


class TimeResampler:
    """Resample runs of one length from one repetition time to another.

    Scan j of the result is at ``j * new_t_r`` after the first scan, by a sum over the scans i of the run:
    ``y[j] = sum_i h(j * new_t_r - i * t_r) * x[i]``, where h is a sinc that passes what both TRs can hold, in a Kaiser window,
    and every sum of weights is 1. That is what a polyphase filter computes for a rational ratio, at the exact times for any.
    Before its first scan and behind its last one a run goes on as its mirror image, which neither rings, as zeros would, nor
    lets fast changes through at the ends, as a point reflection would; the kink of a mirrored run still shows in the last scans.

    Parameters
    ----------
    n_scans : int
        Scans of a run.
    t_r, new_t_r : float
        Repetition times before and after (s).

    Attributes
    ----------
    n_resampled : int
        Scans afterwards.
    is_identity : bool
        Whether the TRs are the same, so that nothing is done.

    Raises
    ------
    SettingsError
        When a TR is not positive, or a run is shorter than two new scans.

    Examples
    --------
    >>> seconds = np.arange(200) * 1.35
    >>> slow = np.sin(2 * np.pi * 0.05 * seconds)[None]
    >>> resampled = TimeResampler(200, 1.35, 2.0).resample(slow)
    >>> expected = np.sin(2 * np.pi * 0.05 * 2.0 * np.arange(resampled.shape[1]))
    >>> bool(np.abs(resampled - expected)[:, 10:-10].max() < 0.01)
    True
    """

    def __init__(self, n_scans, t_r, new_t_r):
        check_resampling(n_scans, t_r, new_t_r)
        self.n_scans, self.n_resampled = n_scans, count_resampled(n_scans, t_r, new_t_r)
        self.is_identity = same_t_r(t_r, new_t_r)
        starts = () if self.is_identity else range(0, self.n_resampled, _BLOCK)
        self._pieces = [self._weigh(start, t_r, new_t_r) for start in starts]

    def resample(self, series):
        """Resample the series of some voxels.

        Parameters
        ----------
        series : ndarray of shape (n_voxels, n_scans), float
            Time series, any unit. Not modified.

        Returns
        -------
        resampled : ndarray of shape (n_voxels, n_resampled), dtype of `series`
            The same at the new times; `series` itself where the TRs are the same.
        """
        if series.shape[1] != self.n_scans:
            raise SettingsError(f"series must have shape (n_voxels, {self.n_scans}); got {series.shape}.")
        if self.is_identity:
            return series
        resampled = np.empty((len(series), self.n_resampled), series.dtype)
        for start, first, weights in self._pieces:
            part = series[:, first : first + weights.shape[1]].astype(np.float64, copy=False)
            resampled[:, start : start + len(weights)] = part @ weights.T
        return resampled

    def _weigh(self, start, t_r, new_t_r):
        """Weights of some neighbouring new scans on the stretch of old scans that they need, mirrored ones folded in."""
        coarser = max(t_r, new_t_r)
        times = np.arange(start, min(start + _BLOCK, self.n_resampled)) * new_t_r
        first = int(np.floor((times[0] - HALF_WIDTH * coarser) / t_r))
        last = int(np.ceil((times[-1] + HALF_WIDTH * coarser) / t_r))
        scans = np.arange(first, last + 1)
        weights = _kernel((times[:, None] - scans * t_r) / coarser)
        weights /= weights.sum(axis=1, keepdims=True)
        inside = _mirror(scans, self.n_scans)
        low = int(inside.min())
        folded = np.zeros((len(times), int(inside.max()) - low + 1))
        np.add.at(folded.T, inside - low, weights.T)
        return start, low, folded


def _kernel(offsets):
    """The windowed sinc at offsets in scans of the coarser TR; its transition ends at the Nyquist frequency."""
    transition = (ATTENUATION - 7.95) / (14.36 * 2 * HALF_WIDTH)  # Kaiser's formula, in cycles a scan
    cutoff = 0.5 - transition / 2
    beta = 0.1102 * (ATTENUATION - 8.7)
    window = np.i0(beta * np.sqrt(np.clip(1 - (offsets / HALF_WIDTH) ** 2, 0, None)))
    return np.where(np.abs(offsets) <= HALF_WIDTH, np.sinc(2 * cutoff * offsets) * window, 0)


def _mirror(scans, n_scans):
    """Where scans beyond the ends of a run lie in it when it goes on as its mirror image, again and again."""
    period = max(2 * (n_scans - 1), 1)
    place = np.mod(scans, period)
    return np.minimum(place, period - place)
