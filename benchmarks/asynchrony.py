"""What asynchrony costs: validation loss after as many epochs with 1, 2, 4 and 8 workers.

The small autoencoder (preset ``tiny``) learns series with planted responses to a motor task. Workers are threads that train
against a real parameter server, each with its share of the rows and a model of its own. Were they to run as fast as they can,
they would take turns on the cores and be less stale than on a cluster: so every step is drawn out by sleep, to a time drawn
for it (uniform, half to one and a half times a mean that leaves the cores idle half of the time), and all workers compute at
the same time. A gradient is then N - 1 updates old on average, more or less; what it was is measured and shown.

Every case sees the same rows in batches of the same size. The price is the loss against one worker's with the same seed,
after the same number of epochs; it is positive where asynchrony costs. Synchronous training makes one update of N batches, so
N times fewer of them, and staleness scaling divides an update by 1 + its staleness: both are shown at the learning rate of
all others and at N times that. Bounded staleness lets no gradient be older than N - 1 updates, which is the least bound
possible. One worker has the learning rate that was asked for, which need not be its best. The last
line is one JSON object.
"""

import argparse
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sparkneuro.session import prepare_environment

SERIES_LENGTH, T_R = 96, 2.0
# How much a step may last more or less than the mean; share of the time that the cores work.
SPREAD, BUSY = 0.5, 0.5
TIMEOUT_S = 120.0
CASES = {
    "asynchronous": {},
    "with warm-up": {"warmup_steps": 0.25},  # of an epoch
    "staleness scaling": {"staleness_scaling": True},
    "bounded staleness": {"max_staleness": -1},  # plus the number of workers
    "synchronous": {"mode": "synchronous"},
    # Both take N times smaller steps than the others: here at N times the learning rate.
    "scaling, N x rate": {"staleness_scaling": True, "rate": True},
    "synchronous, N x rate": {"mode": "synchronous", "rate": True},
}


@dataclass
class Problem:
    """One seed's task: rows to train on, rows held out, and the model's first weights."""

    seed: int
    training: np.ndarray
    held_out: np.ndarray
    values: np.ndarray
    n_trainable: int


class DrawnOut:
    """A gradient function whose calls last as long as they are told to.

    Parameters
    ----------
    gradients : TensorFlowGradients
        Computes.
    step_s : float
        Mean time of a call (s).
    rng : numpy.random.Generator
        Draws the time of each.
    """

    def __init__(self, gradients, step_s, rng):
        self._gradients, self._step_s, self._rng = gradients, step_s, rng

    def compute(self, vector, x):
        """As of `TensorFlowGradients`, later."""
        end = time.monotonic() + self._step_s * self._rng.uniform(1 - SPREAD, 1 + SPREAD)
        answer = self._gradients.compute(vector, x)
        time.sleep(max(end - time.monotonic(), 0.0))
        return answer


def make_series(rng, n_series):
    """Z-scored series: responses to the task's conditions, a random mixture for each series, and noise."""
    from sparkneuro.data.synthetic import PEAK, make_events, make_noise, make_time_courses

    courses = make_time_courses(make_events(rng, SERIES_LENGTH, T_R), SERIES_LENGTH, T_R)
    mixture = rng.uniform(-1, 1, (courses.shape[1], n_series)) * PEAK
    series = (courses @ mixture + make_noise(rng, SERIES_LENGTH, n_series)).T
    series -= series.mean(axis=1, keepdims=True)
    return (series / series.std(axis=1, keepdims=True)).astype(np.float32)


def make_problem(model, seed, n_training, n_held_out):
    """Draw rows and first weights."""
    import keras

    from sparkneuro.models.dca import build_dca
    from sparkneuro.train.gradients import read_vector

    series = make_series(np.random.default_rng(seed), n_training + n_held_out)
    values, n_trainable = read_vector(build_dca("tiny", SERIES_LENGTH, seed=seed))
    keras.utils.set_random_seed(seed)
    return Problem(seed, series[:n_training], series[n_training:], values, n_trainable)


