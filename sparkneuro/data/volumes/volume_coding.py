"""How the numbers of a volume store stand for values: standardised, perhaps rounded, and the way back to the original unit.

Zero is background, outside the brain or outside the source, and stays apart from the brain: in a float store a voxel is
background when it holds 0 and only then; in an int16 store when it holds `background`.
"""

from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import FormatError

DTYPES = ("float32", "float16", "int16")
STANDARDIZATIONS = ("zscore", "minmax", "none")
_LARGEST = 32767
_BACKGROUND = -32768


@dataclass(frozen=True)
class Coding:
    """What the stored numbers of an image stand for.

    ``standardised = stored * scale + inter`` and ``original = standardised * spread + center``, in the voxels that are no
    background; both are 0 there.

    Parameters
    ----------
    dtype : str
        Of the stored numbers: float32, float16 or int16.
    center, spread : float
        In the original unit: mean and standard deviation (zscore), minimum and range (minmax), or 0 and 1 (none).
    scale, inter : float
        1 and 0 but for int16.
    background : int
        The stored number of a background voxel.
    """

    dtype: str
    center: float = 0.0
    spread: float = 1.0
    scale: float = 1.0
    inter: float = 0.0
    background: int = 0

    @property
    def rounding(self):
        """Largest error of a standardised value, in an int16 store; relative to the value in a float store."""
        if self.dtype == "int16":
            return self.scale / 2 if self.background else 0.0
        return float(np.finfo(self.dtype).eps) / 2

    def encode(self, values):
        """Turn values in the original unit into stored numbers.

        Parameters
        ----------
        values : ndarray, float32
            Finite; 0 is background.

        Returns
        -------
        stored : ndarray of the same shape, dtype `dtype`
            The numbers.
        """
        standardised = (values.astype(np.float64) - self.center) / self.spread
        if self.dtype == "int16":
            codes = np.rint((standardised - self.inter) / self.scale)
            stored = np.clip(codes, -_LARGEST, _LARGEST).astype(np.int16)
        else:
            stored = standardised.astype(self.dtype)
            limits = np.finfo(self.dtype)
            # A brain voxel that comes to 0 gets the smallest number there is, to stay apart from the background.
            stored[stored == 0] = limits.smallest_subnormal if self.dtype == "float16" else limits.smallest_normal
        stored[values == 0] = self.background
        return stored

    def decode(self, stored, original=False):
        """Turn stored numbers into values.

        Parameters
        ----------
        stored : ndarray, dtype `dtype`
            The numbers.
        original : bool
            Whether values in the original unit are wanted, instead of standardised ones.

        Returns
        -------
        values : ndarray of the same shape, float32
            The values; `stored` itself where it holds them.
        """
        is_standardised = self.dtype != "int16" and not (original and (self.center, self.spread) != (0.0, 1.0))
        if is_standardised:
            return stored.astype(np.float32, copy=False)
        scale = self.scale * (self.spread if original else 1.0)
        inter = self.inter * self.spread + self.center if original else self.inter
        values = (stored.astype(np.float64) * scale + inter).astype(np.float32)
        values[stored == self.background] = 0
        return values


def choose_coding(dtype, standardize, statistics):
    """Choose how an image is stored, from the statistics of its non-zero voxels.

    Parameters
    ----------
    dtype : str
        One of `DTYPES`.
    standardize : str
        One of `STANDARDIZATIONS`.
    statistics : object
        Has `n`, `mean`, `std`, `minimum`, `maximum` and `is_whole`, in the original unit.

    Returns
    -------
    coding : Coding
        The choice. Whole numbers that fit into int16 are stored as they are when nothing is standardised.

    Raises
    ------
    FormatError
        When there is no non-zero voxel, they are all the same, or their values do not fit into the dtype.
    """
    if not statistics.n:
        raise FormatError("there is no voxel here that is not 0; is the image empty, or the shape too small?")
    low, high = statistics.minimum, statistics.maximum
    center, spread = {
        "zscore": (statistics.mean, statistics.std), "minmax": (low, high - low), "none": (0.0, 1.0),
    }[standardize]
    if not spread > 0:
        raise FormatError(f"every voxel is {low:g}, which cannot be standardised; give --standardize none.")
    low, high = (low - center) / spread, (high - center) / spread
    if dtype == "int16":
        if standardize == "none" and statistics.is_whole and max(-low, high) <= _LARGEST:
            return Coding(dtype)
        scale = (high - low) / (2 * _LARGEST) or 1.0
        return Coding(dtype, center, spread, scale, (high + low) / 2, _BACKGROUND)
    if max(-low, high) > np.finfo(dtype).max:
        raise FormatError(f"values up to {max(-low, high):g} do not fit into {dtype}; standardise them, or give another --dtype.")
    return Coding(dtype, center, spread)
