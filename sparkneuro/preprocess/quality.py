"""Which voxels of a run can be used, and how good they are: constant and non-finite series, temporal signal-to-noise ratio."""

import numpy as np


def measure_quality(bold):
    """Tell unusable voxels apart, and the temporal signal-to-noise ratio of the others.

    ``tsnr = mean(bold) / std(bold)`` over scans, of the signal as it was measured.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels), float64
        BOLD signal of one run, before cleaning.

    Returns
    -------
    non_finite : ndarray of shape (n_voxels,), bool
        Voxels with NaN or infinity in any scan.
    constant : ndarray of shape (n_voxels,), bool
        Finite voxels that never change.
    tsnr : ndarray of shape (n_voxels,), float32
        0 for the unusable ones.

    Examples
    --------
    >>> non_finite, constant, tsnr = measure_quality(np.array([[1.0, 3.0, np.nan], [1.0, 5.0, 2.0]]))
    >>> non_finite.tolist(), constant.tolist(), tsnr.tolist()
    ([False, False, True], [True, False, False], [0.0, 4.0, 0.0])
    """
    non_finite = ~np.isfinite(bold).all(axis=0)
    constant = ~non_finite & (bold == bold[0]).all(axis=0)
    usable = ~(non_finite | constant)
    tsnr = np.zeros(bold.shape[1], np.float32)
    tsnr[usable] = bold[:, usable].mean(axis=0) / bold[:, usable].std(axis=0)
    return non_finite, constant, tsnr
