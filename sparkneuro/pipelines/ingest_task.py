"""What one Spark task of an ingest does: the mask of one run, or its rows. Plain values in, files and a small dict out."""

import time
from dataclasses import asdict
from functools import partial

import numpy as np

from sparkneuro import __version__
from sparkneuro.data import row_space, store
from sparkneuro.data.block import block_path
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.receipts import read_receipt, receipt_path, write_receipt
from sparkneuro.data.recordings.recording import open_recording
from sparkneuro.data.recordings.scans import read_mean_image
from sparkneuro.data.runs import SourceRun
from sparkneuro.data.scan_ranges import to_ranges
from sparkneuro.data.storage.checksums import hash_file
from sparkneuro.data.voxel_table import Run
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.ingest_blocks import write_blocks
from sparkneuro.pipelines.ingest_confounds import read_nuisance
from sparkneuro.pipelines.ingest_quality import keep_quality
from sparkneuro.pipelines.ingest_selection import select_rows
from sparkneuro.preprocess.brain_mask import compute_mask
from sparkneuro.preprocess.run_quality import RunQuality


def make_run_mask(job):
    """Write the brain mask of one run: the one beside it, resampled to its grid, or nilearn's EPI mask.

    Parameters
    ----------
    job : dict
        `source` (path of the BOLD file), its `shape` and `affine`, `brain_mask` (path of the mask beside it, or "") and `mask`
        (path to write).

    Returns
    -------
    result : dict
        `n_voxels` in the mask.

    Raises
    ------
    FormatError
        When the file is damaged or no brain is in it.
    """
    if job["brain_mask"]:
        from sparkneuro.preprocess.resample_labels import resample_labels

        volume, affine = read_volume(job["brain_mask"])
        if volume.ndim != 3 or not np.nan_to_num(volume).any():
            raise FormatError(f"{job['brain_mask']}: a brain mask is a 3-D image with voxels in it; give one with --mask FILE.")
        mask, affine = resample_labels(np.nan_to_num(volume) != 0, affine, job["shape"], job["affine"]), job["affine"]
    else:
        mean, affine = read_mean_image(job["source"])
        try:
            mask = compute_mask(mean, affine)
        except FormatError as error:
            raise FormatError(f"{job['source']}: {error}") from error
    write_volume(job["mask"], mask.astype(np.uint8), affine)
    return {"n_voxels": int(mask.sum())}


