"""Mean, spread and range of the non-zero voxels of an image, volume by volume."""

import math

import numpy as np


class VolumeStatistics:
    """Statistics of the voxels that are not 0, summed up over volumes in one pass.

    Means and sums of squares are joined as deviations (Chan, Golub and LeVeque), so a large offset costs no digits.

    Attributes
    ----------
    n : int
        Non-zero voxels so far.
    mean : float
        Their mean.
    minimum, maximum : float
        Their range.
    is_whole : bool
        Whether all of them are whole numbers.

    References
    ----------
    Chan, T. F., Golub, G. H., & LeVeque, R. J. (1983). Algorithms for computing the sample variance: analysis and
    recommendations. The American Statistician, 37(3), 242-247.

    Examples
    --------
    >>> statistics = VolumeStatistics()
    >>> statistics.add(np.array([0.0, 1.0, 3.0]))
    >>> statistics.add(np.array([5.0, 0.0, 7.0]))
    >>> statistics.n, statistics.mean, round(statistics.std ** 2, 6)
    (4, 4.0, 5.0)
    """

    def __init__(self):
        self.n, self.mean, self._squares = 0, 0.0, 0.0
        self.minimum, self.maximum, self.is_whole = math.inf, -math.inf, True

    @property
    def std(self):
        """Standard deviation of the population of non-zero voxels."""
        return math.sqrt(self._squares / self.n) if self.n else 0.0

    def add(self, volume):
        """Add the voxels of one more volume.

        Parameters
        ----------
        volume : ndarray
            Finite values; zeros are background.
        """
        values = volume[volume != 0].astype(np.float64)
        if not len(values):
            return
        mean = float(values.mean())
        squares = float(((values - mean) ** 2).sum())
        delta, n = mean - self.mean, self.n + len(values)
        self._squares += squares + delta**2 * self.n * len(values) / n
        self.mean += delta * len(values) / n
        self.n = n
        self.minimum, self.maximum = min(self.minimum, float(values.min())), max(self.maximum, float(values.max()))
        self.is_whole = self.is_whole and bool((values == np.rint(values)).all())
