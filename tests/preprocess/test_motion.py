"""Framewise displacement against its definition, and against that of another program."""

import numpy as np
import pytest

from sparkneuro.errors import FormatError
from sparkneuro.preprocess.motion import framewise_displacement


def test_displacement_is_power_s_sum_over_parameters():
    motion = np.random.default_rng(0).normal(size=(37, 6)).cumsum(axis=0) * [0.1, 0.1, 0.1, 0.002, 0.002, 0.002]
    expected = [
        sum(abs(motion[t, k] - motion[t - 1, k]) * (1 if k < 3 else 50) for k in range(6)) for t in range(1, 37)
    ]
    fd = framewise_displacement(motion)
    assert np.isnan(fd[0])
    np.testing.assert_allclose(fd[1:], expected)
    np.testing.assert_allclose(framewise_displacement(motion, radius=0)[1:], np.abs(np.diff(motion[:, :3], axis=0)).sum(axis=1))


def test_displacement_follows_that_of_another_definition_on_a_real_head(shared_data):
    table = np.genfromtxt(shared_data / "brainfc_rest01" / "confounds.tsv", names=True)
    matrix = np.array([[table[f"motion_matrix_{row}{column}"] for column in range(3)] for row in range(3)]).transpose(2, 0, 1)
    roll, pitch = np.arctan2(matrix[:, 2, 1], matrix[:, 2, 2]), -np.arcsin(matrix[:, 2, 0])
    turns = [roll, pitch, np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])]
    # The displacement of ANTs is a mean over points of the head, which only resembles Power's sum.
    motion = np.column_stack([*(table[f"motion_offset_{axis}"] for axis in "xyz"), *turns])
    fd = framewise_displacement(motion)[1:]
    theirs = table["framewise_displacement"][1:]
    assert np.corrcoef(fd, theirs)[0, 1] > 0.8
    assert 0.5 < np.median(fd) / np.median(theirs) < 3


@pytest.mark.parametrize("shape", [(20, 5), (20, 12), (6,)])
def test_anything_but_six_parameters_is_refused(shape):
    with pytest.raises(FormatError, match=r"shape \(n_scans, 6\), translations \(mm\) before rotations"):
        framewise_displacement(np.zeros(shape))


def test_a_run_of_one_scan_has_no_displacement():
    assert np.isnan(framewise_displacement(np.zeros((1, 6)))).tolist() == [True]
