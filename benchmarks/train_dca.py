"""Series a second of the autoencoder: plain Keras fit, one Downpour worker, two workers, one thread each, in one run.

Rates are those of the steady state: plain fit from its third batch on, Downpour from the second push of every worker to
the end of the first one. Start-up (Spark, TensorFlow, tracing) is reported apart. Rounds are interleaved and medians
taken, since machines are noisy. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sparkneuro.session import prepare_environment, start_session, stop_session

SERIES_LENGTH = 284
PLAIN = """
import os, sys, time
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import keras
from sparkneuro.models.dca import build_dca

batch_size, n_batches, preset, length = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
times = []

class Clock(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        times.append(time.perf_counter())

x = np.random.default_rng(0).standard_normal((batch_size * n_batches, length), dtype=np.float32)
build_dca(preset, length, seed=0).fit(x, x, batch_size=batch_size, verbose=0, callbacks=[Clock()])
print(batch_size * (n_batches - 2) / (times[-1] - times[1]))
"""


def measure_plain(batch_size, n_batches, preset):
    """Rate of plain Keras `fit` on one thread, in a process of its own (series/s)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PLAIN, str(batch_size), str(n_batches), preset, str(SERIES_LENGTH)]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


def write_table(path, n_series):
    """Write a voxel table of white noise, in blocks of equal size."""
    import numpy as np

    from sparkneuro.data.nifti import write_volume
    from sparkneuro.data.voxel_table import Run, VoxelTable, write_block

    block_size = n_series // 8
    run = Run("01", "", "noise", "", SERIES_LENGTH, 1.0, "", "", n_series)
    rng = np.random.default_rng(1)
    for block in range(8):
        voxel = np.arange(block * block_size, (block + 1) * block_size, dtype=np.int32)
        write_block(path, run, block, voxel, rng.standard_normal((block_size, SERIES_LENGTH), dtype=np.float32))
    shape = (n_series, 1, 1)
    write_volume(f"{path}/mask.nii.gz", np.ones(shape, np.uint8), np.eye(4))
    VoxelTable(path, "native", np.eye(4).tolist(), shape, (run,), block_size, n_series, ("noise",), "z-score").save()


def count_batches(batch_size, seconds):
    """Batches of about so many seconds, at some 700 series/s."""
    return max(16, seconds * 700 // batch_size // 8 * 8)


def measure_downpour(spark, path, batch_size, n_workers, preset, epochs, **params):
    """Rate of Downpour SGD (series/s), and start-up (s); `params` are further ones of the trainer."""
    from sparkneuro.data.spark import read_voxel_table
    from sparkneuro.models.dca import build_dca
    from sparkneuro.train.estimator import DownpourTrainer

    trainer = DownpourTrainer(
        model=build_dca(preset, SERIES_LENGTH, seed=0), nWorkers=n_workers, epochs=epochs, batchSize=batch_size, progress=False,
        **params,
    )  # fmt: skip
    training = trainer.fit(read_voxel_table(spark, path)).training
    return training["series_per_s"], training["startup_s"]


def run_round(spark, path, batch_size, n_batches, preset):
    """One measurement of each, in turn."""
    rates = {"plain": measure_plain(batch_size, n_batches, preset)}
    # One worker trains as many batches as plain fit; two train as many each, so that all three run equally long.
    rates["one_worker"], startup_s = measure_downpour(spark, path, batch_size, 1, preset, epochs=1)
    rates["two_workers"], _ = measure_downpour(spark, path, batch_size, 2, preset, epochs=2)
    return {**rates, "startup_s": startup_s}


def measure(spark, batch_size, n_batches, rounds, preset):
    """Medians over the rounds, of rates and of the ratios within a round."""
    with tempfile.TemporaryDirectory(prefix="sparkneuro-benchmark-") as folder:
        path = str(Path(folder) / "noise.voxels")
        write_table(path, batch_size * n_batches)
        results = []
        for number in range(1, rounds + 1):
            results.append(run_round(spark, path, batch_size, n_batches, preset))
            shown = "  ".join(f"{name} {value:8.1f}" for name, value in results[-1].items())
            print(f"batch {batch_size:5d}, round {number}: {shown}", flush=True)
    medians = {name: statistics.median(result[name] for result in results) for name in results[0]}
    return {
        **medians,
        "efficiency_one_worker": statistics.median(r["one_worker"] / r["plain"] for r in results),
        "speedup_two_workers": statistics.median(r["two_workers"] / r["one_worker"] for r in results),
    }


def main():
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few batches: shows that it runs, not how fast")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument("--preset", default="dca", help="network (default: dca)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1600, 256], help="default: 1600 256")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    spark = start_session(master="local[2]", app_name="benchmark train_dca")
    try:
        seconds = 8 if options.quick else 24
        results = {}
        for batch_size in options.batch_sizes:
            results[batch_size] = measure(spark, batch_size, count_batches(batch_size, seconds), rounds, options.preset)
    finally:
        stop_session(spark)
    print(f"\n{'batch':>6} {'plain':>9} {'1 worker':>9} {'2 workers':>9} {'efficiency':>11} {'speed-up':>9} {'start-up s':>11}")
    for batch_size, r in results.items():
        rates = f"{r['plain']:9.0f} {r['one_worker']:9.0f} {r['two_workers']:9.0f}"
        ratios = f"{r['efficiency_one_worker']:11.3f} {r['speedup_two_workers']:9.3f}"
        print(f"{batch_size:6d} {rates} {ratios} {r['startup_s']:11.1f}")
    first = results[options.batch_sizes[0]]
    summary = {key: round(first[key], 4) for key in ("efficiency_one_worker", "speedup_two_workers")}
    print(json.dumps({**summary, "preset": options.preset, "rounds": rounds, "by_batch_size": results}))


if __name__ == "__main__":
    prepare_environment()
    main()
