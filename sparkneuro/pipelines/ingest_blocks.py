"""The blocks of one run: its series are cleaned strip by strip, measured, and written as rows."""

import numpy as np
import pyarrow as pa

from sparkneuro.data.block import block_path, open_block
from sparkneuro.preprocess.clean import clean_bold
from sparkneuro.preprocess.quality import measure_quality
from sparkneuro.preprocess.run_cleaner import RunCleaner

STRIP_VALUES = 1 << 17
"""Values that are cleaned at a time."""
MOST_SCANS = 4000
"""Longest run that is cleaned by the quick way, which holds a few matrices of as many rows and columns."""


def write_blocks(job, source, series, row, nuisance, watch):
    """Clean the series of a run and write them block by block.

    Parameters
    ----------
    job : dict
        `table` (path), `block_size`, and `recipe` (detrend, high_pass, standardize).
    source : SourceRun
        The run.
    series : MaskedSeries
        Its series.
    row : ndarray of shape (n,), int32
        The table's row of each, ascending.
    nuisance : tuple of (ndarray of shape (n_scans, n_confounds) or None, ndarray of shape (n_kept,) or None)
        Confounds, and the scans that are kept; None for none, and for all.
    watch : RunQuality
        Takes measures on the way; it is given the scans that are kept.

    Returns
    -------
    non_finite, constant : ndarray of shape (n,), bool
        Series that have no row for this reason.
    tsnr : ndarray of shape (n,), float32
        Temporal signal-to-noise ratio before cleaning; 0 for these.
    """
    confounds, kept_scans = nuisance
    options = {key: job["recipe"][key] for key in ("detrend", "high_pass", "standardize")}
    options |= {"t_r": source.t_r, "confounds": confounds}
    n_scans = series.n_scans
    # Preparing it costs as much as cleaning so many voxels one by one.
    quick = kept_scans is None and len(row) > n_scans and n_scans <= MOST_SCANS
    clean = _QuickStrips(series, options) if quick else _CarefulStrips(series, {**options, "sample_mask": kept_scans})
    quality = np.zeros(len(row), bool), np.zeros(len(row), bool), np.zeros(len(row), np.float32)
    n_blocks = -(-watch.n_rows // job["block_size"])
    bounds = np.searchsorted(row, np.arange(n_blocks + 1) * job["block_size"])
    cleaned = np.empty((np.diff(bounds).max(), n_scans if kept_scans is None else len(kept_scans)), np.float32)
    for block, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        n_kept = 0
        for strip in cut_strips(start, stop, n_scans):
            part, *found = clean(strip, cleaned[n_kept : n_kept + strip.stop - strip.start])
            for whole, measured in zip(quality, found, strict=True):
                whole[strip] = measured
            cleaned[n_kept : n_kept + len(part)] = part
            n_kept += len(part)
        usable = start + np.flatnonzero(~(quality[0] | quality[1])[start:stop])
        with open_block(block_path(job["table"], source, block), source) as append:
            append(row[usable], cleaned[:n_kept])
        pa.default_memory_pool().release_unused()  # Arrow's allocator would hold what it had for the block
        chosen = watch.choose(row[usable])
        before = series.bold(usable[chosen])
        watch.add(row[usable][chosen], before if kept_scans is None else before[kept_scans], cleaned[:n_kept][chosen].T)
    return quality


def cut_strips(start, stop, n_scans):
    """Cut a range of voxels into strips that stay in a processor's cache.

    Parameters
    ----------
    start, stop : int
        The range.
    n_scans : int
        Values of a voxel.

    Yields
    ------
    strip : slice
        The next of them.
    """
    width = max(16, STRIP_VALUES // n_scans)
    for left in range(start, stop, width):
        yield slice(left, min(stop, left + width))


class _QuickStrips:
    """Cleans in place, in float32; what that is not enough for goes to nilearn."""

    def __init__(self, series, options):
        self._series, self._options = series, options
        self._cleaner = RunCleaner(series.n_scans, **options)

    def __call__(self, strip, rows):
        """Return the cleaned series of the usable voxels (in `rows`), then non_finite, constant and tsnr of all of them."""
        n_voxels = strip.stop - strip.start
        self._series.rows(strip, out=rows)
        level, deviation, sure = self._cleaner.clean(rows, self._series.baseline[strip])
        non_finite, constant, kept = np.zeros(n_voxels, bool), np.zeros(n_voxels, bool), sure
        tsnr = np.zeros(n_voxels, np.float32)
        np.divide(level, deviation, out=tsnr, where=sure, casting="same_kind")
        odd = np.flatnonzero(~sure)
        if len(odd):
            bold = self._series.bold(strip.start + odd)
            cleaned, non_finite[odd], constant[odd], tsnr[odd] = _clean_carefully(bold, self._options)
            kept = ~(non_finite | constant)
            rows[odd[kept[odd]]] = cleaned.T
        return (rows if kept.all() else rows[kept]), non_finite, constant, tsnr


class _CarefulStrips:
    """Cleans by nilearn."""

    def __init__(self, series, options):
        self._series, self._options = series, options

    def __call__(self, strip, rows):
        """Return the cleaned series of the usable voxels, then non_finite, constant and tsnr of all of them."""
        cleaned, *found = _clean_carefully(self._series.bold(strip), self._options)
        return cleaned.T, *found


def _clean_carefully(bold, options):
    """Return what nilearn makes of the usable voxels, then non_finite, constant and tsnr of all of them."""
    non_finite, constant, tsnr = measure_quality(bold)
    usable = ~(non_finite | constant)
    if not usable.any():
        return np.empty((len(bold), 0)), non_finite, constant, tsnr
    bold = bold[:, usable]
    cleaned = clean_bold(bold, **options)
    # nilearn leaves a series undivided when cleaning has left nothing of it
    least = 0.5 if options["standardize"] else 1e-9 * bold.std(axis=0)
    left = cleaned.std(axis=0) > least
    constant[np.flatnonzero(usable)[~left]] = True
    tsnr[constant] = 0
    return cleaned[:, left], non_finite, constant, tsnr
