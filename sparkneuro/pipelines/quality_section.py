"""What the report says on quality: outliers and runs of its table, with links to the pages that have more."""

import posixpath

from sparkneuro.data import store
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.quality_pages import page_name

INDEX = "index.html"
MOST_RUNS = 60


def describe_quality(table, page, folder=None):
    """Section on the quality of a table's runs.

    Parameters
    ----------
    table : VoxelTable
        The table.
    page : str
        Where the page will be that holds the section; links are relative to it.
    folder : str or None
        Folder of the pages of ``sparkneuro quality``; None links nowhere.

    Returns
    -------
    section : tuple of (str, list of str), or None
        Heading and parts; None for a table whose runs were ingested without measures of quality.
    """
    from sparkneuro.pipelines.quality_rows import collect_rows, judge_rows
    from sparkneuro.report import quality
    from sparkneuro.report.html import anchor, link, paragraph

    rows = collect_rows(table)
    if not any("dvars_std_mean_before" in row for row in rows):
        return None
    outliers, _ = judge_rows(rows)
    names = [run.key for run in table.runs]
    base = _find_way(folder, page) if folder else ""
    targets = [store.join(base, f"{page_name(run.subject)}#{anchor(run.key)}") if base else "" for run in table.runs]
    parts = quality.describe_overview(rows, outliers, table.path)[1]
    parts += quality.describe_outliers(rows, outliers, names, targets, [])[1] if outliers else []
    parts += quality.describe_runs(rows, outliers, names, targets, MOST_RUNS)[1]
    if base:
        parts.append(f"<p>{link('All runs, with motion, DVARS and carpets scan by scan', store.join(base, INDEX))}</p>")
    else:
        parts.append(paragraph(f"Motion, DVARS and carpets scan by scan: sparkneuro quality {table.path}"))
    return "Quality of the runs", parts


def check_pages(folder):
    """Check that a folder holds pages on quality.

    Parameters
    ----------
    folder : str
        As it was given.

    Raises
    ------
    SettingsError
        When there is no index in it.
    """
    if not store.exists(store.join(folder, INDEX)):
        raise SettingsError(f"{folder}: --quality must name a folder that 'sparkneuro quality' has written; it has no {INDEX}.")


def _find_way(folder, page):
    """Path of a folder as seen from a page; as it is where they are on two filesystems."""
    if ("://" in folder) != ("://" in page):
        return folder
    return posixpath.relpath(store.make_absolute(folder), posixpath.dirname(store.make_absolute(page)))
