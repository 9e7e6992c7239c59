"""Program of `test_faults`: a cluster of its own, since a JVM holds one Spark context; one fault after the other.

``python run_faults.py FOLDER NAME ...`` prints one JSON object, by name of the scenario.
"""

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from sparkneuro.session import start_session, stop_session

sys.path.insert(0, str(Path(__file__).parent))

SCENARIOS = {
    "a worker is killed": {"fault": "kill_worker"},
    "an executor is killed": {"fault": "kill_executor"},
    "a server is killed": {"fault": "kill_server"},
    "the last server is killed": {"fault": partial, "shard": 1},
    "a server answers late": {"fault": "stall_server", "call_s": 2.0},
    "a worker is slow": {"slow": {1: 0.15}},
    "a worker stands still": {"fault": "stall_worker"},
    "staleness is bounded": {"slow": {1: 0.06}, "max_staleness": 1},
    "synchronous": {"mode": "synchronous"},
    "synchronous, a worker is killed": {"mode": "synchronous", "fault": "kill_worker"},
    "synchronous, a server is killed": {"mode": "synchronous", "fault": "kill_server"},
    "servers on executors": {"place": "executors"},
    "servers on executors, a server is killed": {"place": "executors", "fault": "kill_server"},
    "servers on executors, an executor is killed": {"place": "executors", "fault": "kill_executor_of_server"},
}


def main():
    """Run the scenarios that are named."""
    folder, names = sys.argv[1], sys.argv[2:]
    spark = start_session("local-cluster[2,2,1024]", "faults", config={"spark.task.maxFailures": "8"})
    import faults
    import pyarrow as pa
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(faults)  # the executors cannot import it
    series = faults.make_series(46)
    halves = [spark.createDataFrame(pa.table({"series": list(half)})).coalesce(1) for half in (series[:23], series[23:])]
    rows = halves[0].union(halves[1])
    outcome = {}
    try:
        for name in names:
            options = dict(SCENARIOS[name])
            fault = options.pop("fault", None)
            if fault is partial:
                fault = partial(faults.kill_server, shard=options.pop("shard"))
            elif fault is not None:
                fault = getattr(faults, fault)
            result = faults.train(spark, rows, tempfile.mkdtemp(dir=folder), fault, **options)
            print(f"{name}: {result['seconds']:.1f} s", file=sys.stderr, flush=True)
            outcome[name] = {
                "complaints": faults.complaints(result, series),
                "loss": faults.loss_and_gradient(result["vector"], series)[0],
                **{key: result[key] for key in ("versions", "status", "retrained", "restarts", "attempts", "seconds")},
            }
    finally:
        stop_session(spark)
    print(json.dumps(outcome))


if __name__ == "__main__":
    start = time.monotonic()
    main()
