"""The BOLD series of a mask's voxels, held as small as they came."""

from dataclasses import dataclass

import numpy as np

_TILE = 64
"""Voxels that are turned from scans to rows at a time."""


@dataclass(frozen=True, eq=False)
class MaskedSeries:
    """The BOLD series of a mask's voxels, held as small as they came: ``bold = baseline + deviation``.

    ``deviation = (stored - first) * slope`` is what float32 can hold. A scanner's values have a large offset (35,000, say,
    around which they change by 200): float32 holds it exactly where it is a whole number, and is good to 1e-5 of the change
    where it was scaled or is none. Such values are given as deviations from the first scan, good to 1e-7.

    Parameters
    ----------
    baseline : ndarray of shape (n_voxels,), float64
        What the deviations are added to, in the unit of the file.
    stored : ndarray of shape (n_scans, n_voxels)
        Deviations as float32; or values as the file stores them, where these are integers of at most 16 bits.
    first : ndarray of shape (n_voxels,) or None
        Stored value of the first scan; None where nothing is to be subtracted.
    slope : float or None
        What is to be multiplied by.
    """

    baseline: np.ndarray
    stored: np.ndarray
    first: np.ndarray | None = None
    slope: float | None = None

    @property
    def n_scans(self):
        """Scans of the run."""
        return len(self.stored)

    def rows(self, voxels=slice(None), out=None):
        """Take the deviations of some voxels, a row a voxel.

        Parameters
        ----------
        voxels : slice
            Which of them, in the order of the mask.
        out : ndarray of shape (n, n_scans), float32, or None
            Where they go; None makes an array.

        Returns
        -------
        rows : ndarray of shape (n, n_scans), float32
            What each scan has above the baseline, in the unit of the file.
        """
        part = self.stored[:, voxels]
        out = np.empty(part.shape[::-1], np.float32) if out is None else out
        for left in range(0, len(out), _TILE):
            # Floats are turned around within a tile that lies in the cache: half the time. Integers gain nothing by it.
            tile = part[:, left:left + _TILE]
            out[left:left + _TILE] = (np.ascontiguousarray(tile) if tile.dtype == np.float32 else tile).T
        if self.first is not None:
            out -= self.first[voxels, None].astype(np.float32)
        if self.slope is not None:
            out *= np.float32(self.slope)
        return out

    def scans(self, start, stop):
        """Take the deviations of some scans.

        Parameters
        ----------
        start, stop : int
            First scan, and the one after the last.

        Returns
        -------
        deviation : ndarray of shape (stop - start, n_voxels), float64
            What they have above the baseline, in the unit of the file.
        """
        part = self.stored[start:stop].astype(np.float64)
        if self.first is not None:
            part -= self.first
        return part if self.slope is None else part * self.slope

    def bold(self, voxels):
        """Take the signal of some voxels as it was measured.

        Parameters
        ----------
        voxels : ndarray of shape (n,), int, or slice
            Which of them, in the order of the mask.

        Returns
        -------
        bold : ndarray of shape (n_scans, n), float64
            In the unit of the file.
        """
        part = self.stored[:, voxels].astype(np.float64)
        if self.first is not None:
            part -= self.first[voxels]
        if self.slope is not None:
            part *= self.slope
        return part + self.baseline[voxels]
