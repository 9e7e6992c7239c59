"""Leaving each scan out in turn, exactly and from one fit: ``e_i / (1 - h_i)``.

For one penalty for all targets only sums over targets are needed, so that no penalty costs a product with the targets:

``L(a) = sum_i om_i [sum_j y_ij^2 - 2 sum_k u_ik w_k Q_ki] + sum_kl w_k w_l A_kl (U' diag(om) U)_kl``

with ``om_i = 1 / (1 - h_i)^2``, ``Q = Z Y'`` and ``A = Z Z'``.
"""

import numpy as np

from sparkneuro.encoding.criterion import Criterion
from sparkneuro.encoding.residuals import symmetric_product, weighted_residuals

ROWS_AT_ONCE = 4096


class LeaveOneOut(Criterion):
    """The criterion that scikit-learn's `RidgeCV` minimises by default.

    Parameters
    ----------
    decomposition : Decomposition
        Of the features.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.

    References
    ----------
    Rifkin and Lippert 2007, Notes on regularized least squares, MIT-CSAIL-TR-2007-025.
    """

    takes_gram = True

    def __init__(self, decomposition, alphas):
        super().__init__(decomposition, alphas)
        if decomposition.saturated:
            remaining = np.empty((len(self.alphas), decomposition.n_scans))
            for rows in self._rows():
                remaining[:, rows] = self.given_up @ np.square(decomposition.U[rows], dtype=np.float64).T
        else:
            # A leverage of 1 leaves nothing to predict a scan from; its error is then as large as can be written.
            remaining = np.maximum(1 - decomposition.leverages(self.alphas), np.finfo(decomposition.U.dtype).eps)
        self._influence = 1 / np.square(remaining)

    def _own_sums(self, allocate):
        # Where directions span all scans nothing of `cross` is needed, and it stays zero.
        n_scans, rank = self.decomposition.U.shape
        cross = np.zeros((n_scans, len(self.alphas)))
        return {"squares": np.zeros(n_scans), "cross": cross, "inner": np.zeros((rank, rank))}

    def _add(self, sums, Z, Y):
        sums["inner"] += symmetric_product(Z)
        sums["squares"] += np.einsum("ij,ij->i", Y, Y)
        if not self.decomposition.saturated:
            for rows in self._rows():
                self._add_cross(sums, rows, Y[rows] @ Z.T)

    def _add_gram(self, sums, gram, product, inner):
        sums["inner"] += inner
        sums["squares"] += np.diagonal(gram)
        if not self.decomposition.saturated:
            for rows in self._rows():
                self._add_cross(sums, rows, product[rows])

    def _loss(self, sums, index):
        U, influence = self.decomposition.U, self._influence[index]
        saturated = self.decomposition.saturated
        weight = self._weight(index)
        inner = weight[:, None] * sums["inner"] * weight
        quadratic = 0.0
        for rows in self._rows():
            scaled = U[rows] * np.sqrt(influence[rows, None]).astype(U.dtype)
            quadratic += np.einsum("kl,kl->", inner, symmetric_product(scaled.T), dtype=np.float64)
        total = quadratic + (0.0 if saturated else influence @ (sums["squares"] - 2 * sums["cross"][:, index]))
        return total / len(U)

    def _evaluate(self, index, Z, Y):
        U = self.decomposition.U
        influence = (self._influence[index] / len(U)).astype(U.dtype)
        return weighted_residuals(U, self._weight(index), Z, Y, influence, self.decomposition.saturated)

    def _add_cross(self, sums, rows, product):
        """Contract rows of ``Y Z'`` at once: (n_scans, rank) numbers would be too many to keep."""
        product *= self.decomposition.U[rows]
        sums["cross"][rows] += product @ self.shrinkage.T.astype(product.dtype)

    def _rows(self):
        # As many as there are directions: what is summed up over them is then not the larger part of the work.
        size = max(ROWS_AT_ONCE, self.decomposition.rank)
        return [slice(start, start + size) for start in range(0, self.decomposition.n_scans, size)]
