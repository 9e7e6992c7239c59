import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bids_trees import write_fmriprep, write_raw, write_tree  # noqa: E402

from sparkneuro.data.index.bids_datasets import find_datasets  # noqa: E402
from sparkneuro.errors import FormatError  # noqa: E402


@pytest.fixture
def archive(tmp_path):
    """A raw data set with derivatives of several kinds, and with folders that are no data."""
    raw = write_raw(tmp_path / "ds001")
    write_fmriprep(raw / "derivatives" / "fmriprep")
    return write_tree(raw, {
        "derivatives/README": "of no data set",
        "derivatives/plain/sub-01/func/sub-01_bold.nii": "no description",
        "derivatives/fmriprep/derivatives/xcp/sub-01/sub-01_bold.nii": "of a derivative",
        "derivatives/fmriprep/sourcedata/freesurfer/sub-01/mri/aseg.mgz": "skipped",
        "sourcedata/sub-01/x.dcm": "skipped", "code/run.py": "skipped", "stimuli/a.png": "skipped", ".git/config": "skipped",
    })


def names_of(dataset):
    return [entry.name for entry in dataset.entries]


def test_derivatives_sourcedata_code_stimuli_and_hidden_files_are_no_part_of_a_raw_data_set(archive):
    [dataset] = find_datasets([str(archive)])
    assert (dataset.name, dataset.root, dataset.is_described) == ("ds001", str(archive), True)
    assert len(names_of(dataset)) == 18 and not [name for name in names_of(dataset) if "derivatives" in name or "skipped" in name]


def test_derivatives_are_data_sets_of_their_own_when_asked_for(archive):
    found = {dataset.name: dataset for dataset in find_datasets([f"{archive}/"], derivatives=True)}
    below = "ds001/derivatives"
    assert sorted(found) == ["ds001", f"{below}/fmriprep", f"{below}/fmriprep/derivatives/xcp", f"{below}/plain"]
    assert names_of(found["ds001"]) == names_of(find_datasets([str(archive)])[0])
    assert names_of(found[f"{below}/plain"]) == ["sub-01/func/sub-01_bold.nii"] and not found[f"{below}/plain"].is_described
    assert len(names_of(found[f"{below}/fmriprep"])) == 9 and found[f"{below}/fmriprep"].is_described
    assert found[f"{below}/plain"].root == f"{archive}/derivatives/plain"


def test_a_derivatives_folder_named_itself_is_a_data_set_once(archive):
    folder = str(archive / "derivatives" / "fmriprep")
    datasets = find_datasets([str(archive), folder, str(archive)], derivatives=True)
    assert [dataset.root for dataset in datasets].count(folder) == 1
    [alone] = find_datasets([folder])
    assert alone.name == "ds001/derivatives/fmriprep" and len(names_of(alone)) == 9


def test_a_folder_that_holds_data_sets_stands_for_them(archive, tmp_path):
    write_tree(tmp_path, {"ds002/dataset_description.json": {}, "other/notes.txt": "no data set"})
    assert [dataset.name for dataset in find_datasets([str(tmp_path)])] == ["ds001", "ds002"]


def test_data_sets_of_one_name_are_told_apart_by_the_folders_above(tmp_path):
    for name in ("a/x/bids", "b/x/bids", "c"):
        write_tree(tmp_path, {f"{name}/dataset_description.json": {}})
    folders = [str(tmp_path / name) for name in ("a/x/bids", "b/x/bids", "c")]
    assert [dataset.name for dataset in find_datasets(folders)] == ["a/x/bids", "b/x/bids", "c"]


def test_a_folder_without_description_is_a_data_set_when_it_has_subjects(tmp_path):
    [dataset] = find_datasets([str(write_tree(tmp_path / "d", {"sub-1/func/sub-1_bold.nii": ""}))])
    assert dataset.name == "d" and not dataset.is_described


def test_a_recording_that_is_a_folder_is_one_file(tmp_path):
    meg = "sub-1/meg/sub-1_task-x_meg.ds"
    write_tree(tmp_path, {"dataset_description.json": {}, f"{meg}/a.meg4": "12345", f"{meg}/hz.ds/b.res4": "67"})
    write_tree(tmp_path, {f"{meg[:-3]}.json": {}})
    [dataset] = find_datasets([str(tmp_path)])
    assert [(entry.name, entry.size) for entry in dataset.entries[1:]] == [(meg, 7), (f"{meg[:-3]}.json", 2)]
    assert dataset.entries[1].modified == (tmp_path / meg / "hz.ds" / "b.res4").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "absent: there is no such folder"), ("notes", "notes: this is no BIDS data set: it has neither dataset_descr")],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, name, message):
    write_tree(tmp_path, {"notes/a.txt": ""})
    with pytest.raises(FormatError, match=message) as caught:
        find_datasets([str(tmp_path / name)])
    assert "\n" not in str(caught.value)
