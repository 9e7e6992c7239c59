"""The same training on two real executor processes, with a worker that is killed."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
pytestmark = pytest.mark.engine

# A JVM holds one Spark context, and that of the suite is local[2]: so this cluster has a process of its own.
SCRIPT = """
import json, os, signal, sys
from functools import partial
from sparkneuro.session import start_session, stop_session
spark = start_session("local-cluster[2,1,1024]", "local-cluster test")
import numpy as np
import pyarrow as pa
from sparkneuro.train.downpour import DownpourSettings
from sparkneuro.train.parameter_server.push import ServerSettings
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup
from sparkneuro.train.spark import WorkerPlan, partition_frame, run_workers

RULE = {"name": "SGD", "learning_rate": 1.0}
DIED = sys.argv[1]

class Ones:
    calls = 0
    def compute(self, vector, x):
        self.calls += 1
        if self.calls == 4 and x[0, 0] % 2 == 0 and not os.path.exists(DIED):
            open(DIED, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0, np.ones(5, np.float32)

def make_ones(plan, row_counts, folder):
    with open(f"/proc/{os.getppid()}/stat") as stat:  # our parent is Spark's daemon, whose parent is the executor
        executor = stat.read().rsplit(")", 1)[1].split()[1]
    open(f"{folder}/executor-{executor}", "w").close()
    return Ones()

# Even numbers in one partition, odd ones in the other: the killed worker is that of the even ones.
def numbered(start):
    rows = np.repeat(np.arange(start, 46, 2, dtype=np.float32)[:, None], 3, axis=1)
    return spark.createDataFrame(pa.table({"series": list(rows)})).coalesce(1)
frame, _ = partition_frame(numbered(0).union(numbered(1)), 2)
server_settings = ServerSettings(RULE, 5, 0, 3, 2, 46)
with ServerGroup(np.zeros(5, np.float32), server_settings, 2, DriverServers(spark.conf.get("spark.driver.host"))) as servers:
    settings = DownpourSettings(1, 1, RULE, 5, 60)
    place = (servers.directory.address, servers.credentials)
    plan = WorkerPlan("", "none", 5, 3, False, 4, 3, 0, *place, 20.0, "float32", settings)
    rows, _ = run_workers(frame, plan, servers, 120, gradients_of=partial(make_ones, folder=os.path.dirname(DIED)))
    status, values = servers.client.status(), servers.client.pull()[0].tolist()
stop_session(spark)
print(json.dumps({"rows": rows, "status": status, "values": values, "died": os.path.exists(DIED)}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local-cluster")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "died")], capture_output=True, text=True, timeout=240, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_workers_run_in_two_executor_processes(outcome):
    assert len(list(outcome[0].glob("executor-*"))) == 2


def test_after_a_worker_was_killed_every_batch_has_been_applied_once(outcome):
    _, answer = outcome
    assert answer["died"] and answer["rows"] == 46
    status = answer["status"]
    assert (status["rows"], status["unfinished"], len(status["epochs"])) == (46 * 3, [], 3)
    assert status["version"] == 2 * 6 * 3  # two partitions of 23 rows: five whole batches and a partial one, three epochs
    assert answer["values"] == [-36.0] * 5
