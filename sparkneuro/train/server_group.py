"""The parameter servers of one run: processes beside the driver, started together and stopped together."""

import contextlib
import json
import logging
import os
import secrets
import select
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import sparkneuro
from sparkneuro.errors import TrainingError
from sparkneuro.train.client import ParameterClient
from sparkneuro.train.parameter_server import ServerSettings
from sparkneuro.train.weights import shard_bounds

# Each exchange allocates two vectors of the model's size. By default glibc gives such blocks back to the system at once and
# has every page of the next ones cleared: a third of the time of an exchange. These keep them.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
START_S = 60.0
STOP_S = 10.0
log = logging.getLogger(__name__)


class ServerGroup:
    """Servers of one run, as a context manager.

    Parameters
    ----------
    values : ndarray of shape (n_values,), float32
        The model's first vector: weights, then averaged state.
    n_trainable : int
        How many of them are weights.
    n_servers : int
        Number of shards.
    host : str
        Address at which workers reach the servers.
    rule : dict
        Update rule, as `update_rules.describe_rule` gives it.
    warmup_steps, n_partitions, rows_per_epoch : int
        See `ServerSettings`.
    timeout_s : float
        Longest time of one call.
    bind : str or None
        Address of this machine that the servers bind, where it is another than `host` (in a container, say).

    Attributes
    ----------
    addresses : list of str
        ``host:port`` of each server.
    token : str
        What every call must carry.
    """

    def __init__(
        self, values, n_trainable, n_servers, host, rule, warmup_steps, n_partitions, rows_per_epoch, timeout_s=60.0, bind=None
    ):
        self.token = secrets.token_urlsafe(32)
        self.addresses = []
        self.n_values = values.size
        self._values = values
        self._host = host
        self._bind = bind or host
        self._timeout_s = timeout_s
        self._processes = []
        common = {"rule": rule, "warmup_steps": warmup_steps, "n_partitions": n_partitions, "rows_per_epoch": rows_per_epoch}
        self._settings = [
            ServerSettings(
                n_trainable=min(max(n_trainable - start, 0), end - start), n_state=max(end - max(start, n_trainable), 0), **common
            )
            for start, end in shard_bounds(values.size, n_servers)
        ]

    def __enter__(self):
        try:
            for settings in self._settings:
                self._launch(settings)
            self.addresses = [f"{self._host}:{self._read_port(process)}" for process in self._processes]
            self.client = self.connect()
            self.client.initialise(self._values)
        except BaseException:
            self.stop()
            raise
        log.info("parameter servers at %s", ", ".join(self.addresses))
        return self

    def __exit__(self, *exception):
        self.stop()

    def connect(self):
        """Make a client of all servers.

        Returns
        -------
        client : ParameterClient
            To be closed by the caller.
        """
        return ParameterClient(self.addresses, self.token, self.n_values, self._timeout_s)

    def check_alive(self):
        """Make sure that no server has died.

        Raises
        ------
        TrainingError
            When one has.
        """
        for i, process in enumerate(self._processes):
            if process.poll() is not None:
                raise TrainingError(f"parameter server {i} at {self.addresses[i]} ended with status {process.returncode}.")

    def stop(self):
        """Stop all servers; kill those that do not."""
        if getattr(self, "client", None) is not None:
            self.client.close()
        for process in self._processes:
            with contextlib.suppress(OSError):  # it has ended already
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self._processes = []

    def _launch(self, settings):
        package = str(Path(sparkneuro.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "sparkneuro.train.server_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **KEEP_MEMORY, "PYTHONPATH": path},
        )  # fmt: skip
        self._processes.append(process)
        request = {"host": self._bind, "token": self.token, "settings": asdict(settings)}
        with contextlib.suppress(BrokenPipeError):  # it ended at once: `_read_port` says so
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()

    def _read_port(self, process):
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        line = process.stdout.readline() if ready else ""
        if not line:
            ended = process.poll()
            what = f"within {START_S:g} s" if ended is None else f"and ended with status {ended}"
            raise TrainingError(f"a parameter server did not start on {self._bind} {what}; can this machine bind that address?")
        return json.loads(line)["port"]
