"""The grid and the mask of a cohort: where its voxels are, and which of them enough runs cover."""

from dataclasses import asdict

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.nifti import check_grid, read_header, read_volume, write_volume
from sparkneuro.data.row_space import MASK
from sparkneuro.data.task_progress import show_progress
from sparkneuro.errors import FormatError
from sparkneuro.pipelines.ingest_plan import raise_first
from sparkneuro.pipelines.merge_plan import FIRST
from sparkneuro.pipelines.merge_sources import describe_table, stamp_of

SCRATCH = "_merge"
_RUNS_A_TASK = 32


def find_grid(plan, tables):
    """Tell the grid that a cohort is on.

    Parameters
    ----------
    plan : Plan
        What is to be done.
    tables : dict of str to VoxelTable
        Voxel tables of the data sets, by label.

    Returns
    -------
    grid : dict
        `shape` and `affine`, as JSON holds them.
    """
    if plan.recipe["grid"] is not None:
        return plan.recipe["grid"]
    wish = plan.recipe["merge"]
    if wish["grid"] != FIRST:
        return wish["grid"]
    if wish["voxel_size"] is not None:
        from sparkneuro.preprocess.regrid import make_grid

        shape, affine = make_grid([(table.mask(), table.affine) for table in tables.values()], wish["voxel_size"])
        return {"shape": list(shape), "affine": affine.tolist()}
    first = next(tables[entry["label"]] for entry in plan.recipe["datasets"] if entry["label"] in tables)
    return {"shape": list(first.shape), "affine": [list(row) for row in first.affine]}


def make_mask(plan, tables, mask_file, spark):
    """Write the cohort's mask, unless it is there.

    Parameters
    ----------
    plan : Plan
        What is to be done, with the cohort's grid.
    tables : dict of str to VoxelTable
        Voxel tables of the data sets, by label.
    mask_file : str or None
        A mask on that grid; None for the voxels that enough runs cover.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    n_voxels : int
        Voxels of the mask.

    Raises
    ------
    SparkneuroError
        When the mask file is none on the grid, a table is damaged, or nothing is covered.
    """
    path, grid = store.join(plan.table, MASK), plan.recipe["grid"]
    if store.exists(path):
        return int((read_volume(path)[0] != 0).sum())
    mask = _read_mask(mask_file, grid) if mask_file else _vote(plan, tables, grid, spark)
    write_volume(path, mask.astype(np.uint8), grid["affine"])
    return int(mask.sum())


def _read_mask(path, grid):
    header = read_header(path)
    if len(header.shape) != 3:
        raise FormatError(f"{path}: a mask is a 3-D image, and this one has shape {header.shape}.")
    check_grid(header, grid["shape"], grid["affine"], other="the cohort's grid (--grid)")
    mask = read_volume(path)[0] != 0
    if not mask.any():
        raise FormatError(f"{path}: the mask is empty.")
    return mask


def _vote(plan, tables, grid, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.merge_task import count_coverage

    jobs = dict(job for table in tables.values() for job in _divide(plan, table, grid))
    folder = store.join(plan.table, SCRATCH, "votes")
    there = store.list_files(folder)
    missing = [{**job, "votes": store.join(folder, name)} for name, job in jobs.items() if name not in there]
    sizes = {name: 1 + len(job["runs"]) for name, job in jobs.items()}
    with show_progress("mask", sizes, lambda: store.list_files(folder), noun="parts"):
        _, failures = run_jobs(spark, count_coverage, missing) if missing else ([], [])
    raise_first(failures)
    votes = sum((read_volume(store.join(folder, name))[0] for name in jobs), start=np.int32(0))
    n_runs = sum(len(table.runs) for table in tables.values())
    mask = votes >= max(1, plan.recipe["merge"]["mask_threshold"] * n_runs - 1e-9)
    if not mask.any():
        share = f"{100 * plan.recipe['merge']['mask_threshold']:g} % of the runs"
        raise FormatError(f"no voxel is covered by {share}: at most {int(votes.max())} of {n_runs} lie in the same place.")
    return mask


def _divide(plan, table, grid):
    """Jobs for a table, by the name of their file: runs with every voxel of its mask need no look at their files."""
    stamps = [run.stamp for source in plan.sources if source.table == table.path for run in source.runs]
    partial = [asdict(run) for run in table.runs if run.n_voxels < table.n_voxels]
    n_whole = len(table.runs) - len(partial)
    for first in range(0, max(len(partial), 1), _RUNS_A_TASK):
        job = {
            "source": describe_table(table), "grid": grid, "interpolation": plan.recipe["merge"]["interpolation"],
            "runs": partial[first : first + _RUNS_A_TASK], "n_whole": n_whole if first == 0 else 0,
        }
        yield f"{stamp_of([job, stamps])}.nii.gz", job
