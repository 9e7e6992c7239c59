"""Leaving each run out in turn, exactly and from one fit: ``(I - H_ff)^-1 e_f`` with the rows f of a run.

Runs are the honest folds of fMRI: scans of one run predict each other through the autocorrelation of the noise, scans of
another run do not. By refitting it would cost one decomposition a run.
"""

import numpy as np

from sparkneuro.encoding.criterion import Criterion
from sparkneuro.encoding.residuals import column_blocks, residuals, symmetric_product


class LeaveRunOut(Criterion):
    """The default criterion wherever scans have run labels.

    Parameters
    ----------
    decomposition : Decomposition
        Of the features.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    runs : list of slice
        Scans of each run, in order and without gaps.

    References
    ----------
    Liland, Skogholt and Indahl 2024, IEEE Access 12, 17349: segmented cross-validation from one fit.
    """

    takes_gram = True

    def __init__(self, decomposition, alphas, runs):
        super().__init__(decomposition, alphas)
        self.runs = runs
        self._corrections = {}

    def _own_sums(self, allocate):
        n_scans, rank = self.decomposition.U.shape
        squares = np.zeros(sum((run.stop - run.start) ** 2 for run in self.runs))
        cross = allocate((n_scans, rank), self.decomposition.U.dtype)  # by far the largest: as many numbers as U has
        return {"squares": squares, "cross": cross, "inner": np.zeros((rank, rank))}

    def _add(self, sums, Z, Y):
        sums["inner"] += symmetric_product(Z)
        for run, squares in self._squares(sums):
            part = Y[run]
            squares += symmetric_product(part)
            if not self.decomposition.saturated:
                sums["cross"][run] += part @ Z.T

    def _add_gram(self, sums, gram, product, inner):
        sums["inner"] += inner
        if not self.decomposition.saturated:
            sums["cross"] += product
        for run, squares in self._squares(sums):
            squares += gram[run, run]

    def _loss(self, sums, index):
        U, weight, saturated = self.decomposition.U, self._weight(index), self.decomposition.saturated
        inner = (weight[:, None] * sums["inner"] * weight).astype(U.dtype)
        total = rounding = 0.0
        for place, (run, squares) in enumerate(self._squares(sums)):
            left = U[run]
            spread = (left @ inner) @ left.T
            if not saturated:
                cross = (left * weight.astype(U.dtype)) @ sums["cross"][run].T.astype(U.dtype)
                spread += squares - cross - cross.T
            correction = self._correction(index, place)
            total += np.einsum("ij,ij->", correction @ spread, correction, dtype=np.float64)
            if not saturated:
                with np.errstate(over="ignore"):
                    rounding += np.finfo(U.dtype).eps * np.linalg.norm(squares) * np.linalg.norm(correction.T @ correction)
        # Where the other runs have fewer scans than there are directions, what a small penalty leaves may drown in rounding.
        return total / len(U) if rounding < 0.1 * total else np.inf

    def _evaluate(self, index, Z, Y):
        U, losses = self.decomposition.U, np.zeros(Y.shape[1])
        for columns in column_blocks(Y):
            error = residuals(U, self._weight(index), Z[:, columns], Y[:, columns], self.decomposition.saturated)
            for place, run in enumerate(self.runs):
                held_out = self._correction(index, place).astype(U.dtype, copy=False) @ error[run]
                losses[columns] += np.einsum("ij,ij->j", held_out, held_out)
        return losses / len(U)

    def _squares(self, sums):
        """Each run with its square of ``Y Y'``, as views on the flat sums."""
        start = 0
        for run in self.runs:
            size = run.stop - run.start
            yield run, sums["squares"][start : start + size**2].reshape(size, size)
            start += size**2

    def _correction(self, index, place):
        """``(I - H_ff)^-1`` in the type of U, kept once it is known."""
        key = index, place
        if key not in self._corrections:
            U = self.decomposition.U[self.runs[place]].astype(np.float64)
            product = (U * self._weight(index)) @ U.T
            if not self.decomposition.saturated:
                product = np.eye(len(U)) - product - self.decomposition.intercept_leverage
            inverse = np.linalg.inv(product)
            self._corrections[key] = inverse.astype(self.decomposition.U.dtype)
        return self._corrections[key]
