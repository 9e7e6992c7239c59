import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.server_group import ServerGroup

RULE = {"name": "Adagrad", "learning_rate": 0.1}
VALUES = np.arange(7, dtype=np.float32)


def make_group(n_servers=2, host="127.0.0.1"):
    return ServerGroup(VALUES, 5, n_servers, host, RULE, warmup_steps=0, n_partitions=1, rows_per_epoch=10)


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
        np.testing.assert_array_equal(group.client.pull(), VALUES)
        pids = [process.pid for process in group._processes]
        assert len(set(group.addresses)) == 3 and all(map(is_running, pids))
    assert not any(map(is_running, pids))


def test_servers_stop_when_the_block_fails():
    with pytest.raises(RuntimeError, match="on purpose"), make_group() as group:
        pids = [process.pid for process in group._processes]
        raise RuntimeError("on purpose")
    assert not any(map(is_running, pids))


def test_a_dead_server_is_noticed():
    with make_group() as group:
        group.check_alive()
        os.kill(group._processes[1].pid, signal.SIGKILL)
        group._processes[1].wait()
        with pytest.raises(TrainingError, match="parameter server 1 at .* ended with status -9"):
            group.check_alive()


def test_an_address_that_cannot_be_bound_is_one_clear_sentence():
    with pytest.raises(TrainingError, match="did not start on 192.0.2.1"), make_group(1, "192.0.2.1"):
        pass


def test_servers_do_not_outlive_a_driver_that_is_killed():
    script = textwrap.dedent("""
        import time
        from tests_group import make_group
        with make_group() as group:
            print(*(process.pid for process in group._processes), flush=True)
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
        folder = f"/proc/{group._processes[0].pid}"
        shown = open(f"{folder}/cmdline").read() + open(f"{folder}/environ").read()
        assert group.token not in shown and len(group.token) >= 32


def _definition():
    return (
        "import numpy as np\n"
        "from sparkneuro.train.server_group import ServerGroup\n"
        "def make_group():\n"
        f"    return ServerGroup(np.arange(7, dtype='f4'), 5, 2, '127.0.0.1', {RULE!r}, 0, 1, 10)\n"
    )
