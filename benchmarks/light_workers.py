"""Workers that compute nothing: processes of their own that exchange vectors with running parameter servers.

What the benchmarks of the parameter servers share. Each process is started with the variables that Spark's workers get.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

from sparkneuro.environment import executor_environment
from sparkneuro.train.parameter_server.client import ParameterClient
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup

# Weights of the autoencoder of the dist-DCA paper, and the rule that it trains with.
N_VALUES = 6_023_549
RULE = {"name": "Adagrad", "learning_rate": 0.01}
# No worker here comes to the end of its batches.
LAST_CLOCK = 10**9
PATIENCE_S = 120.0


@contextmanager
def environment_of_workers():
    """Give processes that are started meanwhile the variables of a Spark worker with one core."""
    before = dict(os.environ)
    os.environ.update(executor_environment(1))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def start_servers(n_values, n_servers, n_workers=1):
    """Servers of a vector of zeros, as a context manager."""
    settings = ServerSettings(RULE, n_values, 0, 0, n_workers, 10**9)
    return ServerGroup(np.zeros(n_values, np.float32), settings, n_servers, DriverServers("127.0.0.1"))


class WorkerPool:
    """Processes that workers run in; as many as the largest of the crowds that are to start together.

    Parameters
    ----------
    crowds : iterable of int
        Numbers of workers that `run` will be asked for.
    """

    def __init__(self, crowds):
        context = multiprocessing.get_context("spawn")
        self._barriers = {n: context.Barrier(n) for n in crowds}
        self._pool = ProcessPoolExecutor(max(crowds), context, _remember, (self._barriers,))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(cancel_futures=True)

    def run(self, n_workers, task, *arguments):
        """Call ``task(number, wait, *arguments)`` in so many processes; what each returned.

        ``wait()`` returns when all of them have called it.
        """
        with environment_of_workers():
            futures = [self._pool.submit(_call, task, number, n_workers, arguments) for number in range(n_workers)]
            return [future.result() for future in futures]


def _remember(barriers):
    global _barriers
    _barriers = barriers


def _call(task, number, n_workers, arguments):
    return task(number, lambda: _barriers[n_workers].wait(PATIENCE_S), *arguments)


class LightWorker:
    """One worker: registers, and exchanges a random gradient again and again.

    Parameters
    ----------
    addresses : list of str
        ``host:port`` of the servers.
    credentials : Credentials
        The run's.
    n_values : int
        Length of the vector.
    wire_type : str
        What crosses the network.
    partition : int
        Who this is. Several workers of one process may share it, one after the other.
    """

    def __init__(self, addresses, credentials, n_values, wire_type="float32", partition=0):
        self._client = ParameterClient(lambda: addresses, credentials, n_values, wire_type=wire_type)
        self._gradient = np.random.default_rng(partition).normal(0, 1e-3, n_values).astype(np.float32)
        self._partition = partition
        self._versions = [0] * len(addresses)

    def __enter__(self):
        self._clock = self._client.register(self._partition, 1, LAST_CLOCK)
        return self

    def __exit__(self, *exception):
        self._client.close()

    def __call__(self, verb="push_pull"):
        """Exchange once: push_pull, push or pull."""
        if verb == "pull":
            self._client.pull(self._partition)
            return
        self._clock += 1
        push = Push(self._partition, 1, self._clock, 1, 1, 1.0, 0)
        answer = getattr(self._client, verb)(push, self._gradient, self._versions, PATIENCE_S)
        self._versions = answer[1] if verb == "push_pull" else answer


def cpu_seconds(pid):
    """CPU time of a process so far (s), to the nanosecond; Linux."""
    return time.clock_gettime((~pid << 3) | 2)
