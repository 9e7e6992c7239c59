"""Pages on quality say and draw what they were given: runs, outliers, motion, and what is missing."""

import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from sparkneuro.report import quality, quality_figures  # noqa: E402
from sparkneuro.report.html import build_page  # noqa: E402
from sparkneuro.report.quality_run import describe_run  # noqa: E402
from sparkneuro.report.quality_terms import TERMS, write_dictionary  # noqa: E402

N_SCANS = 47
NUMBERS = {name: 0.25 for name in TERMS if name not in ("subject", "session", "task", "run", "outlier", "motion_source")}


def make_rows(n_runs):
    """Rows of runs, all alike but for their score."""
    common = {**NUMBERS, "session": "", "task": "rest", "run": "", "motion_source": "motion parameters"}
    return [{**common, "subject": f"{n:03d}", "score": n / 7} for n in range(n_runs)]


def make_names(n_runs):
    return [f"sub-{n:03d}_task-rest" for n in range(n_runs)], [f"sub-{n:03d}.html#sub-{n:03d}-task-rest" for n in range(n_runs)]


def words_of(svg):
    """Words of an SVG of matplotlib, which draws them as paths and says them in comments."""
    ElementTree.fromstring(svg)
    return " ".join(unescape(text.decode()) for text in re.findall(rb"<!-- (.*?) -->", svg))


FOUND = {"row": 3, "measure": "fd_mean", "value": 0.91, "limit": 0.5, "reason": "fixed limit", "bad": "high"}


def test_runs_stand_in_order_of_outlyingness_and_outliers_are_marked_in_words_and_colour():
    rows, (names, targets) = make_rows(12), make_names(12)
    rows[3]["fd_mean"] = 0.91
    _, parts = quality.describe_runs(rows, [FOUND], names, targets)
    listing = "".join(parts)
    assert re.findall(r'<a href="(.*?)#', listing) == [f"sub-{n:03d}.html" for n in [3, *range(11, 3, -1), 2, 1, 0]]
    first = re.findall(r"<tr>(.*?)</tr>", listing)[1]
    assert '<strong class="outlier">0.91 high</strong>' in first and '<strong class="outlier">mean FD too high</strong>' in first
    assert listing.count('class="outlier"') == 2
    assert '<table class="sortable">' in listing and "<script>" in listing


def test_a_short_list_says_how_many_it_leaves_out_and_is_not_sorted():
    rows, (names, _) = make_rows(12), make_names(12)
    listing = "".join(quality.describe_runs(rows, [], names, [""] * 12, n_shown=5)[1])
    assert "7 more runs are not listed" in listing and listing.count("<tr>") == 6
    assert "<a " not in listing and "<script>" not in listing


def test_columns_that_nobody_has_are_left_out():
    rows, (names, targets) = make_rows(3), make_names(3)
    for row in rows:
        row["fd_mean"] = None
    listing = "".join(quality.describe_runs(rows, [], names, targets)[1])
    assert "mean FD" not in re.search("<thead>.*</thead>", listing).group() and "max FD (mm)" in listing


def test_the_overview_says_what_is_missing():
    rows = make_rows(6)
    rows[0] = {"subject": "000", "tsnr_median": 60.0}
    rows[1] |= {"fd_mean": None, "motion_source": "no confounds table beside the run"}
    text = "".join(quality.describe_overview(rows, [FOUND], "a <b> table")[1])
    assert "a &lt;b&gt; table: 6 runs of 6 subjects. 1 run beyond a limit." in text
    assert "1 run was ingested without DVARS" in text
    assert "Motion is not known for 1 run: no confounds table beside the run." in text
    assert "No run lies beyond a limit" in "".join(quality.describe_overview(make_rows(1), [], "t")[1])


def test_every_outlier_is_listed_with_its_limit_and_drawn_with_its_name():
    names, targets = make_names(12)
    values = np.linspace(0.1, 0.2, 12)
    values[3] = 0.91
    columns = [
        {
            "label": "mean FD (mm)", "values": values, "names": names, "outlying": values > 0.5,
            "limits": {"robust limit": 0.3, "fixed limit": 0.5},
        }
    ]  # fmt: skip
    _, parts = quality.describe_outliers(make_rows(12), [FOUND], names, targets, columns)
    for word in (targets[3], "mean FD", "0.91", "too high", "0.5", "fixed limit"):
        assert word in parts[0]
    words = words_of(quality_figures.draw_cohort(columns))
    assert "sub-003_task-rest" in words and "sub-004_task-rest" not in words
    assert "mean FD (mm)" in words and "robust limit: 0.3" in words and "beyond a limit: 1" in words


