"""Encoding models over a voxel table on Spark: overhead, the thesis's sizes, and how time falls with machines.

    python benchmarks/ridge_spark.py overhead [--quick]     Spark (local[cores]) against one process, and B-MOR over Spark
    python benchmarks/ridge_spark.py truncated              10,000 x 264,805, p = 16,384: the thesis's whole-brain set
    python benchmarks/ridge_spark.py full     69,202 x 16,384 with a tenth of the targets
    python benchmarks/ridge_spark.py scaling --figure F     T(c) for 1 to 128 nodes, on paper

Data are random, of the right sizes, float32, and made on the fly into a voxel table and a feature table (4,096 features at 4
delays where p = 16,384); --folder keeps them for the next time. The last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

CORES = len(os.sched_getaffinity(0))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, str(CORES))

import numpy as np  # noqa: E402  (numpy reads the number of threads when it is imported)

from sparkneuro.blas import measure_gemm  # noqa: E402
from sparkneuro.data.feature_table import write_features  # noqa: E402
from sparkneuro.data.nifti import write_volume  # noqa: E402
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block  # noqa: E402
from sparkneuro.encoding.encoder_settings import THESIS_ALPHAS  # noqa: E402

WORKLOADS = {
    "overhead": {"scans": 4000, "features": 1024, "delays": (0,), "targets": 100_000, "runs": 10},
    "truncated": {"scans": 10_000, "features": 4096, "delays": (1, 2, 3, 4), "targets": 264_805, "runs": 25},
    "full": {"scans": 69_202, "features": 4096, "delays": (1, 2, 3, 4), "targets": 26_480, "runs": 166},
}
N_SIGNALS = 16
"""Features that the targets follow; a product with all would only cost time."""


def main():
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "truncated", "full", "scaling"), nargs="?", default="overhead")
    parser.add_argument("--quick", action="store_true", help="a tenth of the targets, one round: shows that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where tables and models go, and stay; a temporary folder when absent")
    parser.add_argument("--targets", type=int, help="another number of targets")
    parser.add_argument("--coefficients", action=argparse.BooleanOptionalAction, default=True, help="write coefficients too")
    parser.add_argument("--figure", help="scaling: picture to draw, .png or .svg")
    words = parser.parse_args()
    if words.what == "scaling":
        print(json.dumps(draw_scaling(words)))
        return
    sizes = dict(WORKLOADS[words.what])
    sizes["targets"] = words.targets or sizes["targets"] // (10 if words.quick else 1)
    with working_folder(words.folder) as folder:
        measure = measure_overhead if words.what == "overhead" else measure_large
        result = measure(words, sizes, folder)
    print(json.dumps(result))


class working_folder:
    """The folder that was named, or one that is deleted at the end."""

    def __init__(self, named):
        self.named = named

    def __enter__(self):
        self.path = Path(self.named or tempfile.mkdtemp(prefix="ridge-spark-"))
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def __exit__(self, *error):
        if not self.named:
            shutil.rmtree(self.path)


def start(cores=CORES, tasks=CORES):
    """A session of `tasks` slots with cores/tasks threads each."""
    from sparkneuro.session import start_session

    threads = max(1, cores // tasks)
    return start_session(master=f"local[{cores}]", app_name="ridge benchmark", cores_per_task=threads)


def make_features(folder, sizes):
    """Feature table of the right size; runs as equal as can be."""
    path = folder / f"features-{sizes['scans']}-{sizes['features']}.features"
    ends = np.linspace(0, sizes["scans"], sizes["runs"] + 1).astype(int)
    lengths = np.diff(ends).tolist()
    if not (path / f"task-movie_run-{sizes['runs']}.npy").exists():
        for place, n_scans in enumerate(lengths):
            X = np.random.default_rng([1, place]).standard_normal((n_scans, sizes["features"]), dtype=np.float32)
            write_features(str(path), _run(place, n_scans, 0), X)
    return str(path), lengths


def make_table(spark, folder, sizes, lengths):
    """Voxel table of the right size, one Spark task a block; a target follows a few features and noise."""
    from sparkneuro.data.spark import run_jobs

    path = folder / f"movie-{sizes['scans']}-{sizes['targets']}.voxels"
    shape = (64, 64, -(-sizes["targets"] // 4096))
    runs = tuple(_run(place, n, sizes["targets"], "01") for place, n in enumerate(lengths))
    affine = np.eye(4).tolist()
    table = VoxelTable(str(path), "native", affine, shape, runs, 4096, sizes["targets"], ("random",), "z-score")
    if (path / "voxel_table.json").exists():
        return table
    common = {"path": str(path), "lengths": lengths, "targets": sizes["targets"]}
    jobs = [{**common, "block": block} for block in range(table.n_blocks)]
    _, failures = run_jobs(spark, write_random_block, jobs)
    if failures:
        raise failures[0]
    mask = (np.arange(np.prod(shape)) < sizes["targets"]).astype(np.uint8).reshape(shape)
    write_volume(str(path / "mask.nii.gz"), mask, np.eye(4))
    table.save()
    return table


def write_random_block(job):
    """One block of all runs: noise, and the first features one to four scans later with random weights."""
    first, last = job["block"] * 4096, min((job["block"] + 1) * 4096, job["targets"])
    voxel = np.arange(first, last, dtype=np.int32)
    weights = np.random.default_rng([2, job["block"]]).standard_normal((last - first, N_SIGNALS), dtype=np.float32)
    weights *= np.random.default_rng([3, job["block"]]).uniform(0, 0.15, (last - first, 1)).astype(np.float32)
    for place, n_scans in enumerate(job["lengths"]):
        X = np.random.default_rng([1, place]).standard_normal((n_scans, N_SIGNALS), dtype=np.float32)
        series = np.random.default_rng([4, job["block"], place]).standard_normal((last - first, n_scans), dtype=np.float32)
        series[:, 2:] += weights @ X[:-2].T
        write_block(job["path"], _run(place, n_scans, last - first, "01"), job["block"], voxel, series)
    return {}


def _run(place, n_scans, n_voxels, subject=""):
    return Run(subject, "", "movie", str(place + 1), n_scans, 1.49, "random", "", n_voxels)


def measure_overhead(words, sizes, folder):
    """The same problem in one process on arrays, on Spark over a voxel table, and as B-MOR on Spark."""
    from sparkneuro.session import stop_session

    features, lengths = make_features(folder, sizes)
    spark = start()
    seconds = {"in_process_s": [], "spark_s": []}
    try:
        table = make_table(spark, folder, sizes, lengths)
        fit_on_spark(spark, table, features, folder / "warm.ridge", sizes, targets=4096, coefficients=True)
        rounds = 1 if words.quick else words.rounds
        X, Y = load(features, table, lengths)
        for _ in range(rounds):
            seconds["in_process_s"].append(time_in_process(X, Y, lengths))
        del X, Y
        for _ in range(rounds):
            seconds["spark_s"].append(fit_on_spark(spark, table, features, folder / "spark.ridge", sizes)[0])
        bmor = time_bmor(spark, table, features)
    finally:
        stop_session(spark)
    result = {name: round(median(values), 2) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:<16} {result[name]:8.2f} s   ({', '.join(f'{value:.2f}' for value in values)})")
    allowed = 1.15 * result["in_process_s"] + 5
    print(f"allowed: 1.15 x one process + 5 s = {allowed:.2f} s; B-MOR on Spark: {bmor:.1f} s")
    result |= {"allowed_s": round(allowed, 2), "bmor_s": round(bmor, 1)}
    return {**result, "bmor_over_spark": round(bmor / result["spark_s"], 1)}


def load(features, table, lengths):
    """Features and targets as arrays."""
    from sparkneuro.data.feature_table import FeatureTable, read_features

    known = FeatureTable.open(features)
    X = np.concatenate([read_features(known.find(_run(place, n, 0))) for place, n in enumerate(lengths)])
    Y = np.empty((len(X), table.n_voxels), np.float32)
    for run in table.runs:
        start_scan = sum(n for other, n in enumerate(lengths) if other < int(run.run) - 1)
        for block in range(table.n_blocks):
            voxel, series = table.read_block(run, block)
            Y[start_scan : start_scan + run.n_scans, voxel] = series.T
    return X, Y


def time_in_process(X, Y, lengths):
    """Seconds of `fit_ridge` with coefficients, one penalty for all targets by leave-one-out."""
    from sparkneuro.encoding.ridge import fit_ridge

    begin = time.perf_counter()
    fit_ridge(X, Y, THESIS_ALPHAS, "loo")
    return time.perf_counter() - begin


def fit_on_spark(spark, table, features, output, sizes, targets=None, coefficients=True, progress=False):
    """Seconds of `RidgeEncoder.fit` over the table, and the model; the folder is deleted first."""
    from sparkneuro.encoding.estimator import RidgeEncoder
    from sparkneuro.encoding.spark import read_target_blocks

    shutil.rmtree(output, ignore_errors=True)
    encoder = RidgeEncoder(
        features=[features], output=str(output), delays=list(sizes["delays"]), alphas=list(THESIS_ALPHAS), criterion="loo",
        split="none", standardize=False, coefficients=coefficients, progress=progress,
    )  # fmt: skip
    blocks = read_target_blocks(spark, table.path)
    if targets:
        blocks = blocks.filter(f"block < {-(-targets // table.block_size)}")
    begin = time.perf_counter()
    model = encoder.fit(blocks)
    return time.perf_counter() - begin, model


def time_bmor(spark, table, features):
    """The thesis's B-MOR: each task decomposes the features again and fits its batch of targets by scikit-learn's RidgeCV."""
    from sparkneuro.data.spark import run_jobs

    n_batches = spark.sparkContext.defaultParallelism
    parts = np.array_split(np.arange(table.n_blocks), n_batches)
    # A batch of the whole set needs 6.5 times its float64 size: it is fitted in pieces that fit, the decomposition once a piece.
    jobs = [
        {"table": table.path, "features": features, "blocks": piece.tolist()}
        for part in parts
        for piece in np.array_split(part, max(1, len(part) // 3))
    ]
    begin = time.perf_counter()
    _, failures = run_jobs(spark, fit_batch, jobs)
    if failures:
        raise failures[0]
    return time.perf_counter() - begin


def fit_batch(job):
    """A batch of B-MOR."""
    from sklearn.linear_model import RidgeCV

    from sparkneuro.data.feature_table import FeatureTable, read_features
    from sparkneuro.data.target_block import read_targets

    table = VoxelTable.open(job["table"])
    runs = sorted(table.runs, key=lambda run: int(run.run))
    X = np.concatenate([read_features(FeatureTable.open(job["features"]).find(run)) for run in runs])
    Y = np.concatenate([read_targets(table, runs, block)[1] for block in job["blocks"]], axis=1)
    return {"alpha": float(RidgeCV(THESIS_ALPHAS).fit(X, Y).alpha_)}


def measure_large(words, sizes, folder):
    """One fit of a set that is larger than this machine would like, with its time step by step, memory and disk."""
    from sparkneuro.session import stop_session

    rates = {dtype: measure_gemm(dtype, size=3000, seconds=2) for dtype in ("float32", "float64")}
    print(f"GEMM {rates['float32']:.0f} / {rates['float64']:.0f} GFLOP/s; t = {sizes['scans']}, p = "
          f"{sizes['features'] * len(sizes['delays'])}, s = {sizes['targets']}", flush=True)  # fmt: skip
    spark = start(tasks=1)
    try:
        features, lengths = make_features(folder, sizes)
        begin = time.perf_counter()
        table = make_table(spark, folder, sizes, lengths)
        print(f"tables made in {time.perf_counter() - begin:.0f} s", flush=True)
        steps = time_steps()
        with watch_memory() as peak:
            seconds, model = fit_on_spark(
                spark, table, features, folder / f"{words.what}.ridge", sizes, coefficients=words.coefficients
            )
    finally:
        stop_session(spark)
    for step, value in steps.items():
        print(f"{step:<28} {value:8.1f} s")
    disk = {name: folder_bytes(path) / 1e9 for name, path in (("model", model.path), ("table", table.path))}
    alpha = model.record["subjects"]["01"]["alpha"]
    print(f"{seconds:.0f} s in all; alpha {alpha:g}; peak memory: driver {peak['driver']:.1f} GB, a task {peak['task']:.1f} GB; "
          f"disk: model {disk['model']:.1f} GB, table {disk['table']:.1f} GB")  # fmt: skip
    return {
        "seconds": round(seconds, 1), "steps_s": {name: round(value, 1) for name, value in steps.items()}, "alpha": alpha,
        "driver_gb": round(peak["driver"], 2), "task_gb": round(peak["task"], 2),
        "disk_gb": {name: round(value, 2) for name, value in disk.items()},
        "rates_gflops": {name: round(rate) for name, rate in rates.items()}, **sizes,
    }  # fmt: skip


def time_steps():
    """Seconds of each step of a fit, filled in while it runs."""
    from sparkneuro.encoding import build_design, design, fit_encoder

    steps = {}

    def timed(module, name, step):
        original = getattr(module, name)

        def call(*args, **options):
            begin = time.perf_counter()
            try:
                return original(*args, **options)
            finally:
                steps[step] = steps.get(step, 0.0) + time.perf_counter() - begin
                print(f"   {step} done after {steps[step]:.0f} s", flush=True)

        setattr(module, name, call)

    timed(build_design, "delayed_gram", "Gram matrix")
    timed(design, "decompose", "decomposition")
    timed(fit_encoder, "build_design", "design, all of it")
    timed(fit_encoder, "_choose", "choice of alpha")
    timed(fit_encoder, "_fit", "coefficients")
    return steps


class watch_memory:
    """Peak private memory (files that are mapped do not count) of this process and of any Python worker, in GB."""

    def __enter__(self):
        self.peak, self._stop = {"driver": 0.0, "task": 0.0}, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self.peak

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        import psutil

        me = psutil.Process()
        while not self._stop.wait(0.25):
            for process in [me, *me.children(recursive=True)]:
                try:
                    if "java" in process.name():
                        continue
                    private = private_bytes(process.pid) / 1e9
                except (psutil.Error, OSError, StopIteration):
                    continue
                kind = "driver" if process.pid == me.pid else "task"
                self.peak[kind] = max(self.peak[kind], private)


def private_bytes(pid):
    """Anonymous memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def folder_bytes(path):
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def draw_scaling(words):
    """T(c) of this design and of B-MOR for the whole-brain set of the thesis, from the rates of this machine."""
    n, p, s, r = 69_202, 16_384, 264_805, len(THESIS_ALPHAS)
    rate32, rate64 = (measure_gemm(dtype, size=2048, seconds=1) * 1e9 / CORES * 32 for dtype in ("float32", "float64"))
    nodes = [1, 2, 4, 8, 16, 32, 64, 128]
    ours = [time_ours(c, n, p, s, rate32, rate64) for c in nodes]
    bmor = [time_bmor_on_paper(c, n, p, s, r, rate64) for c in nodes]
    for c, mine, theirs in zip(nodes, ours, bmor, strict=True):
        print(f"{c:4d} nodes of 32 cores   ours {mine:8.0f} s   B-MOR {theirs:8.0f} s   {theirs / mine:5.1f} times")
    if words.figure:
        draw(words.figure, nodes, ours, bmor, (n, p, s, r))
    return {"nodes": nodes, "ours_s": [round(t) for t in ours], "bmor_s": [round(t) for t in bmor]}


