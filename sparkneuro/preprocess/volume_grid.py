"""Volumes of any grid as volumes of one shape: turned to RAS, resampled when asked for, cropped or padded about their centre."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform

_SAME_SIZE = 1e-4
"""Voxel sizes (mm) that differ by less are taken for equal, and nothing is resampled."""


@dataclass(frozen=True, eq=False)
class VolumeGrid:
    """How a volume of one grid is brought to another, whose axes run to the right, to the front and up, as nearly as they can.

    Parameters
    ----------
    axes : tuple of int
        The source's axis that becomes each axis.
    flips : tuple of bool
        Whether that axis is turned round.
    start : tuple of float
        Where voxel (0, 0, 0) lies, in voxels of the source after it was turned.
    steps : tuple of float or None
        Voxels of the source from one voxel to the next; None where they are the same.
    shape : tuple of int
        The new (x, y, z).
    affine : ndarray of shape (4, 4)
        From its voxel indices to mm.
    """

    axes: tuple
    flips: tuple
    start: tuple
    steps: tuple | None
    shape: tuple
    affine: np.ndarray

    def place(self, volume, order=1):
        """Bring a volume to the grid.

        Parameters
        ----------
        volume : ndarray of shape (x, y, z), float32
            Of the source's grid.
        order : int
            Of the spline that resamples: 1 is linear, 0 takes the nearest voxel (labels).

        Returns
        -------
        placed : ndarray of shape `shape`, float32
            C-contiguous; 0 where the source has no voxel.
        """
        turned = volume.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        if self.steps is not None:
            # Only the voxels that are kept are computed: nothing of the size of the whole resampled volume is made.
            options = {"output": np.float32, "order": order, "mode": "constant", "prefilter": False}
            return affine_transform(turned, self.steps, self.start, self.shape, **options)
        placed = np.zeros(self.shape, np.float32)
        sides = list(zip(map(int, self.start), self.shape, turned.shape, strict=True))
        into = tuple(slice(max(0, -start), max(0, min(new, old - start))) for start, new, old in sides)
        out_of = tuple(slice(max(0, start), max(0, min(old, start + new))) for start, new, old in sides)
        placed[into] = turned[out_of]
        return placed


def plan_grid(shape, affine, new_shape, voxel_size=None):
    """Plan how volumes of one grid become volumes of another shape, about the same centre.

    The axes keep their directions up to order and sign, so an oblique volume stays oblique and only its voxel size is
    changed; where it is not, no value is. The affine places every voxel where it was.

    Parameters
    ----------
    shape : tuple of int
        (x, y, z) of the source.
    affine : ndarray of shape (4, 4)
        From its voxel indices to mm.
    new_shape : tuple of int
        The new (x, y, z).
    voxel_size : float or None
        Size of the new voxels along every axis (mm); None keeps the source's.

    Returns
    -------
    grid : VolumeGrid
        The plan.

    Examples
    --------
    >>> left_to_right = np.diag([-2.0, 2.0, 2.0, 1.0])
    >>> grid = plan_grid((4, 4, 4), left_to_right, (2, 4, 4))
    >>> grid.flips, grid.affine[0].tolist()
    ((True, False, False), [2.0, 0.0, 0.0, -4.0])
    """
    axes, flips = find_orientation(affine)
    turned = np.array(affine, np.float64)
    for axis, flip in zip(axes, flips, strict=True):
        if flip:
            turned[:3, 3] += turned[:3, axis] * (shape[axis] - 1)
            turned[:3, axis] *= -1
    turned[:3, :3] = turned[:3, list(axes)]
    lengths = np.array([shape[axis] for axis in axes])
    sizes = np.linalg.norm(turned[:3, :3], axis=0)
    steps = None if voxel_size is None or np.allclose(sizes, voxel_size, rtol=0, atol=_SAME_SIZE) else voxel_size / sizes
    if steps is None:
        start = (lengths - np.array(new_shape)) // 2
    else:
        start = (lengths - 1) / 2 - steps * (np.array(new_shape) - 1) / 2
    moved = turned.copy()
    moved[:3, 3] += turned[:3, :3] @ start
    moved[:3, :3] *= 1 if steps is None else steps
    as_floats = None if steps is None else tuple(steps.tolist())
    return VolumeGrid(axes, flips, tuple(start.tolist()), as_floats, tuple(new_shape), moved)


def find_orientation(affine):
    """Tell which axes run most nearly along the axes of the world, right, front and up, and which of them backwards.

    The matrix without its voxel sizes is first replaced by the rotation nearest to it, so that a sheared one is judged fairly.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    axes : tuple of int
        For each axis of the world the voxel axis.
    flips : tuple of bool
        For each axis of the world whether its voxel axis runs the other way.
    """
    matrix = np.asarray(affine, np.float64)[:3, :3]
    sizes = np.linalg.norm(matrix, axis=0)
    left, values, right = np.linalg.svd(matrix / np.where(sizes == 0, 1, sizes))
    kept = values > values.max() * 1e-6
    rotation = left[:, kept] @ right[kept]
    axes, flips = [-1, -1, -1], [False, False, False]
    for voxel_axis in np.argsort(-np.abs(rotation).max(axis=0), kind="stable"):  # the plainest first
        free = [world for world in range(3) if axes[world] < 0]
        world = max(free, key=lambda axis: abs(rotation[axis, voxel_axis]))
        axes[world], flips[world] = int(voxel_axis), bool(rotation[world, voxel_axis] < 0)
    return tuple(axes), tuple(flips)
