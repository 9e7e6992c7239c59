"""Short trainings on a small cluster, each under a random schedule of faults: ``python chaos.py --seeds 30``.

A seed decides how the training is done (servers and where they run, overlap, a bound of staleness, synchronous or not) and what
happens when: workers, executors and servers are killed, or stand still. After each training the ledger must be exact, the probes
equal to its replay, the weights finite, the validation loss within the spread of undisturbed trainings, and no process, port
or file left. The last line is one JSON object; the exit status is 1 when anything did not hold.
"""

import argparse
import json
import random
import sys
import tempfile
from functools import partial

from run_faults import cluster

FAULTS = (
    "kill_worker", "kill_worker", "kill_executor", "kill_server", "kill_server", "stall_server", "stall_worker",
)  # fmt: skip
N_UNDISTURBED = 4


def draw(seed, faults):
    """A training and its faults, from a seed."""
    rng = random.Random(seed)
    n_servers = rng.choice([1, 2])
    options = {"step_s": 0.06, "n_servers": n_servers, "place": rng.choice(["driver", "driver", "executors"])}
    way = rng.choice(["asynchronous", "asynchronous", "pipeline", "bounded", "synchronous"])
    if way == "pipeline":
        options["pipeline"] = True
    elif way == "bounded":
        options["max_staleness"] = rng.choice([1, 3])
    elif way == "synchronous":
        options["mode"] = "synchronous"
    schedule = []
    for share in sorted(rng.uniform(0.05, 0.7) for _ in range(rng.choice([1, 2, 3]))):
        name = rng.choice(FAULTS)
        how = {}
        if "server" in name:
            how["shard"] = rng.randrange(n_servers)
        elif way != "synchronous" or name != "kill_executor":
            how["partition"] = rng.randrange(2)
        if name.startswith("stall"):
            how["seconds"] = rng.uniform(0.5, 4.0)
        schedule.append((share, name, how))
    if any(name == "stall_server" for _, name, _ in schedule):
        options["call_s"] = rng.choice([2.0, 20.0]) if way in ("asynchronous", "pipeline") else 20.0
    happens = [(share, partial(getattr(faults, name), **how)) for share, name, how in schedule]
    told = ", ".join(f"{name} {how} at {share:.0%}" for share, name, how in schedule)
    return options, happens, f"{way}, {n_servers} on {options['place']}: {told}"


def main():
    """Run the undisturbed trainings, then one a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings (default: 3)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default: 0)")
    parser.add_argument("--folder", default=None, help="folder for what the trainings write (default: a temporary one)")
    arguments = parser.parse_args()
    failures = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, cluster() as (spark, rows, series):
        import faults

        def run(**options):
            result = faults.train(spark, rows, tempfile.mkdtemp(dir=folder), **options)
            return faults.loss_and_gradient(result["vector"], series)[0], result

        undisturbed = {}
        for mode in ("asynchronous", "synchronous"):
            losses = [run(mode=mode)[0] for _ in range(N_UNDISTURBED if mode == "asynchronous" else 1)]
            # The spread of a few is less than that of many; and a killed worker makes gradients late that otherwise were not.
            margin = 3 * (max(losses) - min(losses)) + 0.05 * max(losses)
            undisturbed[mode] = (min(losses) - margin, max(losses) + margin)
            print(f"undisturbed, {mode}: validation loss {undisturbed[mode][0]:.4f} to {undisturbed[mode][1]:.4f}", flush=True)
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            options, happens, told = draw(seed, faults)
            loss, result = run(faults=happens, **options)
            found = faults.complaints(result, series)
            least, most = undisturbed[options.get("mode", "asynchronous")]
            if not least <= loss <= most:
                found.append(f"the validation loss is {loss:.4f}")
            failures |= {seed: found} if found else {}
            what = "; ".join(found) or f"all holds, validation loss {loss:.4f}"
            print(f"seed {seed}: {result['seconds']:.0f} s, {told}: {what}", flush=True)
    print(json.dumps({"seeds": arguments.seeds, "first": arguments.first, "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
