"""Where the parameter servers of a run are, asked at the driver: a server that died comes back at another address."""

import threading
import time

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.secure_flight import SecureClient, SecureServer, ServerLost
from sparkneuro.validation import check_number


class Directory:
    """The list of a run's servers, and how the training stands, served by the driver.

    Parameters
    ----------
    n_servers : int
        Servers that will announce themselves.
    host : str
        Address at which workers reach the driver.
    credentials : Credentials
        The run's.
    bind : str or None
        Address of this machine to bind, where it is another.

    Attributes
    ----------
    address : str
        ``host:port`` of this directory.
    status : dict
        What the action ``status`` answers; set by whoever watches the training.
    """

    def __init__(self, n_servers, host, credentials, bind=None):
        self.status = {}
        self._servers = [None] * n_servers
        self._announced = threading.Condition()
        actions = {"announce": self._announce, "lookup": self._lookup, "keep": self._keep, "status": lambda: self.status}
        self._server = SecureServer(bind or host, credentials, actions)
        self.address = f"{host}:{self._server.port}"

    def announce(self, shard, address):
        """Note where a server is.

        Parameters
        ----------
        shard : int
            Its shard.
        address : str
            ``host:port``.
        """
        check_number("shard", shard, 0, len(self._servers) - 1, integer=True)
        with self._announced:
            self._servers[shard] = str(address)
            self._announced.notify_all()

    def forget(self, shard):
        """Note that a server is gone.

        Parameters
        ----------
        shard : int
            Its shard.
        """
        with self._announced:
            self._servers[shard] = None

    def addresses(self):
        """Return where the servers are.

        Returns
        -------
        addresses : list of str
            In the order of the shards.

        Raises
        ------
        ServerLost
            When one has not announced itself.
        """
        with self._announced:
            missing = [shard for shard, address in enumerate(self._servers) if address is None]
            if missing:
                raise ServerLost(f"parameter server {missing[0]} has not announced where it is.")
            return list(self._servers)

    def wait(self, wait_s, check=lambda: None):
        """Wait until all servers have announced themselves.

        Parameters
        ----------
        wait_s : float
            Seconds to wait at most.
        check : callable
            Called about once a second; raises what makes waiting vain.

        Raises
        ------
        TrainingError
            When the time is up; it names who is missing.
        """
        deadline = time.monotonic() + wait_s
        with self._announced:
            while None in self._servers:
                if time.monotonic() > deadline:
                    missing = ", ".join(str(shard) for shard, address in enumerate(self._servers) if address is None)
                    raise TrainingError(
                        f"waited {wait_s:g} s for parameter servers {missing} to start; has Spark executors with free cores, and"
                        " can they reach the driver?"
                    )
                self._announced.wait(1.0)
                check()

    def stop(self):
        """Stop serving."""
        self._server.shutdown()

    def _announce(self, shard, address):
        self.announce(shard, address)
        return {}

    def _lookup(self):
        with self._announced:
            return {"addresses": list(self._servers)}

    def _keep(self, shard, address):
        # A server whose machine was cut off and came back learns here that another has taken its place; all, that the run ends.
        return {"keep": self._servers[check_number("shard", shard, 0, len(self._servers) - 1, integer=True)] == address}


class DirectoryClient(SecureClient):
    """Asks a run's directory.

    Parameters
    ----------
    address : str
        ``host:port`` of the directory.
    credentials : Credentials
        The run's.
    timeout_s : float
        Longest time that one call may take.
    """

    def __init__(self, address, credentials, timeout_s=20.0):
        super().__init__(address, credentials, timeout_s, "the driver's directory")

    def addresses(self):
        """Return where the servers are; see `Directory.addresses`.

        Returns
        -------
        addresses : list of str
            In the order of the shards.
        """
        addresses = self.act("lookup")["addresses"]
        if None in addresses:
            raise ServerLost(f"parameter server {addresses.index(None)} has not announced where it is.")
        return addresses
