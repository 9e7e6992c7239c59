"""The pages on quality of a table that was ingested from files with motion planted in them: what is found, said and linked."""

import csv
import json
import re
import shutil

import nibabel
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from sparkneuro.data import spark as data_spark  # noqa: E402
from sparkneuro.data.quality_file import read_quality  # noqa: E402
from sparkneuro.data.voxel_table import VoxelTable  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.pipelines import ingest, quality, quality_pages  # noqa: E402
from sparkneuro.pipelines.quality import Settings  # noqa: E402
from sparkneuro.pipelines.quality_motion import measure_motion  # noqa: E402
from sparkneuro.pipelines.quality_rows import collect_rows, judge_rows  # noqa: E402
from sparkneuro.pipelines.quality_section import check_pages, describe_quality  # noqa: E402

N_SUBJECTS, N_SCANS, SPIKE, MOVER, NOISY, CUT = 13, 64, 40, "03", "05", "07"
PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
SHAPE = (9, 11, 8)


def write_subject(folder, subject, motion):
    """One run whose voxels follow the head, and its confounds table."""
    rng = np.random.default_rng(int(subject))
    fd = np.abs(np.diff(motion, axis=0, prepend=motion[:1])) @ [1, 1, 1, 50, 50, 50]
    bold = 1000 + 10 * rng.normal(size=(*SHAPE, N_SCANS)) - 25 * fd
    if subject == NOISY:
        bold += 40 * rng.normal(size=bold.shape)
    if subject == CUT:
        bold[..., :2, :] = 1000
    func = folder / f"sub-{subject}" / "func"
    func.mkdir(parents=True)
    image = nibabel.Nifti1Image(bold.astype(np.float32), np.diag([3.0, 3, 4, 1]))
    image.header.set_zooms((3, 3, 4, 1.5))
    nibabel.save(image, func / f"sub-{subject}_task-rest_bold.nii.gz")
    columns = ("\t".join([*PARAMETERS, "displaced"]), *("\t".join(map(repr, row)) for row in np.c_[motion, fd].tolist()))
    (func / f"sub-{subject}_task-rest_desc-confounds_timeseries.tsv").write_text("\n".join(columns))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Thirteen subjects who move by different amounts: one far too much, one with a noisy coil, one with two slices cut off."""
    folder = tmp_path_factory.mktemp("bids")
    for number in range(1, N_SUBJECTS + 1):
        rng = np.random.default_rng(100 + number)
        motion = rng.normal(size=(N_SCANS, 6)) * [1, 1, 1, 0.02, 0.02, 0.02] * (0.004 + 0.0008 * number)
        motion[SPIKE] += [0.2, 0, 0.3, 0.002, 0, 0]
        if f"{number:02d}" == MOVER:
            motion[5::4] += [0.9, 0.5, 0, 0, 0.01, 0]
        write_subject(folder, f"{number:02d}", motion)
    mask = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), np.diag([3.0, 3, 4, 1]))
    nibabel.save(mask, folder / "mask.nii.gz")
    return folder


@pytest.fixture(scope="module")
def table(sources, tmp_path_factory):
    """Path of their voxel table, ingested in this process; motion is regressed out."""
    path = str(tmp_path_factory.mktemp("table") / "t.voxels")

    def run_jobs(spark, function, jobs):
        return [function(job) for job in json.loads(json.dumps(jobs))], []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", run_jobs)
        settings = ingest.Settings(
            (str(sources),), output=path, mask=str(sources / "mask.nii.gz"), confounds=("displaced",), block_size=300
        )
        ingest.run(settings, None)
    return path


def leave_undrawn(patch):
    """Leave out the drawing of runs scan by scan, a second each; the list tells which traces were asked for."""
    from sparkneuro.report import quality_figures, quality_run

    asked = []
    patch.setattr(quality_figures, "draw_run", lambda carpets, traces, *rest: asked.append(list(traces)) or b"<svg/>")
    patch.setattr(quality_run, "_draw_tsnr", lambda tsnr, mask, affine: [])
    return asked


@pytest.fixture
def undrawn(monkeypatch):
    """The list of `leave_undrawn`."""
    return leave_undrawn(monkeypatch)


@pytest.fixture(scope="module")
def pages(table, tmp_path_factory):
    """Folder of the table's pages, undrawn; read only."""
    folder = tmp_path_factory.mktemp("quality") / "pages"
    with pytest.MonkeyPatch.context() as patch:
        asked = leave_undrawn(patch)
        sentence = quality.run(Settings(table, str(folder)), None)
    assert f"{folder}/index.html: 3 of 13 runs beyond a limit" in sentence
    assert asked == [["FD (mm)", "std. DVARS", "global signal\n(% of mean)"]] * N_SUBJECTS
    return folder


