"""Generalised cross-validation: the error of leaving one scan out, were all scans equally influential.

``GCV_j(alpha) = (RSS_j(alpha) / n) / (1 - edf(alpha) / n)^2``, from the squares of the projected targets alone, so that every
penalty is tried in one product. It needs no second look at the targets, which makes it the place where the search of the
other criteria starts.
"""

import numpy as np

from sparkneuro.encoding.criterion import Criterion
from sparkneuro.encoding.residuals import sum_of_squares


class GeneralizedCrossValidation(Criterion):
    """The criterion of Golub, Heath and Wahba; see `Criterion` for its parameters.

    References
    ----------
    Golub, Heath and Wahba 1979, Technometrics 21, 215.
    """

    def start_sums(self):
        """Make the sums over targets from which one penalty for all is chosen.

        Returns
        -------
        sums : dict of str to ndarray
            Zeros; sums of parts of the targets add up elementwise.
        """
        rank = self.decomposition.rank
        return {"total": np.zeros(1), "inner": np.zeros((rank, rank)), "n_targets": np.zeros(1)}

    def add(self, sums, Z, Y):
        """Add targets to the sums, in place.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of `start_sums`.
        Z : ndarray of shape (rank, n_targets)
            Of `project`.
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.
        """
        sums["total"] += sum_of_squares(Y).sum()
        np.einsum("kk->k", sums["inner"])[:] += np.einsum("kj,kj->k", Z, Z)
        sums["n_targets"] += Y.shape[1]

    def loss(self, sums, index):
        """Compute the criterion of one penalty for all targets.

        Parameters
        ----------
        sums : dict of str to ndarray
            Of all targets.
        index : int
            Which penalty.

        Returns
        -------
        loss : float
            Mean over targets, in the unit of the targets squared.
        """
        losses = self.gcv_losses(np.diagonal(sums["inner"])[:, None], sums["total"])
        return float(losses[index, 0] / sums["n_targets"][0])

    def evaluate(self, index, Z, Y):
        """Compute the criterion of one penalty for each target.

        Parameters
        ----------
        index : int
            Which penalty.
        Z : ndarray of shape (rank, n_targets)
            Of `project`.
        Y : ndarray of shape (n_scans, n_targets)
            Centred targets.

        Returns
        -------
        losses : ndarray of shape (n_targets,), float64
            In the unit of the targets squared.
        """
        return self.gcv_losses(np.square(Z), sum_of_squares(Y))[index]
