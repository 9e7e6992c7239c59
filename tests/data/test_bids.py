import json

import numpy as np
import pytest

from sparkneuro.data import bids
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.errors import FormatError, SettingsError


@pytest.fixture
def dataset(tmp_path):
    """Empty files of a BIDS folder with derivatives, a hidden folder and two sessions."""
    for name in (
        "sub-02/ses-b/func/sub-02_ses-b_task-rest_run-2_bold.nii.gz", "sub-01/func/sub-01_task-rest_bold.nii",
        "sub-01/func/sub-01_task-rest_sbref.nii.gz", "derivatives/x/sub-01_task-rest_desc-preproc_bold.nii.gz",
        ".git/sub-01_task-rest_bold.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/func/.sub-01_task-x_bold.nii.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sub-01_ses-a_task-rest_run-1_bold.nii.gz", "sub-01_ses-a_task-rest_run-1"),
        ("sub-007_bold.nii", "sub-007"),
        ("x/sub-01_task-m_dir-LR_run-2_space-MNI_desc-preproc_bold.nii.gz", "sub-01_task-m_run-2dirLR"),
        ("x/tfMRI_MOTOR_LR.nii.gz", "sub-tfMRIMOTORLR"),
        ("sub-a/b_bold.nii", "sub-bbold"),
    ],
)
def test_a_run_is_named_by_its_file(name, key):
    assert bids.run_key(**bids.name_run(name)) == key


def test_bold_is_found_at_any_depth_but_not_in_derivatives(dataset):
    found = [path.removeprefix(f"{dataset}/") for path in bids.find_bold([str(dataset)])]
    assert found == ["sub-01/func/sub-01_task-rest_bold.nii", "sub-02/ses-b/func/sub-02_ses-b_task-rest_run-2_bold.nii.gz"]


def test_a_derivatives_folder_named_itself_and_files_are_taken(dataset):
    file, folder = str(dataset / "sub-01/func/sub-01_task-rest_sbref.nii.gz"), str(dataset / "derivatives/x")
    assert bids.find_bold([file, folder, file]) == [file, f"{folder}/sub-01_task-rest_desc-preproc_bold.nii.gz"]


def test_a_source_without_bold_is_refused(dataset):
    with pytest.raises(FormatError, match="no file here is named"):
        bids.find_bold([str(dataset / "sub-01/anat")])
    with pytest.raises(FormatError, match="there is no such file or folder"):
        bids.find_bold([str(dataset / "absent")])


def test_sidecars_are_inherited_and_the_nearest_wins(tmp_path):
    func = tmp_path / "sub-01" / "ses-a" / "func"
    func.mkdir(parents=True)
    for folder, name, content in (
        (tmp_path, "task-rest_bold.json", {"RepetitionTime": 3, "TaskName": "rest", "Manufacturer": "x"}),
        (tmp_path, "task-other_bold.json", {"TaskName": "other"}),
        (tmp_path / "sub-01", "sub-01_task-rest_bold.json", {"RepetitionTime": 2}),
        (func, "sub-01_ses-a_task-rest_bold.json", {"RepetitionTime": 1}),
        (func, "sub-01_ses-a_task-rest_run-9_bold.json", {"RepetitionTime": 9}),
    ):
        (folder / name).write_text(json.dumps(content))
    sidecar = bids.read_sidecar(str(func / "sub-01_ses-a_task-rest_run-1_bold.nii.gz"))
    assert sidecar == {"RepetitionTime": 1, "TaskName": "rest", "Manufacturer": "x"}


def test_a_file_without_bids_name_takes_the_sidecar_of_its_own_name(tmp_path):
    (tmp_path / "scan7.json").write_text('{"RepetitionTime": 1.1}')
    assert bids.read_sidecar(str(tmp_path / "scan7.nii.gz")) == {"RepetitionTime": 1.1}
    assert bids.read_sidecar(str(tmp_path / "scan8.nii.gz")) == {}


@pytest.mark.parametrize(("content", "message"), [("{", "not valid JSON"), ("[1]", "is a JSON object; this one is a list")])
def test_a_damaged_sidecar_is_refused(tmp_path, content, message):
    (tmp_path / "sub-01_bold.json").write_text(content)
    with pytest.raises(FormatError, match=message):
        bids.read_sidecar(str(tmp_path / "sub-01_bold.nii"))


@pytest.fixture
def confounds_path(tmp_path):
    """A confounds table of four scans beside a run, the first row of a derivative missing."""
    path = tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv"
    path.write_text("rot_x\trot_y\tdx\tname\tempty\n1\t10\tn/a\tw\tn/a\n2\t20\t6\tx\tn/a\n3\t30\t7\ty\tn/a\n4\t40\t8\tz\tn/a\n")
    return str(path)


def test_confounds_are_chosen_by_name_and_pattern_each_once(confounds_path):
    confounds = read_confounds(confounds_path, ["dx", "rot_?", "rot_x"], 4)
    np.testing.assert_array_equal(confounds, [[7, 1, 10], [6, 2, 20], [7, 3, 30], [8, 4, 40]])


def test_confounds_are_found_beside_a_run_in_any_space(confounds_path, tmp_path):
    assert bids.find_confounds(str(tmp_path / "sub-01_task-rest_space-MNI_desc-preproc_bold.nii.gz")) == confounds_path
    with pytest.raises(FormatError, match="no sub-02_task-rest_desc-confounds_timeseries.tsv beside it"):
        bids.find_confounds(str(tmp_path / "sub-02_task-rest_bold.nii.gz"))


@pytest.mark.parametrize(
    ("columns", "n_scans", "error", "message"),
    [
        (["csf"], 4, SettingsError, "no column is named csf; it has rot_x, rot_y, dx"),
        (["rot_x"], 5, FormatError, "one row a scan is expected, 5 in all; the file has 4"),
        (["name"], 4, FormatError, "column name holds something that is no number"),
        (["empty"], 4, FormatError, "column empty holds no number at all"),
    ],
)
def test_confounds_that_do_not_fit_are_refused(confounds_path, columns, n_scans, error, message):
    with pytest.raises(error, match=message):
        read_confounds(confounds_path, columns, n_scans)
