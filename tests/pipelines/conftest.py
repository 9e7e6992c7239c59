"""A BIDS folder, the fMRIPrep stand-in with what it shall do, and Spark's tasks called in this process."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from sparkneuro.data import spark as data_spark
from sparkneuro.data.nifti import write_volume
from sparkneuro.errors import SparkneuroError
from sparkneuro.pipelines.preprocess import Settings

STAND_INS = Path(__file__).parent / "stand_ins"
COMMAND = f"{sys.executable} -S {STAND_INS / 'fmriprep.py'}"


@pytest.fixture
def call_here(monkeypatch):
    """A function that has Spark's tasks called in this process; what it returns lists ``tell(name, job)`` of each call."""

    def begin(tell):
        called = []

        def run_jobs(spark, function, jobs):
            results, failures = [], []
            for job in json.loads(json.dumps(jobs)):
                called.append(tell(function.__name__, job))
                try:
                    results.append(json.loads(json.dumps(function(job))))
                except SparkneuroError as error:
                    failures.append(error)
            return results, failures

        monkeypatch.setattr(data_spark, "run_jobs", run_jobs)
        return called

    return begin


@pytest.fixture
def jobs(call_here):
    """Calls the tasks in this process instead of Spark's; the list tells the names of those that were called."""
    return call_here(lambda name, job: name)


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Three subjects, the second with two runs; read only."""
    folder = tmp_path_factory.mktemp("raw") / "bids"
    rng = np.random.default_rng(0)
    for subject, runs in (("01", ("",)), ("02", ("_run-1", "_run-2")), ("10", ("",))):
        for run in runs:
            path = folder / f"sub-{subject}" / "func" / f"sub-{subject}_task-rest{run}_bold.nii.gz"
            bold = (rng.integers(0, 900, (5, 4, 3, 1)) + rng.integers(0, 50, (5, 4, 3, 30))).astype(np.int16)
            write_volume(str(path), bold, np.diag([3.0, 3.0, 3.0, 1.0]), t_r=2.0)
    (folder / "task-rest_bold.json").write_text('{"RepetitionTime": 2.0, "TaskName": "rest"}')
    (folder / "dataset_description.json").write_text('{"Name": "Rest of three", "BIDSVersion": "1.9.0"}')
    return folder


@pytest.fixture
def bids(raw, tmp_path):
    """A copy that a test may change, in a folder whose name a shell would take apart."""
    return shutil.copytree(raw, tmp_path / "Ada's study" / "bids")


class StandIn:
    """What the fMRIPrep stand-in shall do, and what it has done."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "pids").mkdir(parents=True)

    def behave(self, **turns):
        """Say what each attempt does: ``behave(s01=["crash", "ok"])``."""
        text = json.dumps({name[1:]: list(turn) for name, turn in turns.items()})
        (self.folder / "behaviour.json").write_text(text)
        for path in (self.folder / "pids").iterdir():
            path.unlink()

    def pids(self, kind="*"):
        """Process ids of those that have run."""
        return [int(path.name.rpartition("-")[2]) for path in sorted((self.folder / "pids").glob(f"*.{kind}-*"))]

    def words(self, subject):
        """The words of the last run of a subject, after the program's name."""
        paths = sorted((self.folder / "pids").glob(f"sub-{subject}.run-*"), key=os.path.getmtime)
        return json.loads(paths[-1].read_text())[1:]

    def left(self):
        """Those of them that still live."""
        return [pid for pid in self.pids() if is_alive(pid)]


def is_alive(pid):
    """Whether a process lives; one that has ended and was not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The stand-in, well-behaved until it is told otherwise."""
    monkeypatch.setenv("STAND_IN", str(tmp_path / "state"))
    for name in ("FS_LICENSE", "FREESURFER_HOME"):
        monkeypatch.delenv(name, raising=False)
    return StandIn(tmp_path / "state")


@pytest.fixture
def make_settings(bids, tmp_path):
    """Settings of a preprocessing of `bids` by the stand-in, with changes."""
    (tmp_path / "licence.txt").write_text("licence")

    def make(**changes):
        defaults = {
            "bids_dir": str(bids), "output": str(tmp_path / "out put"), "fs_license_file": str(tmp_path / "licence.txt"),
            "cores": 1, "min_free_gb": 0.0,
        }
        way = {} if {"docker", "apptainer", "command"} & changes.keys() else {"command": COMMAND}
        return Settings(**{**defaults, **way, **changes})

    return make
