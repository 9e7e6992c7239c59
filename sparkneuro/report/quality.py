"""The sections of the page on a cohort's quality: outliers, all runs, and motion in connectivity.

Each function returns a heading and the parts below it, for `html.build_page`. Rows are dicts by the names of `quality_terms`.
"""

from collections import Counter

from sparkneuro.report import quality_figures
from sparkneuro.report.html import format_value, link, make_sortable, mark, paragraph, picture, table
from sparkneuro.report.quality_terms import TERMS

COHORT_COLUMNS = (
    "fd_mean", "fd_max", "n_fd_spikes", "tsnr_median", "coverage", "dvars_mean", "n_dvars_spikes_before", "n_dvars_spikes_after",
    "r_global_before", "r_global_after", "r_fd_before", "r_fd_after", "variance_kept", "n_scans",
)  # fmt: skip
SIDES = {"high": "too high", "low": "too low"}


def describe_overview(rows, outliers, path):
    """Section that says in words how the cohort stands, and what is not known of it.

    Parameters
    ----------
    rows : list of dict
        One a run.
    outliers : list of dict
        From `find_outliers`.
    path : str
        The voxel table.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    n_subjects, n_out = len({row["subject"] for row in rows}), len({found["row"] for found in outliers})
    verdict = f"{_count(n_out, 'run')} beyond a limit." if n_out else "No run lies beyond a limit."
    parts = [paragraph(f"{path}: {_count(len(rows), 'run')} of {_count(n_subjects, 'subject')}. {verdict}")]
    old = sum("dvars_std_mean_before" not in row for row in rows)
    if old:
        parts.append(paragraph(
            f"{_count(old, 'run')} {'was' if old == 1 else 'were'} ingested without DVARS, carpets and motion: of these only tSNR"
            " and coverage are known. Ingest the data into a new table to have the rest."
        ))  # fmt: skip
    unmoved = Counter(row["motion_source"] for row in rows if row.get("motion_source") and row.get("fd_mean") is None)
    for reason, n_runs in unmoved.most_common(3):
        parts.append(paragraph(f"Motion is not known for {_count(n_runs, 'run')}: {reason}."))
    return "Overview", parts


def describe_outliers(rows, outliers, names, targets, columns):
    """Section that names the runs beyond a limit, and shows all on one scale.

    Parameters
    ----------
    rows : list of dict
        One a run.
    outliers : list of dict
        From `find_outliers`, with `bad`, the side.
    names, targets : list of str
        Name of each run, and where its card is; targets may be empty strings.
    columns : list of dict
        For `quality_figures.draw_cohort`.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    lines = [
        (_name(names, targets, found["row"]), TERMS[found["measure"]].label, found["value"],
         mark(SIDES[found["bad"]]), found["limit"], found["reason"]) for found in outliers
    ]  # fmt: skip
    parts = [table(("run", "measure", "value", "", "limit", "which limit"), lines)] if lines else []
    parts += [] if lines else [paragraph("No run lies beyond a limit.")]
    if columns:
        caption = (
            "Each point is a run; its height means nothing. Robust limit: the median and three (or as many as were set) scaled"
            " median absolute deviations, on the bad side, where there are five runs at least."
        )
        parts.append(picture(quality_figures.draw_cohort(columns), "Strips of points, one a measure, outliers named.", caption))
    return "Outliers", parts


