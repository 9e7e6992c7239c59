import csv
import json

import nibabel
import numpy as np
import pytest

from sparkneuro.data import samples, synthetic
from sparkneuro.data.runs import find_runs
from sparkneuro.errors import SettingsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The synthetic sample of two subjects and 60 scans."""
    path = tmp_path_factory.mktemp("synthetic") / "s"
    assert samples.write_synthetic(str(path), n_subjects=2, n_scans=60, seed=4) == 2
    return path


def files_of(folder):
    """Content of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_sample_is_bids_that_an_ingest_finds(folder):
    runs = find_runs([str(folder)])
    assert [run.key for run in runs] == ["sub-01_task-motor_run-1", "sub-02_task-motor_run-1"]
    assert {(run.n_scans, run.t_r, run.shape) for run in runs} == {(60, 0.72, synthetic.SHAPE)}
    assert json.loads((folder / "dataset_description.json").read_text())["BIDSVersion"]


def test_a_stored_run_is_the_simulated_one_to_half_a_step(folder):
    mask, _ = synthetic.make_brain()
    rng = np.random.default_rng(4)
    maps = synthetic.make_networks(rng, mask)
    series = synthetic.make_time_courses(synthetic.make_events(rng, 60), 60)
    bold, truth, amplitudes = synthetic.make_run(np.random.default_rng([4, 2]), maps, series, 0.9)
    image = nibabel.load(folder / "sub-02/func/sub-02_task-motor_run-1_bold.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), bold, atol=samples.SLOPE / 2 + 1e-3)
    stem = folder / samples.TRUTH / "sub-02_task-motor_run-1_desc-truth"
    np.testing.assert_array_equal(nibabel.load(f"{stem}_bold.nii.gz").get_fdata(), truth)
    courses = list(csv.reader(open(f"{stem}_timeseries.tsv"), delimiter="\t"))
    assert tuple(courses[0]) == synthetic.CONDITIONS
    np.testing.assert_allclose(np.array(courses[1:], float), series * amplitudes, atol=1e-6)
    np.testing.assert_array_equal(nibabel.load(folder / samples.TRUTH / "networks.nii.gz").get_fdata(), np.moveaxis(maps, 0, -1))


def test_the_events_are_those_of_the_design(folder):
    rows = list(csv.DictReader(open(folder / "sub-01/func/sub-01_task-motor_run-1_events.tsv"), delimiter="\t"))
    assert rows and {row["trial_type"] for row in rows} <= set(synthetic.CONDITIONS)
    assert all(float(row["onset"]) + float(row["duration"]) <= 60 * synthetic.T_R for row in rows)


def test_equal_seeds_give_equal_bytes_and_others_others(folder, tmp_path):
    samples.write_synthetic(str(tmp_path / "same"), n_subjects=2, n_scans=60, seed=4)
    samples.write_synthetic(str(tmp_path / "other"), n_subjects=2, n_scans=60, seed=5)
    assert files_of(tmp_path / "same") == files_of(folder)
    bold = "sub-01/func/sub-01_task-motor_run-1_bold.nii.gz"
    assert files_of(tmp_path / "other")[bold] != files_of(folder)[bold]


def test_a_second_time_only_what_is_missing_is_made(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("sub-01*")}
    kept = files_of(folder)
    (folder / "sub-02/func/sub-02_task-motor_run-1_bold.nii.gz").unlink()
    (folder / ".unfinished-sub-02.nii.gz").write_bytes(b"half")
    assert samples.write_synthetic(str(folder), n_subjects=2, n_scans=60, seed=4) == 1
    assert samples.write_synthetic(str(folder), n_subjects=2, n_scans=60, seed=4) == 0
    assert files_of(folder) == kept
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("sub-01*")} == before


def test_a_folder_that_holds_something_else_is_left_alone(folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(SettingsError, match="holds something else than a sample"):
        samples.write_synthetic(str(tmp_path), n_subjects=2)
    (tmp_path / "dataset_description.json").write_text('{"Name": "somebody else\'s"}')
    with pytest.raises(SettingsError, match="holds another data set"):
        samples.write_synthetic(str(tmp_path), n_subjects=2)
    with pytest.raises(SettingsError, match="holds the sample synthetic --subjects 2 .*--seed 4; choose another"):
        samples.write_synthetic(str(folder), n_subjects=2, n_scans=60, seed=5)
    assert len(list(tmp_path.iterdir())) == 2
