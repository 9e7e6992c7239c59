"""What one Spark task of a merge does: tell what runs cover, measure a run's series, or write a run's rows of the cohort."""

from dataclasses import asdict, replace
from functools import partial
from io import BytesIO

import numpy as np
import pyarrow as pa

from sparkneuro.data import store
from sparkneuro.data.array_file import write_array
from sparkneuro.data.block import block_path, open_block, read_voxels
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.receipts import receipt_path, write_receipt
from sparkneuro.data.row_space import MASK
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.errors import FormatError
from sparkneuro.preprocess.regrid import Regridder, cover_grid, same_grid
from sparkneuro.preprocess.resample_time import TimeResampler

STRIP = 1024
"""Voxels that are finished at a time, in float64."""


def count_coverage(job):
    """Count in how many runs of a data set each voxel of the cohort's grid is covered, and write the counts.

    Parameters
    ----------
    job : dict
        `source` (a voxel table without runs), `runs` (those that lack voxels of its mask), `n_whole` (how many others there are),
        `grid`, `interpolation`, and `votes` (path to write).

    Returns
    -------
    result : dict
        `n_runs` that were counted.
    """
    source, grid = _open_source(job["source"]), job["grid"]
    mask, votes = source.mask(), np.zeros(grid["shape"], np.int32)
    to = (source.affine, grid["shape"], grid["affine"], job["interpolation"])
    if job["n_whole"]:
        votes += job["n_whole"] * cover_grid(mask, *to).astype(np.int32)
    for fields in job["runs"]:
        run = Run(**fields)
        voxels = np.concatenate([read_voxels(source.block_path(run, block)) for block in range(source.n_blocks)])
        votes += cover_grid(_mask_of(mask, voxels), *to)
    write_volume(job["votes"], votes, grid["affine"])
    return {"n_runs": job["n_whole"] + len(job["runs"])}


def measure_run(job):
    """Measure mean and variance of a run's series on the cohort's grid, as harmonisation needs them.

    Parameters
    ----------
    job : dict
        As for `merge_run`, and `statistics` (path to write).

    Returns
    -------
    result : dict
        `n_voxels` that the run covers.
    """
    source, origin = _open_source(job["source"]), Run(**job["origin"])
    own, series, _ = _read_series(source, origin, job["t_r"])
    voxels, bring, _ = _align(job, source, _mask_of(source.mask(), own), _read_mask(job))
    series = bring(series)
    statistics = np.full((2, job["n_voxels"]), np.nan, np.float32)
    for left in range(0, len(voxels), STRIP):
        strip = series[left : left + STRIP].astype(np.float64)
        statistics[:, voxels[left : left + STRIP]] = strip.mean(axis=1), strip.var(axis=1, ddof=1)
    write_array(job["statistics"], statistics)
    return {"n_voxels": len(voxels)}


