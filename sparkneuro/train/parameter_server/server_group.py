"""The parameter servers of one run: started together, started again when they die, stopped together."""

import logging
import threading
import time
from dataclasses import replace

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.checkpoint import clear
from sparkneuro.train.parameter_server.client import ParameterClient
from sparkneuro.train.parameter_server.credentials import make_credentials
from sparkneuro.train.parameter_server.directory import Directory
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.server_process import ServerProcess
from sparkneuro.train.parameter_server.shards import shard_bounds

START_S = 120.0
# A server that ends so soon (s) after its start, so many times in a row, will not do better the next time.
SHORT_LIFE_S, SHORT_LIVES = 10.0, 3
PAUSE_S = 0.5
log = logging.getLogger(__name__)


class SupervisedServer:
    """One parameter server that is started again, from its last checkpoint, when its process dies.

    Parameters
    ----------
    settings : ServerSettings
        What it serves.
    host : str
        Address of this machine that it binds.
    credentials : Credentials
        The run's.
    """

    def __init__(self, settings, host, credentials):
        self._settings = settings
        self._host = host
        self._credentials = credentials
        self._short_lives = 0
        self._reviving = threading.Lock()
        self.restarts = 0
        self._launch()

    @property
    def port(self):
        """Where it listens."""
        return self._process.port

    @property
    def pid(self):
        """Number of its process."""
        return self._process.pid

    def wait_until_ready(self):
        """Wait until it listens.

        Returns
        -------
        port : int
            Where.
        """
        return self._process.wait_until_ready()

    def has_ended(self):
        """Tell whether it was told to stop, and did.

        Returns
        -------
        ended : bool
            Whether it ended with status 0.
        """
        return self._process.exit_status() == 0

    def revive(self):
        """Start the server again if it has died.

        Returns
        -------
        revived : bool
            Whether it had died; its port is another then.

        Raises
        ------
        TrainingError
            When it has no checkpoint to come back from, or dies as soon as it is started.
        """
        with self._reviving:  # whoever watches and whoever has just missed it may come at once
            return self._revive()

    def stop(self):
        """Stop it; kill it when it does not."""
        self._process.stop()

    def _revive(self):
        status = self._process.exit_status()
        if status in (None, 0):
            return False
        name = f"parameter server {self._settings.shard}"
        if self._settings.checkpoints is None:
            raise TrainingError(f"{name} ended with status {status}; with checkpoints it would have been started again.")
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._started < SHORT_LIFE_S else 0
        if self._short_lives >= SHORT_LIVES:
            raise TrainingError(f"{name} ended with status {status} {SHORT_LIVES} times in a row as soon as it was started.")
        self._process.stop()
        self._launch()
        self.restarts += 1
        self._process.wait_until_ready()
        log.warning("%s ended with status %d and was started again from its last checkpoint", name, status)
        return True

    def _launch(self):
        self._started = time.monotonic()
        self._process = ServerProcess(self._settings, self._host, self._credentials)


class DriverServers:
    """All servers as processes beside the driver.

    Parameters
    ----------
    host : str
        Address at which workers reach the driver.
    bind : str or None
        Address of this machine to bind, where it is another (in a container, say).
    """

    def __init__(self, host, bind=None):
        self.host = host
        self.bind = bind or host
        self._servers = []

    def n_slots(self, n_servers):
        """Return how many of Spark's slots the servers take.

        Parameters
        ----------
        n_servers : int
            Number of servers.

        Returns
        -------
        n_slots : int
            None of them.
        """
        return 0

    def start(self, shards, directory, credentials):
        """Start the servers.

        Parameters
        ----------
        shards : list of ServerSettings
            What each serves.
        directory : Directory
            Where they are announced.
        credentials : Credentials
            The run's.
        """
        self._directory = directory
        for settings in shards:
            self._servers.append(SupervisedServer(settings, self.bind, credentials))
        for shard, server in enumerate(self._servers):
            directory.announce(shard, f"{self.host}:{server.wait_until_ready()}")

    def maintain(self):
        """Start again what has died.

        Returns
        -------
        restarts : int
            Servers started again, over the whole run.
        """
        for shard, server in enumerate(self._servers):
            if server.revive():
                self._directory.announce(shard, f"{self.host}:{server.port}")
        return sum(server.restarts for server in self._servers)

    def pids(self):
        """Return the numbers of the servers' processes.

        Returns
        -------
        pids : list of int
            In the order of the shards.
        """
        return [server.pid for server in self._servers]

    def stop(self):
        """Stop all servers."""
        for server in self._servers:
            server.stop()
        self._servers = []


