"""`sparkneuro status`: it asks real directories on loopback, and believes no file of a training that is gone."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import numpy as np
import pytest

from sparkneuro import cli
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines import status
from sparkneuro.pipelines.status import Settings, describe, list_trainings, run, summarise
from sparkneuro.train.parameter_server.credentials import make_credentials
from sparkneuro.train.parameter_server.directory import Directory
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer
from sparkneuro.train.run_file import published, read_runs

# A training in its third epoch, as its driver sets it.
STATUS = {
    "ready": True, "version": 250, "registered": [0, 1, 2, 3], "unfinished": [0, 2, 3], "warming_up": False, "stopping": False,
    "checkpoint_version": 200, "checkpoint_error": None, "rows": 2500, "loss": 0.4321, "staleness_max": 5,
    "epochs": [{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5}], "series_per_s": 50.0, "startup_s": 9.0, "idle_s": 1.6,
    "versions": [250, 249], "bad_calls": 6, "restarts": 1, "n_rows_total": 10000,
    "history": [{"epoch": 1, "validation_loss": 0.95}, {"epoch": 2, "validation_loss": None}],
}  # fmt: skip
FACTS = {"n_workers": 4, "n_servers": 2, "epochs": 8, "n_rows_total": 10000}


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch):
    """Runs of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / f"sparkneuro-{os.geteuid()}"


@pytest.fixture
def train():
    """Pretend a training with ``train(answer, output=..., tls=...)``; returns its directory."""
    with ExitStack() as stack:

        def start(answer=None, tls=False, **facts):
            credentials = make_credentials(tls)
            directory = Directory(FACTS["n_servers"], "127.0.0.1", credentials)
            stack.callback(directory.stop)
            directory.status = STATUS if answer is None else answer
            stack.enter_context(published(directory.address, credentials, **{**FACTS, "output": "rest.model", **facts}))
            return directory

        yield start


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_running_training_is_shown_with_what_its_driver_says(train, tls):
    if tls:
        pytest.importorskip("cryptography", reason="needs the tls extra")
    train(tls=tls)
    shown = run(Settings(), None)
    for part in (
        f"rest.model (process {os.getpid()}, since ", "): training", "3 of 8", "2,500 of 10,000 (25.0 %)", "0.4321", "0.95",
        "50", "at most 5 in this epoch", "4 of 4 registered, 3 of them unfinished", "2, after 250, 249 updates; started again 1",
        "after 200 updates", "2 s ago", "about 2 min 30 s",
    ):  # fmt: skip
        assert part in shown
    assert ["refused", "calls", "6"] in [line.split() for line in shown.splitlines()]


def test_all_that_a_server_says_can_be_shown(train):
    server = ParameterServer(ServerSettings({"name": "SGD", "learning_rate": 1.0}, 3, 2, 0, n_partitions=1, rows_per_epoch=100))
    train({**server.status(), "versions": [server.version]})
    assert "0 of 10,000 (0.0 %)" in run(Settings(), None)
    server.initialise(np.float32([1, 2, 3, 10, 20]))
    server.register(0, attempt=1, last_clock=4)
    server.push(Push(partition=0, attempt=1, clock=1, n_batches=1, rows=6, loss=3.0, version=0), np.ones(5, np.float32), True)
    train({**server.status(), "versions": [server.version]}, output="later.model")
    shown = describe(list_trainings("later.model")[0])
    assert "6 of 10,000" in shown and "0.5" in shown and "1 of 4 registered, 1 of them unfinished" in shown


@pytest.mark.parametrize("missing", [*STATUS, "everything"])
def test_what_the_driver_does_not_say_is_not_shown(train, missing):
    train({name: value for name, value in STATUS.items() if name != missing and missing != "everything"})
    (training,) = list_trainings()
    assert "None" not in describe(training)


def test_a_training_without_workers_is_starting(train):
    train({})
    shown = run(Settings(), None)
    assert ": starting" in shown and "4 expected" in shown and "left" not in shown


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"warming_up": True}, "warming up"),
        ({"stopping": True}, "ending early"),
        ({"registered": []}, "starting"),
        ({}, "training"),
    ],
)
def test_the_state_is_that_of_the_servers(change, state):
    assert summarise(FACTS, {**STATUS, **change}, now=0.0)["state"] == state


def test_the_last_epoch_stays_the_last():
    ended = {**STATUS, "epochs": [{"epoch": number} for number in range(1, 9)], "rows": 10000}
    training = summarise(FACTS, ended, now=0.0)
    assert (training["epoch"], training["percent"], training["left_s"]) == (8, 100.0, 0.0)


def test_the_time_left_is_that_of_the_rows_left_at_the_steady_rate():
    assert summarise({"started": 40.0}, STATUS, now=100.0)["left_s"] == pytest.approx((10000 - 2500) / 50)
    assert summarise({"started": 40.0}, STATUS, now=100.0)["elapsed_s"] == pytest.approx(60)
    assert summarise({}, {**STATUS, "series_per_s": None}, now=100.0)["left_s"] is None


