import json
import shutil

import numpy as np
import pytest

from sparkneuro.data.index.bids_filter import make_filter
from sparkneuro.data.runs import find_runs
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import index


def test_runs_are_described_by_header_and_name(write_bold, tmp_path, affine):
    write_bold("sub-02_ses-b_task-rest_run-1_space-MNI_bold.nii.gz")
    write_bold("sub-01_task-motor_space-MNI_bold.nii")
    first, second = find_runs([str(tmp_path)])
    assert (first.key, second.key) == ("sub-01_task-motor", "sub-02_ses-b_task-rest_run-1")
    assert (second.subject, second.session, second.task, second.run, second.space) == ("02", "b", "rest", "1", "MNI")
    assert (first.shape, first.n_scans, first.t_r) == ((5, 6, 4), 7, 2.5)
    assert first.size == (tmp_path / "sub-01_task-motor_space-MNI_bold.nii").stat().st_size
    np.testing.assert_allclose(first.affine, affine)


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        ({"participant_label": ["sub-02"]}, ["sub-02_task-a", "sub-02_task-b"]),
        ({"participant_label": ["01"], "task_id": ["a"]}, ["sub-01_task-a"]),
        ({"task_id": ["task-b"]}, ["sub-02_task-b"]),
    ],
)
def test_filters_keep_the_labels_that_are_named(write_bold, tmp_path, filters, keys):
    for name in ("sub-01_task-a", "sub-02_task-a", "sub-02_task-b"):
        write_bold(f"{name}_bold.nii.gz")
    assert [run.key for run in find_runs([str(tmp_path)], make_filter(**filters))] == keys


def test_two_spaces_of_one_run_need_a_choice(write_bold, tmp_path):
    for space in ("MNI", "T1w"):
        write_bold(f"sub-01_task-a_space-{space}_desc-preproc_bold.nii.gz")
    with pytest.raises(FormatError, match="are both run sub-01_task-a; choose with --space"):
        find_runs([str(tmp_path)])
    assert find_runs([str(tmp_path)], make_filter(space="T1w"))[0].space == "T1w"
    with pytest.raises(SettingsError, match="--space native selects no bold file: there are MNI, T1w"):
        find_runs([str(tmp_path)], make_filter(space="native"))


def test_the_sidecars_repetition_time_goes_before_the_headers_and_the_given_one_before_both(write_bold, tmp_path):
    path = write_bold()[0]
    (tmp_path / "sub-01_task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    assert find_runs([path])[0].t_r == 1.5
    assert find_runs([path], t_r=0.8)[0].t_r == 0.8


@pytest.mark.parametrize(
    ("header", "sidecar", "message"),
    [
        (0, None, "repetition time is missing or 0 in the header.*--t-r SECONDS"),
        (2, {"RepetitionTime": 0}, "must be above 0 and at most 60 s; got 0"),
        (2, {"RepetitionTime": "2 s"}, "got '2 s'"),
        (2000, None, "got 2000"),
    ],
)
def test_a_repetition_time_that_makes_no_sense_is_refused_with_the_remedy(write_bold, tmp_path, header, sidecar, message):
    path = write_bold(t_r=header)[0]
    if sidecar:
        (tmp_path / "sub-01_task-rest_bold.json").write_text(json.dumps(sidecar))
    with pytest.raises(FormatError, match=message):
        find_runs([path])


def test_asking_for_confounds_checks_them_at_once(write_bold, tmp_path):
    path = write_bold()[0]
    with pytest.raises(FormatError, match="no sub-01_task-rest_desc-confounds_timeseries.tsv beside it"):
        find_runs([path], confounds=["csf"])
    table = tmp_path / "sub-01_task-rest_desc-confounds_timeseries.tsv"
    table.write_text("csf\n" + "1.5\n" * 7)
    assert find_runs([path], confounds=["csf"])[0].confounds == str(table)


def test_an_index_stands_for_the_folders_that_it_lists(write_bold, tmp_path):
    folder = tmp_path / "bids"
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    for name in ("sub-01_task-a", "sub-02_task-a"):
        path = write_bold(f"{name}_bold.nii.gz")[0]
        (folder / name[:6] / "func").mkdir(parents=True)
        shutil.move(path, folder / name[:6] / "func" / f"{name}_bold.nii.gz")
    (folder / "task-a_bold.json").write_text(json.dumps({"RepetitionTime": 1.25}))
    index.run(index.Settings((str(folder),), output=str(tmp_path / "x.parquet")), None)
    runs = find_runs([str(tmp_path / "x.parquet")], make_filter(participant_label=["02"]))
    assert [(run.key, run.t_r, run.n_scans) for run in runs] == [("sub-02_task-a", 1.25, 7)]
    assert find_runs([str(tmp_path / "x.parquet")]) == find_runs([str(folder)])
    (folder / "sub-01" / "func" / "sub-01_task-a_bold.nii.gz").unlink()
    (folder / "sub-01" / "func" / "sub-01_task-a_bold.nii.gz").symlink_to("nowhere")
    index.run(index.Settings((str(folder),), output=str(tmp_path / "x.parquet")), None)
    with pytest.raises(FormatError, match="a link whose content is not here; get it with 'datalad get'"):
        find_runs([str(tmp_path / "x.parquet")])
