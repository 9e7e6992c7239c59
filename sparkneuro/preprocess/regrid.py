"""Series of a mask's voxels on another grid, by nilearn's resampling of images, right up to the edge of the mask.

Beyond the edge of a mask there are no values. So values and mask are interpolated alike, with zeros beyond, and divided:
what comes out is the weighted mean of the voxels that are there, and a constant stays constant up to the edge. A voxel of the
new grid is covered when at least half of its weight lies in the mask.
"""

import warnings

import numpy as np

from sparkneuro.data.nifti import make_image

INTERPOLATIONS = ("linear", "nearest", "continuous")
COVERED = 0.5
"""Share of a new voxel's weight that must lie in the mask."""

_BLOCK_BYTES = 1 << 23
_TOLERANCE = 1e-3
# A cubic spline reaches on beyond the mask, but 16 voxels away less than float32 can tell.
_MARGIN = {"linear": 1, "nearest": 1, "continuous": 16}


def same_grid(shape, affine, other_shape, other_affine):
    """Tell whether two grids are the same, to a thousandth of a mm.

    Parameters
    ----------
    shape, other_shape : sequence of int
        (x, y, z).
    affine, other_affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    same : bool
        Whether they are.
    """
    return tuple(shape) == tuple(other_shape) and np.allclose(affine, other_affine, rtol=0, atol=_TOLERANCE)


def make_grid(boxes, voxel_size):
    """Lay out a grid of cubic voxels, axes along those of the space, whose centres are at multiples of the voxel size.

    Parameters
    ----------
    boxes : sequence of tuple of (mask, affine)
        Masks (x, y, z) and their affines (mm): the grid covers every voxel of all of them.
    voxel_size : float
        Edge of a voxel (mm).

    Returns
    -------
    shape : tuple of int
        (x, y, z).
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Examples
    --------
    >>> shape, affine = make_grid([(np.ones((4, 5, 6), bool), np.diag([2.0, 2, 2, 1]))], 4.0)
    >>> shape, affine[:3, 3].tolist()
    ((3, 3, 4), [0.0, 0.0, 0.0])
    """
    lows, highs = zip(*(_bound(mask, np.asarray(affine, np.float64)) for mask, affine in boxes), strict=True)
    # A face that lies exactly between two centres needs no further voxel.
    first = np.floor(np.min(lows, axis=0) / voxel_size + 0.5 + 1e-6).astype(int)
    last = np.ceil(np.max(highs, axis=0) / voxel_size - 0.5 - 1e-6).astype(int)
    first, last = np.minimum(first, last), np.maximum(first, last)
    affine = np.diag([voxel_size] * 3 + [1.0])
    affine[:3, 3] = first * voxel_size
    return tuple((last - first + 1).tolist()), affine


def _bound(mask, affine):
    """The corners, in mm, of the box around a mask's voxels."""
    places = np.argwhere(mask)
    low, high = places.min(axis=0) - 0.5, places.max(axis=0) + 0.5
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    points = corners @ affine[:3, :3].T + affine[:3, 3]
    return points.min(axis=0), points.max(axis=0)


def cover_grid(mask, affine, shape, target_affine, interpolation="linear"):
    """Tell which voxels of a grid a mask covers.

    Parameters
    ----------
    mask : ndarray of shape (x, y, z), bool
        The voxels that have values.
    affine : array_like of shape (4, 4)
        Its grid, from voxel indices to mm.
    shape : tuple of int
        Of the other grid.
    target_affine : array_like of shape (4, 4)
        The other grid, from voxel indices to mm.
    interpolation : str
        ``linear``, ``nearest`` or ``continuous`` (cubic splines).

    Returns
    -------
    covered : ndarray of shape `shape`, bool
        Those with at least half of their weight in the mask; the mask itself where the grids are the same.
    """
    if same_grid(mask.shape, affine, shape, target_affine):
        return mask.copy()
    return Regridder(mask, affine, np.ones(shape, bool), target_affine, interpolation).covered.reshape(shape)


class Regridder:
    """Bring the series of a mask's voxels to the voxels of a mask on another grid.

    Parameters
    ----------
    mask : ndarray of shape (x, y, z), bool
        Voxels that have series.
    affine : array_like of shape (4, 4)
        Their grid, from voxel indices to mm.
    target_mask : ndarray of shape (x', y', z'), bool
        Voxels that are wanted.
    target_affine : array_like of shape (4, 4)
        Their grid.
    interpolation : str
        ``linear``, ``nearest`` or ``continuous`` (cubic splines).

    Attributes
    ----------
    covered : ndarray of shape (n_target,), bool
        Which of the wanted voxels, in the order of ``volume[target_mask]``, have at least half of their weight in `mask`.
    """

    def __init__(self, mask, affine, target_mask, target_affine, interpolation="linear"):
        self._interpolation = interpolation
        self._mask, self._affine = _crop(mask, affine, _MARGIN[interpolation])
        self._target_mask, self._target_affine = _crop(target_mask, target_affine, 0)
        weights = self._resample(self._mask.astype(np.float64)[..., None])[:, 0]
        self.covered = weights >= COVERED - 1e-9
        self._weights = weights[self.covered]

    def regrid(self, series):
        """Interpolate series.

        Parameters
        ----------
        series : ndarray of shape (n_voxels, n_scans), float32
            Of the voxels of `mask`, in its order.

        Returns
        -------
        regridded : ndarray of shape (n_covered, n_scans), float32
            Of the covered voxels. The work is done in float64, a few scans at a time.
        """
        n_scans = series.shape[1]
        regridded = np.empty((int(self.covered.sum()), n_scans), np.float32)
        step = max(1, _BLOCK_BYTES // (8 * max(self._mask.size, self._target_mask.size)))
        for first in range(0, n_scans, step):
            scans = slice(first, min(first + step, n_scans))
            volumes = np.zeros((*self._mask.shape, scans.stop - first), order="F")
            volumes[self._mask] = series[:, scans]
            regridded[:, scans] = self._resample(volumes)[self.covered] / self._weights[:, None]
        return regridded

    def _resample(self, volumes):
        """Values (n_target, n) of volumes (x, y, z, n) at the wanted voxels; 0 beyond the volumes."""
        from nilearn.image import resample_img  # here, since who only asks about grids need not wait for it
        from nilearn.image.resampling import BoundingBoxError

        if not self._mask.any() or not self._target_mask.any():
            return np.zeros((int(self._target_mask.sum()), volumes.shape[-1]))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Resampling binary images")  # that is what weights are made of
            try:
                image = resample_img(
                    make_image(volumes, self._affine), self._target_affine, self._target_mask.shape, self._interpolation,
                    copy=False, clip=False, force_resample=True, copy_header=True,
                )
            except BoundingBoxError:
                return np.zeros((int(self._target_mask.sum()), volumes.shape[-1]))
        return np.asarray(image.dataobj)[self._target_mask]


def _crop(mask, affine, margin):
    """Cut a mask down to the box around its voxels, and move its affine."""
    affine = np.array(affine, np.float64)
    if not mask.any():
        return mask, affine
    places = np.argwhere(mask)
    low = np.maximum(places.min(axis=0) - margin, 0)
    high = np.minimum(places.max(axis=0) + 1 + margin, mask.shape)
    affine[:3, 3] += affine[:3, :3] @ low
    return mask[tuple(map(slice, low, high))], affine
