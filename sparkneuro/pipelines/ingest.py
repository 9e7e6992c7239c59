"""Turn BOLD runs into a voxel table, one Spark task a run.

A source is a BIDS-named folder (its *_bold.nii.gz files; those of a derivatives folder when it is named itself) or a NIfTI
file. Voxels come from a mask file, or from nilearn's EPI mask: of all runs together (group), or of each subject (subject).
Each series is detrended, high-pass filtered and cleaned of confounds when asked for, and z-scored. Running the command again
does only what is missing: runs whose file has not changed are left as they are, new ones are added on the mask that the table
has. A table keeps the settings that it was begun with; another setting is refused.
"""

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.data.receipts import list_receipts, receipt_path, write_recipe
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import METADATA
from sparkneuro.errors import SparkneuroError
from sparkneuro.pipelines import ingest_plan
from sparkneuro.pipelines.ingest_mask import make_masks
from sparkneuro.pipelines.settings import argument, option

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ingest``."""

    sources: tuple = argument("BIDS-named folders, or BOLD files (.nii, .nii.gz)", many=True)
    output: str = option(None, "folder of the voxel table to make, e.g. rest.voxels")
    mask: str = option("group", "group, subject, or a mask file on the grid of the runs")
    detrend: bool = option(True, "remove the linear trend of each series")
    high_pass: float = option(None, "cut-off of a Butterworth high-pass filter in Hz, e.g. 0.008", type=float)
    confounds: tuple = option((), "columns of the confounds table beside each run to regress out, or patterns", many=True)
    standardize: bool = option(True, "z-score each series")
    t_r: float = option(None, "repetition time in seconds, instead of that of sidecar or header", type=float)
    subjects: tuple = option((), "labels of the subjects to take; all when absent", many=True)
    tasks: tuple = option((), "labels of the tasks to take; all when absent", many=True)
    space: str = option(None, "BIDS space of the files to take, e.g. MNI152NLin2009cAsym")
    block_size: int = option(4096, "voxels of a block")


def needs_spark(settings):
    """Tell whether anything is missing; bad input is found here, before Spark starts.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.
    """
    return bool(ingest_plan.make_plan(settings).missing)


def run(settings, spark):
    """Make a voxel table, or what is missing of it.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None will do when nothing is missing.

    Returns
    -------
    sentence : str
        What was done.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong, or the disk is full. What is finished is kept for the next time, but the folder is no
        voxel table; it is gone when nothing was finished.
    """
    plan = ingest_plan.make_plan(settings)
    store.delete_unfinished(plan.table)
    if not plan.missing and store.exists(store.join(plan.table, METADATA)):
        return f"{plan.table}: nothing is missing; {_count(len(plan.sources))} in the table already."
    started = time.monotonic()
    with _nothing_half_done(plan.table):
        _invalidate(plan)
        if plan.missing:
            make_masks(plan, spark)
            _ingest_missing(plan, spark)
        table = ingest_plan.finish(plan)
    megabytes, seconds = sum(source.size for source in plan.missing) / 1e6, time.monotonic() - started
    pace = f"{_count(len(plan.missing))} ingested in {seconds:.1f} s ({megabytes:.1f} MB, {megabytes / seconds:.1f} MB/s)"
    holds = f"the table has {_count(len(table.runs))} on {table.n_voxels} voxels in {table.n_blocks} blocks"
    return f"{plan.table}: {pace if plan.missing else 'every run was there already'}; {holds}."


def _count(n_runs):
    return f"{n_runs} run{'' if n_runs == 1 else 's'}"


def _invalidate(plan):
    """From here on the folder is no table, until its metadata are written again."""
    store.delete(store.join(plan.table, METADATA))
    write_recipe(plan.table, plan.recipe)
    for source in plan.missing:
        store.delete(receipt_path(plan.table, source.key))


def _ingest_missing(plan, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.ingest_task import ingest_run

    jobs = [
        {
            "table": plan.table,
            "source": source.to_dict(),
            "mask": plan.own_mask(source),
            "block_size": plan.recipe["block_size"],
            "recipe": plan.recipe["settings"],
        }
        for source in plan.missing
    ]
    sizes = {source.key: source.size for source in plan.missing}
    with show_progress("ingest", sizes, lambda: list_receipts(plan.table)):
        _, failures = run_jobs(spark, ingest_run, jobs)
    ingest_plan.raise_first(failures)


@contextmanager
def _nothing_half_done(table):
    had_runs = bool(list_receipts(table))
    try:
        yield
    except SparkneuroError:  # behind any other, tasks of a job that Spark has aborted may still be writing
        try:
            if not had_runs and not list_receipts(table):
                store.delete(table)
        except SparkneuroError as error:
            LOG.warning("the unfinished folder could not be removed: %s", error)
        raise
