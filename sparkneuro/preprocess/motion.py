"""Framewise displacement: how far the head has moved from one scan to the next, as one number a scan."""

import numpy as np

from sparkneuro.errors import FormatError

HEAD_RADIUS = 50.0
"""Of the sphere (mm) on which rotations become displacements: about the distance from the cortex to the centre of the head."""


def framewise_displacement(motion, radius=HEAD_RADIUS):
    """Sum the changes of the six motion parameters, as a displacement in mm.

    ``fd[t] = sum(abs(trans[t] - trans[t-1])) + radius * sum(abs(rot[t] - rot[t-1]))``

    Parameters
    ----------
    motion : array_like of shape (n_scans, 6)
        trans_x, trans_y, trans_z (mm), then rot_x, rot_y, rot_z (rad), of each scan against one reference.
    radius : float
        Of the head (mm).

    Returns
    -------
    fd : ndarray of shape (n_scans,), float64
        Framewise displacement (mm); NaN for the first scan, which has none before it.

    Raises
    ------
    FormatError
        When there are not six parameters.

    References
    ----------
    Power et al. (2012), Spurious but systematic correlations in functional connectivity MRI networks arise from subject
    motion, NeuroImage 59, 2142-2154.

    Examples
    --------
    >>> framewise_displacement([[0, 0, 0, 0, 0, 0], [0.1, -0.2, 0, 0, 0.01, 0]]).round(3).tolist()
    [nan, 0.8]
    """
    motion = np.asarray(motion, np.float64)
    if motion.ndim != 2 or motion.shape[1] != 6:
        raise FormatError(f"motion must have shape (n_scans, 6), translations (mm) before rotations (rad); got {motion.shape}.")
    change = np.abs(np.diff(motion, axis=0))
    return np.r_[np.full(min(1, len(motion)), np.nan), change[:, :3].sum(axis=1) + radius * change[:, 3:].sum(axis=1)]
