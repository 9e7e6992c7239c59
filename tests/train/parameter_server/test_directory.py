"""Servers that come, go and come back elsewhere, and how those who need them find them."""

import threading
from functools import partial

import numpy as np
import pytest

from sparkneuro.data.batches import BatchSequence
from sparkneuro.errors import SettingsError, TrainingError
from sparkneuro.train.downpour import DownpourSettings, train_partition
from sparkneuro.train.parameter_server import client as client_module
from sparkneuro.train.parameter_server.client import EndedEarly, ParameterClient
from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.parameter_server.directory import Directory, DirectoryClient
from sparkneuro.train.parameter_server.push import Push
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.server import ParameterServer

RULE = {"name": "SGD", "learning_rate": 1.0}
FIRST = np.arange(11, dtype=np.float32)
ONES = np.ones(11, np.float32)
PUSH = Push(partition=0, attempt=1, clock=1, n_batches=1, rows=6, loss=3.0, version=0)
CREDENTIALS = Credentials("the token of this test")


@pytest.fixture
def directory():
    directory = Directory(3, "127.0.0.1", CREDENTIALS)
    yield directory
    directory.stop()


@pytest.fixture
def asker(directory):
    asker = DirectoryClient(directory.address, CREDENTIALS)
    yield asker
    asker.close()


def wait_until(condition):
    for _ in range(2000):
        if condition():
            return True
        threading.Event().wait(0.005)
    return False


def test_who_asks_learns_where_the_servers_are(directory, asker):
    for shard in (2, 0, 1):
        asker.act("announce", shard=shard, address=f"host{shard}:1")
    assert asker.addresses() == directory.addresses() == ["host0:1", "host1:1", "host2:1"]
    asker.act("announce", shard=1, address="elsewhere:2")
    assert asker.addresses()[1] == "elsewhere:2"


def test_a_server_that_is_missing_is_named(directory, asker):
    directory.announce(0, "host0:1")
    for addresses in (directory.addresses, asker.addresses):
        with pytest.raises(ServerLost, match="parameter server 1 has not announced where it is"):
            addresses()
    for shard in (1, 2):
        directory.announce(shard, "host:1")
    directory.forget(2)
    with pytest.raises(ServerLost, match="parameter server 2 has not announced"):
        asker.addresses()


def test_only_the_server_that_was_announced_last_is_kept(directory, asker):
    directory.announce(1, "first:1")
    assert asker.act("keep", shard=1, address="first:1") == {"keep": True}
    directory.announce(1, "second:1")
    assert asker.act("keep", shard=1, address="first:1") == {"keep": False}
    assert asker.act("keep", shard=1, address="second:1") == {"keep": True}


@pytest.mark.parametrize("shard", [3, -1, 1.5, True, None, "0"])
def test_a_shard_that_does_not_exist_is_refused(directory, asker, shard):
    with pytest.raises(SettingsError, match="shard must be a whole number of at least 0 and of at most 2"):
        directory.announce(shard, "host:1")
    for action in ("announce", "keep"):
        with pytest.raises(TrainingError, match="shard must be a whole number"):
            asker.act(action, shard=shard, address="host:1")


def test_who_waits_for_servers_in_vain_is_told_for_which(directory):
    directory.announce(1, "host1:1")
    with pytest.raises(TrainingError, match="waited 0 s for parameter servers 0, 2 to start; has Spark executors"):
        directory.wait(0.0)


def test_waiting_ends_with_the_last_announcement(directory, asker, in_thread):
    waiting = in_thread(directory.wait, 20.0)
    for shard in range(3):
        asker.act("announce", shard=shard, address="host:1")
    waiting.result(timeout=10)


def test_waiting_ends_when_it_is_vain(directory):
    def check():
        raise TrainingError("the job of the parameter servers failed")

    with pytest.raises(TrainingError, match="the job of the parameter servers failed"):
        directory.wait(20.0, check)


def test_the_status_is_what_the_watcher_has_set(directory, asker):
    directory.status = {"rows": 7}
    assert asker.act("status") == {"rows": 7}


def test_a_driver_that_is_gone_is_named():
    gone = DirectoryClient("127.0.0.1:9", CREDENTIALS, timeout_s=5.0)
    with pytest.raises(ServerLost, match="the driver's directory at 127.0.0.1:9 cannot be reached"):
        gone.addresses()
    gone.close()


def serve_with_directory(serve, directory, n_servers=3, **settings):
    servers = serve(FIRST, 8, RULE, n_servers, credentials=CREDENTIALS, **settings)
    for shard, address in enumerate(servers.addresses):
        directory.announce(shard, address)
    return servers


def connect(asker, **options):
    return ParameterClient(asker.addresses, CREDENTIALS, 11, **options)


def test_a_client_waits_for_servers_that_start_late(serve, directory, asker, in_thread):
    waiting = in_thread(partial(connect, asker, wait_s=20.0))
    servers = serve_with_directory(serve, directory)
    client = waiting.result(timeout=10)
    np.testing.assert_array_equal(client.pull()[0], FIRST)
    client.close()
    assert len(servers.flights) == 3


def test_a_server_that_came_back_elsewhere_is_found(serve, directory, asker, tmp_path):
    from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings

    servers = serve_with_directory(serve, directory, checkpoints=CheckpointSettings(str(tmp_path), every=1))
    client = connect(asker)
    client.register(0, 1, 4)
    client.push(PUSH, ONES, [0] * 3, 20.0)
    after = client.pull()[0]
    servers.replace(1, ParameterServer(servers.shards[1].settings))
    with pytest.raises(ServerLost, match="parameter server 1 at .* cannot be reached"):
        client.pull()
    directory.announce(1, servers.addresses[1])
    client.reconnect(20.0)
    np.testing.assert_array_equal(client.pull()[0], after)
    assert client.register(0, 1, 4) == 1
    client.close()


