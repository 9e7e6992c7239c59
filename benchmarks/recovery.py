"""How soon a training is back at its rate when a worker, or a parameter server, has been killed, and what was lost.

Two workers with the real network train on a `local-cluster` of two executor processes against one server with checkpoints. In
the middle one process gets SIGKILL. Watched is the rate at which rows are applied: back is when the mean of the last
seconds reaches nine tenths of the median before. An update is lost when it was applied and no longer is; all that are lost are
trained again, so at the end the ledger has every batch once, which is checked.
"""

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from train_dca import SERIES_LENGTH, write_table

from sparkneuro.session import prepare_environment, start_session, stop_session

WINDOW_S = 5.0


class Watch:
    """Kills once a steady rate has been seen, and notes rows and versions over time."""

    def __init__(self, kill, steady_s):
        self.samples, self.killed_at, self.version_at_kill, self.version_after = [], None, None, None
        self._kill, self._steady_s = kill, steady_s

    def __call__(self, status):
        now = time.monotonic()
        # Rows that a server has lost and gets again are no progress.
        rows = max(status["rows"], self.samples[-1][1] if self.samples else 0)
        self.samples.append((now, rows, status["version"]))
        if self.killed_at is None:
            steady = [sample for sample in self.samples if sample[1] > 0]
            if steady and now - steady[0][0] > self._steady_s and len(status["registered"]) == 2:
                self.version_at_kill = status["version"]
                self._kill()
                self.killed_at = time.monotonic()
        elif self.version_after is None:
            self.version_after = status["version"]

    def rate_between(self, start, end):
        """Rows a second."""
        within = [sample for sample in self.samples if start <= sample[0] <= end]
        if len(within) < 2:
            return 0.0
        return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])

    def recovery_s(self):
        """Seconds from the kill until the rate is back, and the rate before."""
        first = next(time_s for time_s, rows, _ in self.samples if rows > 0)
        starts = np.arange(first, self.killed_at - WINDOW_S, 1.0)
        before = statistics.median(self.rate_between(start, start + WINDOW_S) for start in starts)
        for time_s, _, _ in self.samples:
            if time_s >= self.killed_at + WINDOW_S and self.rate_between(time_s - WINDOW_S, time_s) >= 0.9 * before:
                return max(time_s - WINDOW_S - self.killed_at, 0.0), before
        return None, before


def worker_processes():
    """Python workers of the executors: children of Spark's daemons."""
    import psutil

    daemons = [p for p in psutil.Process().children(recursive=True) if "daemon" in " ".join(p.cmdline()) and p.children()]
    return [child for daemon in daemons for child in daemon.children() if child.cpu_times().user > 1.0]


def train(spark, path, batch_size, epochs, checkpoint_every, victim, steady_s):
    """One training in which the victim, worker or server, is killed."""
    import keras

    from sparkneuro.data.spark import read_voxel_table
    from sparkneuro.models.dca import build_dca
    from sparkneuro.train.architecture import describe_model
    from sparkneuro.train.downpour import DownpourSettings
    from sparkneuro.train.gradients import read_vector
    from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
    from sparkneuro.train.parameter_server.push import ServerSettings
    from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup
    from sparkneuro.train.parameter_server.update_rules import describe_rule
    from sparkneuro.train.spark import WorkerPlan, partition_frame, run_workers

    model = build_dca("dca", SERIES_LENGTH, seed=0)
    values, n_trainable = read_vector(model)
    rule = describe_rule(model.optimizer)
    frame, n_rows = partition_frame(read_voxel_table(spark, path).select("series"), 2)
    with tempfile.TemporaryDirectory(prefix="sparkneuro-benchmark-") as folder:
        checkpoints = CheckpointSettings(folder, checkpoint_every)
        settings = ServerSettings(rule, n_trainable, values.size - n_trainable, 0, 2, n_rows, checkpoints=checkpoints)
        place = DriverServers(spark.conf.get("spark.driver.host"))
        with ServerGroup(values, settings, 1, place) as servers:

            def kill():
                pid = place.pids()[0] if victim == "server" else worker_processes()[0].pid
                os.kill(pid, signal.SIGKILL)

            watch = Watch(kill, steady_s)
            downpour = DownpourSettings(1, 1, rule, n_trainable, 300.0)
            plan = WorkerPlan(
                describe_model(model), keras.backend.backend(), values.size, SERIES_LENGTH, False, batch_size, epochs, 0,
                servers.directory.address, servers.credentials, 60.0, "float32", downpour,
            )  # fmt: skip
            _, retrained = run_workers(frame, plan, servers, 300.0, watch)
            (ledger,) = servers.client.ledgers()
    assert sum(entry["rows"] for entry in ledger.values()) == n_rows * epochs, "the ledger does not have every row once an epoch"
    recovery_s, rate = watch.recovery_s()
    # A worker that dies takes no update with it; a server falls back to its checkpoint.
    lost = max(watch.version_at_kill - watch.version_after, 0) if victim == "server" else 0
    return {"recovery_s": recovery_s, "rate": rate, "updates_lost": lost, "retrained_batches": retrained}


def main():
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short training: shows that it runs")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each (default: 3)")
    parser.add_argument("--batch-size", type=int, default=256, help="default: 256")
    parser.add_argument("--checkpoint-every", type=int, default=20, help="updates between two checkpoints (default: 20)")
    options = parser.parse_args()
    rounds, steady_s, seconds = (1, 8.0, 45) if options.quick else (options.rounds, 15.0, 75)
    spark = start_session("local-cluster[2,1,2048]", "benchmark recovery", config={"spark.task.maxFailures": "8"})
    results = {"worker": [], "server": []}
    try:
        with tempfile.TemporaryDirectory(prefix="sparkneuro-benchmark-") as folder:
            path = str(Path(folder) / "noise.voxels")
            n_batches = 16
            write_table(path, options.batch_size * n_batches)
            epochs = max(2, seconds * 1200 // (options.batch_size * n_batches))
            for number in range(1, rounds + 1):
                for victim, found in results.items():
                    arguments = (options.batch_size, epochs, options.checkpoint_every, victim, steady_s)
                    found.append(train(spark, path, *arguments))
                    print(f"round {number}, {victim} killed: {found[-1]}", flush=True)
    finally:
        stop_session(spark)
    summary = {"checkpoint_every": options.checkpoint_every, "batch_size": options.batch_size, "rounds": rounds}
    for victim, found in results.items():
        back = [result["recovery_s"] for result in found if result["recovery_s"] is not None]
        summary[f"{victim}_recovery_s"] = round(statistics.median(back), 2) if back else None
        summary[f"updates_lost_{victim}"] = max(result["updates_lost"] for result in found)
        summary[f"{victim}_retrained_batches"] = max(result["retrained_batches"] for result in found)
        lost = f"{summary[f'updates_lost_{victim}']} updates lost"
        print(f"{victim} killed: back after {summary[f'{victim}_recovery_s']} s (median), {lost} (most)")
    print(json.dumps(summary))


if __name__ == "__main__":
    prepare_environment()
    main()
