"""Ridge regression of many targets, side by side: sparkneuro, scikit-learn and himalaya, same data, BLAS and threads.

    python benchmarks/ridge.py [--quick] [--scans 4000 --features 1024 --targets 20000 --rounds 3]

Three problems, with the thesis's 11 penalties: one penalty for all targets by leave-one-out, one per target by leave-one-out,
one per target by 5-fold cross-validation. The ways take turns; medians are printed. Features and targets are float32: scikit-
learn computes in float64 whatever comes, himalaya in what comes. Peak memory is that of a process of its own for each way.
MultiOutputRegressor(RidgeCV), the thesis's MOR, is timed on a few targets and extrapolated, since each target decomposes the
features again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

THREADS = str(len(os.sched_getaffinity(0)))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)

import numpy as np  # noqa: E402  (numpy reads the number of threads when it is imported)

from sparkneuro.blas import describe_blas, measure_gemm  # noqa: E402
from sparkneuro.encoding import decomposition as decomposing  # noqa: E402
from sparkneuro.encoding.encoder_settings import THESIS_ALPHAS  # noqa: E402
from sparkneuro.encoding.ridge import fit_ridge, prefers_gram  # noqa: E402

ALPHAS = np.array(THESIS_ALPHAS)
N_FOLDS = 5
RUNS = 10


def main():
    """Measure and print; the last line is one JSON object."""
    words = read_words()
    if words.memory_of:
        print(json.dumps(measure_memory(words)))
        return
    X, Y = make_data(words)
    rates = {dtype: measure_gemm(dtype) for dtype in ("float32", "float64")}
    print(f"t = {words.scans}, p = {words.features}, s = {words.targets}, {len(ALPHAS)} alphas, {THREADS} threads")
    print(f"{'; '.join(describe_blas())}; GEMM {rates['float32']:.0f} GFLOP/s in float32, {rates['float64']:.0f} in float64")
    seconds, fits, eigh = measure(X, Y, words.rounds)
    table = {way: median(times) for way, times in seconds.items()}
    for way, time_s in table.items():
        print(f"{way:<42} {time_s:8.2f} s   ({', '.join(f'{t:.2f}' for t in seconds[way])})")
    exact = compare_in_float64(X, Y, fits)
    mor = time_mor(X, Y, words.mor_targets)
    print(f"{'MultiOutputRegressor, extrapolated':<42} {mor * words.targets:8.0f} s   ({words.mor_targets} targets timed)")
    memory = {way: ask_memory(words, way) for way in ("sparkneuro", "sklearn")}
    for way, peak in memory.items():
        print(f"peak memory of {way}: {peak['peak']:.2f} GB, {peak['added']:.2f} of them beside the data")
    print(json.dumps(summarise(words, table, fits, eigh, memory, rates, mor) | exact))


def read_words():
    """Words of the command line; --quick makes everything smaller that was not given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the targets, one round: shows that it works")
    parser.add_argument("--scans", type=int, default=4000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--targets", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--mor-targets", type=int, default=4, help="targets that MultiOutputRegressor is timed on")
    parser.add_argument("--memory-of", choices=("sparkneuro", "sklearn"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    words.targets = words.targets or (5000 if words.quick else 20_000)
    words.rounds = words.rounds or (1 if words.quick else 3)
    return words


def make_data(words):
    """Features, and targets that follow them to very different degrees; float32."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((words.scans, words.features), dtype=np.float32)
    weights = rng.standard_normal((words.features, words.targets), dtype=np.float32)
    Y = X @ (weights * rng.uniform(0, 0.05, words.targets).astype(np.float32))
    for row in Y:  # no second array of that size: the peak memory is measured
        row += rng.standard_normal(words.targets, dtype=np.float32)
    return X, Y


def sklearn_ridge(X, Y, per_target):
    """scikit-learn's leave-one-out."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(ALPHAS, alpha_per_target=per_target).fit(X, Y)
    return model.alpha_, model.coef_.T


def himalaya_ridge(X, Y):
    """himalaya's 5-fold cross-validation, in the batches of targets that it was fastest with here."""
    from himalaya.ridge import RidgeCV

    model = RidgeCV(alphas=ALPHAS, cv=N_FOLDS, fit_intercept=True, solver_params={"n_targets_batch": 2000}).fit(X, Y)
    return np.asarray(model.best_alphas_), np.asarray(model.coef_)


def ours(X, Y, **options):
    """sparkneuro's."""
    fit = fit_ridge(X, Y, ALPHAS, **options)
    return fit.alphas, fit.coef


WAYS = {
    "sparkneuro, LOO, one alpha": lambda X, Y: ours(X, Y, criterion="loo"),
    "scikit-learn, LOO, one alpha": lambda X, Y: sklearn_ridge(X, Y, False),
    "sparkneuro, LOO, per target": lambda X, Y: ours(X, Y, criterion="loo", alpha_per_target=True),
    "scikit-learn, LOO, per target": lambda X, Y: sklearn_ridge(X, Y, True),
    "sparkneuro, LOO, per target, exhaustive": lambda X, Y: ours(
        X, Y, criterion="loo", alpha_per_target=True, search="exhaustive"
    ),
    "sparkneuro, 5-fold, per target": lambda X, Y: ours(X, Y, criterion="kfold", alpha_per_target=True),
    "himalaya, 5-fold, per target": himalaya_ridge,
    "sparkneuro, 5-fold, per target, exhaustive": lambda X, Y: ours(
        X, Y, criterion="kfold", alpha_per_target=True, search="exhaustive"
    ),
    "sparkneuro, leave-one-run-out, one alpha": lambda X, Y: ours(X, Y, run_labels=run_labels(len(X))),
    "sparkneuro, leave-one-run-out, per target": lambda X, Y: ours(
        X, Y, run_labels=run_labels(len(X)), alpha_per_target=True
    ),
}  # fmt: skip


def run_labels(n_scans):
    """Ten runs, as equal as can be."""
    return np.arange(n_scans) * RUNS // n_scans


def measure(X, Y, n_rounds):
    """Time every way, in turns; keep the last results, and the time of an eigendecomposition in between."""
    seconds, fits, eigh = {way: [] for way in WAYS}, {}, []
    fit_ridge(X, Y[:, :256], ALPHAS, criterion="kfold")  # libraries are loaded and threads started
    gram = decomposing.gram_matrix(X, X.mean(axis=0, dtype=np.float64))
    for _ in range(n_rounds):
        for way, call in WAYS.items():
            start = time.perf_counter()
            fits[way] = call(X, Y)
            seconds[way].append(time.perf_counter() - start)
        start = time.perf_counter()
        decomposing.eigh_descending(gram.copy())
        eigh.append(time.perf_counter() - start)
    return seconds, fits, median(eigh)


def compare_in_float64(X, Y, fits):
    """The same answers as scikit-learn's when both compute in float64; not timed.

    Penalties of all targets are those of the timed fits, where scikit-learn computes in float64 anyway. Its coefficients come
    back in the type of the data, so these are compared for some targets that are given in float64.
    """
    X, Y = X.astype(np.float64), Y.astype(np.float64)
    equal, error = [], []
    for way, per_target in (("scikit-learn, LOO, one alpha", False), ("scikit-learn, LOO, per target", True)):
        options = {"criterion": "loo", "alpha_per_target": per_target, "search": "exhaustive"}
        equal.append(share_equal(fits[way], ours(X, Y, **options)))
        error.append(relative_error(sklearn_ridge(X, Y[:, :1000], per_target), ours(X, Y[:, :1000], **options)))
    print(f"float64, exhaustive: same alphas as scikit-learn {min(equal):.5f}, coefficients within {max(error):.1e}")
    return {"alphas_equal": min(equal), "coef_error_float64": max(error)}


def time_mor(X, Y, n_targets):
    """Seconds a target of a RidgeCV for each target."""
    from sklearn.linear_model import RidgeCV
    from sklearn.multioutput import MultiOutputRegressor

    start = time.perf_counter()
    MultiOutputRegressor(RidgeCV(ALPHAS)).fit(X, Y[:, :n_targets])
    return (time.perf_counter() - start) / n_targets


def measure_memory(words):
    """Peak memory of this process: with the data alone, and after a fit."""
    X, Y = make_data(words)
    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak is counted
    before = read_status("VmRSS")
    WAYS[f"{'scikit-learn' if words.memory_of == 'sklearn' else 'sparkneuro'}, LOO, one alpha"](X, Y)
    return {"peak": read_status("VmHWM"), "added": read_status("VmHWM") - before}


def read_status(name):
    """A line of this process's status, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith(name))


def ask_memory(words, way):
    """`measure_memory` in a process of its own."""
    sizes = ["--scans", words.scans, "--features", words.features, "--targets", words.targets]
    command = [sys.executable, __file__, *map(str, sizes), "--memory-of", way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def count_seconds_of_gemm(words, rates):
    """Time of the products of the global leave-one-out at the rate of matrix products, eigendecomposition left out."""
    n, p, s, k = words.scans, words.features, words.targets, min(words.scans - 1, words.features)
    double = 3 * n * p * p
    choosing = n * n * s + 2 * n * n * k + 2 * n * k * k if prefers_gram(n, k) else 4 * n * k * s + k * k * s
    single = choosing + 2 * n * k * k + 2 * n * p * k + 2 * n * p * s
    return (double / rates["float64"] + single / rates["float32"]) / 1e9


def summarise(words, table, fits, eigh, memory, rates, mor):
    """The ratios that matter, larger is better but for memory."""
    pairs = {
        "loo_global_vs_sklearn": ("scikit-learn, LOO, one alpha", "sparkneuro, LOO, one alpha"),
        "loo_per_target_vs_sklearn": ("scikit-learn, LOO, per target", "sparkneuro, LOO, per target"),
        "loo_exhaustive_vs_sklearn": ("scikit-learn, LOO, per target", "sparkneuro, LOO, per target, exhaustive"),
        "kfold_vs_himalaya": ("himalaya, 5-fold, per target", "sparkneuro, 5-fold, per target"),
        "kfold_exhaustive_vs_himalaya": ("himalaya, 5-fold, per target", "sparkneuro, 5-fold, per target, exhaustive"),
    }
    ratios = {name: round(table[other] / table[mine], 2) for name, (other, mine) in pairs.items()}
    equal = {name: share_equal(fits[other], fits[mine]) for name, (other, mine) in pairs.items()}
    errors = {name: relative_error(fits[other], fits[mine]) for name, (other, mine) in pairs.items()}
    for name in pairs:
        print(f"{name:<32} {ratios[name]:6.2f} times   same alphas {equal[name]:.5f}   coefficients within {errors[name]:.1e}")
    gemm = count_seconds_of_gemm(words, rates) / (table["sparkneuro, LOO, one alpha"] - eigh)
    loo = table["sparkneuro, LOO, one alpha"]
    return {
        **ratios,
        "memory_vs_sklearn": round(memory["sparkneuro"]["peak"] / memory["sklearn"]["peak"], 3),
        "added_memory_vs_sklearn": round(memory["sparkneuro"]["added"] / memory["sklearn"]["added"], 3),
        "gemm_fraction": round(gemm, 3),
        "alphas_equal_float32": min(equal[name] for name in pairs if "global" in name or "exhaustive" in name),
        "alphas_equal_float32_climbing": min(equal["loo_per_target_vs_sklearn"], equal["kfold_vs_himalaya"]),
        "coef_error": max(errors.values()),
        "mor_vs_sparkneuro": round(mor * words.targets / loo, 0),
        "seconds": {way: round(time_s, 3) for way, time_s in table.items()},
        "eigh_s": round(eigh, 3),
    }


def share_equal(theirs, mine):
    """Share of targets with the same penalty."""
    return float(np.isclose(np.broadcast_to(theirs[0], mine[0].shape), mine[0], rtol=1e-6).mean())


def relative_error(theirs, mine):
    """Largest difference of coefficients over the largest coefficient, among targets with the same penalty."""
    same = np.isclose(np.broadcast_to(theirs[0], mine[0].shape), mine[0], rtol=1e-6)
    return float(np.abs(theirs[1][:, same] - mine[1][:, same]).max() / np.abs(theirs[1]).max())


if __name__ == "__main__":
    main()
