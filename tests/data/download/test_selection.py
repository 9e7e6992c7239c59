import pytest

from sparkneuro.data.download.selection import select
from sparkneuro.errors import SettingsError

PATHS = (
    "CHANGES", "dataset_description.json", "participants.tsv", "participants.json", "task-rest_bold.json", "task-rest_events.tsv",
    "task-motor_bold.json", "T1w.json", "stimuli/a.png",
    "sub-01/sub-01_scans.tsv", "sub-01/sub-01_task-rest_bold.json", "sub-01/anat/sub-01_T1w.nii.gz",
    "sub-01/anat/sub-01_T1w.json",
    "sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-01/func/sub-01_task-rest_events.tsv",
    "sub-01/func/sub-01_task-motor_bold.nii.gz",
    "sub-02/func/sub-02_task-rest_run-1_bold.nii.gz", "sub-02/func/sub-02_task-rest_run-2_bold.json",
    "sub-02/dwi/sub-02_dwi.nii.gz", "sub-02/dwi/sub-02_dwi.bval", "sub-02/dwi/sub-02_dwi.bvec",
    "derivatives/fmriprep/dataset_description.json", "derivatives/fmriprep/sub-01/func/sub-01_task-rest_desc-preproc_bold.nii.gz",
)
TOP = {"dataset_description.json", "participants.tsv"}


def choose(**options):
    return {entry["path"] for entry in select([{"path": path} for path in PATHS], **options)}


def test_without_a_choice_everything_is_taken():
    assert choose() == set(PATHS)


def test_an_image_brings_the_sidecars_that_hold_for_it():
    assert choose(include=("sub-01/func/*rest_bold.nii.gz",)) == TOP | {
        "sub-01/func/sub-01_task-rest_bold.nii.gz", "sub-01/func/sub-01_task-rest_events.tsv",
        "sub-01/sub-01_task-rest_bold.json",
        "task-rest_bold.json", "task-rest_events.tsv",
    }
    assert choose(include=("*_dwi.nii.gz",)) == TOP | {path for path in PATHS if "_dwi." in path}
    assert choose(include=("sub-02/func/*run-1*",)) == TOP | {
        "sub-02/func/sub-02_task-rest_run-1_bold.nii.gz", "task-rest_bold.json", "task-rest_events.tsv"
    }


def test_a_derivative_brings_the_description_of_its_pipeline():
    assert "derivatives/fmriprep/dataset_description.json" in choose(include=("derivatives/*_bold.nii.gz",))


@pytest.mark.parametrize("pattern", ["sub-02", "sub-02/", "./sub-02", "sub-02/*"])
def test_a_folder_is_a_pattern_for_all_it_holds(pattern):
    chosen = {path for path in choose(include=(pattern,)) if path.startswith("sub-")}
    assert chosen == {path for path in PATHS if path.startswith("sub-02/")}


def test_what_is_excluded_stays_out_but_not_what_describes_everything():
    assert choose(exclude=("*.json", "derivatives", "*.tsv")) == TOP | {
        path for path in PATHS if not path.endswith((".json", ".tsv")) and not path.startswith("derivatives/")
    }


@pytest.mark.parametrize("label", ["01", "sub-01"])
def test_a_participant_has_files_everywhere_and_shares_those_at_the_top(label):
    assert choose(participants=(label,)) == {
        path for path in PATHS if "sub-01" in path or "/" not in path or path == "derivatives/fmriprep/dataset_description.json"
    }


def test_what_has_no_file_is_an_error():
    with pytest.raises(SettingsError, match="no file matches 'sub-9.'; at the top are .*dataset_description.json"):
        choose(include=("sub-9*",))
    with pytest.raises(SettingsError, match="there is no participant 1; labels here are 01, 02"):
        choose(participants=("1",))
    with pytest.raises(SettingsError, match="no file is both of the participants and of the patterns"):
        choose(participants=("01",), include=("sub-02",))
