"""Downpour SGD on Spark: one task a worker, parameter servers beside the driver.

A task spools its partition's rows to local disk once and then trains all epochs on it. What crosses the network is
every row once (to where its task runs), and for each push the model's vector both ways.
"""

import logging
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import functions

from sparkneuro.data.batches import BatchSequence, SeriesSpool, read_series
from sparkneuro.errors import TrainingError
from sparkneuro.train.downpour import DownpourSettings, train_partition
from sparkneuro.train.parameter_server.client import ParameterClient
from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.parameter_server.directory import DirectoryClient

log = logging.getLogger(__name__)
WATCH_S = 0.5
# The largest share of the rows that a worker may get, in shares of equal size: the others wait for it at the end.
LARGEST_SHARE = 1.05
RESULT_SCHEMA = "partition int, attempt bigint, rows bigint, retrained bigint"
RESULT = pa.schema([("partition", pa.int32()), ("attempt", pa.int64()), ("rows", pa.int64()), ("retrained", pa.int64())])


@dataclass(frozen=True)
class WorkerPlan:
    """All that a task must know, as plain values.

    Parameters
    ----------
    model : str
        Architecture, as `architecture.describe_model` writes it.
    backend : str
        Keras backend.
    n_values : int
        Length of the model's vector.
    series_length : int
        Scans of each series.
    fit_length : bool
        Whether others are cropped or padded, or refused.
    batch_size, epochs, seed : int
        See `BatchSequence`.
    directory : str
        ``host:port`` of the driver's directory, which knows the parameter servers.
    credentials : Credentials
        The run's.
    call_timeout_s : float
        Longest time of one call to a server.
    wire_type : str
        What crosses the network: float32, bfloat16 or float16.
    settings : DownpourSettings
        How a worker trains.
    """

    model: str
    backend: str
    n_values: int
    series_length: int
    fit_length: bool
    batch_size: int
    epochs: int
    seed: int
    directory: str
    credentials: Credentials
    call_timeout_s: float
    wire_type: str
    settings: DownpourSettings


def use_task_cores(backend, cores):
    """Bind this process's Keras to a backend and to the cores of its task.

    A Python worker that Spark uses again has its threads already; they stay as they are.

    Parameters
    ----------
    backend : str
        Keras backend, set before Keras is imported for the first time.
    cores : int
        Threads that one operation may use.
    """
    os.environ["KERAS_BACKEND"] = backend
    if backend == "jax":
        os.environ.setdefault("PJRT_NPROC", str(cores))
        return
    import tensorflow as tf

    try:
        # By default the first process would take a whole GPU, and leave none to the other tasks of its machine.
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        log.debug("TensorFlow has started in this worker already; its threads stay as they are.")


def make_worker_gradients(plan, row_counts):
    """Build the model and its gradient function in a task.

    Parameters
    ----------
    plan : WorkerPlan
        What to build.
    row_counts : list of int
        Numbers of rows of the batches to come.

    Returns
    -------
    gradients : TensorFlowGradients or JaxGradients
        On as many threads as the task has cores.
    """
    use_task_cores(plan.backend, TaskContext.get().cpus())
    from sparkneuro.train.architecture import build_model
    from sparkneuro.train.gradients import make_gradients

    gradients = make_gradients(build_model(plan.model), plan.series_length)
    # Tracing and compiling take seconds. Done after the first pull, they would make the first gradient of a late worker
    # dozens of versions old.
    gradients.warm_up(row_counts)
    return gradients


def train_task(batches, plan, gradients_of=make_worker_gradients):
    """Train on one partition, inside a Spark task.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        One column of series.
    plan : WorkerPlan
        What to do.
    gradients_of : callable
        Makes the gradient function from the plan and the sizes of batches; replaced in tests.

    Yields
    ------
    batch : pyarrow.RecordBatch
        One row: partition, attempt, training rows, batches trained again because a server had lost them.
    """
    context = TaskContext.get()
    partition, attempt = context.partitionId(), context.taskAttemptId()
    spool = SeriesSpool(plan.series_length, os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None)
    directory = DirectoryClient(plan.directory, plan.credentials)
    wait_s = plan.settings.reconnect_s
    client = ParameterClient(directory.addresses, plan.credentials, plan.n_values, plan.call_timeout_s, plan.wire_type, wait_s)
    try:
        for batch in batches:
            spool.append(read_series(batch.column(0), plan.series_length, plan.fit_length))
            client.live(partition)
        sequence = BatchSequence(spool.matrix(), plan.batch_size, plan.epochs, plan.seed, partition)
        gradients = gradients_of(plan, sequence.row_counts()) if sequence.last_clock else None
        retrained = train_partition(client, gradients, sequence, partition, attempt, plan.settings)
    finally:
        _leave(client, partition, attempt)
        directory.close()
    row = {"partition": partition, "attempt": attempt, "rows": spool.n_series, "retrained": retrained}
    yield pa.RecordBatch.from_pylist([row], schema=RESULT)


