"""The process of one parameter server, started by `ServerProcess`: ``python -m`` of this module.

It reads one line of JSON from standard input (address, secrets, sizes), prints one line with its port, and serves until
it is told to stop or standard input ends, which happens however the parent dies: no server outlives its run. The secrets
come by standard input because arguments and environments can be read by other users of a machine.
"""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import sparkneuro
from sparkneuro.errors import SparkneuroError, TrainingError

# Each exchange allocates two vectors of the model's size. By default glibc gives such blocks back to the system at once, keeps a
# heap of 64 MB for each thread, and has every page of the next blocks cleared: a quarter of the time of an exchange. These keep
# them, in one heap.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 28), "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_ARENA_MAX": "1"}
START_S = 60.0
STOP_S = 5.0


class ServerProcess:
    """A parameter server in a process of its own.

    Parameters
    ----------
    settings : ServerSettings
        What it serves.
    host : str
        Address of this machine that it binds.
    credentials : Credentials
        The run's secrets.

    Attributes
    ----------
    port : int
        Where it listens, once `wait_until_ready` has returned.
    """

    def __init__(self, settings, host, credentials):
        package = str(Path(sparkneuro.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self.port = None
        self._host = host
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sparkneuro.train.parameter_server.server_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **KEEP_MEMORY, "PYTHONPATH": path},
        )  # fmt: skip
        request = {"host": host, "credentials": asdict(credentials), "settings": asdict(settings)}
        with contextlib.suppress(BrokenPipeError):  # it ended at once: `wait_until_ready` says so
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    @property
    def pid(self):
        """Number of the process."""
        return self._process.pid

    def wait_until_ready(self):
        """Wait until the server listens.

        Returns
        -------
        port : int
            Where it listens.

        Raises
        ------
        TrainingError
            When it does not start.
        """
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if ready else ""
        answer = json.loads(line) if line else {}
        if "error" in answer:
            raise TrainingError(answer["error"])
        if "port" not in answer:
            ended = self._process.poll()
            what = f"within {START_S:g} s" if ended is None else f"and ended with status {ended}"
            raise TrainingError(f"a parameter server did not start on {self._host} {what}; can this machine bind that address?")
        self.port = answer["port"]
        return self.port

    def exit_status(self):
        """Return how the process has ended.

        Returns
        -------
        status : int or None
            None while it runs.
        """
        return self._process.poll()

    def stop(self):
        """Stop the server; kill it when it does not."""
        with contextlib.suppress(OSError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def main():
    """Serve one shard until told to stop, or until the parent is gone."""
    # Ctrl-C reaches every process of the terminal; the parent stops its servers when it has stopped the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Connections are files: as many as may be, so that idle ones of strangers leave some for workers and checkpoints.
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    request = json.loads(sys.stdin.readline())
    from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
    from sparkneuro.train.parameter_server.credentials import Credentials
    from sparkneuro.train.parameter_server.push import ServerSettings
    from sparkneuro.train.parameter_server.server import ParameterServer
    from sparkneuro.train.parameter_server.transport import FlightParameterServer

    settings = request["settings"]
    if settings["checkpoints"] is not None:
        settings["checkpoints"] = CheckpointSettings(**settings["checkpoints"])
    try:
        shard = ParameterServer(ServerSettings(**settings))
        # A call that a stalled peer keeps open must not keep the process: it ends at once.
        server = FlightParameterServer(shard, request["host"], Credentials(**request["credentials"]), stop=_end_soon)
    except (SparkneuroError, OSError) as error:
        _say({"error": f"{error}"})
        raise SystemExit(1) from None
    _say({"port": server.port})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server.serve()


def _say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_soon():
    threading.Timer(0.2, os._exit, [0]).start()  # the answer to this call goes out first


def _end_with_parent():
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