def read_tsv(path):
    with open(path) as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_planted_outliers_are_found_and_only_those(pages):
    found = {(row["run_key"], row["measure"]) for row in read_tsv(pages / "outliers.tsv")}
    assert {key for key, _ in found} == {f"sub-{subject}_task-rest" for subject in (MOVER, NOISY, CUT)}
    assert {(f"sub-{MOVER}_task-rest", "fd_mean"), (f"sub-{NOISY}_task-rest", "tsnr_median")} <= found
    assert (f"sub-{CUT}_task-rest", "coverage") in found
    rows = {row["subject"]: row for row in read_tsv(pages / "quality.tsv")}
    assert len(rows) == N_SUBJECTS and rows[CUT]["coverage"] == "0.75" and rows["01"]["outlier"] == "n/a"
    assert rows["01"]["n_fd_spikes"] == "2" and rows["01"]["session"] == "n/a"
    dictionary = json.loads((pages / "quality.json").read_text())
    assert dictionary.keys() - {"GeneratedBy"} == rows["01"].keys()


def test_every_link_leads_to_a_card_and_back(pages):
    index = (pages / "index.html").read_text()
    links = set(re.findall(r'href="([^"#]+)#([^"]+)"', index))
    assert len(links) == N_SUBJECTS
    for name, place in links:
        page = (pages / name).read_text()
        assert f'<section id="{place}">' in page and 'href="index.html"' in page
    assert not re.search(r'(src|href)="(?!data:|#|sub-\d\d\.html#)', index)
    assert len(index) < 400_000 and "QC-FC" in index


@pytest.mark.processes
def test_pages_are_written_again_equally_and_those_of_subjects_who_have_gone_are_deleted(table, pages, tmp_path, undrawn):
    again = shutil.copytree(pages, tmp_path / "pages")
    (again / "sub-99.html").write_text("an earlier subject")
    (again / "sub-01.html").write_text("an earlier page")
    quality.run(Settings(table, str(again)), None)
    names = sorted(path.name for path in pages.iterdir())
    assert len(names) == N_SUBJECTS + 4 and sorted(path.name for path in again.iterdir()) == names
    for name in names:
        assert (again / name).read_bytes() == (pages / name).read_bytes()


@pytest.mark.processes
def test_a_subject_s_page_is_drawn_whole(table, tmp_path):
    found = [{"measure": "fd_mean", "value": 0.9, "limit": 0.5, "bad": "high", "reason": "fixed limit"}]
    key = f"sub-{MOVER}_task-rest"
    job = {"table": table, "output": str(tmp_path), "subject": MOVER, "rows": {key: {}}, "outliers": {key: found}}
    job["rows"][key] = collect_rows(VoxelTable.open(table))[int(MOVER) - 1]
    result = quality_pages.write_subject_page(job)
    page = (tmp_path / f"sub-{MOVER}.html").read_bytes()
    assert result["n_bytes"] == len(page) < 2_000_000
    assert page.count(b"<img") == 3 and b"mean FD (mm) too high: 0.9, limit 0.5" in page


def test_the_spike_is_at_its_scan_and_cleaning_lowers_it(table):
    arrays = read_quality(table, "sub-01_task-rest")
    assert set(np.argsort(np.nan_to_num(arrays["fd"]))[-2:]) == {SPIKE, SPIKE + 1}
    assert set(np.flatnonzero(arrays["dvars_std_before"] > 1.2)) <= {SPIKE, SPIKE + 1, SPIKE + 2}
    assert np.nanmax(arrays["dvars_std_after"]) < np.nanmax(arrays["dvars_std_before"])
    row = collect_rows(VoxelTable.open(table))[0]
    assert row["r_fd_after"] < 0.3 * row["r_fd_before"] and row["motion_source"] == "motion parameters"


def test_cleaning_lowers_the_dependence_of_connectivity_on_motion(table):
    opened = VoxelTable.open(table)
    motion = measure_motion(opened, collect_rows(opened))
    assert motion["unit"] == "subject" and motion["n_units"] == N_SUBJECTS
    before, after = (motion["summaries"][stage]["median_abs_r"] for stage in ("before", "after"))
    assert after < 0.6 * before
    assert motion["r"]["before"].shape == motion["distance"].shape and (motion["distance"] > 0).all()


def test_motion_of_nine_runs_says_nothing_on_connectivity(table):
    opened = VoxelTable.open(table)
    rows = collect_rows(opened)
    for row in rows[:4]:
        row["fd_mean"] = None
    assert measure_motion(opened, rows) is None


def test_limits_can_be_set(table):
    rows = collect_rows(VoxelTable.open(table))
    usual = {found["row"] for found in judge_rows(rows)[0]}
    assert {found["row"] for found in judge_rows(rows, n_mads=1e6, fd_mean=None, coverage=None)[0]} == set()
    assert {found["row"] for found in judge_rows(rows, n_mads=1e6, fd_mean=None, coverage=0.8)[0]} == {int(CUT) - 1}
    assert usual < {found["row"] for found in judge_rows(rows, tsnr_median=200.0)[0]} == set(range(N_SUBJECTS))