def train(problem, model, workers, n_workers, case, options):
    """Train with `n_workers` of the gradient functions `workers`; validation loss, and mean and largest staleness."""
    from sparkneuro.data.batches import BatchSequence
    from sparkneuro.train.downpour import DownpourSettings, train_partition
    from sparkneuro.train.gradients import write_vector
    from sparkneuro.train.parameter_server.push import ServerSettings
    from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup
    from sparkneuro.train.parameter_server.update_rules import describe_rule

    rule, n_rows, pace = describe_rule(model.optimizer), len(problem.training), dict(CASES[case])
    if pace.pop("rate", False):
        rule["learning_rate"] *= n_workers
    warmup_steps = round(pace.pop("warmup_steps", 0) * n_rows / options.batch_size)
    if "max_staleness" in pace:
        pace["max_staleness"] += n_workers
    server = ServerSettings(
        rule, problem.n_trainable, problem.values.size - problem.n_trainable, warmup_steps, n_workers, n_rows, **pace
    )
    settings = DownpourSettings(1, 1, rule, problem.n_trainable, TIMEOUT_S)
    together = threading.Barrier(n_workers)
    with ServerGroup(problem.values, server, 1, DriverServers("127.0.0.1")) as group:

        def work(partition):
            rows = problem.training[partition::n_workers]
            sequence = BatchSequence(rows, options.batch_size, options.epochs, problem.seed, partition)
            step_s = options.compute_s * n_workers / (options.cores * BUSY) if n_workers > 1 else 0.0
            gradients = DrawnOut(workers[partition], step_s, np.random.default_rng([problem.seed, partition]))
            client = group.connect()
            try:
                together.wait(TIMEOUT_S)
                train_partition(client, gradients, sequence, partition, 1, settings)
            finally:
                client.leave(partition, 1)
                client.close()

        with ThreadPoolExecutor(n_workers) as pool:
            list(pool.map(work, range(n_workers)))
        epochs = group.client.status()["epochs"]
        write_vector(model, group.client.pull()[0])
    loss = model.evaluate(problem.held_out, problem.held_out, batch_size=1024, verbose=0, return_dict=True)["loss"]
    return float(loss), statistics.mean(epoch["staleness_mean"] for epoch in epochs), max(e["staleness_max"] for e in epochs)