class ServerGroup:
    """Servers of one run, as a context manager.

    Parameters
    ----------
    values : ndarray of shape (n_values,), float32
        The model's first vector: weights, then averaged state.
    settings : ServerSettings
        Of a single server with the whole model; it is cut into shards here.
    n_servers : int
        Number of shards.
    place : DriverServers or ExecutorServers
        Where the servers run.
    timeout_s : float
        Longest time of one call.
    tls : bool
        Whether connections are encrypted, with a certificate of this run.
    resume : bool
        Whether servers go on from their checkpoints; otherwise those that are there are deleted.

    Attributes
    ----------
    directory : Directory
        Where the servers are.
    credentials : Credentials
        What every call must show.
    client : ParameterClient
        The driver's own.
    """

    def __init__(self, values, settings, n_servers, place, timeout_s=60.0, tls=False, resume=False):
        self.n_values = values.size
        self.credentials = make_credentials(tls)
        self.restarts = 0
        self._finishing = False
        self._values = values
        self._place = place
        self._timeout_s = timeout_s
        self._folder = settings.checkpoints.folder if settings.checkpoints else None
        self._resume = resume
        n = settings.n_trainable
        self._shards = [
            replace(
                settings, shard=shard, n_servers=n_servers, n_trainable=min(max(n - start, 0), end - start),
                n_state=max(end - max(start, n), 0),
            )
            for shard, (start, end) in enumerate(shard_bounds(values.size, n_servers))
        ]  # fmt: skip
        self.client = self.directory = None

    def __enter__(self):
        try:
            if self._folder is not None and not self._resume:
                clear(self._folder)
            self.directory = Directory(len(self._shards), self._place.host, self.credentials, self._place.bind)
            self._place.start(self._shards, self.directory, self.credentials)
            self.directory.wait(START_S, self._place.maintain)
            self.client = self.connect()
            self.client.initialise(self._values)
        except BaseException:
            self.stop()
            raise
        log.info("parameter servers at %s", ", ".join(self.directory.addresses()))
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
        return ParameterClient(self.directory.addresses, self.credentials, self.n_values, self._timeout_s)

    def maintain(self):
        """Start again the servers that have died.

        Raises
        ------
        TrainingError
            When one cannot be.
        """
        self.restarts = self._place.maintain()

    def finish(self):
        """End the training early: workers are told at their next push."""
        self._finishing = True
        self.ask(lambda client: client.finish(), START_S)

    def ask(self, call, wait_s):
        """Ask the servers something, also while one of them is being started again.

        Parameters
        ----------
        call : callable
            Takes the driver's `ParameterClient`.
        wait_s : float
            Seconds to wait at most for a server that is lost.

        Returns
        -------
        answer : object
            What `call` returned.

        Raises
        ------
        ServerLost
            When a server does not come back in time.
        """
        deadline = time.monotonic() + wait_s
        while True:
            self.maintain()
            try:
                return call(self.client)
            except ServerLost:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_S)
                self._reconnect()

    def stop(self):
        """Stop all servers, and the directory."""
        if self.client is not None:
            self.client.close()
            self.client = None
        if self.directory is not None:
            for shard in range(len(self._shards)):
                self.directory.forget(shard)  # a server on an executor learns from this that it is no longer wanted
        self._place.stop()
        if self.directory is not None:
            self.directory.stop()
            self.directory = None

    def _reconnect(self):
        try:
            self.client.reconnect(0.0)
            if self._finishing:  # a server that comes back does not know
                self.client.finish()
        except ServerLost as error:
            log.info("%s", error)
