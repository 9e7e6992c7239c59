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

    def _own_sums(self, allocate):
        return {}

    def _add(self, sums, Z, Y):
        """What all criteria sum up is enough."""

    def _loss(self, sums, index):
        return self.gcv_losses(sums["energy"][:, None], sums["total"])[index, 0]

    def _evaluate(self, index, Z, Y):
        return self.gcv_losses(np.square(Z), sum_of_squares(Y))[index]