def _leave(client, partition, attempt):
    try:
        client.leave(partition, attempt)
    except TrainingError as error:
        log.info("partition %d ended without saying so: %s", partition, error)
    client.close()


def partition_frame(dataframe, n_workers):
    """Cut a frame into one partition a worker, of nearly equal size.

    Neighbouring input partitions are joined where that gives every worker its share, which moves nothing over the network;
    else the rows are dealt out, which shuffles the frame once: less than what workers lose that wait for the largest share.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Any frame.
    n_workers : int
        Wanted number of partitions.

    Returns
    -------
    dataframe : pyspark.sql.DataFrame
        With `n_workers` partitions.
    n_rows : int
        Rows of all of them.
    """
    joined = dataframe.coalesce(n_workers)
    shares = [row["count"] for row in joined.groupBy(functions.spark_partition_id()).count().collect()]
    n_rows = sum(shares)
    if n_rows == 0 or max(shares) * n_workers <= LARGEST_SHARE * n_rows:
        return joined, n_rows
    log.info("the input partitions cannot be joined to %d equal shares (%s rows): the rows are shuffled once.", n_workers, shares)
    return dataframe.repartition(n_workers), n_rows


def run_workers(dataframe, plan, servers, timeout_s, watch=None, gradients_of=make_worker_gradients, synchronous=False):
    """Run all workers to their end while the servers are watched.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        One column of series, one partition a worker.
    plan : WorkerPlan
        What each does.
    servers : ServerGroup
        The running servers.
    timeout_s : float
        Seconds without a sign of life of any worker after which training is given up.
    watch : callable or None
        Called with the servers' status about twice a second, in a thread of its own; what it returns is told to who asks for the
        training's status.
    gradients_of : callable
        See `train_task`.
    synchronous : bool
        Whether all workers are started together, as a barrier stage.

    Returns
    -------
    rows : int
        Training rows of all partitions.
    retrained : int
        Batches that were trained again because a server had lost them.

    Raises
    ------
    TrainingError
        When a worker or a server fails, or nothing happens for too long.
    """
    spark = dataframe.sparkSession
    task = partial(train_task, plan=plan, gradients_of=gradients_of)
    frame = dataframe.mapInArrow(task, RESULT_SCHEMA, barrier=synchronous)
    if synchronous:
        # Spark starts a barrier stage again when one of its tasks has died, but not the last stage of a job.
        frame = frame.repartition(1)
    group = f"sparkneuro-train-{time.time_ns()}"
    with _watching(servers, timeout_s, watch, lambda: spark.sparkContext.cancelJobGroup(group)) as failures:
        spark.sparkContext.setJobGroup(group, "Downpour SGD", interruptOnCancel=True)
        try:
            results = frame.collect()
        except Exception as error:  # Spark reports a cancelled job by many types; the watcher knows why.
            if failures:
                raise failures[0] from error
            servers.maintain()  # a worker may miss a dead server before the watcher does
            raise
        finally:
            spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
    if failures:
        raise failures[0]
    status = servers.ask(lambda client: client.status(), timeout_s)
    if status["unfinished"] and not status["stopping"]:
        log.warning(
            "a parameter server was lost with the last batches of partitions %s, which had not been written down: %s",
            status["unfinished"], status["checkpoint_error"] or "the disk was full then",
        )  # fmt: skip
    return sum(row["rows"] for row in results), sum(row["retrained"] for row in results)


@contextmanager
def _watching(servers, timeout_s, watch, cancel):
    stop, failures = threading.Event(), []

    def loop():
        try:
            while not stop.wait(WATCH_S):
                status = servers.ask(lambda client: client.status(), timeout_s)
                facts = {} if watch is None else watch(status) or {}
                servers.directory.status = {**status, **facts, "restarts": servers.restarts}
                _check_progress(status, timeout_s)
        except Exception as error:  # the outermost frame of this thread: what went wrong is raised by the thread that waits
            log.info("the watch over the training ended", exc_info=error)
            failures.append(error)
            cancel()
            while not stop.wait(WATCH_S):  # a job that Spark was still planning could not be cancelled yet
                cancel()

    thread = threading.Thread(target=loop, name="sparkneuro-watch", daemon=True)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join()


def _check_progress(status, timeout_s):
    if status["idle_s"] <= timeout_s:
        return
    if not status["registered"]:
        raise TrainingError(
            f"no worker has come within {timeout_s:g} s; has Spark executors with free cores, and can they reach the driver?"
        )
    waited = ", ".join(map(str, status["unfinished"])) or "those that have not come yet"
    raise TrainingError(f"no worker has given a sign of life for {timeout_s:g} s; waited for partitions {waited}.")
