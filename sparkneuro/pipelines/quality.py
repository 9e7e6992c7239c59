"""Judge the runs of a voxel table, and write pages on their quality.

A page on the cohort (index.html) with its outliers, a page a subject with a card for each run (motion, DVARS and carpets
before and after cleaning, tSNR), quality.tsv (one row a run; quality.json says what each column means) and outliers.tsv. The
measures were taken during the ingest; framewise displacement needs the confounds table of fMRIPrep beside each run. Outliers
are reported, not removed.
"""

import json
import time
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.data.task_progress import show_progress
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines import ingest_plan
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.validation import check_number

MOST_ALONE = 24
"""Runs up to which one process draws the pages; more are worth the start of Spark."""
INDEX, ROWS, DICTIONARY, OUTLIERS = "index.html", "quality.tsv", "quality.json", "outliers.tsv"
MAKER = "sparkneuro quality"


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro quality``."""

    table: str = argument("voxel table")
    output: str = option("quality", "folder of the pages; a new or empty one, or one that this command has made")
    mads: float = option(3.0, "a run is an outlier this many scaled MADs from the median of five runs or more")
    max_fd: float = option(0.5, "mean framewise displacement (mm) above which a run is an outlier in any cohort", type=float)
    min_tsnr: float = option(None, "median tSNR below which it is", type=float)
    min_coverage: float = option(0.8, "share of the mask's voxels with a series below which it is", type=float)
    max_spikes: float = option(None, "share of scans that are DVARS spikes above which it is", type=float)


def needs_spark(settings):
    """Tell whether Spark shall draw the pages; bad input is found here, before it starts.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether there are more than 24 runs.

    Raises
    ------
    SparkneuroError
        When the table is not one, a setting is wrong, or the output holds something else.
    """
    check_number("mads", settings.mads, minimum=0, exclusive=True)
    for name, maximum in (("max_fd", None), ("min_tsnr", None), ("min_coverage", 1), ("max_spikes", 1)):
        if getattr(settings, name) is not None:
            check_number(name, getattr(settings, name), minimum=0, maximum=maximum)
    _check_output(settings.output)
    return len(VoxelTable.open(settings.table).runs) > MOST_ALONE


def run(settings, spark):
    """Judge the runs, and write tables and pages.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None draws the pages in this process.

    Returns
    -------
    sentence : str
        What was found, and where it is.

    Raises
    ------
    SparkneuroError
        When an input or a setting is wrong, or the pages cannot be written.
    """
    from sparkneuro.pipelines import quality_rows as rows_of
    from sparkneuro.report.quality_terms import TERMS, write_dictionary

    needs_spark(settings)
    started, output = time.monotonic(), settings.output.rstrip("/")
    table = VoxelTable.open(settings.table)
    rows = rows_of.collect_rows(table)
    limits = {
        "fd_mean": settings.max_fd, "tsnr_median": settings.min_tsnr, "coverage": settings.min_coverage,
        "dvars_spikes": settings.max_spikes,
    }  # fmt: skip
    outliers, columns = rows_of.judge_rows(rows, settings.mads, **limits)
    store.write_bytes(store.join(output, DICTIONARY), rows_of.write_json({"GeneratedBy": MAKER, **write_dictionary()}))
    _delete_pages(output)
    store.write_bytes(store.join(output, ROWS), rows_of.write_tsv(rows, list(TERMS)))
    keyed = [{"run_key": table.runs[found["row"]].key, **found} for found in outliers]
    named = ("run_key", "measure", "value", "bad", "limit", "reason")
    store.write_bytes(store.join(output, OUTLIERS), rows_of.write_tsv(keyed, named))
    _write_subjects(table, rows, keyed, output, spark)
    _write_index(table, rows, outliers, columns, output)
    n_out = len({found["row"] for found in outliers})
    found = f"{n_out} of {len(rows)} runs beyond a limit" if n_out else f"none of {len(rows)} runs beyond a limit"
    return f"{store.join(output, INDEX)}: {found}; written in {time.monotonic() - started:.1f} s."


def _check_output(output):
    """Refuse a folder of other files: another program's pages may be named after subjects too."""
    if not store.exists(output):
        return
    description = store.join(output, DICTIONARY)
    try:
        ours = store.exists(description) and json.loads(store.read_bytes(description)).get("GeneratedBy") == MAKER
    except (ValueError, AttributeError):
        ours = False
    if not ours and (not store.is_folder(output) or store.list_files(output, recursive=True)):
        raise SettingsError(f"{output}: this holds something else than pages on quality; choose another --output.")


def _delete_pages(output):
    """Delete the pages of an earlier time, some of whose subjects may be gone; the index first, whose links would be dead."""
    store.delete(store.join(output, INDEX))
    for name in store.list_files(output):
        if name.startswith("sub-") and name.endswith(".html"):
            store.delete(store.join(output, name))


def _write_subjects(table, rows, outliers, output, spark):
    from sparkneuro.pipelines.quality_pages import page_name, write_subject_page

    jobs = {}
    for run_, row in zip(table.runs, rows, strict=True):
        blank = {"table": store.make_absolute(table.path), "output": store.make_absolute(output), "rows": {}, "outliers": {}}
        job = jobs.setdefault(run_.subject, {"subject": run_.subject, **blank})
        job["rows"][run_.key] = row
        if mine := [found for found in outliers if found["run_key"] == run_.key]:
            job["outliers"][run_.key] = mine
    sizes = {
        page_name(subject): sum(row["n_voxels"] * row["n_scans"] * 4 for row in job["rows"].values())
        for subject, job in jobs.items()
    }
    with show_progress("quality", sizes, lambda: store.list_files(output), noun="subjects"):
        if spark is None:
            for job in jobs.values():
                write_subject_page(job)
        else:
            from sparkneuro.data.spark import run_jobs

            ingest_plan.raise_first(run_jobs(spark, write_subject_page, list(jobs.values()))[1])


def _write_index(table, rows, outliers, columns, output):
    from sparkneuro.pipelines.quality_motion import measure_motion
    from sparkneuro.pipelines.quality_pages import page_name
    from sparkneuro.report import quality
    from sparkneuro.report.html import anchor, build_page
    from sparkneuro.report.quality_terms import TERMS

    names = [run_.key for run_ in table.runs]
    targets = [f"{page_name(run_.subject)}#{anchor(run_.key)}" for run_ in table.runs]
    drawn = [{**column, "names": names, "label": TERMS[column["measure"]].axis} for column in columns]
    sections = [
        quality.describe_overview(rows, outliers, table.path),
        quality.describe_outliers(rows, outliers, names, targets, drawn),
        quality.describe_runs(rows, outliers, names, targets),
    ]
    motion = measure_motion(table, rows)
    sections += [quality.describe_qc_fc(**motion)] if motion else []
    numbers = {
        "format": 1, "table": table.path, "n_runs": len(rows),
        "outliers": [{**found, "row": names[found["row"]]} for found in outliers],
        "qc_fc": motion and motion["summaries"],
    }  # fmt: skip
    page = build_page("Quality of the runs", f"Voxel table {table.path}", [*sections, quality.describe_terms()], numbers)
    store.write_bytes(store.join(output, INDEX), page.encode())
