"""How fast one parameter server exchanges vectors, and what training by it costs.

Exchange: pushes and pulls of the autoencoder's 6,023,549 weights over loopback, with the Adagrad update, one client process and
one server process. A rate in GB/s counts both ways, and every value as four bytes whatever its wire type, so that rates
compare as exchanges do. Wire types take turns in rounds; ratios are medians of those within a round. A line for context: the
same bytes there and back through a plain TCP socket, without an update.

Training: Downpour SGD with one thread a worker against plain Keras fit with one thread (efficiency; float32 on the wire), and two
workers against one (speed-up; bfloat16 on the wire for both). At batch 256 exchanges overlap with computing (``pipeline``), at
1,600 they do not. The last line is one JSON object.
"""

import argparse
import json
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from light_workers import N_VALUES, LightWorker, WorkerPool, start_servers

from sparkneuro.session import prepare_environment, start_session, stop_session

WIRE_TYPES = ("float32", "bfloat16", "float16")
RIVAL = "plain socket"
OVERLAP = {1600: False, 256: True}


def time_exchanges(exchange, n_exchanges):
    """Mean time of an exchange (s)."""
    start = time.perf_counter()
    for _ in range(n_exchanges):
        exchange()
    return (time.perf_counter() - start) / n_exchanges


def time_rounds(number, wait, addresses, credentials, n_values, port, rounds, n_exchanges):
    """In the client process: mean time of an exchange, for each wire type and the rival, for each round."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent, came = np.zeros(n_values, np.float32), np.empty(n_values, np.float32)

        def bounce():
            connection.sendall(sent)
            receive_into(connection, came)

        for _ in range(rounds + 1):
            times.append({RIVAL: time_exchanges(bounce, n_exchanges)})
            for wire_type in WIRE_TYPES:
                with LightWorker(addresses, credentials, n_values, wire_type) as exchange:
                    exchange()
                    times[-1][wire_type] = time_exchanges(exchange, n_exchanges)
    return times[1:]  # the first one warms up


def receive_into(connection, vector):
    """Fill a vector from a socket; False when the other side has closed."""
    view = memoryview(vector).cast("B")
    while len(view):
        n_bytes = connection.recv_into(view)
        if n_bytes == 0:
            return False
        view = view[n_bytes:]
    return True


def bounce_back(listener, n_values):
    """The rival's server: sends back every vector that comes, until the client closes."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    vector = np.empty(n_values, np.float32)
    with connection:
        while receive_into(connection, vector):
            connection.sendall(vector)


def measure_exchange(n_values, rounds, n_exchanges):
    """Rates (GB/s both ways), and exchanges a second of the short types against float32's."""
    with start_servers(n_values, 1) as group, WorkerPool([1]) as pool, socket.create_server(("127.0.0.1", 0)) as listener:
        rival = threading.Thread(target=bounce_back, args=(listener, n_values), daemon=True)
        rival.start()
        port = listener.getsockname()[1]
        arguments = (group.directory.addresses(), group.credentials, n_values, port, rounds, n_exchanges)
        (times,) = pool.run(1, time_rounds, *arguments)
        rival.join()
    results = {}
    print(f"{'exchange':>13} {'ms':>8} {'GB/s':>7} {'of float32':>11}")
    for name in (*WIRE_TYPES, RIVAL):
        seconds = statistics.median(time[name] for time in times)
        ratio = statistics.median(time["float32"] / time[name] for time in times)
        results[name] = {"exchange_s": seconds, "gb_s": 2 * 4 * n_values / seconds / 1e9, "ratio": ratio}
        print(f"{name:>13} {1e3 * seconds:8.2f} {results[name]['gb_s']:7.3f} {ratio:11.3f}", flush=True)
    return {
        "push_pull_gb_s": results["float32"]["gb_s"],
        "bf16_exchange_ratio": results["bfloat16"]["ratio"],
        "f16_exchange_ratio": results["float16"]["ratio"],
        "socket_gb_s": results[RIVAL]["gb_s"],
        "exchange": results,
    }


def run_round(spark, path, batch_size, n_batches, preset):
    """Rates (series/s) of one measurement of each, in turn."""
    from train_dca import measure_downpour, measure_plain

    options = {"preset": preset, "pipeline": OVERLAP[batch_size]}
    return {
        "plain": measure_plain(batch_size, n_batches, preset),
        "one_worker": measure_downpour(spark, path, batch_size, 1, epochs=1, **options)[0],
        "one_worker_bf16": measure_downpour(spark, path, batch_size, 1, epochs=1, wireType="bfloat16", **options)[0],
        "two_workers_bf16": measure_downpour(spark, path, batch_size, 2, epochs=2, wireType="bfloat16", **options)[0],
    }


def measure_training(seconds, rounds, preset):
    """Efficiency of one worker and speed-up of two, at both batch sizes."""
    from train_dca import count_batches, write_table

    spark = start_session(master="local[2]", app_name="benchmark parameter_server")
    results = {}
    try:
        for batch_size in OVERLAP:
            n_batches, runs = count_batches(batch_size, seconds), []
            with tempfile.TemporaryDirectory(prefix="sparkneuro-benchmark-") as folder:
                path = str(Path(folder) / "noise.voxels")
                write_table(path, batch_size * n_batches)
                for number in range(1, rounds + 1):
                    runs.append(run_round(spark, path, batch_size, n_batches, preset))
                    shown = "  ".join(f"{name} {rate:8.1f}" for name, rate in runs[-1].items())
                    print(f"batch {batch_size:5d}, round {number}: {shown}", flush=True)
            results[batch_size] = runs
    finally:
        stop_session(spark)
    summary = {}
    print(f"\n{'batch':>6} {'overlap':>8} {'plain':>9} {'1 worker':>9} {'efficiency':>11} {'speed-up of two':>16}")
    for batch_size, runs in results.items():
        efficiency = statistics.median(run["one_worker"] / run["plain"] for run in runs)
        speedup = statistics.median(run["two_workers_bf16"] / run["one_worker_bf16"] for run in runs)
        plain, one = (statistics.median(run[name] for run in runs) for name in ("plain", "one_worker"))
        overlap = "yes" if OVERLAP[batch_size] else "no"
        print(f"{batch_size:6d} {overlap:>8} {plain:9.0f} {one:9.0f} {efficiency:11.3f} {speedup:16.3f}")
        summary[f"efficiency_one_worker_{batch_size}"] = efficiency
        summary[f"speedup_two_workers_{batch_size}"] = speedup
    return {**summary, "training": results}


def main():
    """Measure, print tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round of each, training tiny: shows that it runs, not how fast"
    )
    parser.add_argument("--only", choices=("exchange", "training"), help="one of the two parts")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of exchanges (default: 9)")
    parser.add_argument("--training-rounds", type=int, default=3, help="rounds of trainings (default: 3)")
    parser.add_argument("--exchanges", type=int, default=40, help="exchanges of a round (default: 40)")
    parser.add_argument("--values", type=int, default=N_VALUES, help=f"length of the vector (default: {N_VALUES})")
    parser.add_argument("--preset", default="dca", help="network (default: dca)")
    options = parser.parse_args()
    summary = {}
    if options.only != "training":
        rounds, n_exchanges = (2, 5) if options.quick else (options.rounds, options.exchanges)
        summary |= measure_exchange(options.values, rounds, n_exchanges)
    if options.only != "exchange":
        quick = (2, 1, "tiny")
        summary |= measure_training(*(quick if options.quick else (24, options.training_rounds, options.preset)))
    print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in summary.items()}))


if __name__ == "__main__":
    prepare_environment()
    main()
