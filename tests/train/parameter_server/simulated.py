"""A training in simulated time: real parameter servers, workers that are generators, and no thread that could wait for ever.

A task is a generator; it yields seconds to sleep, or another task to wait for its result.
"""

import heapq
import itertools
import random
from dataclasses import dataclass

import numpy as np

from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE, HELD, OUTDATED, OutOfStep
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer
from sparkneuro.train.parameter_server.staleness_bound import StalenessBound

RULE = {"name": "SGD", "learning_rate": 1.0}
POLL_S, LIFE_S = 0.05, 10.0
GRADIENT = np.ones(1, np.float32)
FIRST = np.zeros(1, np.float32)


class Lost(Exception):
    """A server died under a call."""


class Replaced(Exception):
    """A newer attempt trains the partition."""


class Task:
    """A generator that runs, and what it returned or raised."""

    def __init__(self, steps):
        self.steps, self.done, self.killed, self.result, self.error, self.waiting = steps, False, False, None, None, []


class Simulation:
    """Tasks in the order of their wake-up times."""

    def __init__(self):
        self.now, self._queue, self._count = 0.0, [], itertools.count()

    def spawn(self, steps):
        task = Task(steps)
        self._wake(task, 0.0)
        return task

    def run(self, until_s):
        """Run until nothing is left to do, or the time is up; return whether all has been done."""
        while self._queue:
            self.now, _, task, finished = heapq.heappop(self._queue)
            if self.now > until_s:
                return False
            if not task.killed:
                self._step(task, finished)
        return True

    def _wake(self, task, delay_s, finished=None):
        heapq.heappush(self._queue, (self.now + delay_s, next(self._count), task, finished))

    def _step(self, task, finished):
        try:
            if finished is not None and finished.error is not None:
                wanted = task.steps.throw(finished.error)
            else:
                wanted = task.steps.send(None if finished is None else finished.result)
        except StopIteration as end:
            task.result = end.value
        except Exception as error:  # given to who waits for the task
            task.error = error
        else:
            if not isinstance(wanted, Task):
                self._wake(task, wanted)
            elif wanted.done:
                self._wake(task, 0.0, wanted)
            else:
                wanted.waiting.append(task)
            return
        task.done = True
        for other in task.waiting:
            self._wake(other, 0.0, task)


@dataclass
class Plan:
    """What a simulated training is."""

    n_workers: int
    n_shards: int = 1
    last_clocks: tuple = ()
    pipeline: bool = False
    mode: str = "asynchronous"
    max_staleness: int | None = None
    silence_s: float = 30.0
    longest_step_s: float = 3.0
    deaths: int = 0
    server_deaths: int = 0
    checkpoints: object = None


