"""Workers as Spark tasks, on two local cores: faults included."""

import os
import signal
import sys
import time

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")

from pyspark import cloudpickle  # noqa: E402

from sparkneuro.errors import TrainingError  # noqa: E402
from sparkneuro.session import readable_error  # noqa: E402
from sparkneuro.train.downpour import DownpourSettings  # noqa: E402
from sparkneuro.train.parameter_server.push import ServerSettings  # noqa: E402
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup  # noqa: E402
from sparkneuro.train.spark import WorkerPlan, partition_frame, run_workers  # noqa: E402

# The workers cannot import this file, so what they call of it goes with the task.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.engine
RULE = {"name": "SGD", "learning_rate": 1.0}


class OnesGradients:
    """A gradient of ones, and what else a test wants to happen."""

    def __init__(self, before=None):
        self._before = before

    def compute(self, vector, x):
        if self._before is not None:
            self._before(x)
        return 1.0, np.ones(5, np.float32)


def make_ones(plan, row_counts):
    return OnesGradients()


def make_hanging(plan, row_counts):
    return OnesGradients(lambda x: time.sleep(600))


def make_slow(plan, row_counts):
    return OnesGradients(lambda x: time.sleep(0.2))


def make_mistaken(plan, row_counts):
    raise TrainingError("the gradient is on holiday.")


@pytest.fixture
def rows(spark):
    """31 numbered series of 3 scans, in five input partitions."""
    series = np.repeat(np.arange(31, dtype=np.float32)[:, None], 3, axis=1)
    return spark.createDataFrame(pa.table({"series": list(series)})).repartition(5).select("series")


def start_servers(n_servers=1, n_partitions=2, warmup_steps=0):
    settings = ServerSettings(RULE, 5, 0, warmup_steps, n_partitions, 31)
    return ServerGroup(np.zeros(5, np.float32), settings, n_servers, DriverServers("127.0.0.1"))


def plan_for(servers, epochs=2, batch_size=4, timeout_s=60.0):
    settings = DownpourSettings(1, 1, RULE, 5, timeout_s)
    place = (servers.directory.address, servers.credentials)
    return WorkerPlan("", "none", 5, 3, False, batch_size, epochs, 0, *place, 20.0, "float32", settings)


@pytest.mark.parametrize("n_servers, n_workers, warmup_steps", [(1, 1, 0), (2, 2, 3), (1, 5, 2)])
def test_every_row_is_trained_on_once_an_epoch(rows, n_servers, n_workers, warmup_steps):
    """Also with more workers than slots, one of which warms up."""
    with start_servers(n_servers, n_workers, warmup_steps) as servers:
        assert run_workers(partition_frame(rows, n_workers)[0], plan_for(servers), servers, 60, gradients_of=make_ones) == (31, 0)
        status = servers.client.status()
        assert (status["rows"], status["unfinished"], len(status["epochs"])) == (62, [], 2)
        np.testing.assert_array_equal(servers.client.pull()[0], -status["version"])


def test_a_partition_without_rows_is_no_trouble(rows):
    from pyspark.sql import functions

    few = rows.coalesce(2).filter(functions.col("series")[0] < 1)  # one row, in one of the two partitions
    with start_servers() as servers:
        assert run_workers(few, plan_for(servers), servers, 60, gradients_of=make_ones) == (1, 0)
        assert servers.client.status()["rows"] == 2


def shares_of(frame):
    return sorted(frame.rdd.glom().map(len).collect())


def is_shuffled(frame):
    return "Exchange" in frame._jdf.queryExecution().executedPlan().toString()


def test_fewer_partitions_than_workers_are_dealt_out(rows):
    frame, n_rows = partition_frame(rows.coalesce(1), 3)
    assert n_rows == 31 and sum(shares_of(frame)) == 31 and len(shares_of(frame)) == 3
    assert sorted(row.series[0] for row in frame.collect()) == list(range(31))


def test_equal_partitions_are_joined_without_a_shuffle(spark):
    frame, n_rows = partition_frame(spark.range(0, 600, 1, 6), 3)
    assert n_rows == 600 and shares_of(frame) == [200, 200, 200]
    assert not is_shuffled(frame)


def test_unequal_partitions_are_dealt_out_to_equal_shares(spark):
    """As files come from Spark: the large ones first, which joined in order would all go to one worker."""
    large, small = spark.range(0, 400, 1, 2), spark.range(400, 440, 1, 2)
    frame, n_rows = partition_frame(large.union(small), 2)
    assert n_rows == 440 and is_shuffled(frame)
    assert max(shares_of(frame)) <= 1.05 * 220


def test_workers_that_hang_are_given_up_with_a_reason(rows):
    with (
        start_servers() as servers,
        pytest.raises(TrainingError, match=r"no worker has given a sign of life for 3 s; waited for partitions 0"),
    ):
        run_workers(partition_frame(rows, 2)[0], plan_for(servers), servers, 3, gradients_of=make_hanging)


def test_a_dead_server_ends_the_training_with_a_reason(rows):
    with start_servers() as servers:

        def kill_when_training(status):
            if status["rows"]:
                os.kill(servers._place.pids()[0], signal.SIGKILL)

        with pytest.raises(TrainingError, match="parameter server 0 ended with status -9"):
            run_workers(partition_frame(rows, 2)[0], plan_for(servers, 9), servers, 60, kill_when_training, make_slow)


def test_an_error_in_a_worker_reaches_the_driver_as_its_sentence(rows):
    with start_servers() as servers, pytest.raises(Exception, match="on holiday") as caught:
        run_workers(partition_frame(rows, 2)[0], plan_for(servers), servers, 60, gradients_of=make_mistaken)
    known = readable_error(caught.value)
    assert isinstance(known, TrainingError) and str(known) == "the gradient is on holiday."


def test_nothing_is_left_in_the_local_folders(spark, rows):
    with start_servers() as servers:
        run_workers(partition_frame(rows, 2)[0], plan_for(servers), servers, 60, gradients_of=make_ones)
    local = spark.sparkContext._jvm.org.apache.spark.util.Utils.getLocalDir(spark.sparkContext._jsc.sc().conf())
    assert not [name for _, _, names in os.walk(local) for name in names if name.startswith("sparkneuro-")]
