"""A short training on a Spark cluster of two executor processes, the faults that can befall it, and what must hold after it.

The model is a linear autoencoder in numpy, so that a worker starts in no time. Beside its weights the vector holds probes at
both ends, one set for the first and one for the last shard: their gradient is known in advance for every batch, whole numbers
all of them, and the rule is plain SGD, so that the probes of a finished training must equal the replay of its ledger to the bit.
"""

import errno
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import psutil
from pyspark import TaskContext

from sparkneuro.train.downpour import DownpourSettings
from sparkneuro.train.executor_servers import ExecutorServers
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
from sparkneuro.train.parameter_server.push import ServerSettings
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup
from sparkneuro.train.spark import WorkerPlan, partition_frame, run_workers

N_SCANS, N_HIDDEN, N_PROBES = 13, 4, 3
N_WEIGHTS = 2 * N_SCANS * N_HIDDEN
N_VALUES = N_WEIGHTS + 2 * N_PROBES
RULE = {"name": "SGD", "learning_rate": 1.0}
LEARNING_RATE = 0.02
BATCH_SIZE, EPOCHS, N_WORKERS = 5, 6, 2


def make_series(n_rows, seed=0):
    """Numbered series: waves of two phases, with noise; the first scan of each is its number."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, (n_rows, 1))
    series = np.sin(np.arange(N_SCANS) * 0.7 + phases) + 0.1 * rng.standard_normal((n_rows, N_SCANS))
    series[:, 0] = np.arange(n_rows)
    return series.astype(np.float32)


def first_vector(seed=0):
    """Zero probes, and small random weights."""
    weights = 0.3 * np.random.default_rng(seed).standard_normal(N_WEIGHTS)
    return np.concatenate([np.zeros(N_PROBES), weights, np.zeros(N_PROBES)]).astype(np.float32)


def loss_and_gradient(vector, x):
    """Mean squared error of the linear autoencoder, and its gradient."""
    x = np.array(x)
    x[:, 0] = 0  # the number is no signal
    encoder, decoder = vector[N_PROBES:-N_PROBES].reshape(2, N_SCANS, N_HIDDEN)
    hidden = x @ encoder
    error = hidden @ decoder.T - x
    scale = 2 / error.size
    gradient = np.stack([scale * x.T @ (error @ decoder), scale * error.T @ hidden])
    return float((error**2).mean()), gradient.ravel()


def probes_of(x):
    """What a batch adds to the probes: one, its rows, and the sum of their numbers."""
    return np.float32([1, len(x), x[:, 0].sum()])


class ProbedGradients:
    """Gradient and probes of a batch, after a while, as a larger model would take."""

    def __init__(self, step_s, slow_s):
        self._step_s = step_s + slow_s

    def compute(self, vector, x):
        time.sleep(self._step_s)
        loss, gradient = loss_and_gradient(vector, x)
        probes = -probes_of(x)
        return loss, np.concatenate([probes, LEARNING_RATE * N_SCANS * gradient, probes]).astype(np.float32)


def make_probed(plan, row_counts, folder, step_s, slow):
    """Make the gradients of a worker, and leave its process's number and its executor's in a file's name."""
    partition = TaskContext.get().partitionId()
    daemon = psutil.Process().parent()
    executor = daemon.parent() if "daemon" in " ".join(daemon.cmdline()) else daemon
    name = f"worker-{partition}-{TaskContext.get().taskAttemptId()}-{os.getpid()}-{executor.pid}"
    open(os.path.join(folder, name), "w").close()
    return ProbedGradients(step_s, slow.get(partition, 0.0))