def test_a_client_waits_until_a_server_that_came_back_has_weights(serve, directory, asker, in_thread):
    servers = serve_with_directory(serve, directory)
    client = connect(asker)
    servers.replace(2, ParameterServer(servers.shards[2].settings))  # it has lost all
    directory.announce(2, servers.addresses[2])
    with pytest.raises(ServerLost, match="waited 0.3 s for the parameter servers: a parameter server has no weights yet"):
        client.reconnect(0.3)
    waiting = in_thread(client.reconnect, 20.0)
    servers.connect().initialise(FIRST)
    waiting.result(timeout=10)
    np.testing.assert_array_equal(client.pull()[0], FIRST)
    client.close()


def test_who_waits_in_vain_for_a_lost_server_says_for_which(serve, directory, asker):
    servers = serve_with_directory(serve, directory)
    client = connect(asker)
    servers.flights[1].shutdown()
    with pytest.raises(ServerLost, match=r"waited 0.3 s for the parameter servers: parameter server 1 at .* cannot be reached"):
        client.reconnect(0.3)
    client.close()


def test_pauses_grow_while_a_server_is_looked_for(monkeypatch):
    pauses = []
    monkeypatch.setattr(client_module.time, "sleep", pauses.append)

    def find():
        if len(pauses) < 9:
            raise ServerLost("not yet")
        return []

    with pytest.raises((ValueError, ZeroDivisionError)):  # no server at all is no model
        ParameterClient(find, CREDENTIALS, 11, wait_s=100.0)
    assert pauses[0] == client_module.FIRST_PAUSE_S and max(pauses) == client_module.LONGEST_PAUSE_S and pauses == sorted(pauses)


def test_a_push_whose_answer_came_too_late_is_not_applied_again(serve, in_thread):
    servers = serve(FIRST, 8, RULE, n_servers=2)
    client = servers.connect(timeout_s=0.3)
    client.register(0, 1, 4)
    with servers.shards[1]._changed, pytest.raises(ServerLost, match="did not answer within 0.3 s"):
        client.push_pull(PUSH, ONES, [0, 0], 20.0)  # the second server stands still, and takes it afterwards
    assert wait_until(lambda: servers.shards[1].version == 1)
    patient = servers.connect()
    patient.reconnect(20.0)
    assert patient.register(0, 1, 4) == 1
    values, versions = patient.push_pull(PUSH, ONES, [0, 0], 20.0)  # as a worker does that was told 0 a moment before
    assert versions == [1, 1]
    np.testing.assert_array_equal(values, np.r_[FIRST[:8] - 1, FIRST[8:] + 1])


def test_a_lost_server_is_noticed_while_a_push_waits_at_another(serve):
    servers = serve(FIRST, 8, RULE, n_servers=2, n_partitions=2, mode="synchronous")
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    first = servers.shards[0]
    first.push, first.settle = partial(first.push, wait_s=0.2), partial(first.settle, wait_s=0.2)
    servers.flights[1].shutdown()
    with pytest.raises(ServerLost, match="parameter server 1 at .* cannot be reached"):
        client.push(PUSH, ONES, [0, 0], patience_s=600.0)  # the other partition may be waiting for us at the second server
    assert first.version == 0 and 0 in first._held


class OneByOne:
    """Gradients of ones; something happens before one of them."""

    def __init__(self, at, happen):
        self.calls, self._at, self._happen = 0, at, happen

    def compute(self, vector, x):
        self.calls += 1
        if self.calls == self._at:
            self._happen()
        return 1.0, ONES


def rows_of(n_rows):
    return np.repeat(np.arange(n_rows, dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("n_servers", [1, 3])
def test_workers_end_well_when_the_training_is_told_to_end(serve, n_servers, pipeline):
    servers = serve(FIRST, 8, RULE, n_servers)
    driver, worker = servers.connect(), servers.connect()
    sequence = BatchSequence(rows_of(40), 2, 3)
    gradients = OneByOne(7, driver.finish)
    settings = DownpourSettings(1, 1, RULE, 8, timeout_s=20, pipeline=pipeline)
    assert train_partition(worker, gradients, sequence, 0, 1, settings) == 0
    assert gradients.calls in (7, 8) and driver.status()["stopping"]
    assert {shard.version for shard in servers.shards} <= {5, 6}
    again = OneByOne(0, None)  # a retry, too, ends at its first push
    assert train_partition(servers.connect(), again, sequence, 0, 2, settings) == 0
    assert again.calls <= 2


def test_a_worker_whose_push_is_held_ends_with_the_training(serve, in_thread):
    servers = serve(FIRST, 8, RULE, n_servers=2, n_partitions=2, mode="synchronous")
    client = servers.connect()
    for partition in (0, 1):
        client.register(partition, 1, 4)
    waiting = in_thread(client.push, PUSH, ONES, [0, 0], 600.0)
    assert wait_until(lambda: all(0 in shard._held for shard in servers.shards))
    servers.connect().finish()
    with pytest.raises(EndedEarly, match="the training ends early"):
        waiting.result(timeout=10)
    assert [shard.version for shard in servers.shards] == [0, 0]
