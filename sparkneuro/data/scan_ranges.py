"""Ascending whole numbers as [first, last] pairs: excluded voxels and kept scans come in clumps."""

import numpy as np


def to_ranges(numbers):
    """Shorten ascending whole numbers.

    Parameters
    ----------
    numbers : ndarray of shape (n,), int
        Ascending, each once.

    Returns
    -------
    ranges : list of list of int
        [first, last] of each stretch without a gap.

    Examples
    --------
    >>> to_ranges(np.array([0, 1, 2, 7]))
    [[0, 2], [7, 7]]
    """
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    first, last = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
    return np.stack([first, last], axis=1).tolist()


def from_ranges(ranges):
    """List the numbers of ranges.

    Parameters
    ----------
    ranges : sequence of (int, int)
        First and last of each stretch.

    Returns
    -------
    numbers : ndarray of shape (n,), int64
        All of them.

    Examples
    --------
    >>> from_ranges([[0, 2], [7, 7]]).tolist()
    [0, 1, 2, 7]
    """
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, last + 1) for first, last in ranges)])
