"""Write a voxel table as HDF5, one file a subject, for sites without Spark and for volume models.

Plain h5py reads it:
    file = h5py.File("sub-01.h5")
    run, mask = file["runs/sub-01_task-rest"], file["mask"][:] != 0
    series, voxel = run["series"][:], run["voxel"][:]      # (n_rows, n_scans), and places in volume[mask]
A chunk is a block of voxels; 'sparkneuro import' makes the same table of it again. With --single-file all runs go into one
file. Running the command again writes only the files that are missing or no longer right. The folder has its checksums, so
'sparkneuro verify' proves a copy.
"""

import json
import posixpath
import time
from dataclasses import asdict, dataclass

from sparkneuro.data import store
from sparkneuro.pipelines.settings import argument, option


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro export``."""

    table: str = argument("voxel table to export")
    output: str = option(None, "folder to write, or with --single-file the file, e.g. rest.h5")
    compression: str = option("none", "of the series: none, or gzip, which any HDF5 reads", choices=("none", "gzip"))
    single_file: bool = option(False, "write one file with all subjects")


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
    from sparkneuro.pipelines.export_plan import make_plan

    return bool(make_plan(settings).missing)


def run(settings, spark):
    """Export a voxel table, or what is missing of its export. The rows are not moved between machines, one task a file.

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
        When the table or a setting is wrong, a file of the table is damaged, or there is no room. Files that are finished are
        kept for the next time.
    """
    from sparkneuro.data.storage.checksums import checksums_path, write_checksums
    from sparkneuro.pipelines.export_plan import MANIFEST, make_plan

    plan, started = make_plan(settings), time.monotonic()
    manifest = store.join(plan.output, MANIFEST)
    if not plan.missing and store.exists(checksums_path(plan.output)) and (plan.is_single or store.exists(manifest)):
        return f"{plan.output}: nothing is missing; {_count(plan.files)} there already."
    _delete_unfinished(plan)
    if not plan.is_single:
        store.delete(manifest)  # from here on the folder is no export, until its manifest is written again
    store.delete(checksums_path(plan.output))
    if plan.missing:
        _export_missing(plan, spark)
    known = _finish(plan)
    write_checksums(plan.output, known=known)
    n_bytes, seconds = sum(store.stat(file.path)[0] for file in plan.missing), time.monotonic() - started
    pace = f"{_count(plan.missing)} written in {seconds:.1f} s ({n_bytes / 1e6:.1f} MB, {n_bytes / 1e6 / seconds:.1f} MB/s)"
    holds = f"the export has {_count(plan.table.runs, 'run')} in {_count(plan.files)}"
    return f"{plan.output}: {pace if plan.missing else 'every file was there already'}; {holds}."


def _delete_unfinished(plan):
    folder = posixpath.dirname(plan.output) if plan.is_single else plan.output
    for name in store.list_files(folder):
        if name.startswith(tuple(f"{store.TEMPORARY}{file.name}." for file in plan.files)):
            store.delete(store.join(folder, name))


def _count(things, noun="file"):
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _export_missing(plan, spark):
    from sparkneuro.data.spark import run_jobs
    from sparkneuro.data.task_progress import show_progress
    from sparkneuro.pipelines.export_plan import read_receipt, receipt_path
    from sparkneuro.pipelines.export_task import export_file
    from sparkneuro.pipelines.ingest_plan import raise_first

    for file in plan.missing:
        store.delete(receipt_path(file.path))
    jobs = [{"table": plan.table.path, "compression": plan.compression, **asdict(file)} for file in plan.missing]
    sizes = {file.name: file.n_bytes for file in plan.missing}
    with show_progress("export", sizes, lambda: [file.name for file in plan.missing if read_receipt(file.path)], noun="files"):
        _, failures = run_jobs(spark, export_file, jobs)
    raise_first(failures, "file")


def _finish(plan):
    """Write the manifest of a folder, which makes it an export, and return the known hashes by name."""
    from sparkneuro.pipelines.export_plan import FORMAT, MANIFEST, read_receipt, receipt_path

    receipts = {file.name: read_receipt(file.path) for file in plan.files}
    if not plan.is_single:
        for name in store.list_files(plan.output):
            if name.endswith(".h5") and name not in receipts:  # of a subject that the table has no longer
                store.delete(store.join(plan.output, name))
                store.delete(receipt_path(store.join(plan.output, name)))
        files = {name: {key: receipt[key] for key in ("sha256", "bytes", "runs")} for name, receipt in receipts.items()}
        content = {"format": FORMAT, "compression": plan.compression, "n_runs": len(plan.table.runs), "files": files}
        store.write_bytes(posixpath.join(plan.output, MANIFEST), json.dumps(content, indent=1).encode())
    return {name: receipt["sha256"] for name, receipt in receipts.items()}
