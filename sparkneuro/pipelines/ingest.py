"""Turn BOLD runs into a voxel table, one Spark task a run.

A source is a folder of BIDS names (raw; fMRIPrep's derivatives when they are named themselves) or of the HCP's layout, an index
of such (made by 'sparkneuro index'), or a file: NIfTI, CIFTI dense series (.dtseries.nii) or HDF5. It may lie on s3:// or hdfs://.

A row of the table is the series of a voxel in a run. Voxels come from a mask file (brain or region of interest, resampled to the
runs' grid), or from the runs' own brain masks, where fMRIPrep or the HCP has left them, else nilearn's EPI masks: of all runs
together (group), or of each subject (subject). With --labels a row is the mean of a parcel. Rows of a dense series are its
grayordinates.

Each run is smoothed, detrended, high-pass filtered, cleaned of confounds (columns, or a strategy of nilearn's load_confounds)
when asked for, and z-scored. What is measured of its quality on the way, 'sparkneuro quality' shows.

Running the command again does only what is missing: runs whose content and confounds have not changed are left as they are, new
ones are added on the mask that the table has; those that another version of sparkneuro has made are made again. A table keeps
the settings that it was begun with; another setting is refused.

With --discard-raw the sources are addresses, as 'sparkneuro fetch' takes them, and a mask file or labels must be given: a run
lies on the disk of the task that ingests it, and only as long as that takes.
"""

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.data.receipts import RECEIPTS, list_receipts, receipt_path, write_recipe
from sparkneuro.data.storage.checksums import CHECKSUMS
from sparkneuro.data.storage.folder_lock import lock_folder
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.errors import FormatError, SparkneuroError
from sparkneuro.pipelines import ingest_finish, ingest_plan
from sparkneuro.pipelines.ingest_rows import make_rows
from sparkneuro.pipelines.ingest_stream import fetch_small
from sparkneuro.pipelines.settings import argument, option

LOG = logging.getLogger(__name__)
LOCK = f"{RECEIPTS}/.lock"

STRATEGIES = ("motion24", "simple", "scrubbing", "compcor")


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro ingest``."""

    sources: tuple = argument("BIDS or HCP folders, indexes (.parquet), or files (.nii, .nii.gz, .dtseries.nii, .h5)", many=True)
    output: str = option(None, "folder of the voxel table to make, e.g. rest.voxels")
    mask: str = option("group", "group, subject, or a mask file; one on another grid is resampled to the runs'")
    labels: str = option(None, "labels image: a row is the mean of a parcel; names are read from the .tsv beside it")
    smoothing_fwhm: float = option(None, "full width at half maximum of a Gaussian kernel in mm, e.g. 8", type=float)
    detrend: bool = option(True, "remove the linear trend of each series")
    high_pass: float = option(None, "cut-off of a Butterworth high-pass filter in Hz, e.g. 0.008", type=float)
    confounds: tuple = option((), "columns of the confounds table beside each run to regress out, or patterns", many=True)
    denoise: str = option(
        None, "confounds by strategy, from fMRIPrep's table: 24 motion parameters and slow drifts (motion24), or nilearn's",
        choices=STRATEGIES,
    )  # fmt: skip
    standardize: bool = option(True, "z-score each series")
    t_r: float = option(None, "repetition time in seconds, instead of that of sidecar or header", type=float)
    participant_label: tuple = option((), "labels of the subjects to take; all when absent", many=True)
    session_id: tuple = option((), "labels of the sessions to take", many=True)
    task_id: tuple = option((), "labels of the tasks to take", many=True)
    run: tuple = option((), "numbers of the runs to take", many=True)
    space: tuple = option((), "BIDS spaces to take, e.g. MNI152NLin2009cAsym or MNI152NLin2009cAsym:res-2", many=True)
    bids_filter_file: str = option(None, "JSON file of filters in fMRIPrep's form")
    discard_raw: bool = option(
        False, "sources are addresses (ds000114, s3://, https://): fetch each run, ingest it, and keep nothing of the file"
    )
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
        What was done, and a notice of what the sources lack.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong, or the disk is full. What is finished is kept for the next time, but the folder is no
        voxel table; it is gone when nothing was finished.
    """
    ingest_plan.check_settings(settings)
    table = settings.output.rstrip("/")
    ingest_plan.read_earlier(table)
    was_there = store.exists(table)
    with lock_folder(table, LOCK, "ingest"):
        try:
            plan = ingest_plan.make_plan(settings)
        except BaseException:
            if not was_there:
                store.delete(table)  # which holds nothing but the lock
            raise
        return _run_alone(plan, spark)


def _run_alone(plan, spark):
    store.delete_unfinished(plan.table)
    if not plan.missing and _has_metadata(plan.table):
        return f"{plan.table}: nothing is missing; {_count(len(plan.sources))} in the table already."
    started = time.monotonic()
    with _nothing_half_done(plan.table):
        _invalidate(plan)
        results = []
        if plan.missing:
            make_rows(plan, spark)
            if plan.remote:
                fetch_small(plan.remote)
            results = _ingest_missing(plan, spark)
        table = ingest_finish.finish(plan)
    made = {result["key"] for result in results if result["made"]}
    return ingest_finish.describe(plan, table, made, time.monotonic() - started)


def _has_metadata(table):
    try:
        return bool(VoxelTable.open(table).runs)
    except FormatError:
        return False  # absent or damaged: it is written again


def _count(n_runs):
    return f"{n_runs} run{'' if n_runs == 1 else 's'}"


def _invalidate(plan):
    """From here on the folder is no table, until its metadata are written again."""
    store.delete(store.join(plan.table, METADATA))
    store.delete(store.join(plan.table, CHECKSUMS))
    write_recipe(plan.table, plan.recipe)
    for source in plan.missing:
        if source.key not in plan.doubtful:
            store.delete(receipt_path(plan.table, source.key))


def _ingest_missing(plan, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.ingest_stream import ingest_remote_run
    from sparkneuro.pipelines.ingest_task import ingest_run

    jobs = [plan.make_job(source) for source in plan.missing]
    sizes = {source.key: source.size for source in plan.missing if source.key not in plan.doubtful}
    with show_progress("ingest", sizes, lambda: list_receipts(plan.table)):
        results, failures = run_jobs(spark, ingest_run if plan.remote is None else ingest_remote_run, jobs)
    ingest_plan.raise_first(failures)
    return results


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
