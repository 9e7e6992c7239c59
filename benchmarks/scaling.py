"""How many workers a parameter server feeds: a simulation, checked against real exchanges, then run at the paper's size.

The model (SimPy). A worker computes for a step's time, then exchanges with every server, or goes on computing meanwhile
(overlap). An exchange sends a shard in chunks, as `sparkneuro.train.parameter_server.wire` does: the client's core prepares a
chunk, the worker's and the server's link carry it, a core of the server takes it in; the next chunk follows behind. The
server's update holds the lock of the shard; then the weights come back in the same way. Cores, links and locks are resources
that serve one request after the other, so waiting is an outcome and not an input.

Inputs are measured in the same run, with one client alone, for several lengths of a shard: CPU seconds of client and server
in a push, a pull and a push_pull; the time of `apply_update`; and how much longer an exchange lasts than its parts explain
(latency). And with as many clients as there are light workers, all exchanging without a pause: how much more CPU time an
exchange takes when cores are switched and caches shared; whoever has to wait for a core of a server, or of a shared machine,
takes so much more. Per-call CPU time of a server counts as serial, since it is spent in Python under one lock.

The check. Light workers (processes of their own that sleep instead of computing) exchange with real server processes on this
machine, whose cores clients and servers share, in reality as in the simulation. `simulation_error` is the largest relative
error of the rate over the numbers of workers.

The prediction. Workers and servers on machines of their own. Speed-up is against one worker of the same system; "of ideal" is
the rate against as many workers that compute without ever exchanging. Machines are assumed to be as fast as this one, and to
spend on a network what they spend on loopback. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, replace

import numpy as np
import simpy
from light_workers import N_VALUES, RULE, LightWorker, WorkerPool, cpu_seconds, start_servers

from sparkneuro.session import prepare_environment
from sparkneuro.train.parameter_server.compiled_rules import N_THREADS
from sparkneuro.train.parameter_server.update_rules import apply_update, make_rule
from sparkneuro.train.parameter_server.wire import CHUNK

# Quoted from Makkie et al. (2019), dist-DCA, Figure 5: 13 workers are "almost 7 times" one.
PAPER_WORKERS, PAPER_STEP_S, PAPER_BATCH = (2, 4, 8, 13), 0.17, 1600
PAPER_SPEEDUP = {13: 7.0}
# Efficiency that servers are added for.
ENOUGH = 0.9
# Pause before an exchange whose time is taken as that of a machine that has nothing else to do (s).
PAUSE_S = 0.05
# Steps of light workers last so much more or less.
LIGHT_JITTER = 0.2
WIRE_BYTES = {"float32": 4, "bfloat16": 2}
PARTS = ("client_send", "client_receive", "client_call", "server_receive", "server_send", "server_call", "update", "latency")


@dataclass(frozen=True)
class Costs:
    """What one exchange of a shard costs, in seconds, by the number of its values: CPU time, and `latency`, which uses nothing.

    `n_values` ascends; `parts` holds a dict with `PARTS` for each. Between the lengths costs are interpolated.
    """

    n_values: list
    parts: list

    def of(self, n_values):
        """Costs at one length, as a dict."""
        return {name: float(np.interp(n_values, self.n_values, [part[name] for part in self.parts])) for name in PARTS}


@dataclass(frozen=True)
class System:
    """What is simulated: workers, servers, and what lies between them.

    `gbit_s` is None where there is no network. With `shared_cores` all run on one machine, and the cores of workers and servers
    are those. `costs` are those of one shard.
    """

    n_workers: int
    n_servers: int
    n_values: int
    step_s: float
    costs: dict
    join_s: float = 0.0
    crowding: float = 1.0
    wire_bytes: int = 4
    overlap: bool = False
    jitter: float = 0.05
    gbit_s: float | None = None
    worker_cores: int = 1
    server_cores: int = 4
    shared_cores: int | None = None


class Simulation:
    """Exchanges of one `System` over time; `ends` holds when each worker's were done."""

    def __init__(self, system, seed=0):
        self.system = system
        self.ends = [[] for _ in range(system.n_workers)]
        self._env = simpy.Environment()
        self._rng = np.random.default_rng(seed)
        shared = self._cores(system.shared_cores) if system.shared_cores else None
        self._servers = [Machine(self._env, shared or self._cores(system.server_cores)) for _ in range(system.n_servers)]
        for ends in self.ends:
            self._env.process(self._work(Machine(self._env, shared or self._cores(system.worker_cores)), ends))

    def run(self, seconds):
        """Simulate so many seconds."""
        self._env.run(seconds)
        return self

    def _cores(self, n):
        return simpy.Resource(self._env, n)

    def _work(self, worker, ends):
        system, running = self.system, None
        yield self._env.timeout(self._rng.uniform(0, system.step_s))
        while True:
            yield from self._compute(worker)
            if running is not None:
                yield running
            running = self._env.process(self._exchange(worker, ends))
            if not system.overlap:
                yield running

    def _compute(self, worker):
        seconds = self.system.step_s * self._rng.uniform(1 - self.system.jitter, 1 + self.system.jitter)
        if not self.system.overlap or self.system.shared_cores:
            yield self._env.timeout(seconds)
            return
        slices = max(int(seconds / 0.005), 1)  # an exchange that goes on meanwhile takes turns with computing
        for _ in range(slices):
            yield from hold(self._env, worker.cores, seconds / slices)

    def _exchange(self, worker, ends):
        yield self._env.all_of([self._env.process(self._exchange_shard(worker, server)) for server in self._servers])
        yield from self._use(worker, self.system.join_s)
        ends.append(self._env.now)

    def _exchange_shard(self, worker, server):
        costs = self.system.costs
        yield from self._use(worker, costs["client_call"])
        yield self._env.timeout(costs["latency"])
        yield from self._stream(worker, server, costs["client_send"], costs["server_receive"])
        with server.interpreter.request() as turn:
            yield turn
            yield from self._use(server, costs["server_call"])
        with server.lock.request() as turn:
            yield turn
            threads = [self._use(server, costs["update"] / N_THREADS) for _ in range(N_THREADS)]
            yield self._env.all_of([self._env.process(thread) for thread in threads])
        yield from self._stream(server, worker, costs["server_send"], costs["client_receive"])

    def _stream(self, sender, receiver, send_s, receive_s):
        """Send a shard from one machine to another, chunk by chunk, and wait until it is taken in."""
        env, n_chunks = self._env, -(-self.system.n_values // self.system.n_servers // CHUNK) or 1
        arrived = simpy.Store(env)

        def take_in():
            for _ in range(n_chunks):
                yield arrived.get()
                yield from self._use(receiver, receive_s / n_chunks)

        taken = env.process(take_in())
        for _ in range(n_chunks):
            yield from self._use(sender, send_s / n_chunks)
            env.process(self._carry(sender, receiver, n_chunks, arrived))
        yield taken

    def _use(self, machine, seconds):
        # A worker's machine of its own has no crowd.
        crowded = self.system.shared_cores or machine in self._servers
        return hold(self._env, machine.cores, seconds, self.system.crowding if crowded else 1.0)

    def _carry(self, sender, receiver, n_chunks, arrived):
        if self.system.gbit_s is not None:
            n_bytes = self.system.n_values / self.system.n_servers / n_chunks * self.system.wire_bytes
            seconds = 8 * n_bytes / (self.system.gbit_s * 1e9)
            yield from hold(self._env, sender.up, seconds)
            yield from hold(self._env, receiver.down, seconds)
        yield arrived.put(None)


class Machine:
    """A worker's or a server's cores and link, and the locks of a server."""

    def __init__(self, env, cores):
        self.cores = cores
        self.up, self.down, self.lock, self.interpreter = (simpy.Resource(env, 1) for _ in range(4))


def hold(env, resource, seconds, crowding=1.0):
    """Use a resource for a while, after those that came before; `crowding` times as long if there were any."""
    with resource.request() as turn:
        waits = not turn.triggered
        yield turn
        yield env.timeout(seconds * crowding if waits else seconds)


def simulate_rate(system, steps=40, seed=0):
    """Exchanges a second, all workers together, over about so many steps in the steady state."""
    seconds = steps * system.step_s
    return rate_of(Simulation(system, seed).run(seconds).ends, 0.2 * seconds)


def rate_of(ends, since):
    """Exchanges a second, all workers together: each worker's between its first and its last one behind `since` (s)."""
    total = 0.0
    for times in ends:
        times = [time for time in times if time >= since]
        if len(times) > 1:
            total += (len(times) - 1) / (times[-1] - times[0])
    return total


def time_verbs(number, wait, addresses, credentials, pids, n_values, rounds, n_exchanges):
    """In a client's process, for each round and wire type: `time_verb` of each verb; time of a push_pull after a pause (s)."""
    found = []
    for _ in range(rounds):
        found.append({})
        for wire_type in WIRE_BYTES:
            with LightWorker(addresses, credentials, n_values, wire_type) as exchange:
                busy = {verb: time_verb(exchange, verb, pids, 0.0, n_exchanges) for verb in ("push_pull", "push", "pull")}
                found[-1][wire_type] = (busy, time_verb(exchange, "push_pull", pids, PAUSE_S, n_exchanges)[0])
    return found


def time_verb(exchange, verb, pids, pause_s, n_exchanges):
    """Time, and CPU time of client and servers, of one exchange (s)."""
    exchange(verb)
    wall, client, server = [], time.process_time(), sum(map(cpu_seconds, pids))
    for _ in range(n_exchanges):
        time.sleep(pause_s)
        start = time.perf_counter()
        exchange(verb)
        wall.append(time.perf_counter() - start)
    client, server = time.process_time() - client, sum(map(cpu_seconds, pids)) - server
    return statistics.median(wall), client / n_exchanges, server / n_exchanges


def time_arithmetic(number, wait, n_values, n_times):
    """In a client's process: CPU time of an update, and time of joining two shards (s)."""
    rule, rng = make_rule(RULE), np.random.default_rng(0)
    weights, gradient, out = (rng.standard_normal(n_values, dtype=np.float32) for _ in range(3))
    slots = rule.make_slots(n_values)
    apply_update(rule, weights, gradient, slots, out)
    start = time.process_time()
    for _ in range(n_times):
        apply_update(rule, weights, gradient, slots, np.empty_like(out))
    update_s = (time.process_time() - start) / n_times
    start = time.process_time()
    for _ in range(n_times):
        np.concatenate([weights, gradient])
    return update_s, (time.process_time() - start) / n_times / 2


def calibrate(pool, shards, options):
    """`Costs` of a shard's exchange by wire type, for ascending numbers of values; medians over rounds."""
    found = {wire_type: [] for wire_type in WIRE_BYTES}
    calls = None
    for n_values in shards:
        with start_servers(n_values, 1) as group:
            arguments = (group.directory.addresses(), group.credentials, group._place.pids(), n_values)
            (rounds,) = pool.run(1, time_verbs, *arguments, options.rounds, options.exchanges)
        ((update_s, _),) = pool.run(1, time_arithmetic, n_values, options.exchanges)
        calls = calls or rounds  # the shortest shard's are calls and nothing else
        for wire_type, costs in found.items():
            parts = [
                split_costs(call[wire_type][0], *measured[wire_type], update_s, n_values)
                for call, measured in zip(calls, rounds, strict=True)
            ]
            costs.append({name: statistics.median(part[name] for part in parts) for name in PARTS})
    return {wire_type: Costs(list(shards), costs) for wire_type, costs in found.items()}


def split_costs(calls, busy, idle_s, update_s, n_values):
    """Parts of an exchange from what its verbs take, and the call of a shard without length; `idle_s` is that after a pause."""
    client_call, server_call = calls["push_pull"][1:]
    (_, c_both, s_both), (_, c_push, s_push), (_, c_pull, s_pull) = (busy[verb] for verb in ("push_pull", "push", "pull"))
    out, back = split(c_both - client_call, c_push - client_call, c_pull - client_call)
    update_s = max(min(update_s, s_push - server_call), 0.0)
    taken, sent = split(s_both - server_call - update_s, s_push - server_call - update_s, s_pull - server_call)
    parts = dict(zip(PARTS, (out, back, client_call, taken, sent, server_call, update_s, 0.0), strict=True))
    alone = System(1, 1, n_values, 0.0, parts, shared_cores=os.cpu_count(), jitter=0.0)
    explained_s = 1 / simulate_alone(alone)
    return {**parts, "latency": max(idle_s - explained_s, 0.0)}


def split(total, first, second):
    """Cut a total as two measurements are to each other, neither below nothing."""
    first, second = max(first, 0.0), max(second, 0.0)
    total = max(total, 0.0)
    share = first / (first + second) if first + second else 0.5
    return total * share, total * (1 - share)


def simulate_alone(system):
    """Exchanges a second of one worker that does nothing else."""
    (ends,) = Simulation(system).run(20 * sum(system.costs.values())).ends
    return (len(ends) - 1) / (ends[-1] - ends[0])


def measure_crowding(pool, n_values, n_servers, n_clients, seconds):
    """How much more CPU time an exchange takes when many clients make them at once: caches are shared, and switched cores."""
    alone, many = (System(n, n_servers, n_values, 0.0, {}) for n in (1, n_clients))
    return max(run_light_workers(pool, many, seconds)[1] / run_light_workers(pool, alone, seconds)[1], 1.0)


def exchange_for(number, wait, addresses, credentials, pids, n_values, step_s, jitter, seconds):
    """In a light worker's process: when its exchanges were done (s), its CPU time, that of the servers (s), and cores in use."""
    rng = np.random.default_rng(number)
    with LightWorker(addresses, credentials, n_values, partition=number) as exchange:
        exchange()
        wait()
        start, used, ends = time.monotonic(), read_clocks(pids), []
        time.sleep(rng.uniform(0, step_s))
        while time.monotonic() - start < seconds:
            time.sleep(step_s * rng.uniform(1 - jitter, 1 + jitter))
            exchange()
            ends.append(time.monotonic() - start)
        used = read_clocks(pids) - used
        cores = used[2] / (time.monotonic() - start)
    return ends, used[0], used[1], cores


def read_clocks(pids):
    """CPU time (s) of this process, of the servers, and of all of the machine."""
    ticks = [int(word) for word in open("/proc/stat").readline().split()[1:9]]
    busy_s = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    return np.array([time.process_time(), sum(map(cpu_seconds, pids)), busy_s])


def run_light_workers(pool, system, seconds):
    """Rate of real exchanges (1/s, all workers together), CPU time of one (s), and cores that other programs took meanwhile."""
    with start_servers(system.n_values, system.n_servers, system.n_workers) as group:
        arguments = (group.directory.addresses(), group.credentials, group._place.pids(), system.n_values)
        answers = pool.run(system.n_workers, exchange_for, *arguments, system.step_s, system.jitter, seconds)
    ends, clients_s, servers_s, others = zip(*answers, strict=True)
    rate = rate_of([[time for time in times if time <= seconds] for times in ends], 0.2 * seconds)
    used_s = sum(clients_s) + statistics.median(servers_s)
    return rate, used_s / sum(map(len, ends)), max(statistics.median(others) - used_s / seconds, 0.0)


def check_model(pool, machine, options):
    """Real and simulated rates of light workers on this machine, for each number of workers."""
    n, k, step_s = options.light_values, options.light_servers, options.light_step
    print(
        f"\nlight workers on this machine's {os.cpu_count()} cores: {n:,} values, {k} servers, a step of {step_s} s, no overlap"
    )
    print(f"{'workers':>8} {'real /s':>9} {'simulated':>10} {'error':>8} {'of ideal':>9} {'CPU ms':>7} {'cores of others':>16}")
    rows = []
    for n_workers in options.light_workers:
        system = machine.system(n_workers, k, n, step_s, jitter=LIGHT_JITTER, shared_cores=os.cpu_count())
        runs = [run_light_workers(pool, system, options.light_seconds) for _ in range(options.rounds)]
        real, cpu_s, others = (statistics.median(values) for values in zip(*runs, strict=True))
        simulated = statistics.median(simulate_rate(system, options.light_seconds / step_s, seed) for seed in range(3))
        error, ideal = simulated / real - 1, real * step_s / n_workers
        print(
            f"{n_workers:8d} {real:9.2f} {simulated:10.2f} {error:+8.1%} {ideal:9.3f} {1e3 * cpu_s:7.2f} {others:16.2f}",
            flush=True,
        )
        rows.append(
            {"workers": n_workers, "real": real, "simulated": simulated, "error": error, "others": others, "runs": runs}
        )  # fmt: skip
    return rows


@dataclass(frozen=True)
class Calibration:
    """What was measured on this machine: costs of an exchange by wire type, of joining shards, and of crowds."""

    costs: dict
    join_s: float
    crowding: float

    def system(self, n_workers, n_servers, n_values, step_s, wire_type="float32", **options):
        """A system whose exchanges cost what they cost here."""
        costs = self.costs[wire_type].of(n_values / n_servers)
        join_s = self.join_s * n_values if n_servers > 1 else 0.0
        return System(
            n_workers, n_servers, n_values, step_s, costs, join_s, self.crowding, wire_bytes=WIRE_BYTES[wire_type], **options
        )  # fmt: skip


def measure_machine(pool, options):
    """Calibrate on this machine, and print what an exchange is made of."""
    shards = sorted({options.values, options.values // 2, options.values // 4, options.light_values // options.light_servers, 64})
    costs = calibrate(pool, shards, options)
    print(f"{'wire type':>10} {'values':>10} " + " ".join(f"{name:>14}" for name in PARTS) + "   (ms)")
    for wire_type in WIRE_BYTES:
        for n_values, parts in zip(shards, costs[wire_type].parts, strict=True):
            print(f"{wire_type:>10} {n_values:10,} " + " ".join(f"{1e3 * parts[name]:14.2f}" for name in PARTS), flush=True)
    light = options.light_values, options.light_servers, max(options.light_workers), options.light_seconds / 3
    crowding = statistics.median(measure_crowding(pool, *light) for _ in range(options.rounds))
    join_s = pool.run(1, time_arithmetic, options.values, options.exchanges)[0][1] / options.values
    crowd = f"CPU time of an exchange among {max(options.light_workers)} at once: {crowding:.2f} times"
    print(f"joining shards: {1e9 * join_s:.2f} ns a value; {crowd}")
    return Calibration(costs, join_s, crowding)


def predict(machine, options, n_workers, n_servers, wire_type="float32", overlap=False, steps=40):
    """Rate (series/s), speed-up against one worker, and rate against workers that never exchange, on machines of their own."""
    rates = []
    for n in (1, n_workers):
        system = machine.system(
            n, n_servers, options.values, options.step, wire_type, overlap=overlap, gbit_s=options.gbit_s,
            server_cores=options.server_cores, worker_cores=options.worker_cores,
        )  # fmt: skip
        rates.append(
            simulate_rate(system, max(steps, 600 / n))
        )  # of one worker many steps, since its rate is everybody's measure
    ideal = n_workers / options.step
    return {
        "workers": n_workers, "servers": n_servers, "wire_type": wire_type, "overlap": overlap,
        "series_per_s": rates[1] * PAPER_BATCH, "speedup": rates[1] / rates[0], "of_ideal": rates[1] / ideal,
    }  # fmt: skip


def print_paper_table(machine, options):
    """Figure 5 of the paper, with ours beside it."""
    print(
        f"\n{options.values:,} weights, a step of {options.step} s at batch {PAPER_BATCH}, {options.gbit_s:g} Gbit/s,"
        f" {options.server_cores} cores a server, {options.worker_cores} a worker: speed-up against one worker"
    )
    print(
        f"{'servers':>8} {'overlap':>8} {'wire type':>10} "
        + " ".join(f"{n:>6}" for n in PAPER_WORKERS)
        + "   of ideal at the last"
    )
    quoted = " ".join(f"{PAPER_SPEEDUP.get(n, ''):>6}" for n in PAPER_WORKERS)
    print(f"{2:8d} {'':8} {'':10} {quoted}   (dist-DCA, Figure 5: almost {PAPER_SPEEDUP[13]:g})")
    rows = []
    for n_servers in (1, 2, 4):
        for overlap in (False, True):
            for wire_type in WIRE_BYTES:
                row = [predict(machine, options, n, n_servers, wire_type, overlap) for n in PAPER_WORKERS]
                shown = " ".join(f"{cell['speedup']:6.2f}" for cell in row)
                name = f"{n_servers:8d} {'yes' if overlap else 'no':>8} {wire_type:>10}"
                print(f"{name} {shown} {row[-1]['of_ideal']:8.3f}", flush=True)
                rows += row
    return rows


def print_large_table(machine, options):
    """With more workers: as few servers, by powers of two, as keep the efficiency above `ENOUGH`."""
    print(f"\nfewest servers with an efficiency of at least {ENOUGH}")
    print(f"{'workers':>8} {'overlap':>8} {'wire type':>10} {'servers':>8} {'speed-up':>9} {'efficiency':>11} {'of ideal':>9}")
    rows = []
    for n_workers in options.many_workers:
        for overlap in (False, True):
            for wire_type in WIRE_BYTES:
                n_servers, row = 1, None
                while n_servers <= n_workers and (row is None or row["speedup"] < ENOUGH * n_workers):
                    row, n_servers = predict(machine, options, n_workers, n_servers, wire_type, overlap, steps=15), 2 * n_servers
                rows.append(row)
                name = f"{n_workers:8d} {'yes' if overlap else 'no':>8} {wire_type:>10} {row['servers']:8d}"
                efficiency = row["speedup"] / n_workers
                print(f"{name} {row['speedup']:9.1f} {efficiency:11.3f} {row['of_ideal']:9.3f}", flush=True)
    return rows


def print_sensitivity(machine, options):
    """How the speed-up of the paper's 13 workers (two servers, float32, no overlap) stands if the assumptions do not hold."""
    print("\n13 workers, 2 servers, float32, no overlap, if")
    dearer = {name: [{part: 2 * s for part, s in parts.items()} for parts in c.parts] for name, c in machine.costs.items()}
    dear = replace(machine, costs={name: replace(c, parts=dearer[name]) for name, c in machine.costs.items()})
    cases = {
        "the network had 10 Gbit/s": (machine, {"gbit_s": 10.0}),
        "a server had one core": (machine, {"server_cores": 1}),
        "every part of an exchange cost twice as much": (dear, {}),
        "all three": (dear, {"gbit_s": 10.0, "server_cores": 1}),
    }
    speedups = {}
    for name, (costs, changes) in cases.items():
        changed = argparse.Namespace(**{**vars(options), **changes})
        speedups[name] = predict(costs, changed, 13, 2)["speedup"]
        print(f"{name:>46}: {speedups[name]:6.2f}", flush=True)
    return speedups


def draw(machine, checks, options):
    """Left the check, right the prediction with the paper's point and the ideal line, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    workers = [check["workers"] for check in checks]
    ideal = [n / options.light_step for n in workers]
    left.plot(workers, ideal, color="#777777", lw=1, ls="--", label="exchanges that cost nothing")
    left.plot(workers, [check["simulated"] for check in checks], "-", color="#0072b2", lw=1.5, label="simulated")
    left.plot(workers, [check["real"] for check in checks], "o", color="#d55e00", ms=6, label="real processes")
    title = f"check: {options.light_values:,} values, {options.light_servers} servers, {os.cpu_count()} cores for all"
    left.set(xlabel="light workers", ylabel="exchanges a second", title=title, xticks=workers, xlim=(0, None), ylim=(0, None))
    counts = [1, 4, 8, 13, 20, 26, 32, 48, 64]
    right.plot(counts, counts, color="#777777", lw=1, ls="--", label="ideal")
    for n_servers, colour in ((4, "#009e73"), (2, "#0072b2"), (1, "#d55e00")):
        speedups = [predict(machine, options, n, n_servers)["speedup"] for n in counts]
        label = f"{n_servers} server{'s' if n_servers > 1 else ''}, simulated"
        right.plot(counts, speedups, "o-", ms=4, lw=1.5, color=colour, label=label)
    right.plot(*zip(*PAPER_SPEEDUP.items(), strict=True), "k*", ms=11, ls="none", label="dist-DCA, Figure 5 (almost 7)")
    title = f"prediction: {options.values:,} weights, {options.step} s a step, {options.gbit_s:g} Gbit/s"
    right.set(xlabel="workers", ylabel="speed-up against one worker", title=title, xticks=[1, 8, 13, 20, 32, 48, 64])
    right.set(xlim=(0, 66), ylim=(0, 66))
    for axes in (left, right):
        axes.title.set_fontsize(10)
        axes.grid(color="#e4e4e4")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(options.figure, dpi=150)


def main():
    """Measure, check, predict, print tables, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short and small: shows that it runs, not what is true")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument("--exchanges", type=int, default=40, help="exchanges of a measurement (default: 40)")
    parser.add_argument("--values", type=int, default=N_VALUES, help=f"weights (default: {N_VALUES})")
    parser.add_argument("--step", type=float, default=PAPER_STEP_S, help=f"seconds a step (default: {PAPER_STEP_S})")
    parser.add_argument("--gbit-s", type=float, default=25.0, help="rate of every machine's link, each way (default: 25)")
    parser.add_argument("--server-cores", type=int, default=4, help="cores of a server's machine (default: 4)")
    parser.add_argument("--worker-cores", type=int, default=1, help="cores of a worker (default: 1)")
    parser.add_argument("--many-workers", type=int, nargs="*", default=[64, 256], help="default: 64 256")
    parser.add_argument("--light-workers", type=int, nargs="+", default=[2, 4, 8, 13, 32], help="default: 2 4 8 13 32")
    parser.add_argument("--light-values", type=int, default=N_VALUES // 10, help="default: a tenth of the weights")
    parser.add_argument("--light-servers", type=int, default=2, help="default: 2")
    parser.add_argument("--light-step", type=float, default=PAPER_STEP_S, help=f"seconds of sleep (default: {PAPER_STEP_S})")
    parser.add_argument("--light-seconds", type=float, default=15.0, help="length of a real run (default: 15)")
    parser.add_argument("--figure", metavar="FILE", help="draw the prediction as a PNG")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.exchanges, options.light_seconds = 1, 5, 3.0
        options.light_workers, options.many_workers = [2, 4], []
    with WorkerPool({1, *options.light_workers}) as pool:
        machine = measure_machine(pool, options)
        checks = check_model(pool, machine, options)
    table = print_paper_table(machine, options)
    large = print_large_table(machine, options)
    sensitivity = print_sensitivity(machine, options)
    if options.figure:
        draw(machine, checks, options)
    goal = next(r for r in table if (r["workers"], r["servers"], r["wire_type"], r["overlap"]) == (13, 2, "float32", False))
    summary = {
        "simulated_speedup_13": round(goal["speedup"], 3),
        "simulated_speedup_13_of": "2 servers, float32, no overlap",
        "simulation_error": round(max(abs(check["error"]) for check in checks), 4),
        "light_workers": checks, "table": table, "many_workers": large, "sensitivity": sensitivity,
        "costs": {wire_type: asdict(costs) for wire_type, costs in machine.costs.items()}, "crowding": machine.crowding,
    }  # fmt: skip
    print(json.dumps(summary))


if __name__ == "__main__":
    prepare_environment()
    main()