def describe_runs(rows, outliers, names, targets, n_shown=None):
    """Section with one line a run, the most outlying first.

    Parameters
    ----------
    rows : list of dict
        One a run, with `score`.
    outliers : list of dict
        From `find_outliers`, with `bad`, the side.
    names, targets : list of str
        Name of each run, and where its card is; targets may be empty strings.
    n_shown : int or None
        Lines at most; None shows all, and lets them be sorted.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    flags = {(found["row"], found["measure"]): found["bad"] for found in outliers}
    beyond = {place for place, _ in flags}
    order = sorted(range(len(rows)), key=lambda place: (place not in beyond, -rows[place]["score"], names[place]))
    known = [name for name in COHORT_COLUMNS if any(row.get(name) is not None for row in rows)]
    lines = []
    for place in order[:n_shown]:
        measures = [(measure, bad) for (row, measure), bad in flags.items() if row == place]
        why = mark(", ".join(f"{TERMS[measure].label} {SIDES[bad]}" for measure, bad in measures)) if measures else None
        cells = [flag_value(rows[place].get(name), flags.get((place, name))) for name in known]
        lines.append((_name(names, targets, place), why, rows[place]["score"], *cells))
    headings = ("run", "beyond a limit", "score", *(TERMS[name].heading for name in known))
    listing = table(headings, lines)
    hidden = f" {len(rows) - len(lines):,} more runs are not listed." if len(rows) > len(lines) else ""
    return "Runs", [
        paragraph(
            f"The most outlying first{'' if hidden else '; click a heading to sort'}.{hidden} Score: {TERMS['score'].meaning}."
        ),
        listing if hidden else make_sortable(listing),
    ]


def describe_qc_fc(summaries, r, distance, n_units, unit, chance):
    """Section on how much of connectivity is motion, before and after cleaning.

    Parameters
    ----------
    summaries : dict of str to dict
        By stage (before, after): from `summarise_qc_fc`.
    r : dict of str to ndarray of shape (n_edges,)
        By stage: QC-FC of each edge.
    distance : ndarray of shape (n_edges,) or None
        Length of each edge (mm); None where voxels have no place.
    n_units : int
        Over how many the correlation runs.
    unit : str
        What these are: "subject" or "run".
    chance : float
        Median absolute QC-FC of edges that have nothing to do with motion.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    words = (
        ("median_abs_r", "median |QC-FC|"), ("significant", "share of edges with p < 0.05"),
        ("significant_fdr", "the same with false discovery rate at 0.05"),
        ("distance_dependence", "Spearman correlation of QC-FC with distance"), ("n_edges", "edges"),
    )  # fmt: skip
    lines = [(label, summaries["before"][name], summaries["after"][name]) for name, label in words]
    text = (
        f"Correlation of each edge with mean framewise displacement across {_count(n_units, unit)} (Ciric 2017), before and after"
        " cleaning. An edge is the correlation of two voxels out of at most 100 spread evenly over the mask, the same ones in"
        f" every run. Small is good: by chance alone the median |QC-FC| is {chance:.2g}, and a twentieth of the edges has"
        " p < 0.05."
        + ("" if unit == "subject" else " Runs of one subject are not independent, so the p are too small.")
    )
    course = "Left: all edges. Right: median and quartiles of edges of like length; motion lifts short edges more than long ones."
    caption = "All edges." if distance is None else course
    drawn = quality_figures.draw_qc_fc(r, distance)
    return "Motion in connectivity (QC-FC)", [
        paragraph(text),
        table(("measure", "before", "after"), lines),
        picture(drawn, "Histogram of QC-FC and its course.", caption),
    ]


def describe_terms():
    """Section that says what every number means.

    Returns
    -------
    section : tuple of (str, list of str)
        Heading and parts.
    """
    lines = [(name, term.label, term.unit or None, term.meaning) for name, term in TERMS.items()]
    return "What the numbers mean", [table(("column of quality.tsv", "name", "unit", "meaning"), lines)]


def flag_value(value, bad):
    """Set a number that is beyond a limit so that it stands out, in colour and in a word.

    Parameters
    ----------
    value : float or None
        The number.
    bad : str or None
        "high" or "low"; None where it is within its limit.

    Returns
    -------
    cell : Markup, float or None
        For `table`.

    Examples
    --------
    >>> flag_value(0.9, "high"), flag_value(0.1, None)
    ('<strong class="outlier">0.9 high</strong>', 0.1)
    """
    return mark(f"{format_value(value)} {bad}") if bad else value


def _name(names, targets, place):
    return link(names[place], targets[place]) if targets[place] else names[place]


def _count(n, noun):
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
