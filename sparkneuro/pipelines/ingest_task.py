"""What one Spark task of an ingest does: the mask of one run, or its rows. Plain values in, files and a small dict out."""

import time
from dataclasses import asdict

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.bids import read_confounds
from sparkneuro.data.block import block_path, open_block
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.receipts import receipt_path, write_receipt
from sparkneuro.data.runs import SourceRun
from sparkneuro.data.scans import read_mean_image, read_series
from sparkneuro.data.voxel_table import MASK, Run
from sparkneuro.errors import FormatError
from sparkneuro.preprocess.brain_mask import compute_mask
from sparkneuro.preprocess.clean import clean_bold
from sparkneuro.preprocess.quality import measure_quality
from sparkneuro.preprocess.run_cleaner import RunCleaner

STRIP_VALUES = 1 << 17
"""Values that are cleaned at a time."""


def make_run_mask(job):
    """Compute the EPI mask of one run and write it.

    Parameters
    ----------
    job : dict
        `source` (path of the BOLD file) and `mask` (path to write).

    Returns
    -------
    result : dict
        `n_voxels` in the mask.

    Raises
    ------
    FormatError
        When the file is damaged or no brain is in it.
    """
    mean, affine = read_mean_image(job["source"])
    try:
        mask = compute_mask(mean, affine)
    except FormatError as error:
        raise FormatError(f"{job['source']}: {error}") from error
    write_volume(job["mask"], mask.astype(np.uint8), affine)
    return {"n_voxels": int(mask.sum())}


def ingest_run(job):
    """Read one run, clean it and write its blocks, its tSNR map and, last, its receipt.

    The peak memory beside the imports is the masked run as it is stored (2 bytes a value for a scanner's integers, 4 for
    floats), the rows of a block five times at most, and some 20 MB: a scan, a strip, a page, code that is loaded on the way.
    ``tests/pipelines/test_ingest_memory.py`` measures it on a small run, ``benchmarks/ingest.py`` on a large one.

    Parameters
    ----------
    job : dict
        `table` (path), `source` (fields of a `SourceRun`), `mask` (path of the run's own mask, "" for the table's), `block_size`,
        and `recipe` (detrend, high_pass, confounds, standardize).

    Returns
    -------
    result : dict
        `key` and `n_voxels` of the run.

    Raises
    ------
    FormatError
        When the file is damaged or holds nothing usable; the run's files are deleted again.
    StorageError
        When it cannot be read or written; likewise.
    """
    started = time.monotonic()
    source = SourceRun(**job["source"])
    table_mask = read_volume(store.join(job["table"], MASK))[0] != 0
    mask = read_volume(job["mask"])[0] != 0 if job["mask"] else table_mask
    n_blocks = -(-int(table_mask.sum()) // job["block_size"])
    try:
        series, sha256 = read_series(source.path, mask)
        voxels = np.flatnonzero(mask[table_mask]).astype(np.int32)
        quality = _write_blocks(job, source, series, voxels, n_blocks)
        run, lists = _describe(source, sha256, voxels, quality)
        _write_tsnr(job["table"], run, mask, quality[2], source.affine)
        write_receipt(job["table"], run.key, {
            "run": asdict(run), "source_size": source.size, "source_modified": source.modified, "n_blocks": n_blocks,
            "seconds": round(time.monotonic() - started, 3), **lists,
        })
    except BaseException:
        for block in range(n_blocks):
            store.delete(block_path(job["table"], source, block))
        raise
    return {"key": run.key, "n_voxels": run.n_voxels}


def _write_blocks(job, source, series, voxels, n_blocks):
    """Clean and write block by block; return non_finite, constant and tsnr of all voxels, in the run's order."""
    recipe, n_scans = job["recipe"], len(series.stored)
    options = {key: recipe[key] for key in ("detrend", "high_pass", "standardize")} | {"t_r": source.t_r}
    options["confounds"] = read_confounds(source.confounds, recipe["confounds"], n_scans) if source.confounds else None
    # Preparing it costs as much as cleaning so many voxels one by one.
    cleaner = RunCleaner(n_scans, **options) if len(voxels) > n_scans else None
    quality = np.zeros(len(voxels), bool), np.zeros(len(voxels), bool), np.zeros(len(voxels), np.float32)
    bounds = np.searchsorted(voxels, np.arange(n_blocks + 1) * job["block_size"])
    rows = np.empty((np.diff(bounds).max(), n_scans), np.float32)
    for block, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        kept = 0
        for strip in cut_strips(start, stop, n_scans):
            cleaned, *found = _clean_strip(series, strip, rows[kept:kept + strip.stop - strip.start], cleaner, options)
            for whole, part in zip(quality, found, strict=True):
                whole[strip] = part
            rows[kept:kept + len(cleaned)] = cleaned
            kept += len(cleaned)
        usable = ~(quality[0] | quality[1])[start:stop]
        with open_block(block_path(job["table"], source, block), source) as append:
            append(voxels[start:stop][usable], rows[:kept])
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


def _clean_strip(series, strip, rows, cleaner, options):
    """Return the cleaned series of the usable voxels (in `rows`), then non_finite, constant and tsnr of all of them."""
    n_voxels = strip.stop - strip.start
    series.rows(strip, out=rows)
    baseline = series.baseline[strip]
    if cleaner is None:
        level, deviation, sure = np.zeros(n_voxels), np.ones(n_voxels), np.zeros(n_voxels, bool)
    else:
        level, deviation, sure = cleaner.clean(rows, baseline)
    non_finite, constant, kept = np.zeros(n_voxels, bool), np.zeros(n_voxels, bool), sure
    tsnr = np.zeros(n_voxels, np.float32)
    np.divide(level, deviation, out=tsnr, where=sure, casting="same_kind")
    odd = np.flatnonzero(~sure)
    if len(odd):
        bold = (series.rows(strip)[odd] + baseline[odd, None]).T
        cleaned, non_finite[odd], constant[odd], tsnr[odd] = _clean_carefully(bold, options)
        kept = ~(non_finite | constant)
        rows[odd[kept[odd]]] = cleaned.T
    return (rows if kept.all() else rows[kept]), non_finite, constant, tsnr


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


def _describe(source, sha256, voxels, quality):
    non_finite, constant, tsnr = quality
    kept = ~(non_finite | constant)
    if not kept.any():
        raise FormatError(f"{source.path}: no voxel of the mask changes over time; is it the right mask?")
    run = Run(
        source.subject, source.session, source.task, source.run, source.n_scans, source.t_r, source.path, sha256, int(kept.sum()),
        int(constant.sum()), int(non_finite.sum()), round(float(np.median(tsnr[kept])), 3),
    )
    return run, {"constant": _list_ranges(voxels[constant]), "non_finite": _list_ranges(voxels[non_finite])}


def _list_ranges(numbers):
    """Shorten ascending whole numbers to [first, last] pairs: excluded voxels come in clumps."""
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    first, last = numbers[np.r_[0, breaks + 1]], numbers[np.r_[breaks, len(numbers) - 1]]
    return np.stack([first, last], axis=1).tolist()


def _write_tsnr(table_path, run, mask, tsnr, affine):
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = tsnr
    write_volume(receipt_path(table_path, run.key, "_tsnr.nii.gz"), volume, affine)