def draw(fd=True, n_columns=N_SCANS):
    rng = np.random.default_rng(0)
    dvars = np.r_[np.nan, rng.uniform(0.8, 1.2, N_SCANS - 1)]
    dvars[30] = 2.5
    traces = {"FD (mm)": {"framewise displacement": np.r_[np.nan, rng.uniform(0, 0.3, N_SCANS - 1)]}} if fd else {}
    traces["std. DVARS"] = {"before": dvars, "after": dvars / 2}
    carpets = {name: rng.normal(size=(11, n_columns)) for name in ("Before cleaning", "After cleaning")}
    return quality_figures.draw_run(carpets, traces, N_SCANS, 1.5, {"FD (mm)": 0.5, "std. DVARS": 1.5})


@pytest.mark.parametrize(("fd", "n_columns"), [(True, N_SCANS), (False, 16)])
def test_a_run_is_drawn_with_its_units_and_spikes(fd, n_columns):
    svg = draw(fd, n_columns)
    words = words_of(svg)
    assert ("FD (mm)" in words) is fd and ("above 0.5: 0" in words) is fd
    assert "std. DVARS" in words and "above 1.5: 1" in words
    assert "scan, the first is 0 (one every 1.5 s)" in words and "z-score" in words
    assert words.count("After cleaning") == 1


@pytest.mark.processes
def test_equal_input_is_drawn_in_equal_bytes():
    assert draw() == draw()


def test_a_run_without_voxels_is_drawn():
    traces = {"std. DVARS": {"before": np.full(N_SCANS, np.nan), "after": np.full(N_SCANS, np.nan)}}
    carpets = {"Before cleaning": np.zeros((0, N_SCANS))}
    words_of(quality_figures.draw_run(carpets, traces, N_SCANS, 2.0, {"std. DVARS": 1.5}))


@pytest.mark.processes
def test_the_card_of_a_run_holds_its_numbers_and_pictures():
    mask = np.zeros((6, 7, 8), bool)
    mask[1:5, 1:6, 2:7] = True
    row = {**make_rows(1)[0], "fd_mean": 0.91}
    heading, parts = describe_run("sub-000", row, [FOUND], b"<svg/>", 50.0 * mask, mask, np.diag([2.0, 2, 2, 1]))
    page = "".join(parts)
    assert heading == "sub-000" and page.count("<img") == 3
    assert "mean FD (mm) too high: 0.91, limit 0.5 (fixed limit)" in page and "0.91 high" in page
    assert "before cleaning" in page and "max std. DVARS" in page


def test_the_card_of_a_run_ingested_without_its_traces_says_so():
    row = {"n_scans": 9, "t_r": 2.0, "n_voxels": 5, "coverage": 1.0, "tsnr_median": 50.0}
    page = "".join(describe_run("sub-000", row, [], None, None, np.ones((2, 2, 2), bool), np.eye(4))[1])
    assert "Within all limits." in page and "ingested without DVARS and carpets" in page and "<img" not in page
    assert "Motion is not known: it was not read" in page


def test_motion_in_connectivity_is_told_before_and_after(monkeypatch):
    rng = np.random.default_rng(0)
    r = {"before": rng.uniform(0.2, 0.9, 300), "after": rng.uniform(-0.3, 0.3, 300)}
    r["after"][7] = np.nan
    numbers = {"n_edges": 300, "significant": 0.6, "significant_fdr": 0.5, "distance_dependence": None}
    summaries = {stage: {"median_abs_r": 0.5 if stage == "before" else 0.125, **numbers} for stage in r}
    words = words_of(quality_figures.draw_qc_fc(r, rng.uniform(5, 99, 300)))
    assert "distance of the two voxels (mm)" in words and "before cleaning" in words and "after cleaning" in words
    monkeypatch.setattr(quality_figures, "draw_qc_fc", lambda r, distance: b"<svg/>")
    for unit in ("subject", "run"):
        heading, parts = quality.describe_qc_fc(summaries, r, rng.uniform(5, 99, 300), 14, unit, 0.19)
        text = "".join(parts)
        assert "QC-FC" in heading and f"across 14 {unit}s" in text and ">0.125<" in text and "is 0.19, and" in text
        assert ("not independent" in text) is (unit == "run")


def test_the_dictionary_explains_every_column():
    dictionary = write_dictionary()
    assert list(dictionary) == list(TERMS)
    assert all(entry["Description"] and entry["LongName"] for entry in dictionary.values())
    assert dictionary["fd_mean"]["Units"] == "mm" and "Units" not in dictionary["task"]
    assert "".join(quality.describe_terms()[1]).count("<tr>") == len(TERMS) + 1


@pytest.mark.processes
def test_the_page_of_a_thousand_runs_is_small():
    rows, (names, targets) = make_rows(1000), make_names(1000)
    values = np.random.default_rng(0).normal(size=1000)
    column = {"label": "x", "values": values, "names": names, "outlying": values > 2.5, "limits": {"fixed limit": 2.5}}
    sections = [
        quality.describe_outliers(rows, [FOUND], names, targets, [column] * 4),
        quality.describe_runs(rows, [FOUND], names, targets),
    ]
    assert len(build_page("t", "s", sections, {})) < 1_000_000
