"""Spatial smoothing of whole scans by nilearn, a few at a time."""

import numpy as np
from nilearn.image import smooth_img

from sparkneuro.data.nifti import make_image


def smooth_scans(scans, affine, smoothing_fwhm):
    """Smooth scans with a Gaussian kernel; values that are not finite count as 0.

    `nilearn.image.smooth_img`, which `nilearn.maskers.NiftiMasker` calls too: the whole volume is smoothed, before any mask.
    Every scan is smoothed by itself, so a run may be cut into blocks of scans.

    Parameters
    ----------
    scans : ndarray of shape (n, x, y, z), float64
        Whole scans, any unit.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    smoothing_fwhm : float
        Full width at half maximum of the kernel (mm).

    Returns
    -------
    smoothed : ndarray of shape (n, x, y, z), float64
        Smoothed scans.

    Examples
    --------
    >>> scans = np.zeros((1, 9, 9, 9))
    >>> scans[0, 4, 4, 4] = 1
    >>> smoothed = smooth_scans(scans, np.diag([2, 2, 2, 1]), smoothing_fwhm=4.0)
    >>> bool(smoothed[0, 4, 4, 4] < 0.2), round(float(smoothed.sum()), 3)
    (True, 1.0)
    """
    image = make_image(np.moveaxis(scans, 0, -1), affine)
    return np.moveaxis(np.asarray(smooth_img(image, smoothing_fwhm).dataobj), -1, 0)