@dataclass
class Training:
    """A running training, as a fault sees it."""

    servers: ServerGroup
    folder: str
    checkpoints: str
    status: dict = field(default_factory=dict)

    def workers(self):
        """Partition -> (attempt, worker's process, executor's process) of the newest attempt."""
        newest = {}
        for name in os.listdir(self.folder):
            if name.startswith("worker-"):
                partition, attempt, worker, executor = map(int, name.split("-")[1:])
                newest[partition] = max(newest.get(partition, (-1, 0, 0)), (attempt, worker, executor))
        return newest

    def worker(self, partition):
        """(attempt, worker's process, executor's process) of a partition, or of the first that has come."""
        workers = self.workers()
        return workers.get(partition) or workers[min(workers)]

    def server_processes(self):
        """Numbers of the parameter servers' processes, wherever they run, in the order of their shards."""
        if isinstance(self.servers._place, DriverServers):
            return self.servers._place.pids()
        ports = [int(address.rpartition(":")[2]) for address in self.servers.directory.addresses()]
        listening = {c.laddr.port: c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        return [listening[port] for port in ports]


def train(spark, rows, folder, faults=(), n_servers=2, place="driver", step_s=0.03, slow=None, call_s=20.0, every=4,
          checkpoints=None, timeout_s=90.0, pipeline=False, **settings):  # fmt: skip
    """Run one training; each of `faults`, (share, fault), happens once when that share of the rows has come. Say how it ended."""
    checkpoints = CheckpointSettings(checkpoints or os.path.join(folder, "checkpoints"), every)
    frame, n_rows = partition_frame(rows, N_WORKERS)
    host = spark.conf.get("spark.driver.host")
    place = DriverServers(host) if place == "driver" else ExecutorServers(spark, host)
    server_settings = ServerSettings(RULE, N_VALUES, 0, 0, N_WORKERS, n_rows, checkpoints=checkpoints, **settings)
    synchronous = settings.get("mode") == "synchronous"
    begun = time.monotonic()
    with ServerGroup(first_vector(), server_settings, n_servers, place, call_s) as servers:
        downpour = DownpourSettings(1, 1, RULE, N_VALUES, timeout_s, 60.0, pipeline)
        plan = WorkerPlan(
            "", "none", N_VALUES, N_SCANS, False, BATCH_SIZE, EPOCHS, 0, servers.directory.address, servers.credentials, call_s,
            "float32", downpour,
        )  # fmt: skip
        training, to_come = Training(servers, folder, checkpoints.folder), sorted(faults, key=lambda fault: fault[0])
        address = servers.directory.address

        def watch(status):
            training.status = status
            if to_come and status["rows"] >= to_come[0][0] * n_rows * EPOCHS:
                to_come.pop(0)[1](training)

        gradients = partial(make_probed, folder=folder, step_s=step_s, slow=slow or {})
        _, retrained = run_workers(frame, plan, servers, timeout_s, watch, gradients, synchronous)
        vector, versions = servers.ask(lambda client: client.pull(), 60)
        ledgers = servers.ask(lambda client: client.ledgers(), 60)
        status = servers.ask(lambda client: client.status(), 60)
        pids = training.server_processes()
    return {
        "vector": vector, "versions": versions, "ledgers": ledgers, "status": status, "retrained": retrained,
        "restarts": servers.restarts, "synchronous": synchronous, "happened": not to_come,
        "left": list_left(pids, address, checkpoints.folder), "seconds": time.monotonic() - begun,
        "attempts": len([name for name in os.listdir(folder) if name.startswith("worker-")]),
    }  # fmt: skip


def complaints(result, series):
    """Name what does not hold after a training: nothing, when every batch was applied once at every shard."""
    found = []
    n_rows = len(series)
    for shard, ledger in enumerate(result["ledgers"]):
        if sum(entry["rows"] for entry in ledger.values()) != n_rows * EPOCHS:
            found.append(f"shard {shard} has not had every row of every epoch: {ledger}")
        if any(entry["clock"] != entry["last_clock"] for entry in ledger.values()):
            found.append(f"shard {shard} has not had every batch: {ledger}")
    replayed = np.float32(
        [sum(e["last_clock"] for e in result["ledgers"][0].values()), n_rows * EPOCHS, EPOCHS * series[:, 0].sum()]
    )
    if result["synchronous"]:  # an update is the workers' mean, weighted by rows: they have equally many
        replayed /= N_WORKERS
    for name, probes in (("first", result["vector"][:N_PROBES]), ("last", result["vector"][-N_PROBES:])):
        if not np.array_equal(probes, replayed):
            found.append(f"the {name} shard's probes are {probes.tolist()}, and the ledger replayed gives {replayed.tolist()}")
    if not np.isfinite(result["vector"]).all():
        found.append("weights are not finite")
    if not result["happened"]:
        found.append("a fault did not happen")
    return found + result["left"]


def list_left(pids, directory, checkpoints):
    """Name what a training should have taken with it: processes, a port, files that were being written."""
    found = [f"process {pid} of a server is left" for pid in pids if psutil.pid_exists(pid) and not _is_zombie(pid)]
    host, _, port = directory.rpartition(":")
    with socket.socket() as probe:
        if probe.connect_ex((host, int(port))) == 0:
            found.append(f"port {port} of the directory is left")
    return found + [f"{name} is left" for name in os.listdir(checkpoints) if name.startswith(".")]


def _is_zombie(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_worker(training, partition=0):
    """SIGKILL of a worker's process."""
    os.kill(training.worker(partition)[1], signal.SIGKILL)


def kill_executor(training, partition=0):
    """SIGKILL of an executor, with the worker in it."""
    os.kill(training.worker(partition)[2], signal.SIGKILL)


def kill_server(training, shard=0):
    """SIGKILL of a parameter server."""
    os.kill(training.server_processes()[shard], signal.SIGKILL)


def stall_server(training, shard=0, seconds=8.0):
    """A parameter server that answers late: later than a call may take."""
    pid = training.server_processes()[shard]
    _stall(pid, seconds)


def stall_worker(training, partition=0, seconds=4.0):
    """A worker that stands still for a while."""
    pid = training.worker(partition)[1]
    _stall(pid, seconds)


def _stall(pid, seconds):
    def go_on():
        with suppress(ProcessLookupError):  # it was killed while it stood still
            os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    threading.Timer(seconds, go_on).start()


def kill_executor_of_server(training, shard=0):
    """SIGKILL of the executor that a parameter server runs on."""
    process = psutil.Process(training.server_processes()[shard])
    while "CoarseGrainedExecutorBackend" not in " ".join(process.cmdline()):
        process = process.parent()
    process.kill()


def fill_disk(training):
    """Fill the disk that checkpoints are written to."""
    with open(os.path.join(training.checkpoints, "filler"), "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