def merge_run(job):
    """Bring a run to the cohort's grid and repetition time and write its blocks, its tSNR map and, last, its receipt.

    The run as float32, as it was and on the new grid, is what is held at once; with the same grid and repetition time its rows
    come through bit by bit.

    Parameters
    ----------
    job : dict
        `table` (path of the cohort), `source` (a voxel table without runs), `origin` (fields of its run), `run` (labels in the
        cohort), `dataset`, `participant`, `steps` (of the source), `grid`, `n_voxels`, `block_size`, `interpolation`, `t_r` (None
        keeps it), `standardize` (whether what was interpolated is z-scored again), `adjustment` (path of a subject's; "" for
        none) and `stamp`.

    Returns
    -------
    result : dict
        `key` and `n_voxels` of the run.

    Raises
    ------
    FormatError
        When the source is damaged, or covers nothing of the cohort's mask; the run's files are deleted again.
    StorageError
        When it cannot be read or written; likewise.
    """
    n_blocks = -(-job["n_voxels"] // job["block_size"])
    source, origin, mask = _open_source(job["source"]), Run(**job["origin"]), _read_mask(job)
    labels = replace(origin, **job["run"])
    try:
        own, series, done = _read_series(source, origin, job["t_r"])
        source_mask = _mask_of(source.mask(), own)
        voxels, bring, regridded = _align(job, source, source_mask, mask)
        series, done = bring(series), done + ["regridded"] * regridded
        finish = _Finisher(job, bool(done))
        with_rows = _write_blocks(job, labels, voxels, series, finish, n_blocks)
        if not with_rows.any():
            where = f"{job['source']['path']}: run {origin.key}"
            raise FormatError(f"{where} covers nothing of the cohort's mask; does it lie in the same space?")
        kept = int(with_rows.sum())
        run = replace(
            labels, n_scans=series.shape[1], t_r=job["t_r"] if "resampled" in done else origin.t_r, n_voxels=kept,
            **({"sample_mask": None, "n_source_scans": None} if "resampled" in done else {}),
            n_constant=finish.n_constant, n_non_finite=0, n_uncovered=job["n_voxels"] - kept - finish.n_constant,
        )
        tsnr = source.tsnr_map(origin)
        if tsnr is not None:
            _write_tsnr(job, run, mask, voxels[with_rows], bring(tsnr[source_mask][:, None])[with_rows, 0])
        write_receipt(job["table"], run.key, {
            "run": asdict(run), "dataset": job["dataset"], "participant": job["participant"], "stamp": job["stamp"],
            "origin": _describe(job, origin), "n_blocks": n_blocks, "done": done + ["harmonised"] * bool(job["adjustment"]),
        })
    except BaseException:
        for block in range(n_blocks):
            store.delete(block_path(job["table"], labels, block))
        raise
    return {"key": run.key, "n_voxels": run.n_voxels}


class _Finisher:
    """What is done to strips of series when they are on the grid: harmonised, and z-scored again."""

    def __init__(self, job, interpolated):
        self._adjustment = np.load(BytesIO(store.read_bytes(job["adjustment"]))) if job["adjustment"] else None
        self._interpolated, self._standardize = interpolated, job["standardize"]
        self.n_constant = 0

    def finish(self, voxels, strip):
        """Return the series (n, n_scans) of a strip and which of its voxels they are."""
        has_row = np.ones(len(voxels), bool)
        if self._adjustment is not None:
            factor, shift = self._adjustment[:, voxels].astype(np.float64)
            has_row &= np.isfinite(factor)
            centre = strip.mean(axis=1, keepdims=True, dtype=np.float64)
            strip = (strip - centre) * factor[:, None] + centre + shift[:, None]
        if self._interpolated:
            strip, changes = self._clean(strip.astype(np.float64, copy=False))
            self.n_constant += int((has_row & ~changes).sum())
            has_row &= changes
        strip = strip if has_row.all() else strip[has_row]
        return np.ascontiguousarray(strip, np.float32), has_row

    def _clean(self, strip):
        """Z-score where that is wanted, and tell which series change."""
        deviation = strip.std(axis=1, ddof=1, keepdims=True)
        changes = deviation[:, 0] > 1e-9 * np.abs(strip).max(axis=1, initial=0)
        if self._standardize:
            with np.errstate(divide="ignore", invalid="ignore"):
                strip = (strip - strip.mean(axis=1, keepdims=True)) / deviation
        return strip, changes


def _open_source(fields):
    """A voxel table from what a job says of it: without its runs, whose list may be long."""
    return VoxelTable(space="", runs=(), steps=(), units="", **fields)


def _read_mask(job):
    return read_volume(store.join(job["table"], MASK))[0] != 0


def _mask_of(mask, voxels):
    """The part of a mask that some of its voxels, given by their numbers, make up."""
    part = np.zeros(mask.shape, bool)
    has_row = np.zeros(int(mask.sum()), bool)
    has_row[voxels] = True
    part[mask] = has_row
    return part


def _align(job, source, source_mask, mask):
    """Numbers of the cohort's voxels that a run covers, what brings values (n, k) of its own there, whether it interpolates."""
    grid = job["grid"]
    if same_grid(source.shape, source.affine, grid["shape"], grid["affine"]):
        wanted = mask[source_mask]
        bring = partial(np.compress, wanted, axis=0) if not wanted.all() else np.asarray
        return np.flatnonzero(source_mask[mask]).astype(np.int32), bring, False
    regridder = Regridder(source_mask, source.affine, mask, grid["affine"], job["interpolation"])
    return np.flatnonzero(regridder.covered).astype(np.int32), regridder.regrid, True


def _read_series(source, run, t_r):
    """Numbers and series of a run's voxels, at the cohort's repetition time."""
    resampler = TimeResampler(run.n_scans, run.t_r, run.t_r if t_r is None else t_r)
    series, numbers, filled = np.empty((run.n_voxels, resampler.n_resampled), np.float32), [], 0
    for block in range(source.n_blocks):
        voxels, part = source.read_block(run, block)
        if filled + len(voxels) > run.n_voxels:
            break
        series[filled : filled + len(voxels)] = resampler.resample(part)
        numbers.append(voxels.copy())
        filled += len(voxels)
        del voxels, part
        pa.default_memory_pool().release_unused()  # Arrow's allocator would hold what it had for the blocks
    else:
        if filled == run.n_voxels:
            return np.concatenate(numbers), series, ["resampled"] * (not resampler.is_identity)
    raise FormatError(f"{source.path}: run {run.key} should have {run.n_voxels} rows and has others; make the table again.")


def _write_blocks(job, labels, voxels, series, finish, n_blocks):
    """Write block by block; return which of the covered voxels have got a row."""
    with_rows = np.zeros(len(voxels), bool)
    bounds = np.searchsorted(voxels, np.arange(n_blocks + 1) * job["block_size"])
    for block, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        with open_block(block_path(job["table"], labels, block), labels) as append:
            for left in range(start, stop, STRIP):
                strip = slice(left, min(stop, left + STRIP))
                finished, has_row = finish.finish(voxels[strip], series[strip])
                append(voxels[strip][has_row], finished)
                with_rows[strip] = has_row
    return with_rows


def _write_tsnr(job, run, mask, voxels, tsnr):
    values, volume = np.zeros(int(mask.sum()), np.float32), np.zeros(mask.shape, np.float32)
    values[voxels] = tsnr
    volume[mask] = values
    write_volume(receipt_path(job["table"], run.key, "_tsnr.nii.gz"), volume, job["grid"]["affine"])


def _describe(job, origin):
    """What a run was before it joined, for the cohort's record."""
    source = job["source"]
    own = {"key": origin.key, "n_scans": origin.n_scans, "t_r": origin.t_r, "steps": job["steps"]}
    return {**own, "shape": source["shape"], "affine": source["affine"]}
