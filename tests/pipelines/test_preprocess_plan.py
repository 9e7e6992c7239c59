"""What is wrong is said before Spark starts, in one sentence; nothing is written."""

import os
import shutil
import sys

import pytest

from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import preprocess, preprocess_plan
from sparkneuro.pipelines.preprocess_program import _ask_version


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"participant_label": ("01", "sub-99", "5")}, "there is no subject 5, 99; there are 01, 02, 10."),
        ({"output": None}, "output is missing; name the folder of the derivatives with --output"),
        ({"bids_dir": "s3://bucket/bids"}, "BIDS_DIR must be a local or shared folder.* no s3://; got s3://bucket/bids; copy"),
        ({"output": "hdfs://nn/out"}, "output must be a local or shared folder.* see no hdfs://"),
        ({"work_dir": "s3://bucket/work"}, "work_dir must be a local or shared folder"),
        ({"bids_dir": "/nowhere/bids"}, "/nowhere/bids: there is no such folder"),
        ({"command": None}, "one of --apptainer IMAGE.sif, --docker IMAGE:TAG and --command PROGRAM .*; got none of them"),
        ({"docker": "i:1", "command": "fmriprep"}, "got --docker and --command"),
        ({"command": "no-such-fmriprep --x"}, "there is no program no-such-fmriprep on the PATH here"),
        ({"command": "fmriprep 'x"}, "--command: these words cannot be read as a shell would"),
        ({"fs_license_file": None}, "fMRIPrep needs a FreeSurfer licence, and neither --fs-license-file nor FS_LICENSE names"),
        ({"fs_license_file": "/nowhere/l.txt"}, "--fs-license-file: there is no file /nowhere/l.txt"),
        ({"bids_filter_file": "/nowhere/f.json"}, "--bids-filter-file: there is no file /nowhere/f.json"),
        ({"templateflow_home": "/nowhere"}, "--templateflow-home: there is no folder /nowhere"),
        ({"bind": ("/nowhere",)}, "--bind: there is no folder /nowhere"),
        ({"app_options": "'--x"}, "--app-options: these words cannot be read as a shell would"),
        ({"app_words": ("--nprocs", "3")}, "--nprocs among the words for the app: give it to sparkneuro itself, by --cores"),
        ({"retries": -1}, "retries must be a whole number of at least 0"),
        ({"timeout": 0.0}, "timeout must be a number above 0"),
        ({"memory_gb": 0.0}, "memory_gb must be a number above 0"),
        ({"cores": 0}, "cores must be a whole number of at least 1"),
        ({"min_free_gb": -1.0}, "min_free_gb must be a number of at least 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_sentence(make_settings, stand_in, changes, message, tmp_path):
    for dry_run in (False, True):
        with pytest.raises(SettingsError, match=message) as caught:
            preprocess.needs_spark(make_settings(**{"command": sys.executable, **changes}, dry_run=dry_run))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out put").exists()


def test_folders_within_each_other_are_refused_where_they_must_be(make_settings, stand_in, bids):
    with pytest.raises(SettingsError, match="the output cannot be the BIDS folder; choose e.g. .*/derivatives/fmriprep"):
        preprocess.needs_spark(make_settings(output=str(bids)))
    with pytest.raises(SettingsError, match="the working folder cannot be within the BIDS folder; choose another --work-dir"):
        preprocess.needs_spark(make_settings(work_dir=f"{bids}/work"))
    plan = preprocess_plan.make_plan(make_settings(output=f"{bids}/derivatives/fmriprep"))
    assert plan.app.work_dir == f"{bids}-work"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bids: (bids / "dataset_description.json").unlink(), "there is no dataset_description.json"),
        (lambda bids: [shutil.rmtree(path) for path in bids.glob("sub-*")], r"there is no folder sub-\* in it; is it the top"),
    ],
    ids=["no description", "no subject"],
)
def test_a_folder_that_is_no_bids_dataset_is_one_sentence(make_settings, stand_in, bids, change, message):
    change(bids)
    with pytest.raises(FormatError, match=message):
        preprocess.needs_spark(make_settings())


def test_an_output_that_is_a_file_is_refused(make_settings, stand_in, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SettingsError, match="this is a file; the output is a folder"):
        preprocess.needs_spark(make_settings(output=str(tmp_path / "thesis.txt")))


def test_a_licence_is_found_where_fmriprep_looks(make_settings, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("FS_LICENSE", str(tmp_path / "licence.txt"))
    assert preprocess_plan.make_plan(make_settings(fs_license_file=None)).app.fs_license_file == str(tmp_path / "licence.txt")
    monkeypatch.delenv("FS_LICENSE")
    monkeypatch.setenv("FREESURFER_HOME", str(tmp_path))
    (tmp_path / "licence.txt").rename(tmp_path / "license.txt")
    assert preprocess_plan.make_plan(make_settings(fs_license_file=None)).app.fs_license_file == str(tmp_path / "license.txt")


def test_an_fmriprep_that_does_not_start_is_said_and_another_app_need_not_tell_its_version(make_settings, stand_in, tmp_path):
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'libfoo.so: cannot open' >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(SettingsError, match="the app does not start: .*broken --version ended with exit code 127, libfoo.so"):
        preprocess.needs_spark(make_settings(command=str(program)))
    plan = preprocess_plan.make_plan(make_settings(command=str(program), app="bids-app"))
    assert plan.version == "" and plan.identity["version"] == ""


def test_a_program_by_a_relative_path_is_found_from_everywhere(make_settings, stand_in, tmp_path, monkeypatch):
    (tmp_path / "fmriprep").write_text("#!/bin/sh\necho fMRIPrep v9.9.9\n")
    (tmp_path / "fmriprep").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    plan = preprocess_plan.make_plan(make_settings(command="./fmriprep -v"))
    assert plan.app.program == (str(tmp_path / "fmriprep"), "-v") and plan.version == "9.9.9"


def test_the_version_is_asked_once(make_settings, stand_in, tmp_path):
    program = tmp_path / "counting"
    program.write_text(f"#!/bin/sh\necho x >> {tmp_path}/count\necho fMRIPrep v1.2.3\n")
    program.chmod(0o755)
    _ask_version.cache_clear()
    for _ in range(3):
        assert preprocess_plan.make_plan(make_settings(command=str(program))).version == "1.2.3"
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_session_that_gives_a_task_other_cores_than_asked_for_is_refused(make_settings, stand_in):
    class Session:
        class conf:
            get = staticmethod(lambda name, default: "2")

    with pytest.raises(SettingsError, match="cores is 1, but a task of this Spark session has 2; set spark.task.cpus=1"):
        preprocess.run(make_settings(), Session)
    assert preprocess._with_cores_of(make_settings(cores=None), Session).cores == 2


def test_nothing_is_written_by_a_look_at_the_settings(make_settings, stand_in, tmp_path):
    before = sorted(os.walk(tmp_path))
    assert preprocess.needs_spark(make_settings())
    assert sorted(os.walk(tmp_path)) == before
