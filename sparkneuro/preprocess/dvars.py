"""DVARS: how much the whole image changes from one scan to the next, in its own unit and against what its noise would do.

Raw, ``dvars[t] = sqrt(mean over voxels of (y[t] - y[t-1])**2)`` (Power 2012). Standardised, that divided by the root mean
square difference that the series' own noise would make (Nichols 2013): a voxel whose noise has standard deviation s and lag-1
autocorrelation a differs by ``s * sqrt(2 * (1 - a))`` from scan to scan, and the divisor is the mean of that over voxels. A
run without artefacts stays near 1.
"""

import numpy as np

PREDICTED_VOXELS = 2048
"""Voxels, spread evenly, over which the divisor is averaged (good to 1 %): to sort every series would cost more than all else."""
_AT_ONCE = 64
IQR_OF_NORMAL = 1.349
"""Interquartile range of a normal distribution of standard deviation 1."""


def compute_dvars(series):
    """Compute raw and standardised DVARS of a run that is in memory.

    Parameters
    ----------
    series : ndarray of shape (n_scans, n_voxels)
        Finite series, any unit.

    Returns
    -------
    raw : ndarray of shape (n_scans,), float64
        DVARS in the unit of the series; NaN for the first scan, which has none before it.
    standardised : ndarray of shape (n_scans,), float64
        Without unit; NaN likewise, and everywhere when no voxel changes.

    References
    ----------
    Power et al. (2012), NeuroImage 59, 2142-2154. Nichols (2013), Notes on creating a standardized version of DVARS,
    arXiv:1704.01469.

    Examples
    --------
    >>> raw, standardised = compute_dvars(np.array([[0.0, 3.0], [1.0, 2.0], [1.0, 4.0], [3.0, 4.0]]))
    >>> raw.round(3).tolist()
    [nan, 1.0, 1.414, 1.414]
    """
    sums = DvarsSums(*np.shape(series))
    sums.add(series)
    return sums.finish()


def predict_difference_sd(series):
    """Tell how large the scan-to-scan differences of a series' noise are.

    ``sqrt(2 * (1 - a)) * s``: s is the interquartile range (whose ends are scans' values, the lower ones) over 1.349, which
    spikes hardly change; a is the lag-1 autocorrelation about the mean, by Yule and Walker.

    Parameters
    ----------
    series : ndarray of shape (n_voxels, n_scans)
        One series a row, contiguous.

    Returns
    -------
    sd : ndarray of shape (n_voxels,), float64
        Standard deviation of the differences, in the unit of the series.
    """
    n_scans = series.shape[1]
    ordered = np.sort(series, axis=1)
    spread = ordered[:, int(0.75 * (n_scans - 1))] - ordered[:, int(0.25 * (n_scans - 1))]
    centred = series - series.mean(axis=1, keepdims=True)
    power = np.einsum("vt,vt->v", centred, centred)
    lagged = np.einsum("vt,vt->v", centred[:, 1:], centred[:, :-1])
    autocorrelation = lagged / np.where(power > 0, power, 1)
    return np.sqrt(2 * (1 - autocorrelation)) * (spread / IQR_OF_NORMAL)


class DvarsSums:
    """Sums for DVARS, and for the global signal, of a run whose voxels come strip by strip.

    Parameters
    ----------
    n_scans : int
        Scans of the run.
    n_voxels : int
        Voxels that are expected in all; decides how many of them the divisor is averaged over.

    Attributes
    ----------
    n_voxels : int
        Voxels that have come.
    total : ndarray of shape (n_scans,)
        Sum of their series.
    """

    def __init__(self, n_scans, n_voxels):
        self.n_voxels = 0
        self.total = np.zeros(n_scans)
        self._step = max(1, n_voxels // PREDICTED_VOXELS)
        self._squares = np.zeros(max(0, n_scans - 1))
        self._waiting, self._predicted = [], [0.0, 0]

    def add(self, series):
        """Take the next voxels.

        Parameters
        ----------
        series : ndarray of shape (n_scans, n)
            Their finite series. Not modified.
        """
        difference = series[1:] - series[:-1]
        self._squares += np.vecdot(difference, difference)
        self.total += series @ np.ones(series.shape[1], series.dtype)
        first = -self.n_voxels % self._step
        self._waiting.append(series[:, first :: self._step].T.copy())
        self.n_voxels += series.shape[1]
        if sum(map(len, self._waiting)) >= _AT_ONCE:
            self._predict()

    def finish(self):
        """Compute DVARS of all voxels that have come.

        Returns
        -------
        raw, standardised : ndarray of shape (n_scans,), float64
            As `compute_dvars` returns them.
        """
        self._predict()
        raw = np.full(len(self.total), np.nan)
        if self.n_voxels:
            raw[1:] = np.sqrt(self._squares / self.n_voxels)
        divisor = self._predicted[0] / max(self._predicted[1], 1)
        return raw, raw / divisor if divisor > 0 else np.full_like(raw, np.nan)

    def _predict(self):
        if self._waiting:
            sd = predict_difference_sd(np.concatenate(self._waiting))
            self._predicted = [self._predicted[0] + float(sd.sum()), self._predicted[1] + len(sd)]
            self._waiting = []