class SimulatedTraining:
    """Workers with random speeds on a random network, some of which die and come back."""

    def __init__(self, plan, seed):
        self.plan, self.random, self.simulation = plan, random.Random(seed), Simulation()
        self.steps_s, self.staleness = 0.0, 0
        self.shards = [self._make_shard(i) for i in range(plan.n_shards)]
        for shard in self.shards:
            shard.initialise(FIRST)
        self.speeds = [self.random.choice([0.05, 0.3, 1.0]) * plan.longest_step_s for _ in range(plan.n_workers)]
        self.workers = [self._begin(partition, 0, self.random.uniform(0, 5)) for partition in range(plan.n_workers)]
        for _ in range(plan.deaths):
            self.simulation.spawn(self._kill_worker(self.random.randrange(plan.n_workers)))
        for _ in range(plan.server_deaths):
            self.simulation.spawn(self._kill_server(self.random.randrange(plan.n_shards)))

    def run(self, until_s=5000.0):
        """Return whether all has been done, with `staleness` the largest measured."""
        ended = self.simulation.run(until_s)
        for shard in self.shards:
            self._note_staleness(shard)
        return ended

    def _note_staleness(self, shard):
        self.staleness = max(self.staleness, shard.status()["staleness_max"])

    def _make_shard(self, i):
        plan = self.plan
        settings = ServerSettings(
            RULE, 1, 0, 0, plan.n_workers, 10**9, i, plan.n_shards, plan.mode, plan.max_staleness, checkpoints=plan.checkpoints
        )
        shard = ParameterServer(settings)
        if plan.max_staleness is not None:
            shard._pace = StalenessBound(plan.max_staleness, plan.silence_s, clock=lambda: self.simulation.now)
        return shard

    def _begin(self, partition, attempt, delay_s):
        task = self.simulation.spawn(self._train(partition, attempt, delay_s))
        task.attempt = attempt
        return task

    def _kill_worker(self, partition):
        yield self.random.uniform(1, 40)
        task = self.workers[partition]
        if task.done:
            return
        task.killed = True  # what it has sent still arrives
        late = self.random.choice([1.0, 2 * self.plan.silence_s])
        self.workers[partition] = self._begin(partition, task.attempt + 1, late)

    def _kill_server(self, i):
        yield self.random.uniform(1, 40)
        dead, self.shards[i] = self.shards[i], None
        self._note_staleness(dead)
        yield self.random.uniform(0.5, 5)
        self.shards[i] = self._make_shard(i)

    def _train(self, partition, attempt, delay_s):
        yield delay_s
        last_clock = (self.plan.last_clocks or (20,) * self.plan.n_workers)[partition]
        while True:
            try:
                found = list(self.shards)  # a server that comes back is another: calls to the one before are lost
                done = yield from self._register(found, partition, attempt, last_clock)
                if done < last_clock:
                    yield from self._train_from(found, partition, attempt, done, last_clock)
                for shard in self.shards:
                    if shard is not None:
                        shard.leave(partition, attempt)
                return
            except Replaced:
                return
            except (Lost, OutOfStep):
                yield 0.5

    def _register(self, found, partition, attempt, last_clock):
        clocks = []
        for shard in found:
            yield self._delay()
            clocks.append(self._check(shard).register(partition, attempt, last_clock))
        return min(clocks)

    def _train_from(self, found, partition, attempt, done, last_clock):
        versions = []
        for shard in found:
            yield self._delay()
            versions.append(self._check(shard).pull(partition)[1])
        running = None
        for clock in range(done + 1, last_clock + 1):
            step_s = self.random.uniform(0.5, 1.0) * self.speeds[partition]
            self.steps_s += step_s
            yield step_s
            newest = versions
            if running is not None:
                newest, running = (yield running), None
            push = Push(partition, attempt, clock, 1, 1, 0.0, 0)
            if clock == last_clock:
                yield self.simulation.spawn(self._push(found, push, versions, None, fetch=False))
            elif self.plan.pipeline:
                running = self.simulation.spawn(self._push(found, push, versions, newest, fetch=True))
                versions = newest
            else:
                versions = yield self.simulation.spawn(self._push(found, push, versions, None, fetch=True))

    def _push(self, found, push, versions, computing, fetch):
        sent = [
            self.simulation.spawn(self._push_to(shard, push, versions[i], computing and computing[i], fetch))
            for i, shard in enumerate(found)
        ]
        while not all(task.done for task in sent):
            for error in [task.error for task in sent if task.error is not None]:
                raise error
            yield 0.01
        answers = []
        for task in sent:
            answers.append((yield task))
        return answers

    def _push_to(self, shard, push, version, computing, fetch):
        yield self._delay()
        self._check(shard)
        push = Push(push.partition, push.attempt, push.clock, 1, 1, 0.0, version, computing)
        verdict = shard.push(push, GRADIENT, fetch, wait_s=0.0)
        polls = 0
        while verdict == HELD:
            yield POLL_S
            self._check(shard)
            polls += 1
            if polls % (LIFE_S // POLL_S) == 0:
                self._give_sign_of_life(push.partition)
            with shard._changed:
                shard._settle()
            verdict, _ = shard.settle(push.partition, push.attempt, push.clock, wait_s=0.0)
        if verdict == OUTDATED:
            raise Replaced
        assert verdict in (APPLY, DUPLICATE)
        if not fetch:
            return None
        version = shard.pull(push.partition if computing is None else None)[1]
        yield self._delay()
        return version

    def _give_sign_of_life(self, partition):
        for shard in filter(None, self.shards):
            shard.note_life(partition)

    def _check(self, shard):
        if shard is None or shard not in self.shards:
            raise Lost
        return shard

    def _delay(self):
        return self.random.choice([0.0, 0.01, 0.5]) * self.random.random()
