from dataclasses import replace

import numpy as np
import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE, OUTDATED
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer

SETTINGS = ServerSettings({"name": "SGD", "learning_rate": 1.0}, 3, 2, warmup_steps=0, n_partitions=1, rows_per_epoch=100)
PUSH = Push(partition=0, attempt=1, clock=1, n_batches=1, rows=6, loss=3.0, version=0)
FIRST = np.float32([1, 2, 3, 10, 20])
CHANGE = np.float32([1, 1, 1, 4, 8])


@pytest.fixture
def server():
    server = ParameterServer(SETTINGS)
    server.initialise(FIRST)
    server.register(0, attempt=1, last_clock=4)
    return server


def test_weights_follow_the_rule_and_state_follows_the_worker(server):
    assert server.push(PUSH, CHANGE) == APPLY
    values, version = server.pull()
    np.testing.assert_allclose(values, [0, 1, 2, 14, 28])
    assert version == 1


def test_a_repeated_push_changes_nothing(server):
    server.push(PUSH, CHANGE)
    before, _ = server.pull()
    assert server.push(PUSH, CHANGE) == DUPLICATE
    assert server.push(replace(PUSH, attempt=0, clock=2), CHANGE) == OUTDATED
    after, version = server.pull()
    assert after is before and version == 1


def test_late_state_weighs_less(server):
    server.push(PUSH, CHANGE)
    server.push(replace(PUSH, clock=2, version=0), CHANGE)  # computed before the first push was applied: staleness 1
    np.testing.assert_allclose(server.pull()[0][3:], [14 + 4 / 2, 28 + 8 / 2])
    assert server.status()["staleness_max"] == 1


def test_averaged_state_stays_within_what_the_batches_had_however_many_push_at_once():
    n_workers, momentum = 60, 0.9
    server = ParameterServer(replace(SETTINGS, n_trainable=0, n_state=1, n_partitions=n_workers))
    server.initialise(np.float32([5.0]))
    for partition in range(n_workers):
        server.register(partition, 1, 1)
    for partition in range(n_workers):  # all pulled the same state, all saw a batch whose statistic is 0
        server.push(replace(PUSH, partition=partition), np.float32([(1 - momentum) * (0 - 5.0)]))
    assert 0 <= server.pull()[0][0] <= 5


def test_a_pulled_vector_never_changes(server):
    pulled, _ = server.pull()
    server.push(PUSH, CHANGE)
    np.testing.assert_array_equal(pulled, FIRST)


@pytest.mark.parametrize("n_values", [4, 6, 0])
def test_a_gradient_of_another_length_is_refused_and_changes_nothing(server, n_values):
    with pytest.raises(TrainingError, match=f"must get 5 values; got {n_values}"):
        server.push(PUSH, np.zeros(n_values, np.float32))
    assert server.pull()[1] == 0


def test_weights_come_once(server):
    with pytest.raises(TrainingError, match="has its weights already"):
        server.initialise(FIRST)


def test_nothing_can_be_pulled_or_pushed_before_the_weights_are_there():
    server = ParameterServer(SETTINGS)
    server.register(0, 1, 4)
    with pytest.raises(TrainingError, match="no weights yet"):
        server.pull()
    with pytest.raises(TrainingError, match="no weights yet"):
        server.push(PUSH, CHANGE)


def test_the_status_says_who_is_unfinished(server):
    server.push(replace(PUSH, clock=1), CHANGE)
    status = server.status()
    assert (status["registered"], status["unfinished"], status["rows"], status["version"]) == ([0], [0], 6, 1)
    for clock in (2, 3, 4):
        server.push(replace(PUSH, clock=clock), CHANGE)
    assert server.status()["unfinished"] == []


def test_warm_up_counts_applied_batches_only():
    server = ParameterServer(replace(SETTINGS, warmup_steps=2))
    server.initialise(FIRST)
    server.register(0, 1, 4)
    assert server.gate.enter(0)
    server.push(PUSH, CHANGE)
    server.push(PUSH, CHANGE)
    assert not server.gate.is_open
    server.push(replace(PUSH, clock=2), CHANGE)
    assert server.gate.is_open
