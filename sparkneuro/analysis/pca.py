"""Principal components of time series, from sums alone.

Three sums over the series (how many, their sum, the sum of their outer products) are enough for the components, and for the
error of reconstructing these or other series with any number of them: no second pass over the data.
"""

from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number

ROWS_AT_ONCE = 8192  # widened to float64 together: 19 MB at 284 scans


@dataclass(frozen=True)
class Moments:
    """Sums over series.

    Parameters
    ----------
    n_series : int
        How many series.
    total : ndarray of shape (n_scans,), float64
        ``sum of x``.
    products : ndarray of shape (n_scans, n_scans), float64
        ``sum of x x^T``.
    """

    n_series: int
    total: np.ndarray
    products: np.ndarray


@dataclass(frozen=True)
class PrincipalComponents:
    """Directions of largest variance.

    Parameters
    ----------
    mean : ndarray of shape (n_scans,)
        Mean series.
    components : ndarray of shape (n_scans, n_scans)
        One direction a row, orthonormal, the largest variance first.
    variances : ndarray of shape (n_scans,)
        Variance along each of them, in the unit of the series squared.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray


def accumulate(series):
    """Sum up series.

    Parameters
    ----------
    series : ndarray of shape (n_series, n_scans)
        Any unit; summed in float64. May be empty.

    Returns
    -------
    moments : Moments
        Sums over the rows.

    Examples
    --------
    >>> accumulate(np.array([[1.0, 2.0], [3.0, 4.0]])).products
    array([[10., 14.],
           [14., 20.]])
    """
    n_series, n_scans = series.shape
    total, products = np.zeros(n_scans), np.zeros((n_scans, n_scans))
    for start in range(0, n_series, ROWS_AT_ONCE):
        rows = np.asarray(series[start : start + ROWS_AT_ONCE], np.float64)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    return Moments(n_series, total, products)


def merge(moments, others):
    """Add up two sets of sums; the order does not matter.

    Parameters
    ----------
    moments, others : Moments
        Of series of the same length.

    Returns
    -------
    merged : Moments
        As if all series had been accumulated together.
    """
    return Moments(
        moments.n_series + others.n_series, moments.total + others.total, moments.products + others.products
    )


def fit_components(moments):
    """Find the principal components of series that have been summed up.

    Eigenvectors of the covariance matrix, ``products / n - mean mean^T``.

    Parameters
    ----------
    moments : Moments
        Of at least two series.

    Returns
    -------
    pca : PrincipalComponents
        All n_scans of them.

    Raises
    ------
    SettingsError
        When there are fewer than two series.

    References
    ----------
    Jolliffe (2002). Principal component analysis. Springer, chapter 1.
    """
    if moments.n_series < 2:
        raise SettingsError(f"principal components need at least 2 series; got {moments.n_series}.")
    mean = moments.total / moments.n_series
    covariance = (moments.products - np.outer(moments.total, mean)) / (moments.n_series - 1)
    variances, vectors = np.linalg.eigh(covariance)
    return PrincipalComponents(mean, vectors.T[::-1].copy(), np.maximum(variances[::-1], 0.0))


def reconstruct(series, pca, n_components):
    """Project series on the first components and back.

    ``mean + (x - mean) V^T V``, with the first `n_components` rows of V.

    Parameters
    ----------
    series : ndarray of shape (n_series, n_scans)
        In the unit that the components were fitted in.
    pca : PrincipalComponents
        Of series of this length.
    n_components : int
        How many to keep, 0 to n_scans.

    Returns
    -------
    reconstruction : ndarray of shape (n_series, n_scans), float64
        In the unit of `series`.
    """
    check_number("n_components", n_components, minimum=0, maximum=len(pca.mean), integer=True)
    kept = pca.components[:n_components]
    return pca.mean + (series - pca.mean) @ kept.T @ kept


def mean_squared_errors(moments, pca):
    """Errors of reconstructing series with each number of components, from the sums of those series.

    ``(sum ||x - mean||^2 - sum_{k <= K} v_k^T S v_k) / (n_series n_scans)``, with S the products of these series about the
    mean of the components: the error of `reconstruct`, without the series.

    Parameters
    ----------
    moments : Moments
        Of the series to be reconstructed, those of the fit or others.
    pca : PrincipalComponents
        Of series of this length.

    Returns
    -------
    errors : ndarray of shape (n_scans + 1,)
        Mean squared error per sample with 0, 1, ..., n_scans components, in the unit of the series squared.

    Raises
    ------
    SettingsError
        When there is no series.
    """
    if moments.n_series == 0:
        raise SettingsError("an error needs at least one series to be measured on; got none.")
    shift = np.outer(moments.total, pca.mean)
    about_mean = moments.products - shift - shift.T + moments.n_series * np.outer(pca.mean, pca.mean)
    captured = np.einsum("kt,kt->k", pca.components @ about_mean, pca.components)
    # The rest of the trace, summed from its end: a small error is not the difference of two large numbers.
    left = np.append(np.cumsum(captured[::-1])[::-1], 0.0)
    return np.maximum(left, 0.0) / (moments.n_series * len(pca.mean))
