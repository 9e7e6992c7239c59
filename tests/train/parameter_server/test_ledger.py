import random

import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE, OUTDATED, Ledger


@pytest.fixture
def ledger():
    ledger = Ledger()
    ledger.register(partition=4, attempt=10, last_clock=6)
    return ledger


def apply(ledger, clock, n_batches, rows=5, attempt=10):
    verdict = ledger.admit(4, attempt, clock, n_batches)
    if verdict == APPLY:
        ledger.record(4, clock, rows)
    return verdict


def test_a_repeated_push_is_a_duplicate(ledger):
    assert apply(ledger, 2, 2) == APPLY
    assert apply(ledger, 2, 2) == DUPLICATE
    assert ledger.entries[4].rows == 5


def test_a_push_of_an_older_attempt_is_outdated(ledger):
    apply(ledger, 2, 2)
    assert ledger.register(4, attempt=11, last_clock=6) == 2
    assert apply(ledger, 4, 2, attempt=10) == OUTDATED
    assert apply(ledger, 4, 2, attempt=11) == APPLY


def test_an_older_attempt_cannot_register_any_more(ledger):
    ledger.register(4, attempt=11, last_clock=6)
    with pytest.raises(TrainingError, match="attempt 11; attempt 10 must stop"):
        ledger.register(4, attempt=10, last_clock=6)


@pytest.mark.parametrize("clock, n_batches", [(2, 1), (3, 4), (7, 7)])
def test_a_push_that_leaves_batches_out_is_refused(ledger, clock, n_batches):
    with pytest.raises(TrainingError, match="must push batch 1 next, of 6"):
        ledger.admit(4, 10, clock, n_batches)


def test_a_stranger_is_refused(ledger):
    with pytest.raises(TrainingError, match="partition 5 must register"):
        ledger.admit(5, 10, 1, 1)


def test_a_partition_that_changed_its_size_is_refused(ledger):
    with pytest.raises(TrainingError, match="must have 6 batches.*got 7"):
        ledger.register(4, attempt=11, last_clock=7)


def test_unfinished_partitions_are_known(ledger):
    ledger.register(partition=2, attempt=1, last_clock=0)
    assert ledger.unfinished() == [4]
    apply(ledger, 6, 6)
    assert ledger.unfinished() == []


def test_every_batch_is_applied_once_whatever_is_repeated_or_retried():
    rng = random.Random(0)
    for _ in range(200):
        ledger, applied, attempt = Ledger(), [], 0
        windows = [(2, 2), (4, 2), (5, 1), (7, 2), (9, 2), (10, 1)]  # two epochs of five batches, a push every two
        ledger.register(0, attempt, 10)
        place = 0
        while place < len(windows):
            clock, n = windows[place]
            if ledger.admit(0, attempt, clock, n) == APPLY:
                ledger.record(0, clock, n)
                applied += range(clock - n + 1, clock + 1)
            if rng.random() < 0.3:  # a worker dies and another asks how far the partition has come
                attempt += 1
                done = ledger.register(0, attempt, 10)
                place = sum(clock <= done for clock, _ in windows)
            elif rng.random() < 0.7:  # else the push is sent again
                place += 1
        assert applied == list(range(1, 11))