def time_compute(gradients, values, batch_size):
    """Median time of a gradient (s)."""
    x, times = np.zeros((batch_size, SERIES_LENGTH), np.float32), []
    for _ in range(30):
        start = time.perf_counter()
        gradients.compute(values, x)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(options):
    """Loss and staleness of every case, number of workers and seed."""
    from sparkneuro.environment import available_cores
    from sparkneuro.models.dca import build_dca
    from sparkneuro.train.gradients import TensorFlowGradients

    model, *models = (build_dca("tiny", SERIES_LENGTH, options.learning_rate, seed=0) for _ in range(max(options.workers) + 1))
    workers = [TensorFlowGradients(m, SERIES_LENGTH) for m in models]
    results = []
    for seed in options.seeds:
        problem = make_problem(model, seed, options.rows, options.rows // 4)
        for gradients in workers:
            gradients.compute(problem.values, problem.training[:2])
        options.compute_s, options.cores = time_compute(workers[0], problem.values, options.batch_size), available_cores()
        for n_workers in options.workers:
            for case in list(CASES)[: None if n_workers > 1 else 1]:
                loss, mean, largest = train(problem, model, workers, n_workers, case, options)
                results.append(
                    {"seed": seed, "workers": n_workers, "case": case, "loss": loss, "staleness": mean, "largest": largest}
                )
                print(
                    f"seed {seed}, {n_workers} workers, {case:21}: loss {loss:8.4f}, staleness {mean:5.2f}, {largest}", flush=True
                )
    return results


def summarise(results):
    """Mean and spread over seeds of each case: loss, price, staleness."""
    alone = {r["seed"]: r["loss"] for r in results if r["workers"] == 1}
    table = []
    for n_workers, case in dict.fromkeys((r["workers"], r["case"]) for r in results):
        runs = [r for r in results if (r["workers"], r["case"]) == (n_workers, case)]
        losses, prices = [r["loss"] for r in runs], [r["loss"] / alone[r["seed"]] - 1 for r in runs]
        table.append(
            {
                "workers": n_workers, "case": case, "loss": statistics.mean(losses), "loss_sd": spread(losses),
                "price": statistics.mean(prices), "price_sd": spread(prices),
                "staleness": statistics.mean(r["staleness"] for r in runs), "staleness_max": max(r["largest"] for r in runs),
            }
        )  # fmt: skip
    return table


def spread(values):
    """Standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def print_table(table, n_seeds):
    """One line a case."""
    print(f"\nmean and standard deviation over {n_seeds} seeds")
    print(f"{'workers':>8} {'case':>22} {'staleness':>10} {'largest':>8} {'validation loss':>20} {'price':>18}")
    for r in table:
        loss = f"{r['loss']:10.4f} +- {r['loss_sd']:6.4f}"
        price = f"{r['price']:+8.2%} +- {r['price_sd']:6.2%}" if r["workers"] > 1 else ""
        print(f"{r['workers']:8d} {r['case']:>22} {r['staleness']:10.2f} {r['staleness_max']:8d} {loss:>20} {price:>18}")


def draw(table, options):
    """Price against the number of workers, one line a case, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    # Okabe and Ito; the same colour for the same mode at N times the rate, dashed.
    colours = ("#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#009e73", "#d55e00")
    for place, (case, colour) in enumerate(zip(CASES, colours, strict=True)):
        rows = [r for r in table if r["case"] == case and r["workers"] > 1]
        x = [options.workers.index(r["workers"]) + 0.05 * (place - 3) for r in rows]
        y, error = [100 * r["price"] for r in rows], [100 * r["price_sd"] for r in rows]
        axes.errorbar(
            x, y, error, fmt="o--" if "rate" in CASES[case] else "o-", ms=4.5, lw=1.3, capsize=2.5, color=colour, label=case
        )
    axes.axhline(0, color="#777777", lw=1, ls="--", label="one worker")
    if max(r["price"] for r in table) > 0.5:  # prices of a few per cent, and of a few hundred
        axes.set_yscale("symlog", linthresh=10, linscale=1.5)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(1, len(options.workers)), options.workers[1:])
    axes.set(xlabel="workers", ylabel="validation loss above one worker's (%)")
    axes.set_title(f"after {options.epochs} epochs of batches of {options.batch_size}; {len(options.seeds)} seeds", fontsize=10)
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=9, loc="outside right center")
    figure.savefig(options.figure, dpi=150)


def main():
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, up to two workers: shows that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="the first must be 1 (default: 1 2 4 8)")
    parser.add_argument("--rows", type=int, default=8192, help="training rows (default: 8192)")
    parser.add_argument("--batch-size", type=int, default=64, help="default: 64")
    parser.add_argument("--epochs", type=int, default=8, help="default: 8")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="default: 0.01")
    parser.add_argument("--figure", metavar="FILE", help="draw the prices as a PNG")
    options = parser.parse_args()
    if options.workers[0] != 1:
        parser.error(f"--workers must begin with 1, whom the others are measured against; got {options.workers[0]}.")
    if options.quick:
        options.seeds, options.workers, options.rows, options.epochs = options.seeds[:1], [1, 2], 1024, 2
    results = measure(options)
    table = summarise(results)
    print_table(table, len(options.seeds))
    if options.figure:
        draw(table, options)
    prices = {r["case"]: round(r["price"], 5) for r in table if r["workers"] == options.workers[-1]}
    print(
        json.dumps({"workers": options.workers[-1], "price": prices, "epochs": options.epochs, "table": table, "runs": results})
    )


if __name__ == "__main__":
    prepare_environment()
    main()
