import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup

pytestmark = pytest.mark.processes

RULE = {"name": "Adagrad", "learning_rate": 0.1}
VALUES = np.arange(7, dtype=np.float32)


def make_group(n_servers=2, host="127.0.0.1", folder=None, resume=False, **options):
    checkpoints = None if folder is None else CheckpointSettings(str(folder), every=2)
    settings = ServerSettings(RULE, 5, 2, 0, 1, 10, checkpoints=checkpoints)
    return ServerGroup(VALUES, settings, n_servers, DriverServers(host), resume=resume, **options)


def pids_of(group):
    return group._place.pids()


def push(client, clock, patience_s=20.0):
    client.push(Push(0, 1, clock, 1, 2, 1.0, 0), np.ones(7, np.float32), [clock - 1] * len(client.shards), patience_s)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_servers_start_with_the_weights_and_stop_with_the_block():
    with make_group(3) as group:
        np.testing.assert_array_equal(group.client.pull()[0], VALUES)
        pids = pids_of(group)
        assert len(set(group.directory.addresses())) == 3 and all(map(is_running, pids))
    assert not any(map(is_running, pids))


def test_servers_stop_when_the_block_fails():
    with pytest.raises(RuntimeError, match="on purpose"), make_group() as group:
        pids = pids_of(group)
        raise RuntimeError("on purpose")
    assert not any(map(is_running, pids))


def test_without_checkpoints_a_dead_server_is_the_end():
    with make_group() as group:
        group.maintain()
        kill(group, 1)
        with pytest.raises(TrainingError, match="parameter server 1 ended with status -9; with checkpoints it would have been"):
            group.maintain()


def kill(group, shard):
    server = group._place._servers[shard]
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: server._process.exit_status() is not None)


def test_a_dead_server_comes_back_with_its_last_checkpoint(tmp_path):
    with make_group(folder=tmp_path) as group:
        client = group.connect()
        client.register(0, 1, 9)
        for clock in (1, 2, 3):
            push(client, clock)
        after_three = client.pull()[0]
        kill(group, 1)
        status = group.ask(lambda client: client.status(), 20)
        assert status["versions"] == [3, 2] and group.restarts == 1  # a checkpoint every two updates: one is lost at one shard
        client.reconnect(20)
        assert client.register(0, 1, 9) == 2
        push(client, 3)  # the first shard has it already
        np.testing.assert_array_equal(client.pull()[0], after_three)
        client.close()


def test_servers_go_on_from_their_checkpoints_when_asked_to(tmp_path):
    with make_group(folder=tmp_path) as group:
        group.client.register(0, 1, 9)
        push(group.client, 1)
        push(group.client, 2)
        before = group.client.pull()[0]
    with make_group(folder=tmp_path, resume=True) as group:
        np.testing.assert_array_equal(group.client.pull()[0], before)
        assert group.client.register(0, 2, 9) == 2
    with make_group(folder=tmp_path) as group:
        np.testing.assert_array_equal(group.client.pull()[0], VALUES)


def test_a_server_that_dies_again_and_again_is_given_up(tmp_path):
    with make_group(1, folder=tmp_path) as group:
        with pytest.raises(TrainingError, match="parameter server 0 ended with status -9 3 times in a row"):
            for _ in range(4):
                kill(group, 0)
                group.maintain()


def test_an_address_that_cannot_be_bound_is_one_clear_sentence():
    with pytest.raises(TrainingError, match="did not start on 192.0.2.1"), make_group(1, "192.0.2.1"):
        pass


def test_servers_do_not_outlive_a_driver_that_is_killed():
    script = textwrap.dedent("""
        import time
        from tests_group import make_group
        with make_group() as group:
            print(*group._place.pids(), flush=True)
            time.sleep(60)
    """).replace("from tests_group import make_group", _definition())
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_running, pids))
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert wait_until(lambda: not any(map(is_running, pids)))


def test_the_token_is_neither_in_arguments_nor_in_the_environment():
    with make_group(1) as group:
        folder = f"/proc/{pids_of(group)[0]}"
        shown = open(f"{folder}/cmdline").read() + open(f"{folder}/environ").read()
        assert group.credentials.token not in shown and len(group.credentials.token) >= 32


def _definition():
    return (
        "import numpy as np\n"
        "from sparkneuro.train.parameter_server.push import ServerSettings\n"
        "from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup\n"
        "def make_group():\n"
        f"    settings = ServerSettings({RULE!r}, 5, 2, 0, 1, 10)\n"
        "    return ServerGroup(np.arange(7, dtype='f4'), settings, 2, DriverServers('127.0.0.1'))\n"
    )
