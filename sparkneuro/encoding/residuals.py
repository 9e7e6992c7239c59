"""Residuals of many targets at once, in blocks that stay in the processor's cache."""

import numpy as np

BYTES_AT_ONCE = 16 << 20


def residuals(U, weight, Z, Y, saturated=False):
    """Compute ``Y - U (weight * Z)``, or ``U (weight * Z)`` where U spans all scans; a target's values together in memory.

    Parameters
    ----------
    U : ndarray of shape (n_scans, rank)
        Left singular vectors.
    weight : ndarray of shape (rank,)
        How much of each direction is kept.
    Z : ndarray of shape (rank, n_targets)
        Projected targets.
    Y : ndarray of shape (n_scans, n_targets)
        Targets.
    saturated : bool
        Whether U spans all scans; `weight` is then how much of each direction is given up.

    Returns
    -------
    residuals : ndarray of shape (n_scans, n_targets)
        A new array.
    """
    predicted = ((Z.T * weight.astype(Z.dtype)) @ U.T).T
    return predicted if saturated else np.subtract(Y, predicted, out=predicted)


def weighted_residuals(U, weight, Z, Y, influence, saturated=False):
    """Compute ``sum_i influence_i (Y - U (weight * Z))_ij^2`` for each target.

    Parameters
    ----------
    U, weight, Z, Y : ndarray
        See `residuals`.
    influence : ndarray of shape (n_scans,)
        Weight of each scan.
    saturated : bool
        See `residuals`.

    Returns
    -------
    sums : ndarray of shape (n_targets,), float64
        One a target.
    """
    sums = np.empty(Y.shape[1])
    for columns in column_blocks(Y):
        error = residuals(U, weight, Z[:, columns], Y[:, columns], saturated)
        sums[columns] = influence @ np.square(error, out=error)
    return sums


def column_blocks(Y, n_bytes=BYTES_AT_ONCE):
    """Cut targets into blocks of a certain size.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets.
    n_bytes : int
        Of a block, at most; a block has one target at least.

    Returns
    -------
    blocks : list of slice
        Of columns.
    """
    n_scans, n_targets = Y.shape
    size = max(1, n_bytes // max(1, n_scans * Y.dtype.itemsize))
    return [slice(start, min(start + size, n_targets)) for start in range(0, n_targets, size)]


def symmetric_product(Z):
    """Compute ``Z Z'`` by half the operations of a general product.

    Parameters
    ----------
    Z : ndarray of shape (n, m)
        Any matrix.

    Returns
    -------
    product : ndarray of shape (n, n)
        Symmetric; numpy takes the BLAS routine syrk for it, which needs both factors to be one array.
    """
    return Z @ Z.T


def take_targets(Y, columns):
    """Gather columns.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Targets, the values of one together in memory where this shall be fast.
    columns : ndarray of int
        Which, ascending.

    Returns
    -------
    chosen : ndarray of shape (n_scans, len(columns))
        A view where the columns follow each other, else a copy.
    """
    if columns[-1] - columns[0] == len(columns) - 1:
        return Y[:, columns[0] : columns[-1] + 1]
    return Y.T[columns].T


def sum_of_squares(Y):
    """Sum up the squares of each target.

    Parameters
    ----------
    Y : ndarray of shape (n_scans, n_targets)
        Centred targets.

    Returns
    -------
    squares : ndarray of shape (n_targets,), float64
        In the unit of the targets squared.
    """
    return np.einsum("ij,ij->j", Y, Y).astype(np.float64)
