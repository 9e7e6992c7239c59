"""One fold of a cross-validation: its training scans decomposed, its test scans in that basis."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.encoding.decomposition import decompose, eigh_descending
from sparkneuro.encoding.residuals import symmetric_product


@dataclass(frozen=True)
class Fold:
    """One fold's training decomposition, and its test scans in that basis.

    Parameters
    ----------
    test : slice or ndarray of int
        Held-out scans.
    n_training : int
        The other scans.
    eigenvalues : ndarray of shape (rank,), float64
        Squared singular values of the training features.
    shrinkage : ndarray of shape (n_alphas, rank)
        How much of each direction each penalty keeps.
    basis : ndarray of shape (n_test, rank + 1)
        ``(X_test - mean) V / s`` and ones: what a projected target and its mean are multiplied with to be predicted.
    projector : ndarray of shape (rank, n_features + 1) or (rank, n_training)
        ``V' / s`` and what it makes of the training mean; or U', where there are more features than training scans.
    rows : slice
        Where this fold's projections stand among all folds'; the last of them is the training mean.
    """

    test: slice
    n_training: int
    eigenvalues: np.ndarray
    shrinkage: np.ndarray
    basis: np.ndarray
    projector: np.ndarray
    rows: slice


def fold_by_products(X, gram, test, fit_intercept):
    """Decompose a fold's training scans by the Gram matrix of all scans less that of its own.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features less their mean.
    gram : ndarray of shape (n_features, n_features), float64
        ``X'X``.
    test : ndarray of int
        Held-out scans.
    fit_intercept : bool
        Whether the training mean is taken off.

    Returns
    -------
    eigenvalues : ndarray of shape (rank,), float64
        Squared singular values of the training features.
    basis : ndarray of shape (n_test, rank + 1)
        See `Fold`.
    projector : ndarray of shape (rank, n_features + 1)
        See `Fold`.
    """
    held_out = X[test].astype(np.float64)
    n_training = len(X) - len(held_out)
    mean = (X.sum(axis=0, dtype=np.float64) - held_out.sum(axis=0)) / n_training * fit_intercept
    eigenvalues, V = eigh_descending(gram - symmetric_product(held_out.T) - n_training * np.outer(mean, mean))
    scaled = V / np.sqrt(eigenvalues)
    return eigenvalues, _with_ones((held_out - mean) @ scaled), np.column_stack([scaled.T, -n_training * (scaled.T @ mean)])


def fold_by_scans(X, test, fit_intercept):
    """Decompose a fold's training scans by the cheaper Gram matrix of their own, without the features' later help.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features less their mean.
    test : ndarray of int
        Held-out scans.
    fit_intercept : bool
        Whether the training mean is taken off.

    Returns
    -------
    eigenvalues : ndarray of shape (rank,), float64
        Squared singular values of the training features.
    basis : ndarray of shape (n_test, rank + 1)
        See `Fold`.
    projector : ndarray of shape (rank, n_training)
        See `Fold`.
    """
    training = decompose(np.delete(X, test, axis=0), fit_intercept, np.float64)
    basis = (X[test] - training.X_mean) @ (training.V / np.sqrt(training.eigenvalues))
    return training.eigenvalues, _with_ones(basis), training.U.T


def as_slice(places):
    """Write places that follow each other as a slice, which makes a view and no copy.

    Parameters
    ----------
    places : ndarray of int
        At least one.

    Returns
    -------
    places : slice or ndarray of int
        The same places.

    Examples
    --------
    >>> as_slice(np.array([4, 5, 6]))
    slice(4, 7, None)
    """
    if places[-1] - places[0] == len(places) - 1 and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return np.asarray(places)


def _with_ones(basis):
    return np.column_stack([basis, np.ones(len(basis))])
