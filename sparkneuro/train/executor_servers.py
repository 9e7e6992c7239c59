"""Parameter servers as long-lived Spark tasks, one a shard: the layout of a driver, servers and workers on machines of their own.

The servers' job runs beside the workers'. A task starts the server's process, announces it to the driver's directory, starts it
again when it dies, and ends when it is told to; where its executor is lost, Spark runs the task elsewhere, and the server goes
on from its checkpoint. What crosses the network is a server's settings: no data.
"""

import logging
import socket
import time
from functools import partial

from pyspark import InheritableThread

from sparkneuro.errors import SettingsError
from sparkneuro.train.parameter_server.directory import DirectoryClient
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.server_group import SupervisedServer

KEEP_S = 1.0
# A server that cannot reach the driver for so long (s) belongs to a run that is gone.
ORPHANED_S = 60.0
STOP_S = 20.0
log = logging.getLogger(__name__)


class ExecutorServers:
    """All servers as tasks of one Spark job.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    host : str
        Address at which executors reach the driver.
    bind : str or None
        Address of the driver's machine to bind, where it is another.
    """

    def __init__(self, spark, host, bind=None):
        self.host = host
        self.bind = bind or host
        self._spark = spark
        self._failures = []
        self._thread = None

    def n_slots(self, n_servers):
        """Return how many of Spark's slots the servers take.

        Parameters
        ----------
        n_servers : int
            Number of servers.

        Returns
        -------
        n_slots : int
            One each, unless they get executors of their own.
        """
        return 0 if has_executors_on_demand(self._spark) else n_servers

    def start(self, shards, directory, credentials):
        """Start the servers' job.

        Parameters
        ----------
        shards : list of ServerSettings
            What each serves.
        directory : Directory
            Where they announce themselves.
        credentials : Credentials
            The run's.
        """
        context = self._spark.sparkContext
        self._group = f"sparkneuro-servers-{id(self)}-{time.time_ns()}"
        rdd = context.parallelize(list(enumerate(shards)), len(shards))
        profile = server_profile(self._spark, sum(settings.n_trainable + settings.n_state for settings in shards) // len(shards))
        rdd = rdd if profile is None else rdd.withResources(profile)
        serve = partial(serve_task, directory=directory.address, credentials=credentials)

        def run():
            context.setJobGroup(self._group, "parameter servers", interruptOnCancel=True)
            try:
                rdd.mapPartitions(serve).collect()
            except Exception as error:  # the outermost frame of this thread: `maintain` raises it where somebody waits
                self._failures.append(error)

        self._thread = InheritableThread(target=run, name="sparkneuro-servers", daemon=True)
        self._thread.start()

    def maintain(self):
        """Make sure that the servers' job runs; Spark itself starts again what has died.

        Returns
        -------
        restarts : int
            Servers started again that the driver knows of: none, since it is not asked.

        Raises
        ------
        Exception
            Spark's, when the job has failed; the sentence of the task is within it.
        """
        if self._failures:
            raise self._failures[0]
        return 0

    def stop(self):
        """Wait for the servers' job, which ends with the servers; cancel it when it does not."""
        if self._thread is None:
            return
        self._thread.join(STOP_S if not self._failures else 0.0)
        if self._thread.is_alive():
            self._spark.sparkContext.cancelJobGroup(self._group)
            self._thread.join(STOP_S)
        self._thread = None


def serve_task(shards, directory, credentials):
    """Serve one shard inside a Spark task, until it is told to stop.

    Parameters
    ----------
    shards : iterator of (int, ServerSettings)
        One shard.
    directory : str
        ``host:port`` of the driver's directory.
    credentials : Credentials
        The run's.

    Yields
    ------
    restarts : int
        How often the server was started again on this executor.
    """
    for shard, settings in shards:
        client = DirectoryClient(directory, credentials)
        host = own_address(directory)
        server = SupervisedServer(settings, host, credentials)
        try:
            address = f"{host}:{server.wait_until_ready()}"
            client.act("announce", shard=shard, address=address)
            heard = time.monotonic()
            while not server.has_ended():
                time.sleep(KEEP_S)
                try:
                    # First whether it is still ours to serve: a machine that was cut off must not take its successor's place.
                    if not client.act("keep", shard=shard, address=address)["keep"]:
                        break
                    heard = time.monotonic()
                    if server.revive():
                        address = f"{host}:{server.port}"
                        client.act("announce", shard=shard, address=address)
                except ServerLost:
                    if time.monotonic() - heard > ORPHANED_S:
                        break
        finally:
            server.stop()
            client.close()
        yield server.restarts


def own_address(directory):
    """Find the address of this machine on the way to the driver; nothing is sent.

    Parameters
    ----------
    directory : str
        ``host:port`` of the driver's directory.

    Returns
    -------
    host : str
        Numeric address.
    """
    host, _, port = directory.rpartition(":")
    family, kind, protocol, _, peer = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(peer)
        return probe.getsockname()[0]


def server_profile(spark, n_values):
    """Ask for executors of the servers' own, where the cluster manager hands executors out on demand.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    n_values : int
        Length of a shard.

    Returns
    -------
    profile : pyspark.resource.ResourceProfile or None
        One core, and memory for a shard's vectors; None where executors are fixed: then servers take ordinary slots.
    """
    from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

    if not has_executors_on_demand(spark):
        return None
    # Weights old and new, two slots, two messages and their copies, and what Python and Arrow themselves take.
    megabytes = 512 + 10 * 4 * n_values // 2**20
    executor = ExecutorResourceRequests().cores(1).memory("512m").memoryOverhead(f"{megabytes}m")
    return ResourceProfileBuilder().require(executor).require(TaskResourceRequests().cpus(1)).build


def has_executors_on_demand(spark):
    """Tell whether the cluster manager hands out executors by resource profile.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    on_demand : bool
        With dynamic allocation, except on a local master.
    """
    dynamic = spark.conf.get("spark.dynamicAllocation.enabled", "false") == "true"
    return dynamic and not spark.sparkContext.master.startswith("local")


def check_slots(slots, n_workers, n_servers, synchronous):
    """Say before the start what will not fit into a cluster.

    Parameters
    ----------
    slots : int
        Tasks that run at once.
    n_workers : int
        Workers.
    n_servers : int
        Servers that take slots: 0 where they run beside the driver or get executors of their own.
    synchronous : bool
        Whether all workers must run at once.

    Returns
    -------
    notice : str or None
        One sentence, when the workers come in waves.

    Raises
    ------
    SettingsError
        When nothing would ever start.
    """
    servers = f" and {n_servers} parameter server{'s' if n_servers > 1 else ''}" if n_servers else ""
    left = slots - n_servers
    if left < 1:
        raise SettingsError(
            f"{n_servers} parameter servers on executors need {n_servers + 1} slots, one of them for a worker; the cluster has"
            f" {slots}: take fewer servers, or servers beside the driver (--servers-on driver)."
        )
    if n_workers <= left:
        return None
    if synchronous:
        raise SettingsError(
            f"a synchronous training runs all workers at once: {n_workers} workers{servers} do not fit on {slots} slots;"
            f" take --workers {left}."
        )
    waves = -(-n_workers // left)
    return (
        f"{n_workers} workers{servers} on {slots} slots: the workers train in {waves} waves, each with all epochs; with"
        f" --workers {left} they would train together."
    )
