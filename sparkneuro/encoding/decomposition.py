"""One decomposition of the features, ``X - mean = U diag(s) V'``, from which every ridge regression on them follows.

It is found from a float64 Gram matrix, ``X'X`` or, where that costs less, ``XX'``: three times cheaper than an SVD, and exact
enough for penalties that are not absurdly small. A float32 Gram matrix would not be.
"""

from dataclasses import dataclass

import numpy as np

from sparkneuro.encoding.inputs import mean_of_columns
from sparkneuro.errors import FormatError

ROWS_AT_ONCE = 2048
"""Scans (or features) that are widened to float64 together."""

EIGH_FLOPS = 9
"""Of the eigendecomposition of an (n, n) matrix with its vectors, in n^3."""


@dataclass(frozen=True)
class Decomposition:
    """Singular vectors and values of centred features.

    Parameters
    ----------
    U : ndarray of shape (n_scans, rank)
        Left singular vectors, in the type of the arithmetic on targets.
    eigenvalues : ndarray of shape (rank,), float64
        Squared singular values, descending, in the unit of the features squared.
    V : ndarray of shape (n_features, rank)
        Right singular vectors, in the type of `U`.
    X_mean : ndarray of shape (n_features,), float64
        What was taken off the features; zeros without an intercept.
    fit_intercept : bool
        Whether features and targets are centred.
    """

    U: np.ndarray
    eigenvalues: np.ndarray
    V: np.ndarray
    X_mean: np.ndarray
    fit_intercept: bool = True

    @property
    def n_scans(self):
        """Rows of the features."""
        return self.U.shape[0]

    @property
    def rank(self):
        """Directions that are kept."""
        return self.U.shape[1]

    @property
    def n_features(self):
        """Columns of the features."""
        return self.V.shape[0]

    @property
    def intercept_leverage(self):
        """What the intercept adds to the hat matrix: 1 / n_scans everywhere."""
        return 1 / self.n_scans if self.fit_intercept else 0.0

    @property
    def saturated(self):
        """Whether directions and intercept span all scans: what a fit leaves of a target is then what shrinkage gives up."""
        return self.rank + self.fit_intercept >= self.n_scans

    def shrinkage(self, alphas):
        """Tell how much of each direction a ridge regression keeps, ``s^2 / (s^2 + alpha)``.

        Parameters
        ----------
        alphas : ndarray of shape (n_alphas,)
            Penalties, in the unit of the eigenvalues.

        Returns
        -------
        shrinkage : ndarray of shape (n_alphas, rank), float64
            Between 0 and 1.
        """
        return self.eigenvalues / (self.eigenvalues + np.asarray(alphas, np.float64)[:, None])

    def coefficient_weights(self, alphas):
        """Tell what turns projected targets into coefficients, ``s / (s^2 + alpha)``.

        Parameters
        ----------
        alphas : ndarray of shape (n_alphas,)
            Penalties.

        Returns
        -------
        weights : ndarray of shape (n_alphas, rank), float64
            In one over the unit of the features.
        """
        return np.sqrt(self.eigenvalues) / (self.eigenvalues + np.asarray(alphas, np.float64)[:, None])

    def leverages(self, alphas):
        """Compute the diagonal of the hat matrix for every penalty.

        Parameters
        ----------
        alphas : ndarray of shape (n_alphas,)
            Penalties.

        Returns
        -------
        leverages : ndarray of shape (n_alphas, n_scans), float64
            ``sum_k w_k u_ik^2``, and the intercept's ``1 / n_scans``.
        """
        weights, leverages = self.shrinkage(alphas), np.empty((len(alphas), self.n_scans))
        for rows in _chunks(self.n_scans):
            leverages[:, rows] = weights @ np.square(self.U[rows], dtype=np.float64).T
        return leverages + self.intercept_leverage

    def project(self, Y):
        """Project targets on the left singular vectors, ``U'Y``.

        Parameters
        ----------
        Y : ndarray of shape (n_scans, n_targets)
            Targets, centred where there is an intercept.

        Returns
        -------
        Z : ndarray of shape (rank, n_targets)
            In the type of `U`; a target's values stand together in memory, so that targets are gathered quickly.
        """
        return (Y.T @ self.U).T


def decompose(X, fit_intercept=True, dtype=None, gram=None, allocate=np.empty):
    """Decompose features by the cheaper of the two Gram matrices.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features; not modified. Never copied to float64 as a whole, and only looked at in slices: anything with a shape, a dtype
        and slices will do.
    fit_intercept : bool
        Whether each feature's mean is taken off.
    dtype : dtype or None
        Of U and V; that of `X` when absent.
    gram : ndarray of shape (n_features, n_features), float64, or None
        ``X'X``, not centred, where it is known; overwritten.
    allocate : callable
        ``allocate(shape, dtype)`` makes the array of U, e.g. as a file that is larger than the memory.

    Returns
    -------
    decomposition : Decomposition
        Of rank at most ``min(n_scans, n_features)``.

    Raises
    ------
    FormatError
        When no feature varies.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th edition, 8.6: the eigenvalues of a Gram matrix in float64 resolve singular
    values down to ``1e-8`` of the largest.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> found = decompose(X)
    >>> np.allclose((found.U * np.sqrt(found.eigenvalues)) @ found.V.T, X - X.mean(axis=0))
    True
    """
    n_scans, n_features = X.shape
    dtype = np.dtype(dtype or X.dtype)
    mean = mean_of_columns(X) if fit_intercept else np.zeros(n_features)
    if gram is None and prefers_kernel(n_scans, n_features):
        eigenvalues, U = (array[..., : n_scans - fit_intercept] for array in eigh_descending(kernel_matrix(X, mean)))
        into = allocate(U.shape, dtype)
        into[:] = U
        return Decomposition(into, eigenvalues, _right_vectors(X, mean, eigenvalues, U, dtype), mean, fit_intercept)
    if gram is None:
        gram = gram_matrix(X, mean)
    elif fit_intercept:
        gram -= n_scans * np.outer(mean, mean)
    eigenvalues, V = (array[..., : n_scans - fit_intercept] for array in eigh_descending(gram))
    U = allocate((n_scans, len(eigenvalues)), dtype)
    for rows in _chunks(n_scans):
        U[rows] = left_vectors(X[rows], mean, eigenvalues, V)
    return Decomposition(U, eigenvalues, V.astype(dtype), mean, fit_intercept)


