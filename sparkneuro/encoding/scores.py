"""How well targets are predicted: Pearson r and R^2, from sums that can be merged, and R^2 split over bands of features."""

from dataclasses import dataclass
from functools import reduce

import numpy as np

from sparkneuro.errors import FormatError

ROWS_AT_ONCE = 1024  # widened to float64 together: 8 MB for each thousand targets


@dataclass(frozen=True)
class ScoreSums:
    """Means, and sums of squares and products about them, over scans.

    Parameters
    ----------
    n_scans : int
        How many scans.
    target_mean, prediction_mean : ndarray of shape (n_targets,), float64
        Means over the scans.
    target_squares, prediction_squares, products : ndarray of shape (n_targets,), float64
        Sums of squares and products of the deviations from these means; exactly 0 for a constant.
    squared_errors : ndarray of shape (n_targets,), float64
        ``sum of (y - prediction)^2``.
    """

    n_scans: int
    target_mean: np.ndarray
    prediction_mean: np.ndarray
    target_squares: np.ndarray
    prediction_squares: np.ndarray
    products: np.ndarray
    squared_errors: np.ndarray


def score_sums(Y, prediction):
    """Sum up targets and their prediction.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets, any unit; summed in float64, a few rows at a time. May have no scan.
    prediction : ndarray of shape (n_scans, n_targets)
        In the unit of `Y`.

    Returns
    -------
    sums : ScoreSums
        Sums over the rows; 7 numbers a target.

    Raises
    ------
    FormatError
        When the shapes differ, or are not two-dimensional.

    Examples
    --------
    >>> sums = score_sums(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [2.0]]))
    >>> r2(sums)
    array([0.5])
    """
    Y, prediction = np.asarray(Y), np.asarray(prediction)
    if Y.ndim != 2 or prediction.shape != Y.shape:
        raise FormatError(f"Y and prediction must both have shape (n_scans, n_targets); got {Y.shape} and {prediction.shape}.")
    starts = range(0, max(len(Y), 1), ROWS_AT_ONCE)
    return reduce(merge, (_sum_rows(Y[i : i + ROWS_AT_ONCE], prediction[i : i + ROWS_AT_ONCE]) for i in starts))


def merge(sums, others):
    """Put the sums over two sets of scans together; the order does not matter.

    ``sum (x - m)^2 = sum_a + sum_b + (m_b - m_a)^2 n_a n_b / n``, likewise for products: no large number is subtracted from
    another, however far the mean is from zero.

    Parameters
    ----------
    sums, others : ScoreSums
        Of the same targets.

    Returns
    -------
    merged : ScoreSums
        As if all scans had been summed up together.

    References
    ----------
    Chan, Golub, LeVeque (1983). Algorithms for computing the sample variance. The American Statistician 37, 242-247.
    """
    n_scans = sums.n_scans + others.n_scans
    share = others.n_scans / max(n_scans, 1)
    weight = sums.n_scans * share
    target_step, prediction_step = others.target_mean - sums.target_mean, others.prediction_mean - sums.prediction_mean
    return ScoreSums(
        n_scans, sums.target_mean + share * target_step, sums.prediction_mean + share * prediction_step,
        sums.target_squares + others.target_squares + weight * target_step**2,
        sums.prediction_squares + others.prediction_squares + weight * prediction_step**2,
        sums.products + others.products + weight * target_step * prediction_step,
        sums.squared_errors + others.squared_errors,
    )


def correlation(sums):
    """Pearson correlation of every target with its prediction.

    Parameters
    ----------
    sums : ScoreSums
        Of all scans.

    Returns
    -------
    r : ndarray of shape (n_targets,), float64
        From -1 to 1; NaN where target or prediction is constant.
    """
    norms = np.sqrt(sums.target_squares) * np.sqrt(sums.prediction_squares)
    return np.clip(sums.products / np.where(norms == 0, np.nan, norms), -1, 1)


def r2(sums):
    """Share of every target's variance that its prediction explains, ``1 - sum (y - prediction)^2 / sum (y - mean)^2``.

    Parameters
    ----------
    sums : ScoreSums
        Of all scans.

    Returns
    -------
    r2 : ndarray of shape (n_targets,), float64
        At most 1, below 0 where the mean would predict better; NaN where the target is constant.
    """
    return 1 - sums.squared_errors / np.where(sums.target_squares == 0, np.nan, sums.target_squares)


def split_r2(Y, predictions):
    """Split R^2 over the bands of features whose predictions add up to the prediction, by the product measure.

    ``(2 <y, p_b> - <p_b, p>) / <y, y>`` for band b, with p the sum of all p_b and everything about its mean. What a wrong mean
    of p costs, ``n_scans (mean p - mean y)^2 / <y, y>``, is shared equally, since the intercept belongs to no band.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets, any unit.
    predictions : ndarray of shape (n_bands, n_scans, n_targets)
        Prediction of each band, in the unit of `Y`.

    Returns
    -------
    split : ndarray of shape (n_bands, n_targets), float64
        Adds up to the R^2 of the sum of the predictions; NaN where the target is constant.

    Raises
    ------
    FormatError
        When the predictions are not those of the targets.

    References
    ----------
    Dupre la Tour, Eickenberg, Nunez-Elizalde, Gallant (2022). Feature-space selection with banded ridge regression.
    NeuroImage 264, 119728.

    Examples
    --------
    >>> split_r2(np.array([[1.0], [-1.0]]), np.array([[[0.5], [-0.5]], [[0.25], [-0.25]]]))
    array([[0.625 ],
           [0.3125]])
    """
    Y, predictions = np.asarray(Y), np.asarray(predictions)
    if Y.ndim != 2 or predictions.ndim != 3 or predictions.shape[1:] != Y.shape or 0 in predictions.shape[:2]:
        raise FormatError(f"predictions must have shape (n_bands, {', '.join(map(str, Y.shape))}); got {predictions.shape}.")
    target_mean, target = _centre(Y)
    mean, joint = _centre(predictions.sum(axis=0, dtype=np.float64))
    squares = np.sum(target**2, axis=0)
    offset = len(Y) * (mean - target_mean) ** 2 / len(predictions)
    shares = [np.sum((2 * target - joint) * _centre(band)[1], axis=0) - offset for band in predictions]
    return np.stack(shares) / np.where(squares == 0, np.nan, squares)


def _centre(values):
    """Mean over scans, and deviations from it: exactly 0 for a constant, since the mean is taken about the first scan."""
    first = values[:1].sum(axis=0, dtype=np.float64)
    deviations = np.subtract(values, first, dtype=np.float64)
    step = deviations.sum(axis=0) / max(len(values), 1)
    deviations -= step
    return first + step, deviations


def _sum_rows(Y, prediction):
    (target_mean, target), (prediction_mean, predicted) = _centre(Y), _centre(prediction)
    return ScoreSums(
        len(Y), target_mean, prediction_mean,
        np.sum(target**2, axis=0), np.sum(predicted**2, axis=0), np.sum(target * predicted, axis=0),
        np.sum(np.subtract(Y, prediction, dtype=np.float64) ** 2, axis=0),
    )
