import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bids_trees import write_fmriprep, write_raw, write_tree  # noqa: E402

from sparkneuro.data.index.bids_datasets import find_datasets  # noqa: E402
from sparkneuro.data.index.bids_filter import describe_unmatched, make_filter  # noqa: E402
from sparkneuro.data.index.bids_index_update import update_index  # noqa: E402
from sparkneuro.data.index.bids_selection import select_files  # noqa: E402

FUNC = "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01"


@pytest.fixture
def root(tmp_path):
    raw = write_raw(tmp_path / "ds001")
    write_fmriprep(raw / "derivatives" / "fmriprep")
    return write_tree(raw, {"sub-03/func/sub-03_task-rest_bold.nii": None, "sub-03/func/sub-03_task-rest_bold.dtseries.nii": ""})


@pytest.fixture
def index(root):
    return update_index(find_datasets([str(root)], derivatives=True)).table


def test_the_images_of_a_suffix_are_selected_with_what_is_known_of_them(root, index):
    files = select_files(index, make_filter())
    paths = map(str, (*root.rglob("*_bold.nii.gz"), root / "sub-03/func/sub-03_task-rest_bold.nii"))
    assert [file.path for file in files] == sorted(paths, key=lambda path: ("derivatives" in path, path))
    [file] = [file for file in files if file.path == f"{root}/{FUNC}_bold.nii.gz"]
    assert file.entities == {"sub": "01", "ses": "a", "task": "rest", "run": "01"} and file.dataset == "ds001"
    assert (file.repetition_time, file.slice_timing, file.size, file.is_absent) == (3, [0, 0.5, 1, 1.5], 3, False)
    assert file.sidecar["Manufacturer"] == "T" and (file.datatype, file.extension) == ("func", ".nii.gz")
    assert file.modified == Path(file.path).stat().st_mtime_ns


def test_a_link_without_content_is_selected_and_says_so(index):
    [file] = select_files(index, make_filter(participant_label=["03"]))
    assert file.is_absent and file.size is file.modified is None and file.sidecar["TaskName"] == "rest"


@pytest.mark.parametrize(
    ("words", "suffix", "extensions", "n_files"),
    [
        ({"participant_label": ["sub-01"]}, "bold", (".nii.gz", ".nii"), 5),
        ({"participant_label": ["01"], "space": "native"}, "bold", (".nii.gz", ".nii"), 4),
        ({"space": "MNI152NLin2009cAsym:res-2"}, "bold", (".nii.gz",), 1),
        ({"session_id": ["b"]}, "bold", (".nii.gz", ".nii"), 1),
        ({}, "T1w", (".nii.gz",), 2),
        ({"run": [1]}, "timeseries", (".tsv",), 1),
    ],
)
def test_a_filter_chooses_among_them(index, words, suffix, extensions, n_files):
    assert len(select_files(index, make_filter(**words), suffix, extensions)) == n_files


def test_a_filter_file_may_speak_of_datatype_and_extension(index, tmp_path):
    path = tmp_path / "filter.json"
    path.write_text('{"bold": {"datatype": "func", "extension": ".nii", "session": null}}')
    assert [file.entities["sub"] for file in select_files(index, make_filter(bids_filter_file=str(path)))] == ["03"]


def test_labels_that_select_nothing_are_told_from_the_index(index):
    files = [file.entities for file in select_files(index, make_filter())]
    assert describe_unmatched(make_filter(task_id=["rest", "reading"]), files) == (
        "--task-id reading selects no bold file: there are motor, rest"
    )
