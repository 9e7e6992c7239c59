"""Clean BOLD series by nilearn: detrending, filtering, confound regression and z-scoring, of as many voxels as are given."""

from nilearn.signal import clean

from sparkneuro.errors import SettingsError


def clean_bold(bold, t_r, detrend=True, high_pass=None, confounds=None, standardize=True, sample_mask=None):
    """Detrend, high-pass filter, regress confounds out, and z-score, in this order.

    `nilearn.signal.clean` with a Butterworth filter, as `nilearn.maskers.NiftiMasker` calls it. Every voxel is cleaned by
    itself, so a run may be cut into strips of voxels.

    Parameters
    ----------
    bold : ndarray of shape (n_scans, n_voxels), float64
        BOLD signal of one run, any unit. Not modified.
    t_r : float
        Repetition time (s).
    detrend : bool
        Whether the linear trend is removed.
    high_pass : float or None
        Cut-off frequency (Hz); slower changes are removed.
    confounds : ndarray of shape (n_scans, n_confounds) or None
        Nuisance regressors, finite.
    standardize : bool
        Whether each series is divided by its sample standard deviation, after its mean was removed.
    sample_mask : ndarray of shape (n_kept,), int, or None
        Scans that are kept; the others are removed before regression (and bridged by a spline before filtering). None keeps all.

    Returns
    -------
    cleaned : ndarray of shape (n_scans, n_voxels) or (n_kept, n_voxels), float64
        Cleaned signal.

    Raises
    ------
    SettingsError
        When the run is too short for the filter or the confounds.

    Examples
    --------
    >>> import numpy as np
    >>> bold = np.arange(40.0).reshape(20, 2) + np.random.default_rng(0).normal(size=(20, 2))
    >>> clean_bold(bold, t_r=2.0).std(axis=0, ddof=1).round(6).tolist()
    [1.0, 1.0]
    """
    n_scans = len(bold) if sample_mask is None else len(sample_mask)
    check_high_pass(high_pass, t_r)
    if confounds is not None and confounds.shape[1] >= n_scans - 2:
        raise SettingsError(f"confounds must be fewer than the scans; got {confounds.shape[1]} for {n_scans} scans.")
    if not (detrend or high_pass or confounds is not None or standardize):
        return bold.copy() if sample_mask is None else bold[sample_mask]
    try:
        return clean(
            bold, detrend=detrend, standardize="zscore_sample" if standardize else None, confounds=confounds, t_r=t_r,
            filter="butterworth" if high_pass else False, high_pass=high_pass or None,
            sample_mask=sample_mask,
            butterworth__copy=True,  # filters all voxels at once; otherwise nilearn calls scipy voxel by voxel
        )
    except ValueError as error:
        if "padlen" not in str(error):
            raise
        raise SettingsError(f"high_pass needs a longer run than one of {n_scans} scans.") from error


def check_high_pass(high_pass, t_r):
    """Check that a cut-off is below the highest frequency that a run can hold.

    Parameters
    ----------
    high_pass : float or None
        Cut-off frequency (Hz).
    t_r : float
        Repetition time (s).

    Raises
    ------
    SettingsError
        When it is not above 0 and below ``1 / (2 * t_r)``.
    """
    if high_pass is not None and not 0 < high_pass < 0.5 / t_r:
        raise SettingsError(f"high_pass must be above 0 and below {0.5 / t_r:g} Hz, half the scans a second; got {high_pass}.")
