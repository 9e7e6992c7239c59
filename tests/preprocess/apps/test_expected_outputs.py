"""What a finished subject has: which runs count, which files stand for them, and what is wrong when one does not."""

import gzip
import json
import re

import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.apps.expected_outputs import choose_runs, expect_fmriprep, find_problem, find_runs, read_filter
from sparkneuro.preprocess.apps.subject_files import list_outputs

REST = {"sub": "1", "ses": "a", "task": "rest", "run": "01"}
RUNS = [REST, {"sub": "1", "ses": "b", "task": "rest"}, {"sub": "1", "ses": "a", "task": "nback", "acq": "mb4"}]


def write(folder, *names, content=None):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if content is not None else gzip.compress(b"image") if name.endswith(".gz") else b"text")


def test_echoes_and_parts_are_one_run(tmp_path):
    names = [f"sub-1_task-rest_echo-{echo}_part-{part}_bold.nii.gz" for echo in (1, 2, 3) for part in ("mag", "phase")]
    write(tmp_path / "sub-1" / "func", *names, "sub-1_task-rest_echo-1_sbref.nii.gz", "sub-1_task-nback_bold.nii")
    write(tmp_path / "sub-11" / "func", "sub-11_task-rest_bold.nii.gz")
    assert find_runs(str(tmp_path), "1") == [{"sub": "1", "task": "nback"}, {"sub": "1", "task": "rest"}]


@pytest.mark.parametrize(
    ("words", "bids_filter", "kept"),
    [
        ([], {}, [0, 1, 2]),
        (["--task-id", "nback"], {}, [2]),
        (["-t", "rest", "--x"], {}, [0, 1]),
        (["--task-id=rest", "--session-label", "a", "b"], {}, [0, 1]),
        (["--session-label", "ses-b"], {}, [1]),
        ([], {"bold": {"session": "a", "task": ["rest", "nback"]}}, [0, 2]),
        ([], {"bold": {"run": 1}}, [0]),
        ([], {"bold": {"run": None}}, [1, 2]),
        ([], {"bold": {"acquisition": "*"}}, [2]),
        ([], {"bold": {"datatype": "func", "suffix": "bold"}, "t1w": {"session": "b"}}, [0, 1, 2]),
    ],
)
def test_runs_that_the_app_is_told_to_leave_out_are_not_expected(words, bids_filter, kept):
    assert choose_runs(RUNS, words, bids_filter) == [RUNS[place] for place in kept]


def test_a_filter_that_is_none_is_one_sentence(tmp_path):
    path = tmp_path / "filter.json"
    for text in ('{"bold": ', '["bold"]', '{"bold": 3}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="a BIDS filter file is a JSON object of objects"):
            read_filter(str(path))
    path.write_text(json.dumps({"bold": {"task": "rest"}}))
    assert read_filter(str(path)) == {"bold": {"task": "rest"}} and read_filter("") == {}


STEM = "sub-1/ses-a/func/sub-1_ses-a_task-rest_run-01"
COMPLETE = (f"{STEM}_space-T1w_desc-preproc_bold.nii.gz", f"{STEM}_desc-confounds_timeseries.tsv", "sub-1.html")


def problem(output, words=(), spaces=(), patterns=()):
    return find_problem(str(output), "1", expect_fmriprep([REST], words, spaces), patterns, True)


@pytest.mark.parametrize("root", ["", "fmriprep"])
def test_a_complete_subject_has_no_problem(tmp_path, root):
    write(tmp_path / root, *COMPLETE)
    assert problem(tmp_path) == ""


@pytest.mark.parametrize(
    "report", ["sub-1.html", "sub-1_ses-a.html", "sub-1_anat.html"], ids=["one", "by session", "by part"]
)
def test_reports_may_be_split(tmp_path, report):
    write(tmp_path, *COMPLETE[:2], report)
    assert problem(tmp_path) == ""


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [(0, "no preprocessed BOLD .* of sub-1_ses-a_task-rest_run-01"), (1, "no confounds table"), (2, "no report sub-1.html")],
)
def test_each_missing_thing_is_named(tmp_path, missing, sentence):
    write(tmp_path, *(name for place, name in enumerate(COMPLETE) if place != missing))
    write(tmp_path, "sub-11.html", *(name.replace("run-01", "run-02") for name in COMPLETE[:2]), "sub-1/figures/x.html")
    assert re.search(sentence, problem(tmp_path))


def test_nothing_at_all_is_said_so(tmp_path):
    assert problem(tmp_path / "absent") == "it wrote nothing for sub-1"


def test_surfaces_alone_give_surface_bold(tmp_path):
    write(tmp_path, *COMPLETE[1:], f"{STEM}_hemi-L_space-fsaverage5_bold.func.gii")
    assert problem(tmp_path, spaces=("fsaverage5", "fsnative")) == ""
    assert "preprocessed BOLD" in problem(tmp_path, spaces=("fsaverage5", "T1w"))


@pytest.mark.parametrize("words", [["--anat-only"], ["--level", "minimal"], ["--level=resampling"]])
def test_no_bold_is_expected_when_none_is_asked_for(tmp_path, words):
    write(tmp_path, "sub-1/anat/sub-1_desc-preproc_T1w.nii.gz", "sub-1.html")
    assert problem(tmp_path, words) == ""


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (COMPLETE[0], gzip.compress(bytes(9999))[:-9], "ends before its gzip checksum"),
        (COMPLETE[0], gzip.compress(bytes(9999))[:-8] + bytes(8), "damaged"),
        (COMPLETE[1], b"", "is empty"),
        ("sub-1/anat/sub-1_desc-brain_mask.nii.gz", b"", "is empty"),
    ],
    ids=["cut off", "checksum", "empty table", "empty image"],
)
def test_a_file_that_is_not_whole_is_named(tmp_path, name, content, sentence):
    write(tmp_path, *COMPLETE)
    write(tmp_path, name, content=content)
    found = problem(tmp_path)
    assert name in found and sentence in found


def test_patterns_may_be_expected_of_any_app(tmp_path):
    write(tmp_path, *COMPLETE)
    assert find_problem(str(tmp_path), "1", [], ["sub-{subject}/*/func/*.tsv"], False) == ""
    assert find_problem(str(tmp_path), "1", [], ["sub-{subject}/*/func/*.h5"], False) == "there is no file sub-1/*/func/*.h5"


def test_outputs_are_the_subjects_alone(tmp_path):
    others = ("sub-11.html", "sub-11/func/x.tsv", "dataset_description.json", "logs/sub-1.log")
    write(tmp_path, *COMPLETE, "sub-1_ses-a.html", *others)
    assert list_outputs(str(tmp_path), "1") == sorted((*COMPLETE, "sub-1_ses-a.html"))
