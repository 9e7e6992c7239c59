"""Which correlations are more than chance, for signals that are autocorrelated.

Shuffled scans have no autocorrelation, so their correlations are far too small for a null. A circular shift keeps the
autocorrelation of both series and breaks only their alignment.
"""

import numpy as np
from scipy.fft import irfft, rfft

from sparkneuro.errors import FormatError
from sparkneuro.validation import check_number

TARGETS_AT_ONCE = 128  # 10 MB for each array of 10,000 scans
FEWEST_SHIFTS = 20
N_BINS = 200
ROUNDING = 1e-12  # of a correlation by FFT: a shift that repeats the prediction exactly counts as reaching the observed one


def circular_shift_null(Y, prediction, min_shift=10):
    """Correlate every target with its prediction at every circular shift.

    ``null[k] = corr(Y, np.roll(prediction, min_shift + k, axis=0))``, all shifts at once by one FFT a target.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets, any unit.
    prediction : ndarray of shape (n_scans, n_targets)
        Prediction of each target.
    min_shift : int
        Shortest shift (scans) in either direction: beyond the delays of the response and the autocorrelation of the signals.

    Returns
    -------
    null : ndarray of shape (n_scans - 2 * min_shift + 1, n_targets), float64
        Correlations at the shifts ``min_shift, ..., n_scans - min_shift``; NaN where target or prediction is constant.
    observed : ndarray of shape (n_targets,), float64
        Correlations without a shift.

    Raises
    ------
    FormatError
        When the shapes differ, or there are fewer than 20 shifts.

    Notes
    -----
    Several test runs are concatenated and shifted as one series, which is why no run labels are asked for. Shifting each run
    within itself would allow no more shifts than the shortest run has scans, and the smallest p value is one over their number;
    the price is one seam a run, as where the end meets the beginning. Standardise within runs first, or their means make steps.

    References
    ----------
    Harris (2020). Nonsense correlations in neuroscience. bioRxiv 2020.11.29.402719.

    Examples
    --------
    >>> series = np.random.default_rng(0).standard_normal((50, 1))
    >>> null, observed = circular_shift_null(series, series, min_shift=3)
    >>> null.shape, observed.round(6)
    ((45, 1), array([1.]))
    """
    check_number("min_shift", min_shift, minimum=1, integer=True)
    Y, prediction = np.asarray(Y), np.asarray(prediction)
    if Y.ndim != 2 or prediction.shape != Y.shape:
        raise FormatError(f"Y and prediction must both have shape (n_scans, n_targets); got {Y.shape} and {prediction.shape}.")
    n_shifts = len(Y) - 2 * min_shift + 1
    if n_shifts < FEWEST_SHIFTS:
        raise FormatError(
            f"a null needs at least {FEWEST_SHIFTS} circular shifts; {len(Y)} scans and min_shift {min_shift} leave "
            f"{max(n_shifts, 0)}: test on more scans."
        )
    spectra = rfft(_standardize(Y), axis=0) * rfft(_standardize(prediction), axis=0).conj()
    correlations = np.clip(irfft(spectra, n=len(Y), axis=0), -1, 1)
    return correlations[min_shift : min_shift + n_shifts], correlations[0]


def circular_shift_p(Y, prediction, min_shift=10):
    """Tell for every target how often chance predicts it as well, without keeping the null.

    ``p = (1 + #{null >= observed}) / (1 + n_shifts)``, one-sided, with the null of `circular_shift_null`.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets, any unit.
    prediction : ndarray of shape (n_scans, n_targets)
        Prediction of each target.
    min_shift : int
        Shortest shift (scans) in either direction: beyond the delays of the response and the autocorrelation of the signals.

    Returns
    -------
    observed : ndarray of shape (n_targets,), float64
        Correlations without a shift; NaN where target or prediction is constant.
    p : ndarray of shape (n_targets,), float64
        From ``1 / (1 + n_shifts)`` to 1; NaN where `observed` is.
    null_counts : ndarray of shape (200,), int64
        Histogram of the null of all targets together, over bins of 0.01 from -1 to 1.

    Raises
    ------
    FormatError
        When the shapes differ, or there are fewer than 20 shifts.

    Notes
    -----
    Shifts next to each other are not independent, so the smallest p values come too often. Of independent AR(1) series of
    coefficient 0.8, with the shortest shift 10: p <= 0.05 for 6.8 % of targets of 200 scans, 5.4 % of 1,000 and 5.3 % of 4,000;
    the smallest p, 1 / (1 + n_shifts), for 2.4 %, 0.4 % and 0.09 %, about 4 times too many
    (`test_false_positives_are_few_more_than_they_should_be` measures the first).

    Examples
    --------
    >>> series = np.random.default_rng(0).standard_normal((118, 1))
    >>> circular_shift_p(series, series)[1]
    array([0.01])
    """
    Y, prediction = np.asarray(Y), np.asarray(prediction)
    observed, p, null_counts = np.empty(Y.shape[-1]), np.empty(Y.shape[-1]), np.zeros(N_BINS, np.int64)
    for start in range(0, Y.shape[-1], TARGETS_AT_ONCE):
        some = np.s_[..., start : start + TARGETS_AT_ONCE]
        null, observed[some] = circular_shift_null(Y[some], prediction[some], min_shift)
        p[some] = (1 + np.sum(null >= observed[some] - ROUNDING, axis=0)) / (1 + len(null))
        null_counts += np.histogram(null, N_BINS, range=(-1, 1))[0]
    p[np.isnan(observed)] = np.nan
    return observed, p, null_counts


def fdr(p):
    """Turn p values into q values: the false discovery rate when a target and all with smaller p are called significant.

    Benjamini and Hochberg: ``q_(i) = min_{j >= i} p_(j) n / j``, with p sorted from small to large.

    Parameters
    ----------
    p : ndarray of shape (n_targets,)
        p values, NaN for targets that are not tested and do not count.

    Returns
    -------
    q : ndarray of shape (n_targets,), float64
        q values; NaN where p is.

    Raises
    ------
    FormatError
        When a p value is not between 0 and 1.

    References
    ----------
    Benjamini, Hochberg (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society B 57, 289-300.

    Examples
    --------
    >>> fdr(np.array([0.04, 0.01, np.nan]))
    array([0.04, 0.02,  nan])
    """
    q = np.array(p, np.float64)
    tested = np.flatnonzero(~np.isnan(q))
    if np.any((q < 0) | (q > 1)):
        raise FormatError(f"p values must lie between 0 and 1; got {np.nanmin(q):g} to {np.nanmax(q):g}.")
    largest_first = tested[np.argsort(-q[tested])]
    scaled = q[largest_first] * len(tested) / np.arange(len(tested), 0, -1)
    q[largest_first] = np.minimum.accumulate(scaled)
    return q


def _standardize(values):
    """Columns of mean 0 and sum of squares 1; NaN for a constant, which is exactly 0 about its first scan."""
    deviations = np.subtract(values, values[0], dtype=np.float64)
    deviations -= deviations.mean(axis=0)
    norms = np.linalg.norm(deviations, axis=0)
    return deviations / np.where(norms == 0, np.nan, norms)
