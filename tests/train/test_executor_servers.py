"""Servers on executors, without a cluster: where they fit, where they are, and how they come back."""

import os
import re
import signal
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
psutil = pytest.importorskip("psutil", reason="needs the dev extra")

from sparkneuro.errors import SettingsError, TrainingError  # noqa: E402
from sparkneuro.train import executor_servers  # noqa: E402
from sparkneuro.train.executor_servers import check_slots, own_address, serve_task  # noqa: E402
from sparkneuro.train.parameter_server import server_group  # noqa: E402
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings  # noqa: E402
from sparkneuro.train.parameter_server.credentials import make_credentials  # noqa: E402
from sparkneuro.train.parameter_server.directory import Directory  # noqa: E402
from sparkneuro.train.parameter_server.push import ServerSettings  # noqa: E402
from sparkneuro.train.parameter_server.server_group import SupervisedServer  # noqa: E402
from sparkneuro.train.parameter_server.shard_client import ShardClient  # noqa: E402

pytestmark = pytest.mark.processes

RULE = {"name": "SGD", "learning_rate": 1.0}
FIRST = np.arange(5, dtype=np.float32)


@pytest.mark.parametrize(
    "slots, n_workers, n_servers, synchronous, said",
    [
        (4, 4, 0, False, None),
        (4, 2, 2, False, None),
        (4, 2, 2, True, None),
        (1, 1, 0, True, None),
        (2, 1, 1, False, None),
        (4, 5, 0, False, "5 workers on 4 slots: the workers train in 2 waves, each with all epochs; with --workers 4 they"),
        (4, 3, 2, False, "3 workers and 2 parameter servers on 4 slots: the workers train in 2 waves.*with --workers 2 they"),
        (4, 9, 1, False, "9 workers and 1 parameter server on 4 slots: the workers train in 3 waves.*with --workers 3 they"),
        (2, 7, 1, False, "in 7 waves"),
    ],
)
def test_who_fits_is_not_told_anything_and_who_comes_in_waves_is(slots, n_workers, n_servers, synchronous, said):
    notice = check_slots(slots, n_workers, n_servers, synchronous)
    assert (notice is None) == (said is None)
    assert notice is None or re.search(said, notice)


@pytest.mark.parametrize(
    "slots, n_workers, n_servers, synchronous, said",
    [
        (2, 1, 2, False, "2 parameter servers on executors need 3 slots, one of them for a worker; the cluster has 2"),
        (1, 1, 1, True, "1 parameter servers on executors need 2 slots"),
        (1, 4, 3, False, "3 parameter servers on executors need 4 slots"),
        (4, 5, 0, True, "runs all workers at once: 5 workers do not fit on 4 slots; take --workers 4"),
        (4, 4, 1, True, "4 workers and 1 parameter server do not fit on 4 slots; take --workers 3"),
    ],
)
def test_what_would_never_start_is_refused(slots, n_workers, n_servers, synchronous, said):
    with pytest.raises(SettingsError, match=said):
        check_slots(slots, n_workers, n_servers, synchronous)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_own_address_is_that_on_the_way_to_the_driver(host):
    assert own_address(f"{host}:4040") in ("127.0.0.1", "::1")


def test_the_own_address_can_be_bound():
    address = own_address("192.0.2.1:4040") if _has_route() else own_address("127.0.0.1:4040")
    with socket.create_server((address, 0)):
        pass


def _has_route():
    try:
        own_address("192.0.2.1:4040")
    except OSError:
        return False
    return True


def make_settings(folder, **options):
    checkpoints = None if folder is None else CheckpointSettings(str(folder), every=1)
    return ServerSettings(RULE, 5, 0, 0, 1, 10, checkpoints=checkpoints, **options)


@pytest.fixture
def credentials():
    return make_credentials()


@pytest.fixture
def supervise(tmp_path, credentials):
    """Start supervised servers with ``supervise()``; they stop with the test."""
    servers = []

    def start(folder=tmp_path):
        servers.append(SupervisedServer(make_settings(folder), "127.0.0.1", credentials))
        servers[-1].wait_until_ready()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def kill(server):
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


