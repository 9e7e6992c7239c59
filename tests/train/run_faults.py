"""Program of `test_faults`: a cluster of its own, since a JVM holds one Spark context; one scenario after the other.

``python run_faults.py FOLDER [--small-disk FOLDER] NAME ...`` prints one JSON object, by name of the scenario.
"""

import argparse
import json
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sparkneuro.session import start_session, stop_session

sys.path.insert(0, str(Path(__file__).parent))

# Name -> fault and its options, if there is one, and what else is special of the training.
SCENARIOS = {
    "a worker is killed": ("kill_worker", {}, {}),
    "an executor is killed": ("kill_executor", {}, {}),
    "a server is killed": ("kill_server", {}, {}),
    "the last server is killed": ("kill_server", {"shard": 1}, {"pipeline": True}),
    "a server answers late": ("stall_server", {}, {"call_s": 2.0}),
    "a worker is slow": (None, {}, {"slow": {1: 0.1}}),
    "a worker stands still": ("stall_worker", {}, {}),
    "staleness is bounded": (None, {}, {"slow": {1: 0.06}, "max_staleness": 1}),
    "the disk is full": ("fill_disk", {}, {}),
    "synchronous": (None, {}, {"mode": "synchronous"}),
    "synchronous, a worker is killed": ("kill_worker", {}, {"mode": "synchronous"}),
    "synchronous, a server is killed": ("kill_server", {}, {"mode": "synchronous"}),
    "servers on executors": (None, {}, {"place": "executors"}),
    "servers on executors, a server is killed": ("kill_server", {}, {"place": "executors"}),
    "servers on executors, an executor is killed": ("kill_executor_of_server", {}, {"place": "executors"}),
}
N_ROWS = 46


@contextmanager
def cluster():
    """Two executor processes of two slots, and rows in two partitions: yields session, rows and series."""
    spark = start_session("local-cluster[2,2,1024]", "faults", config={"spark.task.maxFailures": "20"})
    import faults
    import pyarrow as pa
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(faults)  # the executors cannot import it
    series = faults.make_series(N_ROWS)
    halves = [spark.createDataFrame(pa.table({"series": list(half)})).coalesce(1) for half in (series[:23], series[23:])]
    try:
        yield spark, halves[0].union(halves[1]), series
    finally:
        stop_session(spark)


def main():
    """Run the scenarios that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("names", nargs="+", choices=SCENARIOS)
    parser.add_argument("--small-disk")
    options = parser.parse_args()
    outcome = {}
    with cluster() as (spark, rows, series):
        import faults

        for name in options.names:
            fault, how, special = SCENARIOS[name]
            happens = [] if fault is None else [(0.3, partial(getattr(faults, fault), **how))]
            disk = options.small_disk if fault == "fill_disk" else None
            folder = tempfile.mkdtemp(dir=options.folder)
            result = faults.train(spark, rows, folder, happens, checkpoints=disk, **special)
            print(f"{name}: {result['seconds']:.1f} s", file=sys.stderr, flush=True)
            kept = ("versions", "status", "retrained", "restarts", "attempts", "seconds")
            outcome[name] = {
                "complaints": faults.complaints(result, series),
                "loss": faults.loss_and_gradient(result["vector"], series)[0],
                **{key: result[key] for key in kept},
            }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
