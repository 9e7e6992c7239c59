"""``sparkneuro merge`` as a process of its own, killed in the middle with all its processes, and run again: the same bytes."""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.pipelines import merge

_spec = importlib.util.spec_from_file_location("scattered", Path(__file__).with_name("scattered.py"))
scattered = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scattered)

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 900


def start_merge(sources, output):
    """Start the command in a process group of its own."""
    program = "import sys; from sparkneuro.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", program, "merge", *sources, "--output", output, "--t-r", "2", "--voxel-size", "6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_MASTER": "local[2]"}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_merge(process):
    """End the command as a power cut would: SIGKILL to its group, and to the Python workers of Spark, which left it."""
    psutil = pytest.importorskip("psutil")
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(children, timeout=30)
    process.communicate(timeout=60)


def run_until(process, is_reached):
    """Wait until something has happened, while the command still runs."""
    deadline = time.monotonic() + DEADLINE
    while not is_reached():
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline
        else:
            raise AssertionError(f"the command ended first: {process.communicate()}")


def has_receipts(folder, number):
    """Whether so many runs have their receipt anywhere below a folder."""
    names = (name.rpartition("/")[2] for name in store.list_files(folder, recursive=True))
    return len([name for name in names if name.startswith("sub-") and name.endswith(".json")]) >= number


def hash_files(folder):
    """The sha256 of every file below a folder, by name."""
    names = store.list_files(folder, recursive=True)
    return {name: hashlib.sha256(store.read_bytes(store.join(folder, name))).hexdigest() for name in names}


def kill_and_finish(sources, output, **stops):
    """Kill the command whenever so many runs are done below a folder; then let it end. Returns its sentence."""
    for folder, number in stops.items():
        process = start_merge(sources, output)
        run_until(process, partial(has_receipts, store.join(output, folder), number))
        kill_merge(process)
        assert not store.exists(store.join(output, "voxel_table.json"))
    process = start_merge(sources, output)
    sentence, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, complaint
    return sentence


@pytest.mark.engine
@pytest.mark.processes
def test_killed_and_run_again_a_cohort_of_three_data_sets_has_the_same_bytes(tmp_path, monkeypatch):
    sources = [scattered.write_dataset(str(tmp_path / f"d{number}"), number, n) for number, n in enumerate((3, 3, 2))]
    settings = merge.Settings(tuple(sources), output=str(tmp_path / "here.voxels"), t_r="2", voxel_size=6.0)
    monkeypatch.setattr(
        data_spark, "run_jobs", lambda spark, function, jobs: ([function(job) for job in json.loads(json.dumps(jobs))], [])
    )
    merge.run(settings, None)
    sentence = kill_and_finish(sources, str(tmp_path / "killed.voxels"), _runs=2)
    assert "the cohort has 8 runs of 8 subjects" in sentence
    assert hash_files(str(tmp_path / "killed.voxels")) == hash_files(settings.output)


@pytest.fixture
def bucket(monkeypatch):
    """URI of an empty bucket of an S3 server on this machine."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="cohorts")
    yield "s3://cohorts"
    server.stop()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(3600)
def test_two_hundred_subjects_of_ten_data_sets_become_one_cohort_in_a_bucket_though_killed_twice(tmp_path, bucket):
    sources = [scattered.write_dataset(str(tmp_path / f"d{number}"), number, 20) for number in range(10)]
    undisturbed, killed = f"{bucket}/undisturbed/cohort.voxels", f"{bucket}/killed/cohort.voxels"
    process = start_merge(sources, undisturbed)
    sentence, complaint = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, complaint
    assert "200 runs of 10 data sets merged" in sentence and "200 runs of 200 subjects" in sentence
    sentence = kill_and_finish(sources, killed, _datasets=70, _runs=60)
    assert "the cohort has 200 runs of 200 subjects" in sentence
    assert hash_files(killed) == hash_files(undisturbed)
    table = VoxelTable.open(killed)
    assert len({run.subject for run in table.runs}) == 200 and {run.t_r for run in table.runs} == {2.0}
    assert len({tuple(entry["shape"]) for entry in table.settings["datasets"]}) >= 8
    assert len({entry["t_r"][0] for entry in table.settings["datasets"]}) == 10
