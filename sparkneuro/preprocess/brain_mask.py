"""Brain masks from BOLD: nilearn's EPI mask of a mean image, and the vote of several masks."""

import warnings

import numpy as np
from nilearn.masking import compute_epi_mask, intersect_masks

from sparkneuro.data.nifti import make_image
from sparkneuro.errors import FormatError


def compute_mask(mean_image, affine):
    """Find the brain in the mean image of a run.

    `nilearn.masking.compute_epi_mask`: a threshold at the emptiest place of the histogram, opening, largest connected part.

    Parameters
    ----------
    mean_image : ndarray of shape (x, y, z)
        Mean BOLD signal over scans.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
        The brain.

    Raises
    ------
    FormatError
        When there is nothing to be told from background.
    """
    finite = mean_image[np.isfinite(mean_image)]
    if not finite.size or finite.min() == finite.max():
        raise FormatError("no brain can be found in the mean image: it is the same everywhere; give a mask with --mask FILE.")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")  # nilearn warns of an empty mask; we raise
        try:
            mask = np.asarray(compute_epi_mask(make_image(mean_image, affine)).dataobj) > 0
        except ValueError as error:
            raise FormatError(f"no brain can be found in the mean image ({error}); give a mask with --mask FILE.") from error
    if not mask.any():
        raise FormatError("no brain can be found in the mean image; is it detrended? Give a mask with --mask FILE.")
    return mask


def vote_mask(votes, n_masks, affine):
    """Keep the voxels that lie in more than half of several masks, and of these the largest connected part.

    As `nilearn.masking.compute_multi_epi_mask` does, from the sum of the masks, so that a thousand need no more memory than one.

    Parameters
    ----------
    votes : ndarray of shape (x, y, z), int
        In how many masks each voxel is.
    n_masks : int
        How many masks there are.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    mask : ndarray of shape (x, y, z), bool
        The common mask.

    Raises
    ------
    FormatError
        When it is empty: the runs do not lie in the same place.
    """
    majority = votes > 0.5 * n_masks
    if not majority.any():
        raise FormatError("no voxel lies in more than half of the runs' masks; are they aligned? Give a mask with --mask FILE.")
    return np.asarray(intersect_masks([make_image(majority, affine)], threshold=0.5, connected=True).dataobj) > 0
