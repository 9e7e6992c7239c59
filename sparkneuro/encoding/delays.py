"""Features as they were some scans ago, and their Gram matrix without ever building them.

The BOLD response follows its stimulus by seconds, so a model sees every feature at several delays: n_delays times the columns
of X. A delay never crosses from one run into the next.
"""

from itertools import combinations_with_replacement
from numbers import Integral

import numpy as np

from sparkneuro.encoding.folds import check_runs
from sparkneuro.errors import FormatError, SettingsError

ROWS_AT_ONCE = 2048  # widened to float64 together: 67 MB at 4,096 features


def delay_features(X, delays, run_labels=None):
    """Shift every feature by every delay within its run.

    ``D[t, d * n_features + j] = X[t - delays[d], j]``, zero where scan ``t - delays[d]`` is not in the run of scan t.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features, any unit.
    delays : sequence of int
        Delays (scans), each once and shorter than every run. Above 0 the past is seen, below 0 the future.
    run_labels : array-like of shape (n_scans,) or None
        Name of the run that each scan belongs to; None makes all scans one run.

    Returns
    -------
    delayed : ndarray of shape (n_scans, n_features * n_delays), dtype of `X` (float64 when X holds whole numbers)
        All features at the first delay, then all at the second, and so on.

    Raises
    ------
    SettingsError
        When delays are not distinct whole numbers, or not shorter than every run.
    FormatError
        When X is not two-dimensional, or the run labels do not fit it.

    Examples
    --------
    >>> delay_features(np.array([[1.0], [2.0], [3.0], [4.0]]), delays=(0, 1), run_labels=[1, 1, 2, 2])
    array([[1., 0.],
           [2., 1.],
           [3., 0.],
           [4., 3.]])
    """
    X, delays, runs = _check(X, delays, run_labels)
    n_scans, n_features = X.shape
    delayed = np.zeros((n_scans, len(delays), n_features), X.dtype if X.dtype.kind == "f" else np.float64)
    for d, delay in enumerate(delays):
        for run in runs:
            source = _source_rows(run, delay, delay)
            delayed[source.start + delay : source.stop + delay, d] = X[source]
    return delayed.reshape(n_scans, -1)


def delayed_gram(X, delays, run_labels=None):
    """Products of all delayed features with each other, from the features without delays.

    ``D.T @ D`` for ``D = delay_features(X, delays, run_labels)``. The block of delays a <= b holds the products of scans
    t - a and t - b, which lie b - a apart: it is the lag covariance ``sum_v X[v + b - a]^T X[v]`` of all scans, less the few
    scans v at the edges of runs where ``v + b`` or ``v + b - a`` is in another run.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features, any unit; summed in float64, a few rows at a time.
    delays : sequence of int
        Delays (scans), each once and shorter than every run.
    run_labels : array-like of shape (n_scans,) or None
        Name of the run that each scan belongs to; None makes all scans one run.

    Returns
    -------
    gram : ndarray of shape (n_features * n_delays, n_features * n_delays), float64
        Symmetric, about zero. About the mean it is ``gram - np.outer(total, total) / n_scans`` with the `delayed_sum`.

    Raises
    ------
    SettingsError
        When delays are not distinct whole numbers, or not shorter than every run.
    FormatError
        When X is not two-dimensional, or the run labels do not fit it.

    Notes
    -----
    One product of n_scans x n_features^2 for each distinct difference of two delays: 4 of them for 4 delays in a row, where the
    Gram of the delayed features takes 16, or 10 when its symmetry is used.

    Examples
    --------
    >>> delayed_gram(np.array([[1.0], [2.0], [3.0], [4.0]]), delays=(0, 1), run_labels=[1, 1, 2, 2])
    array([[30., 14.],
           [14., 10.]])
    """
    X, delays, runs = _check(X, delays, run_labels)
    n_scans, n_features = X.shape
    gram = np.empty((len(delays), n_features, len(delays), n_features))
    pairs_of_lag = {}
    for first, last in combinations_with_replacement(np.argsort(delays).tolist(), 2):
        pairs_of_lag.setdefault(delays[last] - delays[first], []).append((first, last))
    for lag, pairs in pairs_of_lag.items():
        covariance = _lag_products(X, np.arange(max(n_scans - lag, 0)), lag)
        for first, last in pairs:
            outside = _rows_outside(runs, n_scans, delays[first], delays[last])
            block = covariance - _lag_products(X, outside, lag)
            gram[first, :, last], gram[last, :, first] = block, block.T
    return gram.reshape(len(delays) * n_features, -1)


def delayed_sum(X, delays, run_labels=None):
    """Sum every delayed feature over scans, from the features without delays.

    ``D.sum(axis=0)`` for ``D = delay_features(X, delays, run_labels)``.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features, any unit; summed in float64.
    delays : sequence of int
        Delays (scans), each once and shorter than every run.
    run_labels : array-like of shape (n_scans,) or None
        Name of the run that each scan belongs to; None makes all scans one run.

    Returns
    -------
    total : ndarray of shape (n_features * n_delays,), float64
        In the order of the columns of `delay_features`.

    Examples
    --------
    >>> delayed_sum(np.array([[1.0], [2.0], [3.0], [4.0]]), delays=(0, 1), run_labels=[1, 1, 2, 2])
    array([10.,  4.])
    """
    X, delays, runs = _check(X, delays, run_labels)
    total = X.sum(axis=0, dtype=np.float64)
    outside = (_rows_outside(runs, len(X), delay, delay) for delay in delays)
    return np.concatenate([total - X[rows].sum(axis=0, dtype=np.float64) for rows in outside])


def _check(X, delays, run_labels):
    X = np.asarray(X)
    if X.ndim != 2:
        raise FormatError(f"X must have shape (n_scans, n_features); got {X.shape}.")
    runs = check_runs(run_labels, len(X))
    values = list(delays) if np.iterable(delays) else []
    if not values or not all(isinstance(delay, Integral) for delay in values) or len(set(values)) < len(values):
        raise SettingsError(f"delays must be distinct whole numbers of scans, e.g. (1, 2, 3, 4); got {delays!r}.")
    longest, shortest = max(values, key=abs), min(run.stop - run.start for run in runs)
    if abs(longest) >= shortest:
        remedy = "leave out that delay or that run"
        raise SettingsError(f"every delay must be shorter than every run; got delay {longest} and a run of {shortest}: {remedy}.")
    return X, [int(delay) for delay in values], runs


def _source_rows(run, first, last):
    """Scans v of a run for which v + last, the scan that sees them, and v + last - first are in the run too; first <= last."""
    start = max(run.start, run.start - last)
    return slice(start, max(start, min(run.stop, run.stop - last, run.stop - last + first)))


def _rows_outside(runs, n_scans, first, last):
    """The other scans v that a sum over all of them takes in."""
    outside = np.ones(max(n_scans - (last - first), 0), bool)
    for run in runs:
        outside[_source_rows(run, first, last)] = False
    return np.flatnonzero(outside)


def _lag_products(X, rows, lag):
    """``sum_v X[v + lag]^T X[v]`` over some scans v."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        earlier = X[some].astype(np.float64)
        total += (X[some + lag].astype(np.float64) if lag else earlier).T @ earlier
    return total