def prefers_kernel(n_scans, n_features):
    """Tell which of the two Gram matrices costs fewer operations.

    Parameters
    ----------
    n_scans, n_features : int
        Shape of the features.

    Returns
    -------
    kernel : bool
        Whether ``XX'`` is cheaper than ``X'X``.

    Examples
    --------
    >>> prefers_kernel(10_000, 16_384), prefers_kernel(69_202, 16_384)
    (True, False)
    """
    return decomposition_flops(n_scans, n_features, kernel=True) < decomposition_flops(n_scans, n_features, kernel=False)


def decomposition_flops(n_scans, n_features, kernel):
    """Count the operations of a decomposition.

    Parameters
    ----------
    n_scans, n_features : int
        Shape of the features.
    kernel : bool
        Whether by ``XX'``.

    Returns
    -------
    flops : float
        Gram matrix (a triangle of it), eigendecomposition, and the other singular vectors.
    """
    size = n_scans if kernel else n_features
    return 3.0 * n_scans * n_features * size + EIGH_FLOPS * float(size) ** 3


def gram_matrix(X, mean):
    """Compute ``(X - mean)'(X - mean)`` in float64.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features.
    mean : ndarray of shape (n_features,)
        Taken off them.

    Returns
    -------
    gram : ndarray of shape (n_features, n_features), float64
        Symmetric.
    """
    gram = np.zeros((X.shape[1], X.shape[1]))
    for rows in _chunks(len(X), X.shape[1] // 2):
        block = X[rows].astype(np.float64) - mean
        gram += block.T @ block
    return gram


def kernel_matrix(X, mean):
    """Compute ``(X - mean)(X - mean)'`` in float64.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features.
    mean : ndarray of shape (n_features,)
        Taken off them.

    Returns
    -------
    kernel : ndarray of shape (n_scans, n_scans), float64
        Symmetric.
    """
    kernel = np.zeros((len(X), len(X)))
    for columns in _chunks(X.shape[1], len(X) // 2):
        block = X[:, columns].astype(np.float64) - mean[columns]
        kernel += block @ block.T
    return kernel


def left_vectors(X, mean, eigenvalues, V):
    """Compute rows of the left singular vectors, ``(X - mean) V / s``, in float64.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
        Rows of the features, or of others than those that were decomposed.
    mean : ndarray of shape (n_features,)
        Taken off them.
    eigenvalues : ndarray of shape (rank,)
        Squared singular values.
    V : ndarray of shape (n_features, rank)
        Right singular vectors.

    Returns
    -------
    U : ndarray of shape (n, rank), float64
        One row a scan.
    """
    U = (X.astype(np.float64) - mean) @ V
    U /= np.sqrt(eigenvalues)
    return U


def eigh_descending(matrix):
    """Find the eigenvalues and vectors of a Gram matrix that float64 resolves, largest first.

    Parameters
    ----------
    matrix : ndarray of shape (n, n), float64
        Symmetric, no eigenvalue below zero but by rounding.

    Returns
    -------
    eigenvalues : ndarray of shape (rank,)
        Those above the rounding error of the largest.
    vectors : ndarray of shape (n, rank)
        One a column.

    Raises
    ------
    FormatError
        When all are zero, or something is not finite.
    """
    if not np.isfinite(np.trace(matrix)):
        raise FormatError("the features must be finite; they hold NaN, infinity or values whose squares overflow.")
    try:
        # numpy's, not scipy's: a second BLAS has threads of its own, and the two would hold each other up.
        eigenvalues, vectors = np.linalg.eigh(matrix)
    except np.linalg.LinAlgError as error:
        raise FormatError(f"the features cannot be decomposed ({error}); are they finite?") from error
    # Below this, directions cannot be told from each other: a Gram matrix squares the singular values.
    floor = max(eigenvalues[-1], 0.0) * np.finfo(np.float64).eps * len(matrix) ** 0.5
    rank = int((eigenvalues > floor).sum())
    if rank == 0:
        raise FormatError("at least one feature must vary from scan to scan; all are constant.")
    kept = slice(None, len(matrix) - rank - 1 if rank < len(matrix) else None, -1)
    return eigenvalues[kept].copy(), np.asfortranarray(vectors[:, kept])


def _right_vectors(X, mean, eigenvalues, U, dtype):
    """The right singular vectors follow from the left ones: V = (X - mean)' U / s."""
    V = np.empty((X.shape[1], len(eigenvalues)), dtype)
    scaled = U / np.sqrt(eigenvalues)
    for columns in _chunks(X.shape[1]):
        V[columns] = (X[:, columns].astype(np.float64) - mean[columns]).T @ scaled
    return V


def _chunks(length, size=0):
    size = max(size, ROWS_AT_ONCE)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
