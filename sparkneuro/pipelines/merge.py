"""Make one cohort of many data sets: voxel tables and BIDS folders become one voxel table, one Spark task a run.

A BIDS folder is ingested first, with settings that are explained there. All data sets must be in one BIDS space. They are brought
to one grid: that of the first one, of an image, or of cubic voxels around all masks. At the edge of a mask only voxels
within it count, so that nothing fades there. The cohort's mask holds the voxels that enough runs cover, or is a file on the grid;
a run has no row for a voxel that it does not cover. Runs of different repetition times are resampled to one with a filter against
aliasing, or keep their own, as --t-r says. Z-scored series are z-scored again after interpolation. A run whose grid and
repetition time are the cohort's comes through bit by bit.

Subject 01 of the second data set becomes ds02sub01; participants.tsv and the metadata tell who is who. With --harmonise combat
what a data set adds to and multiplies the amplitude of series by is removed, and what covariates explain is kept.

Running the command again does only what is missing, and adds data sets on the grid and mask that the cohort has. A cohort keeps
the settings that it was begun with; another setting is refused.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from sparkneuro.data import store
from sparkneuro.data.receipts import list_receipts, receipt_path, write_recipe
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.errors import FormatError, SparkneuroError
from sparkneuro.pipelines.merge_plan import FIRST, make_plan
from sparkneuro.pipelines.merge_sources import DATASETS, describe_table, ingest_settings
from sparkneuro.pipelines.settings import argument, option

LOG = logging.getLogger(__name__)
_INGESTS_AT_ONCE = 4


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro merge``."""

    sources: tuple = argument("voxel tables and BIDS folders", many=True)
    output: str = option(None, "folder of the cohort's voxel table to make, e.g. cohort.voxels")
    grid: str = option(FIRST, "first (that of the first source), or a NIfTI file whose grid is taken")
    voxel_size: float = option(None, "edge in mm of cubic voxels around all masks, instead of a grid that is there", type=float)
    interpolation: str = option("linear", "how series are interpolated in space", choices=("linear", "nearest", "continuous"))
    assume_same_space: bool = option(False, "take it that all data sets lie in one space, whatever their names say")
    mask: str = option(None, "mask file on the cohort's grid, instead of what runs cover")
    mask_threshold: float = option(0.5, "share of the runs that must cover a voxel of the mask")
    t_r: str = option(None, "repetition time in seconds that runs are resampled to, or keep; must be equal when absent")
    harmonise: str = option(None, "remove differences in amplitude between data sets", choices=("combat",))
    covariates: tuple = option((), "columns of participants.tsv whose effect harmonisation keeps, e.g. age sex", many=True)
    training_subjects: tuple = option(
        (), "subjects that harmonisation is fitted to (ds01sub01, or NAME:01), or files of one a line; all by default", many=True
    )
    keep_datasets: bool = option(False, "keep the voxel tables of BIDS folders, in _datasets of the output")
    dataset_mask: str = option("group", "mask of the ingest of BIDS folders")
    detrend: bool = option(True, "remove the linear trend of each series of BIDS folders")
    high_pass: float = option(None, "cut-off of a high-pass filter in Hz, of BIDS folders", type=float)
    confounds: tuple = option((), "columns of confounds tables to regress out, of BIDS folders", many=True)
    standardize: bool = option(True, "z-score each series of BIDS folders")
    space: str = option(None, "BIDS space of the files to take of BIDS folders, e.g. MNI152NLin2009cAsym")
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
    return bool(make_plan(settings).missing)


