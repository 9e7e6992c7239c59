import numpy as np
import pytest

from sparkneuro.data import bids, hcp
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.errors import FormatError

RESULTS = "100307/MNINonLinear/Results"


@pytest.mark.parametrize(
    ("name", "labels", "space"),
    [
        ("tfMRI_MOTOR_LR/tfMRI_MOTOR_LR.nii.gz", ("MOTOR", "dirLR"), "MNI152NLin6Asym"),
        ("rfMRI_REST2_RL/rfMRI_REST2_RL_hp2000_clean.nii.gz", ("REST", "2dirRL"), "MNI152NLin6Asym"),
        ("rfMRI_REST1_LR/rfMRI_REST1_LR_Atlas_MSMAll_hp2000_clean.dtseries.nii", ("REST", "1dirLR"), "fsLR"),
        ("tfMRI_MOVIE1_7T_AP/tfMRI_MOVIE1_7T_AP_Atlas_1.6mm_MSMAll.dtseries.nii", ("MOVIE", "1acq7TdirAP"), "fsLR"),
    ],
)
def test_names_of_the_hcp_are_read_as_bids(name, labels, space):
    named = bids.name_run(f"s3://bucket/{RESULTS}/{name}")
    assert (named["subject"], named["task"], named["run"]) == ("100307", *labels)
    assert bids.parse_name(f"s3://bucket/{RESULTS}/{name}")[0]["space"] == space


@pytest.mark.parametrize("name", ["100307/T1w/tfMRI_MOTOR_LR/tfMRI_MOTOR_LR.nii.gz", f"{RESULTS}/x/brainmask_fs.2.nii.gz"])
def test_other_files_are_not_taken_for_runs(name):
    assert hcp.parse_hcp_name(name) is None


@pytest.fixture
def folder(tmp_path):
    """A run of the HCP with its mask and movement."""
    run = tmp_path / RESULTS / "tfMRI_MOTOR_LR"
    run.mkdir(parents=True)
    for name in ("tfMRI_MOTOR_LR.nii.gz", "brainmask_fs.2.nii.gz", "tfMRI_MOTOR_LR_SBRef.nii.gz"):
        (run / name).touch()
    np.savetxt(run / "Movement_Regressors.txt", np.arange(48.0).reshape(4, 12))
    return tmp_path


def test_a_run_its_mask_and_its_movement_are_found(folder):
    (path,) = bids.find_bold([str(folder)])
    assert path.endswith("tfMRI_MOTOR_LR.nii.gz")
    assert bids.find_brain_mask(path).endswith("brainmask_fs.2.nii.gz")
    confounds = read_confounds(bids.find_confounds(path), ["trans_x", "rot_?", "rot_z_derivative1"], 4)
    np.testing.assert_allclose(confounds[1], [12, *np.deg2rad([15, 16, 17]), np.deg2rad(23)])


def test_a_movement_table_of_another_form_is_refused(tmp_path):
    (tmp_path / hcp.MOVEMENT).write_text("1 2 3\n")
    with pytest.raises(FormatError, match="12 numbers a scan are expected"):
        hcp.read_movement(str(tmp_path / hcp.MOVEMENT))