def ingest_run(job):
    """Read one run, clean it and write its blocks, its tSNR map, its quality and, last, its receipt.

    The peak memory beside the imports is the masked run as it is stored (2 bytes a value for a scanner's integers, 4 for
    floats), the rows of a block five times at most, and some 20 MB: a scan, a strip, a page, code that is loaded on the way.
    ``tests/pipelines/test_ingest_memory.py`` measures it on a small run, ``benchmarks/ingest.py`` on a large one.

    Parameters
    ----------
    job : dict
        `table` (path), `source` (fields of a `SourceRun`), `mask` (path of the run's own mask, "" for the table's), `rows`
        (their kind), `affine` and `block_size` of the table, `recipe` (its settings), and `doubtful`, whether rows are there
        that may still hold. `local` is where the file is for now, when it is not at its source's path.

    Returns
    -------
    result : dict
        `key` of the run, and whether its rows were `made`.

    Raises
    ------
    FormatError
        When the file is damaged or holds nothing usable; the run's files are deleted again.
    StorageError
        When it cannot be read or written; likewise.
    """
    started = time.monotonic()
    source = SourceRun(**job["source"])
    if job["doubtful"] and _has_same_content(job["table"], source):
        return {"key": source.key, "made": False}
    store.delete(receipt_path(job["table"], source.key))
    recording = open_recording(job.get("local") or source.path)
    selection = select_rows(job, recording)
    n_blocks = -(-selection.n_rows // job["block_size"])
    try:
        rows, series, sha256, coverage = _read_rows(job, recording, selection)
        nuisance = read_nuisance(source, job["recipe"])
        watch = RunQuality(source.n_scans if nuisance[1] is None else len(nuisance[1]), selection.n_rows)
        quality = write_blocks(job, source, series, rows, nuisance, watch)
        run, facts = _describe(source, sha256, rows, quality, nuisance[1])
        _write_tsnr(job["table"], run, selection.numbers, rows, quality[2], job["affine"])
        write_receipt(job["table"], run.key, {
            "run": asdict(run), "inputs": _hash_inputs(source, sha256), "version": __version__, "n_blocks": n_blocks,
            "seconds": round(time.monotonic() - started, 3), **facts, "coverage": coverage,
            "quality": keep_quality(job["table"], source, watch, nuisance[1]),
        })
    except BaseException as error:
        for block in range(n_blocks):
            store.delete(block_path(job["table"], source, block))
        if isinstance(error, SettingsError) and source.path not in str(error):
            raise SettingsError(f"{source.path}: {error}") from error
        raise
    return {"key": run.key, "made": True}


def _read_rows(job, recording, selection):
    """Return the rows' numbers, their series, the file's hash, and of parcels how much of each is covered."""
    smoothing = job["recipe"].get("smoothing_fwhm")
    prepare = partial(_smooth, affine=recording.affine, smoothing_fwhm=smoothing) if smoothing else None
    series, sha256 = recording.read_series(selection.selected, prepare)
    if job["rows"] != row_space.PARCELS:
        return selection.row, series, sha256, None
    from sparkneuro.preprocess.parcels import average_parcels

    series, coverage = average_parcels(series, selection.row, selection.n_rows)
    shares = np.round(coverage * selection.inside, 4).tolist()
    return np.arange(selection.n_rows, dtype=np.int32), series, sha256, shares


def _smooth(scans, affine, smoothing_fwhm):
    from sparkneuro.preprocess.smooth import smooth_scans

    return smooth_scans(scans, affine, smoothing_fwhm)


def _describe(source, sha256, voxels, quality, kept_scans):
    non_finite, constant, tsnr = quality
    kept = ~(non_finite | constant)
    if not kept.any():
        raise FormatError(f"{source.path}: no voxel of the mask changes over time; is it the right mask?")
    scrubbed = {} if kept_scans is None else {"sample_mask": to_ranges(kept_scans), "n_source_scans": source.n_scans}
    run = Run(
        source.subject, source.session, source.task, source.run, source.n_scans if kept_scans is None else len(kept_scans),
        source.t_r, source.origin or source.path, sha256, int(kept.sum()), int(constant.sum()), int(non_finite.sum()),
        round(float(np.median(tsnr[kept])), 3), **scrubbed,
    )
    return run, {"constant": to_ranges(voxels[constant]), "non_finite": to_ranges(voxels[non_finite])}


def _write_tsnr(table, run, numbers, row, tsnr, affine):
    if numbers is not None:
        volume = np.nan_to_num(row_space.place_rows(numbers, row, tsnr))
        write_volume(receipt_path(table, run.key, "_tsnr.nii.gz"), volume, affine)


def _hash_inputs(source, sha256):
    return {
        role: {**state, "sha256": sha256 if role == "recording" else hash_file(state["path"])}
        for role, state in source.read_states().items()
    }  # fmt: skip


def _has_same_content(table, source):
    """Whether files of another place or time have the content that the rows were made from; then the receipt learns of these."""
    receipt = read_receipt(table, source.key)
    states = source.read_states()
    if any(state["size"] != receipt["inputs"][role]["size"] for role, state in states.items()):
        return False
    for role, state in states.items():
        if hash_file(state["path"]) != receipt["inputs"][role]["sha256"]:
            if role == "recording" and state["path"] != receipt["inputs"][role]["path"]:
                raise FormatError(f"{source.path}: the run of this name in {table} is another; choose another --output.")
            return False
    inputs = _hash_inputs(source, receipt["inputs"]["recording"]["sha256"])
    write_receipt(table, source.key, {**receipt, "run": {**receipt["run"], "source": source.path}, "inputs": inputs})
    return True