def call(server, credentials, verb, *arguments):
    client = ShardClient(f"127.0.0.1:{server.port}", credentials, 5)
    try:
        return getattr(client, verb)(*arguments)
    finally:
        client.close()


def test_a_killed_server_comes_back_with_its_weights(supervise, credentials):
    server = supervise()
    call(server, credentials, "exchange", "initialise", FIRST)
    assert not server.revive() and not server.has_ended()
    pid = server.pid
    kill(server)
    assert server.revive() and server.restarts == 1 and server.pid != pid
    np.testing.assert_array_equal(call(server, credentials, "exchange", "pull")[1], FIRST)
    assert not server.revive()


def test_a_server_that_was_told_to_stop_stays_stopped(supervise, credentials):
    server = supervise()
    call(server, credentials, "act", "stop")
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
    assert server.has_ended() and not server.revive() and server.restarts == 0


def test_a_server_without_checkpoints_does_not_come_back(supervise):
    server = supervise(None)
    kill(server)
    with pytest.raises(
        TrainingError, match="parameter server 0 ended with status -9; with checkpoints it would have been started"
    ):
        server.revive()


def test_a_server_that_dies_as_soon_as_it_starts_is_given_up_and_one_that_lived_is_not(supervise, monkeypatch):
    monkeypatch.setattr(server_group, "SHORT_LIVES", 2)
    server = supervise()
    kill(server)
    assert server.revive()
    server._started -= 60  # it has lived for a minute
    for _ in range(2):
        kill(server)
        assert server.revive()
    kill(server)
    with pytest.raises(TrainingError, match="ended with status -9 2 times in a row"):
        server.revive()


@pytest.fixture
def directory(credentials):
    directory = Directory(1, "127.0.0.1", credentials)
    yield directory
    directory.stop()


@pytest.fixture
def running_task(tmp_path, credentials, directory, monkeypatch):
    """One shard's task, in a thread; ends with the test."""
    monkeypatch.setattr(executor_servers, "KEEP_S", 0.05)
    monkeypatch.setattr(executor_servers, "ORPHANED_S", 0.2)
    restarts = []
    shards = iter([(0, make_settings(tmp_path))])
    task = threading.Thread(target=lambda: restarts.extend(serve_task(shards, directory.address, credentials)), daemon=True)
    task.restarts = restarts
    task.start()
    directory.wait(60.0)
    yield task
    directory.announce(0, "elsewhere:1")
    task.join(20)
    assert not task.is_alive()


def client_of(directory, credentials):
    return ShardClient(directory.addresses()[0], credentials, 5)


def test_a_task_ends_with_its_server(running_task, directory, credentials):
    client_of(directory, credentials).act("stop")
    running_task.join(20)
    assert running_task.restarts == [0]


def test_a_task_announces_its_server_again_when_it_had_died(running_task, directory, credentials):
    client = client_of(directory, credentials)
    client.exchange("initialise", FIRST)
    before = directory.addresses()
    (process,) = [p for p in psutil.Process().children() if "server_process" in " ".join(p.cmdline())]
    process.kill()
    deadline = time.monotonic() + 20
    while directory.addresses() == before and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    again = client_of(directory, credentials)
    np.testing.assert_array_equal(again.exchange("pull")[1], FIRST)
    again.act("stop")
    running_task.join(20)
    assert running_task.restarts == [1]


def test_a_task_whose_place_another_has_taken_ends(running_task, directory, credentials):
    client = client_of(directory, credentials)
    directory.announce(0, "elsewhere:1")
    running_task.join(20)
    assert running_task.restarts == [0]
    with pytest.raises(TrainingError, match="cannot be reached"):
        client.act("status")


def test_a_task_whose_driver_is_gone_ends(running_task, directory, credentials):
    client = client_of(directory, credentials)
    directory.stop()
    running_task.join(20)
    assert running_task.restarts == [0]
    with pytest.raises(TrainingError, match="cannot be reached"):
        client.act("status")
