"""Sums of ``Y Y'`` over many blocks of targets, one triangle computed."""

import numpy as np

BLOCKS_TOGETHER = 8


class SymmetricSum:
    """The sum of ``Y Y'`` over blocks of Y.

    A few blocks are summed in float32 by BLAS, which adds while it multiplies and leaves out one triangle; these sums are added
    up in float64. numpy's own product of a matrix with itself would write both triangles each time, which takes longer than the
    product where scans are many.

    Parameters
    ----------
    n_scans : int
        Rows of Y.
    """

    def __init__(self, n_scans):
        from scipy.linalg.blas import ssyrk

        self._partial = np.zeros((n_scans, n_scans), np.float32, order="F")
        self._total = np.zeros((n_scans, n_scans), order="F")
        self._add, self._n_blocks = ssyrk, 0

    def add(self, Y):
        """Add one block.

        Parameters
        ----------
        Y : ndarray of shape (n_scans, n_targets), float32
            The values of a target together in memory; otherwise it is copied.
        """
        self._partial = self._add(1.0, Y, beta=1.0, c=self._partial, lower=1, overwrite_c=1)
        self._n_blocks += 1
        if self._n_blocks == BLOCKS_TOGETHER:
            self._flush()

    def total(self):
        """Return the sum.

        Returns
        -------
        total : ndarray of shape (n_scans, n_scans), float64
            Symmetric.
        """
        self._flush()
        return np.tril(self._total) + np.tril(self._total, -1).T

    def _flush(self):
        self._total += self._partial
        self._partial[:] = 0
        self._n_blocks = 0
