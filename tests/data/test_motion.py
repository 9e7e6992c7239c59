"""Motion from tables of fMRIPrep's names, and what is said where there is none."""

import numpy as np
import pytest

from sparkneuro.data.motion import PARAMETERS, read_motion

N_SCANS = 23


@pytest.fixture
def bold(tmp_path):
    """Path of a BOLD file (which nobody opens)."""
    return str(tmp_path / "sub-01_task-rest_space-MNI_bold.nii.gz")


def write_table(bold, columns, n_rows=N_SCANS):
    """Write the confounds table beside a run; return its values."""
    values = np.random.default_rng(0).normal(size=(n_rows, len(columns)))
    rows = ["\t".join(columns), *("\t".join(map(repr, row)) for row in values.tolist())]
    path = bold.replace("_space-MNI_bold.nii.gz", "_desc-confounds_timeseries.tsv")
    with open(path, "w") as file:
        file.write("\n".join(rows))
    return values, path


def test_the_six_parameters_come_in_order_whatever_the_table_s(bold):
    columns = ("csf", *reversed(PARAMETERS), "framewise_displacement")
    values, _ = write_table(bold, columns)
    motion = read_motion(bold, N_SCANS)
    np.testing.assert_allclose(motion.parameters, values[:, 6:0:-1])
    assert motion.displacement is None and motion.source == "motion parameters"


def test_displacement_stands_in_for_parameters(bold):
    values, path = write_table(bold, ("rot_x", "framewise_displacement"))
    for table in ("", path):
        motion = read_motion(bold, N_SCANS, table)
        assert motion.parameters is None and np.isnan(motion.displacement[0])
        np.testing.assert_allclose(motion.displacement[1:], values[1:, 1])


def test_what_is_missing_is_said_and_not_raised(bold):
    assert read_motion(bold, N_SCANS).source == "no confounds table beside the run"
    write_table(bold, ("csf", "rot_x"))
    assert read_motion(bold, N_SCANS).source.startswith("no motion parameters and no framewise_displacement")
    write_table(bold, PARAMETERS, n_rows=N_SCANS - 2)
    motion = read_motion(bold, N_SCANS)
    assert motion.parameters is None and "one row a scan is expected, 23 in all; the file has 21" in motion.source
