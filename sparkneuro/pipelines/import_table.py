"""Read HDF5 files that 'sparkneuro export' wrote back into a voxel table.

SOURCES are a folder of an export, whole as its manifest says, or files: those of some subjects make a table of these subjects.
Series, masks, receipts and metadata are those of the table that was exported. The table becomes one when all of it is there;
an import that was interrupted begins again.
"""

import time
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.pipelines.settings import argument, option


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro import``."""

    sources: tuple = argument("folder of an export, or its HDF5 files", many=True)
    output: str = option(None, "folder of the voxel table to make, e.g. rest.voxels")


def needs_spark(settings):
    """Tell whether the job needs a Spark session: always, once sources and output are known to be right.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        True.
    """
    from sparkneuro.pipelines.import_plan import make_plan

    make_plan(settings)
    return True


def run(settings, spark):
    """Import a voxel table, one Spark task a file.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    sentence : str
        What was done.

    Raises
    ------
    SparkneuroError
        When a source is damaged or no export, sources are of different tables, or there is no room. The folder is removed then.
    """
    from sparkneuro.data.voxel_table import VoxelTable
    from sparkneuro.errors import SparkneuroError
    from sparkneuro.pipelines.import_plan import MARKER, make_plan, write_metadata

    plan, started = make_plan(settings), time.monotonic()
    store.delete(plan.output)  # what an interrupted import has left
    store.write_bytes(store.join(plan.output, MARKER), b"an import has not finished here\n")
    try:
        _import_files(plan, spark)
    except SparkneuroError:  # behind any other, tasks of a job that Spark has aborted may still be writing
        store.delete(plan.output)
        raise
    write_metadata(plan)
    store.delete(store.join(plan.output, MARKER))
    table, seconds = VoxelTable.open(plan.output), time.monotonic() - started
    n_bytes = sum(file.n_bytes for file in plan.files)
    pace = f"{n_bytes / 1e6:.1f} MB, {n_bytes / 1e6 / seconds:.1f} MB/s"
    runs = f"{len(table.runs)} run{'' if len(table.runs) == 1 else 's'}"
    return f"{plan.output}: {runs} on {table.n_voxels} voxels imported in {seconds:.1f} s ({pace})."


def _import_files(plan, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.data.task_progress import show_progress
    from sparkneuro.pipelines.import_task import import_file, import_marker
    from sparkneuro.pipelines.ingest_plan import raise_first

    jobs = [{"output": plan.output, "number": n, "path": file.path, "files": file.files} for n, file in enumerate(plan.files)]
    sizes = {import_marker(number): file.n_bytes for number, file in enumerate(plan.files)}
    with show_progress("import", sizes, lambda: store.list_files(plan.output), noun="files"):
        _, failures = run_jobs(spark, import_file, jobs)
    raise_first(failures, "file")
    for name in sizes:
        store.delete(store.join(plan.output, name))
