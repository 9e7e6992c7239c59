"""The confounds of a run in an ingest: columns of its table, a strategy, or both; and which scans are kept."""

import numpy as np

from sparkneuro.data import hcp, store
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.errors import FormatError, SettingsError


def check_denoising(settings, sources):
    """Check that confounds can be had as asked for, on the first run.

    Parameters
    ----------
    settings : sparkneuro.pipelines.ingest.Settings
        The settings.
    sources : sequence of SourceRun
        All runs.

    Raises
    ------
    SparkneuroError
        When a strategy meets a table that it cannot use.
    """
    if settings.denoise:
        read_nuisance(sources[0], {"confounds": list(settings.confounds), "denoise": settings.denoise})


def read_nuisance(source, settings):
    """Read what is to be regressed out of a run.

    Parameters
    ----------
    source : SourceRun
        The run.
    settings : dict
        ``confounds`` (columns) and ``denoise`` (a strategy or None).

    Returns
    -------
    confounds : ndarray of shape (n_scans, n_confounds), float64, or None
        Regressors of all scans; None where there are none.
    kept : ndarray of shape (n_kept,), int, or None
        Scans that scrubbing keeps; None where all are.

    Raises
    ------
    FormatError
        When the table is not as it must be.
    """
    parts, kept = [], None
    if settings["confounds"]:
        parts.append(read_confounds(source.confounds, settings["confounds"], source.n_scans))
    if settings.get("denoise"):
        regressors, kept = _use_strategy(source, settings["denoise"])
        parts.append(regressors)
    confounds = np.hstack(parts) if parts else None
    n_kept = source.n_scans if kept is None else len(kept)
    if confounds is not None and confounds.shape[1] >= n_kept - 2:
        left = "" if kept is None else f": scans with motion, or before the signal is steady, were left out of {source.n_scans}"
        few = f"{n_kept} scans are too few for {confounds.shape[1]} confounds{left}"
        raise FormatError(f"{source.path}: {few}; leave the run out, or choose fewer confounds or another --denoise.")
    return confounds, kept


def _use_strategy(source, strategy):
    from sparkneuro.preprocess.confound_strategy import make_confounds

    if hcp.is_movement(source.confounds):
        remedy = "name columns instead, e.g. --confounds 'trans_*' 'rot_*'"
        raise SettingsError(f"{source.confounds}: strategies need fMRIPrep's table; {remedy}.")
    sidecar = source.confounds.removesuffix(".tsv") + ".json"
    try:
        regressors, _, kept = make_confounds(
            strategy, store.read_bytes(source.confounds), store.read_bytes(sidecar) if store.exists(sidecar) else None
        )
    except FormatError as error:
        raise FormatError(f"{source.confounds}: {error}") from error
    if len(regressors) != source.n_scans:
        rows = f"one row a scan is expected, {source.n_scans} in all; the file has {len(regressors)}"
        raise FormatError(f"{source.confounds}: {rows}.")
    return regressors, kept
