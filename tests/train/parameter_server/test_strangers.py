"""A training goes on, and ends with the same weights to the bit, while strangers attack its servers."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

psutil = pytest.importorskip("psutil", reason="needs the dev extra")

from sparkneuro.data.batches import BatchSequence  # noqa: E402
from sparkneuro.errors import TrainingError  # noqa: E402
from sparkneuro.train.downpour import DownpourSettings, train_partition  # noqa: E402
from sparkneuro.train.parameter_server.credentials import Credentials  # noqa: E402
from sparkneuro.train.parameter_server.push import ServerSettings  # noqa: E402
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup  # noqa: E402
from sparkneuro.train.parameter_server.shard_client import ShardClient  # noqa: E402

pytestmark = pytest.mark.processes

N_VALUES, N_SERVERS, N_BATCHES = 300_001, 2, 300
RULE = {"name": "Adagrad", "learning_rate": 0.01}
FIRST = np.random.default_rng(0).normal(0, 1, N_VALUES).astype(np.float32)
# What a server may take beyond what it takes undisturbed (MB): a few of the largest messages of strangers.
MOST_MB = 600


class Gradients:
    """Of the norm of the weights: the same steps, the same weights."""

    def compute(self, vector, x):
        return 1.0, vector * np.float32(0.01)


def train(group):
    """Train one partition; return the weights and how long it took."""
    sequence = BatchSequence(np.arange(N_BATCHES, dtype=np.float32)[:, None], 1, 1)
    client = group.connect()
    try:
        begun = time.monotonic()
        train_partition(client, Gradients(), sequence, 0, 0, DownpourSettings(1, 1, RULE, N_VALUES, timeout_s=60))
        return client.pull()[0], time.monotonic() - begun
    finally:
        client.close()


def make_group(tls):
    settings = ServerSettings(RULE, N_VALUES, 0, 0, 1, N_BATCHES)
    return ServerGroup(FIRST, settings, N_SERVERS, DriverServers("127.0.0.1"), tls=tls)


@contextlib.contextmanager
def strangers(group, trap):
    """Let them in; yields a function that ends them and returns how often they did what."""
    credentials = group.credentials
    request = {
        "addresses": group.directory.addresses(), "n_values": -(-N_VALUES // N_SERVERS), "trap": str(trap),
        "credentials": {"token": credentials.token, "certificate": credentials.certificate, "key": credentials.key},
    }  # fmt: skip
    program = [sys.executable, str(Path(__file__).with_name("strangers.py"))]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "begun\n"

        def end():
            process.stdin.close()
            return json.loads(process.stdout.readline())

        yield end
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class MemoryWatch(threading.Thread):
    """The most memory that any server has taken (MB)."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.most_mb, self._ended = 0, threading.Event()
        self._processes = [psutil.Process(pid) for pid in pids]

    def run(self):
        while not self._ended.wait(0.05):
            self.most_mb = max([self.most_mb, *(process.memory_info().rss // 2**20 for process in self._processes)])

    def stop(self):
        self._ended.set()
        self.join()
        return self.most_mb


def replay(address, credentials, captured, stop, answers):
    """Send again what a worker has sent, until told to stop."""
    client = ShardClient(address, credentials, N_VALUES)
    while not stop.is_set():
        for verb, values, header in captured:
            answers.append(client.exchange(verb, values, **header)[0]["verdict"])
        stop.wait(0.05)
    client.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_training_that_strangers_attack_ends_with_the_same_weights(tmp_path, monkeypatch, tls, record_property):
    if tls:
        pytest.importorskip("cryptography", reason="needs the tls extra")
    with make_group(tls) as group:
        memory = MemoryWatch(group._place.pids())
        memory.start()
        undisturbed, undisturbed_s = train(group)
        undisturbed_mb = memory.stop()

    captured, answers, enough, stop = [], [], threading.Event(), threading.Event()
    exchange = ShardClient.exchange

    def capture(self, verb, values=None, wire_type="float32", **header):
        answer = exchange(self, verb, values, wire_type, **header)
        if verb == "push_pull" and self._name.startswith("parameter server 0") and not enough.is_set():
            captured.append((verb, np.array(values), header))
            if len(captured) == 5:
                enough.set()
        return answer

    trap = tmp_path / "unpickled"
    with make_group(tls) as group:
        pids = group._place.pids()
        memory = MemoryWatch(pids)
        memory.start()
        with strangers(group, trap) as end:
            monkeypatch.setattr(ShardClient, "exchange", capture)
            address = group.directory.addresses()[0]

            def replay_later():
                enough.wait(60)
                replay(address, group.credentials, captured, stop, answers)

            replaying = threading.Thread(target=replay_later, daemon=True)
            replaying.start()
            attacked, attacked_s = train(group)
            stop.set()
            replaying.join(20)
            status = group.client.status()
            ledgers = group.client.ledgers()
            most_mb, begun = memory.stop(), time.monotonic()
            group.stop()  # with strangers in the middle of their calls
            stopped_s = time.monotonic() - begun
            done = end()
    measured = {
        "undisturbed_s": undisturbed_s, "attacked_s": attacked_s, "undisturbed_mb": undisturbed_mb, "attacked_mb": most_mb,
        "stopped_s": stopped_s, "bad_calls": status["bad_calls"], "done": done,
    }  # fmt: skip
    record_property("measured", measured)
    print(json.dumps(measured))
    np.testing.assert_array_equal(attacked, undisturbed)
    assert [list(ledger) for ledger in ledgers] == [["0"], ["0"]] and ledgers[0]["0"]["clock"] == N_BATCHES
    assert status["registered"] == [0] and status["versions"] == [N_BATCHES] * 2
    assert set(answers) == {"duplicate"}
    assert all(done.values()) and len(done) == 13
    assert status["bad_calls"] > 20
    assert not trap.exists()
    assert attacked_s < 20 * undisturbed_s
    assert most_mb - undisturbed_mb < MOST_MB
    assert stopped_s < 10 and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_server_takes_as_many_connections_as_the_machine_allows():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with make_group(False) as group, contextlib.ExitStack() as idle:
            host, _, port = group.directory.addresses()[0].rpartition(":")
            limits = psutil.Process(group._place.pids()[0]).rlimit(psutil.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for _ in range(300 if hard > 1000 else 0):
                idle.enter_context(socket.create_connection((host, int(port)), timeout=5))
            client = group.connect()  # one more
            assert client.status()["ready"]
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert limits == (hard, hard)


def test_a_stranger_cannot_end_a_training():
    with make_group(False) as group:
        address = group.directory.addresses()[0]
        stranger = ShardClient(address, Credentials("a wrong token"), N_VALUES)
        for action in ("stop", "finish"):
            with pytest.raises(TrainingError, match="does not accept this run's token"):
                stranger.act(action)
        stranger.close()
        assert not group.client.status()["stopping"]
        assert all(os.path.exists(f"/proc/{pid}") for pid in group._place.pids())