def test_a_checkpoint_that_failed_is_told():
    failed = {**STATUS, "checkpoint_error": "the disk is full."}
    assert "after 200 updates; the newest failed: the disk is full." in describe(summarise(FACTS, failed, now=0.0))
    assert "none; the newest failed" in describe(summarise(FACTS, {**failed, "checkpoint_version": None}, now=0.0))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3600, "1 h 0 min"), (90061, "25 h 1 min")]
)
def test_times_are_told_in_the_units_of_people(seconds, text):
    line = describe(summarise({"started": 0.0}, {}, now=seconds)).splitlines()[-1]
    assert line.split(maxsplit=1) == ["elapsed", text]


def test_no_training_is_said_in_one_sentence():
    assert run(Settings(), None) == "no training of this user is running on this machine."
    assert "that writes rest.model is running" in run(Settings(output="rest.model"), None)


def test_only_the_wanted_training_is_shown(train, monkeypatch, tmp_path):
    train(output="rest.model")
    train(output="s3://bucket/other.model")
    assert len(list_trainings()) == 2
    (wanted,) = list_trainings("s3://bucket/other.model")
    assert wanted["output"] == "s3://bucket/other.model"
    absolute = os.path.abspath("rest.model") + "/"
    monkeypatch.chdir(tmp_path)
    assert [training["output"] for training in list_trainings(absolute)] == ["rest.model"]
    assert list_trainings("rest.model/of/nobody") == []


def test_the_file_of_a_training_that_nobody_answers_for_is_deleted(train):
    train(output="kept.model")
    train(output="gone.model").stop()
    assert [training["output"] for training in list_trainings()] == ["kept.model"]
    assert [found.facts["output"] for found in read_runs()] == ["kept.model"]


def test_the_file_of_a_training_whose_place_another_has_taken_is_deleted(train):
    directory = train(output="kept.model")
    with published(directory.address, make_credentials(), output="gone.model"):
        assert [training["output"] for training in list_trainings()] == ["kept.model"]
        assert [found.facts["output"] for found in read_runs()] == ["kept.model"]


def test_a_web_proxy_in_the_environment_is_not_asked(train, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    train()
    assert len(list_trainings()) == 1 and len(read_runs()) == 1


@pytest.fixture
def silent():
    """Address of somebody who listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_driver_that_lives_and_does_not_answer_stays_listed(silent, monkeypatch):
    monkeypatch.setattr(status, "ANSWER_S", 0.2)
    with published(silent, make_credentials(), output="rest.model", n_workers=4):
        shown = run(Settings(), None)
        assert ": does not answer within 0.2 s" in shown and "4 expected" in shown
        assert len(read_runs()) == 1


def test_a_driver_that_is_dead_and_does_not_answer_is_not_listed(silent, monkeypatch):
    monkeypatch.setattr(status, "ANSWER_S", 0.2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    with published(silent, make_credentials(), pid=ended.pid):
        assert list_trainings() == [] and read_runs() == []


def test_json_has_every_training_and_no_secret(train):
    train()
    shown = run(Settings(json=True), None)
    (training,) = json.loads(shown)
    assert (training["rows"], training["validation_loss"], training["state"]) == (2500, 0.95, "training")
    (found,) = read_runs()
    assert found.credentials.token not in shown and "credentials" not in shown
    assert "\n" not in shown


def test_json_without_a_training_is_an_empty_list():
    assert run(Settings(json=True), None) == "[]"


def test_watching_ends_with_the_last_training(train, monkeypatch, capsys):
    directory = train()
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            directory.stop()

    monkeypatch.setattr(time, "sleep", wait)
    assert run(Settings(watch=1.5), None) == "no training of this user is running on this machine."
    assert capsys.readouterr().out.count("rest.model (process") == 2
    assert waits == [1.5, 1.5]


def test_watching_ends_well_when_the_user_ends_it(train, monkeypatch, capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    train()
    monkeypatch.setattr(time, "sleep", interrupt)
    assert cli.main(["status", "--watch", "2"]) == 0
    shown = capsys.readouterr()
    assert "rest.model (process" in shown.out and shown.err == ""


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_an_interval_that_makes_no_sense_is_refused(seconds):
    with pytest.raises(SettingsError, match="watch must be a number above 0"):
        run(Settings(watch=seconds), None)


def test_the_command_finds_a_training_of_another_process_and_loads_nothing_heavy(train, tmp_path):
    train()
    check = (
        "import sys; from sparkneuro.cli import main; code = main(['status'])\n"
        "print(code, [name for name in ('tensorflow', 'keras', 'pyspark', 'pandas', 'scipy') if name in sys.modules])"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("rest.model (process") and lines[-1] == "0 []"