@pytest.fixture
def old_table(table, tmp_path):
    """A copy of the table as an ingest of earlier times would have left it."""
    copy = tmp_path / "old.voxels"
    shutil.copytree(table, copy)
    for path in (copy / "_runs").glob("sub-*"):
        if path.suffix == ".npz":
            path.unlink()
        elif path.suffix == ".json":
            path.write_text(
                json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "quality"})
            )
    return copy


def test_a_table_ingested_without_measures_shows_what_there_is(old_table, tmp_path, undrawn):
    quality.run(Settings(str(old_table), str(tmp_path / "pages")), None)
    index = (tmp_path / "pages" / "index.html").read_text()
    assert "13 runs were ingested without DVARS, carpets and motion" in index and "median tSNR" in index
    assert "ingested without DVARS and carpets" in (tmp_path / "pages" / "sub-01.html").read_text()
    assert undrawn == [] and "QC-FC" not in re.findall("<h2>(.*?)</h2>", index)
    assert read_tsv(tmp_path / "pages" / "quality.tsv")[0]["fd_mean"] == "n/a"
    assert describe_quality(VoxelTable.open(str(old_table)), "report.html") is None


def test_the_report_shows_the_runs_and_links_to_the_pages(table, tmp_path):
    opened = VoxelTable.open(table)
    heading, parts = describe_quality(opened, str(tmp_path / "a" / "report.html"), str(tmp_path / "b" / "pages"))
    text = "".join(parts)
    assert heading == "Quality of the runs" and "0.75 low" in text
    assert 'href="../b/pages/index.html"' in text and f'href="../b/pages/sub-{MOVER}.html#sub-{MOVER}-task-rest"' in text
    assert "href" not in "".join(describe_quality(opened, "report.html")[1])
    (inside,) = re.findall('href="([^"]*index.html)"', "".join(describe_quality(opened, "r.html", "s3://b/pages")[1]))
    assert inside == "s3://b/pages/index.html"
    with pytest.raises(
        SettingsError, match="--quality must name a folder that 'sparkneuro quality' has written; it has no index"
    ):
        check_pages(str(tmp_path))


def test_a_folder_of_other_files_is_refused_and_untouched(table, tmp_path):
    (tmp_path / "sub-01.html").write_text("another program's report")
    with pytest.raises(SettingsError, match="holds something else than pages on quality; choose another --output"):
        quality.needs_spark(Settings(table, str(tmp_path)))
    (tmp_path / "quality.json").write_text("[]")
    with pytest.raises(SettingsError, match="something else"):
        quality.run(Settings(table, str(tmp_path)), None)
    assert (tmp_path / "sub-01.html").read_text() == "another program's report"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"mads": 0.0}, "mads must be a number above 0"), ({"min_coverage": 1.5}, "min_coverage must be a number of at least 0")],
)
def test_a_wrong_limit_is_refused_before_anything_is_written(table, tmp_path, wrong, words):
    with pytest.raises(SettingsError, match=words):
        quality.needs_spark(Settings(table, str(tmp_path / "pages"), **wrong))
    assert not (tmp_path / "pages").exists()


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(FormatError, match="there is no such voxel table"):
        quality.needs_spark(Settings(str(tmp_path / "no.voxels"), str(tmp_path / "pages")))


def test_many_runs_are_drawn_by_spark(table, tmp_path, undrawn, monkeypatch):
    called = []

    def run_jobs(spark, function, jobs):
        called.append((function.__name__, len(jobs)))
        return [function(job) for job in json.loads(json.dumps(jobs))], []

    monkeypatch.setattr(data_spark, "run_jobs", run_jobs)
    monkeypatch.setattr(quality, "MOST_ALONE", 12)
    settings = Settings(table, str(tmp_path / "pages"))
    assert quality.needs_spark(settings)
    quality.run(settings, "a session")
    assert called == [("write_subject_page", N_SUBJECTS)]
    assert (tmp_path / "pages" / "index.html").exists()


@pytest.mark.engine
def test_pages_are_drawn_in_the_workers_of_spark(spark, table, tmp_path):
    rows = collect_rows(VoxelTable.open(table))
    jobs = [
        {
            "table": table, "output": str(tmp_path), "subject": row["subject"], "outliers": {},
            "rows": {f"sub-{row['subject']}_task-rest": row},
        }
        for row in rows[:2]
    ]  # fmt: skip
    results, failures = data_spark.run_jobs(spark, quality_pages.write_subject_page, jobs)
    assert not failures and [result["subject"] for result in results] == ["01", "02"]
    for result in results:
        assert (tmp_path / f"sub-{result['subject']}.html").stat().st_size == result["n_bytes"]