def time_ours(c, n, p, s, rate32, rate64):
    """Seconds on c nodes: what is done once, what is divided, and what moves."""
    from sparkneuro.encoding.decomposition import EIGH_FLOPS
    from sparkneuro.encoding.preflight import EIGH_RATE

    once = (n * p * p + 2 * n * p * p) / rate64 + EIGH_FLOPS * p**3 / (rate64 * EIGH_RATE)
    divided = (4 * n * p * s + p * p * s + 2 * n * p * s) / rate32
    losses = 3 * n * p * p / rate32
    moved = (4 * n * p + 4 * p * p) * max(0, np.log2(c)) / NETWORK + 8 * p * p * max(0, np.log2(c)) / NETWORK
    return once + losses + divided / c + moved


def time_bmor_on_paper(c, n, p, s, r, rate64):
    """Seconds of B-MOR on c nodes: each decomposes the features by an SVD, then fits its share in float64.

    In its favour: the SVD runs at the rate of matrix products, and moving the features costs nothing.
    """
    decomposition = 14 * n * p * p / rate64
    return decomposition + (2 + 2 * r + 2) * n * p * s / c / rate64


NETWORK = 1.25e9
"""Bytes a second between two nodes: 10 Gbit/s."""


def draw(path, nodes, ours, bmor, sizes):
    """Both curves over nodes, with their halving lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for times, name, colour in ((ours, "sparkneuro", "#0072b2"), (bmor, "B-MOR", "#d55e00")):
        panel.loglog(nodes, times, "o-", color=colour, label=name, base=2)
        panel.loglog(nodes, [times[0] / c for c in nodes], ":", color=colour, lw=0.9, base=2)
    panel.set_yscale("log", base=10)
    panel.set_xticks(nodes, [str(c) for c in nodes])
    panel.set_xlabel("nodes of 32 cores")
    panel.set_ylabel("predicted time (s)")
    panel.set_title("t = {:,}, p = {:,}, s = {:,}, {} alphas; dotted: perfect scaling".format(*sizes), fontsize=9)
    panel.legend(frameon=False)
    panel.grid(True, color="#e4e4e4")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