def run(settings, spark):
    """Make a cohort's voxel table, or what is missing of it.

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
    from sparkneuro.pipelines.merge_finish import finish

    plan = make_plan(settings)
    store.delete_unfinished(plan.table)
    if plan.is_done and store.exists(store.join(plan.table, METADATA)):
        n_runs = sum(len(source.runs) for source in plan.sources)
        return f"{plan.table}: nothing is missing; {_count(n_runs, 'run')} of {_count(len(plan.sources), 'data set')} are there."
    _say_what_is_assumed(plan, settings)
    started = time.monotonic()
    with _nothing_half_done(plan.table):
        _invalidate(plan)
        tables = _open_tables(plan, settings, spark) if plan.missing else {}
        if tables:
            _merge(plan, tables, settings, spark)
        table = finish(plan, settings.keep_datasets)
    seconds, n_done = time.monotonic() - started, len(plan.missing)
    pace = f"{_count(n_done, 'run')} of {_count(len(plan.sources), 'data set')} merged in {seconds:.1f} s"
    subjects = len({run.subject for run in table.runs})
    holds = f"{_count(len(table.runs), 'run')} of {_count(subjects, 'subject')} on {table.n_voxels} voxels"
    return f"{plan.table}: {pace if n_done else 'every run was there already'}; the cohort has {holds}."


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _say_what_is_assumed(plan, settings):
    spaces = sorted({source.space for source in plan.sources})
    if settings.assume_same_space and (len(spaces) > 1 or spaces[0] != plan.recipe["space"]):
        LOG.warning("the data sets say that they are in %s; they are taken to lie in one space, as you say", ", ".join(spaces))


def _invalidate(plan):
    """From here on the folder is no table, until its metadata are written again."""
    store.delete(store.join(plan.table, METADATA))
    write_recipe(plan.table, plan.recipe)
    there = set(list_receipts(plan.table))
    for key in there & {*plan.missing, *plan.superfluous}:
        store.delete(receipt_path(plan.table, key))
        store.delete(receipt_path(plan.table, key, "_tsnr.nii.gz"))


def _open_tables(plan, settings, spark):
    """Voxel tables of the data sets that have missing runs, by label; those of BIDS folders are made."""
    needed = {source.dataset.label for source in (plan.sources if plan.design else [one for one, _ in plan.missing.values()])}
    sources = [source for source in plan.sources if source.dataset.label in needed]
    _ingest([source.dataset for source in sources if source.dataset.kind == "bids"], settings, spark)
    tables = {}
    for source in sources:
        tables[source.dataset.label] = table = VoxelTable.open(source.table)
        if {run.key for run in table.runs} != {run.origin for run in source.runs}:
            raise FormatError(f"{source.dataset.source}: its runs have changed meanwhile; run the command again.")
    return tables


def _ingest(datasets, settings, spark):
    """Ingest BIDS folders, several at a time, so that the last runs of one leave no slot of Spark idle."""
    from sparkneuro.pipelines import ingest

    pool = ThreadPoolExecutor(_INGESTS_AT_ONCE)
    try:
        started = [pool.submit(ingest.run, ingest_settings(dataset, settings), spark) for dataset in datasets]
        wait(started)
        for future in started:
            LOG.info("%s", future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # interrupted, it must not wait: the session that ends ends its tasks


def _merge(plan, tables, settings, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.pipelines.ingest_plan import raise_first
    from sparkneuro.pipelines.merge_grid import find_grid, make_mask
    from sparkneuro.pipelines.merge_task import merge_run

    plan.recipe["grid"] = find_grid(plan, tables)
    write_recipe(plan.table, plan.recipe)
    n_voxels = make_mask(plan, tables, settings.mask, spark)
    opened = [source for source in plan.sources if source.dataset.label in tables]
    jobs = {key: job for source in opened for key, job in _make_jobs(plan, source, tables[source.dataset.label], n_voxels)}
    if plan.design is not None:
        from sparkneuro.pipelines.merge_harmonise import harmonise

        adjustments = harmonise(plan, jobs, n_voxels, spark)
        jobs = {key: {**job, "adjustment": adjustments[job["run"]["subject"]]} for key, job in jobs.items()}
    sizes = {key: run.n_bytes for key, (_, run) in plan.missing.items()}
    with show_progress("merge", sizes, lambda: list_receipts(plan.table)):
        _, failures = run_jobs(spark, merge_run, [jobs[key] for key in plan.missing])
    raise_first(failures)


def _make_jobs(plan, source, table, n_voxels):
    """Jobs of all runs of a data set, with their keys."""
    merge, origins = plan.recipe["merge"], {run.key: run for run in table.runs}
    common = {
        "table": plan.table, "source": describe_table(table), "dataset": source.dataset.label, "steps": list(table.steps),
        "grid": plan.recipe["grid"], "n_voxels": n_voxels, "block_size": merge["block_size"], "t_r": plan.t_r,
        "interpolation": merge["interpolation"], "standardize": plan.recipe["units"] == "z-score", "adjustment": "",
    }
    for run in source.runs:
        labels = {name: getattr(run, name) for name in ("subject", "session", "task", "run")}
        own = {"run": labels, "participant": run.participant, "origin": asdict(origins[run.origin]), "stamp": plan.stamp(run)}
        yield run.key, {**common, **own}


@contextmanager
def _nothing_half_done(table):
    try:
        yield
    except SparkneuroError:  # behind any other, tasks of a job that Spark has aborted may still be writing
        try:
            if not list_receipts(table) and not store.list_files(store.join(table, DATASETS), recursive=True):
                store.delete(table)
        except SparkneuroError as error:
            LOG.warning("the unfinished folder could not be removed: %s", error)
        raise
