"""Confounds of fMRIPrep by strategy, as nilearn's `load_confounds` makes them: regressors, and which scans are kept."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy

from sparkneuro.errors import FormatError

STRATEGIES = ("motion24", "simple", "scrubbing", "compcor")
"""motion24: six motion parameters, their derivatives and the squares of both (Friston 1996), and slow drifts. The others are
nilearn's strategies of the same names."""


def make_confounds(strategy, table, sidecar=None):
    """Make the regressors of a strategy from fMRIPrep's confounds.

    Parameters
    ----------
    strategy : str
        One of `STRATEGIES`.
    table : bytes
        Content of ``*_desc-confounds_timeseries.tsv``.
    sidecar : bytes or None
        Content of the JSON beside it, which compcor needs.

    Returns
    -------
    confounds : ndarray of shape (n_scans, n_confounds), float64
        Regressors of all scans, centred, finite.
    names : list of str
        Their names.
    kept : ndarray of shape (n_kept,), int, or None
        Scans that scrubbing keeps; None where all are.

    Raises
    ------
    FormatError
        When the table lacks what the strategy needs, or no scan is left.
    """
    with tempfile.TemporaryDirectory(prefix="sparkneuro-confounds-") as folder:
        # nilearn takes the path of an image, which it does not read, and finds the table by its name
        stem = f"{folder}/sub-1_task-1"
        Path(f"{stem}_desc-confounds_timeseries.tsv").write_bytes(table)
        if sidecar is not None:
            Path(f"{stem}_desc-confounds_timeseries.json").write_bytes(sidecar)
        image = f"{stem}_space-1_desc-preproc_bold.nii.gz"
        Path(image).touch()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old fMRIPrep versions, once a run
                confounds, kept = _load(strategy, image)
        except (ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).replace(folder + "/", "").split())
            raise FormatError(f"the strategy {strategy} cannot be had from this table: {reason}") from error
    kept = None if kept is None or len(kept) == len(confounds) else np.asarray(kept, np.int64)
    if kept is not None and not len(kept):
        raise FormatError(f"the strategy {strategy} scrubs every scan; is the subject's motion within bounds?")
    regressors = confounds.to_numpy(np.float64)
    if not np.isfinite(regressors).all():
        name = confounds.columns[np.argmin(np.isfinite(regressors).all(axis=0))]
        raise FormatError(f"column {name} holds n/a where a number is expected; is the table whole?")
    return regressors, list(confounds.columns), kept


def _load(strategy, image):
    if strategy == "motion24":
        return load_confounds(image, strategy=("motion", "high_pass"), motion="full", demean=True)
    return load_confounds_strategy(image, denoise_strategy=strategy)
