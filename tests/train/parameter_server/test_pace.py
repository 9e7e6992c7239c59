"""Paces against simulated trainings: real parameter servers in simulated time, thousands of schedules."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
from sparkneuro.train.parameter_server.ledger import APPLY, HELD
from sparkneuro.train.parameter_server.pace import AtOnce, Held, Rounds, check_pace, make_pace, mean_by_rows
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer
from sparkneuro.train.parameter_server.staleness_bound import StalenessBound

sys.path.insert(0, str(Path(__file__).parent))

from simulated import GRADIENT, RULE, Plan, SimulatedTraining  # noqa: E402

SEEDS = range(8)
PUSH = Push(partition=0, attempt=0, clock=1, n_batches=1, rows=1, loss=0.0, version=0)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def least_of(n_workers, pipeline):
    return 2 * n_workers - 1 if pipeline else n_workers - 1


def run_all(plan, last_clock=20):
    """Run a plan with many seeds; return the largest staleness, and what of the time was waiting."""
    staleness, waiting = [], []
    for seed in SEEDS:
        training = SimulatedTraining(plan, seed)
        assert training.run(), f"seed {seed}: a worker waits for ever"
        for shard in training.shards:
            assert shard.ledger.unfinished() == [] and shard.version == sum(plan.last_clocks or [last_clock] * plan.n_workers)
            assert shard.pull()[0] == [-shard.version]  # every batch once
        staleness.append(training.staleness)
        waiting.append(training.simulation.now - training.steps_s)
    return max(staleness), max(waiting)


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("n_workers, n_shards", [(1, 1), (2, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("more", [0, 1, 4])
def test_no_push_is_staler_than_the_bound(n_workers, n_shards, pipeline, more):
    bound = least_of(n_workers, pipeline) + more
    staleness, waiting = run_all(Plan(n_workers, n_shards, pipeline=pipeline, max_staleness=bound))
    assert staleness <= bound
    assert waiting < 20 * n_workers  # somebody has always computed, but for what the network takes
    if more == 0:
        assert staleness == bound  # the bound was needed


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("more", [0, 3])
def test_the_bound_holds_while_workers_die_and_come_back(pipeline, more):
    bound = least_of(4, pipeline) + more
    assert run_all(Plan(4, n_shards=2, pipeline=pipeline, max_staleness=bound, deaths=3))[0] <= bound


@pytest.mark.parametrize("pipeline", [False, True])
def test_the_bound_holds_and_every_batch_counts_once_while_servers_lose_updates(tmp_path, pipeline):
    bound = least_of(3, pipeline)
    for seed in SEEDS:
        plan = Plan(3, 2, pipeline=pipeline, max_staleness=bound, deaths=1, server_deaths=2)
        training = SimulatedTraining(replace(plan, checkpoints=CheckpointSettings(str(tmp_path / f"{seed}"), 4)), seed)
        assert training.run()
        assert training.staleness <= bound
        for shard in training.shards:
            assert shard.ledger.unfinished() == [] and shard.pull()[0] == [-60]


def test_without_a_bound_a_slow_worker_becomes_stale():
    staleness, _ = run_all(Plan(3))
    assert staleness > 4


@pytest.mark.parametrize("n_shards, deaths, server_deaths", [(1, 0, 0), (2, 2, 0), (2, 1, 2)])
def test_rounds_end_whoever_dies_and_however_many_batches_each_has(tmp_path, n_shards, deaths, server_deaths):
    for seed in SEEDS:
        plan = Plan(3, n_shards, (20, 13, 7), mode="synchronous", deaths=deaths, server_deaths=server_deaths)
        training = SimulatedTraining(replace(plan, checkpoints=CheckpointSettings(str(tmp_path / f"{seed}"), 3)), seed)
        assert training.run(), f"seed {seed}: a worker waits for ever"
        assert [shard.ledger.unfinished() for shard in training.shards] == [[]] * n_shards
        if deaths + server_deaths == 0:
            assert training.staleness == 0 and training.shards[0].version == 20


def make_server(clock, n_partitions, **settings):
    server = ParameterServer(ServerSettings(RULE, 1, 0, 0, n_partitions, 100, **settings))
    if "max_staleness" in settings:
        server._pace = StalenessBound(settings["max_staleness"], 30.0, clock)
    server.initialise(np.zeros(1, np.float32))
    for partition in range(n_partitions):
        server.register(partition, 0, 9)
    return server


def push(server, partition, clock, version, wait_s=0.0):
    return server.push(replace(PUSH, partition=partition, clock=clock, version=version), GRADIENT, fetch=True, wait_s=wait_s)


@pytest.mark.processes
def test_who_is_silent_is_not_waited_for(clock):
    server = make_server(clock, 2, max_staleness=1)
    versions = [server.pull(partition)[1] for partition in (0, 1)]
    assert push(server, 0, 1, versions[0]) == APPLY
    assert push(server, 0, 2, 1) == HELD  # partition 1 computes from version 0
    clock.now = 29
    assert server.settle(0, 0, 2, wait_s=0.01) == (HELD, [1])
    clock.now = 31
    assert server.settle(0, 0, 2, wait_s=5.0)[0] == APPLY


def test_a_sign_of_life_is_enough_to_be_waited_for(clock):
    server = make_server(clock, 2, max_staleness=1)
    for partition in (0, 1):
        server.pull(partition)
    push(server, 0, 1, 0)
    clock.now = 29
    server.note_life(1)
    clock.now = 31
    assert push(server, 0, 2, 1) == HELD


def test_who_waits_for_a_push_is_not_taken_for_dead(clock):
    server = make_server(clock, 2, max_staleness=1)
    for partition in (0, 1):
        server.pull(partition)
    push(server, 0, 1, 0)
    assert push(server, 0, 2, 1) == HELD
    for now in (20, 40, 60):  # both live: one computes, one asks what has become of its push
        clock.now = now
        server.note_life(1)
        assert server.settle(0, 0, 2, wait_s=0.0)[0] == HELD
    assert set(server._pace._owed) == {0, 1}


def test_who_has_registered_but_not_begun_is_not_waited_for(clock):
    """It may wait for the end of a warm-up that has more steps than the bound."""
    server = make_server(clock, 2, max_staleness=1)
    for batch in range(1, 7):
        version = server.pull(0)[1]
        assert push(server, 0, batch, version) == APPLY


def test_newer_weights_for_one_worker_release_the_push_of_another(clock, in_thread):
    server = make_server(clock, 2, max_staleness=1)
    for partition in (0, 1):
        server.pull(partition)
    push(server, 0, 1, 0)
    waiting = in_thread(push, server, 0, 2, 1, 20.0)
    while 0 not in server._held:
        pass
    server.pull(1)
    assert waiting.result(timeout=5) == APPLY


def test_a_worker_that_begins_anew_wakes_the_call_that_waits_with_its_push(clock, in_thread):
    server = make_server(clock, 2, mode="synchronous")
    waiting = in_thread(push, server, 0, 1, 0, 20.0)
    while 0 not in server._held:
        pass
    server.register(0, 1, 9)
    assert waiting.result(timeout=5) == "outdated"


def test_a_round_waits_for_all_and_for_nobody_who_has_ended():
    pace = Rounds(3)
    held = {}
    for partition in (2, 0):
        pace.note_worker(partition)
        held[partition] = Held(PUSH, GRADIENT, True)
    assert pace.choose(held, 0, [0, 2]) == []  # the third has not come yet
    pace.note_worker(1)
    assert pace.choose(held, 0, [0, 1, 2]) == []
    assert pace.choose(held, 0, [0, 2]) == [0, 2]  # it has no batches


def test_a_round_is_the_same_whoever_comes_first():
    rng = np.random.default_rng(0)
    gradients = rng.normal(0, 1, (5, 11)).astype(np.float32)
    rows = [20, 20, 20, 7, 1]
    vectors = []
    for order in (range(5), reversed(range(5)), (3, 1, 4, 0, 2)):
        pace, held = Rounds(5), {}
        for partition in order:
            pace.note_worker(partition)
            held[partition] = Held(replace(PUSH, partition=partition, rows=rows[partition]), gradients[partition], True)
        vectors.append(mean_by_rows([held[partition] for partition in pace.choose(held, 0, list(range(5)))]))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_allclose(vectors[0], np.average(gradients.astype(np.float64), axis=0, weights=rows), rtol=1e-5, atol=1e-6)


def test_the_pace_is_that_of_the_settings():
    assert type(make_pace("asynchronous", 3)) is AtOnce
    assert make_pace("asynchronous", 3, 4).max_staleness == 4
    assert type(make_pace("synchronous", 3)) is Rounds


@pytest.mark.parametrize("n_workers, pipeline, least", [(1, False, 0), (4, False, 3), (1, True, 1), (4, True, 7)])
def test_a_bound_that_cannot_be_kept_is_refused(n_workers, pipeline, least):
    check_pace("asynchronous", n_workers, least, pipeline)
    check_pace("asynchronous", n_workers, None, pipeline)
    with pytest.raises(SettingsError, match=f"must be at least {least} with {n_workers} workers.*got {least - 1}"):
        check_pace("asynchronous", n_workers, least - 1, pipeline)


def test_a_bound_needs_a_mode_with_staleness_and_a_fetch_behind_every_batch():
    with pytest.raises(SettingsError, match="synchronous training has no staleness"):
        check_pace("synchronous", 2, 3, False)
    with pytest.raises(SettingsError, match="max_staleness needs a fetch behind every batch.*got a fetch every 3 batches"):
        check_pace("asynchronous", 2, 9, False, n_fetch=3)
