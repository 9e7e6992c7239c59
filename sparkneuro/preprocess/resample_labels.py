"""Masks and parcellations on the grid of a run: the nearest voxel's value, by nilearn."""

import numpy as np
from nilearn.image import resample_img

from sparkneuro.data.nifti import make_image


def is_same_grid(shape, affine, other_shape, other_affine):
    """Tell whether two grids are one.

    Parameters
    ----------
    shape, other_shape : tuple of int
        (x, y, z) of each.
    affine, other_affine : array_like of shape (4, 4)
        From voxel indices to mm, compared to a thousandth of a mm.

    Returns
    -------
    same : bool
        Whether they are.
    """
    return tuple(shape) == tuple(other_shape) and np.allclose(affine, other_affine, rtol=0, atol=1e-3)


def resample_labels(labels, affine, target_shape, target_affine):
    """Put a labels image or mask on another grid; each voxel takes the value of the nearest one.

    Parameters
    ----------
    labels : ndarray of shape (x, y, z), int or bool
        Values.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    target_shape : tuple of int
        The other grid.
    target_affine : array_like of shape (4, 4)
        From its voxel indices to mm.

    Returns
    -------
    resampled : ndarray of shape `target_shape`, dtype of `labels`
        Values; 0 beyond the image. The same array where the grids are one.
    """
    if is_same_grid(labels.shape, affine, target_shape, target_affine):
        return labels
    image = make_image(labels.astype(np.int32), affine)
    resampled = resample_img(
        image, np.asarray(target_affine, np.float64), tuple(target_shape), interpolation="nearest", copy_header=True,
        force_resample=True,
    )
    return np.asarray(resampled.dataobj).astype(labels.dtype)
