import threading
from types import SimpleNamespace

import pytest

from sparkneuro.data.download import patience
from sparkneuro.data.download.http_request import read_hold
from sparkneuro.data.download.patience import Exhausted, Faltered, Patience, Throttle, Tries


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves; ``slept`` lists the waits."""
    moved = SimpleNamespace(now=1000.0, slept=[])

    def sleep(seconds, stop):
        moved.now += seconds
        moved.slept.append(seconds)

    monkeypatch.setattr(patience, "sleep", sleep)
    monkeypatch.setattr(patience.time, "monotonic", lambda: moved.now)
    return moved


def make_tries(**options):
    return Tries(Patience(**options), Throttle(), threading.Event())


def test_waits_double_up_to_the_longest_with_half_of_each_at_random(clock):
    tries = make_tries(retries=9, first_wait=1.0, longest_wait=60.0)
    for _ in range(9):
        tries.pause(Faltered("the connection broke"), progressed=False)
    for wait, full in zip(clock.slept, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert full / 2 <= wait <= full
    with pytest.raises(Exhausted, match="the connection broke; tried 10 times"):
        tries.pause(Faltered("the connection broke"), progressed=False)


def test_progress_gives_all_tries_back(clock):
    tries = make_tries(retries=2)
    for _ in range(100):
        tries.pause(Faltered("the connection broke"), progressed=True)
        tries.pause(Faltered("the connection broke"), progressed=False)
    assert max(clock.slept) <= 2


def test_a_hold_is_everybodys(clock):
    throttle = Throttle()
    first, second = (Tries(Patience(), throttle, threading.Event()) for _ in range(2))
    first.pause(Faltered("429", throttled=True, hold=30.0), progressed=False)
    second.wait()
    assert 30 <= clock.now - 1000 <= 34


def test_a_server_that_throttles_for_hours_is_given_up_in_the_end(clock):
    tries, n_asked = make_tries(retries=1, throttled_for=7200.0), 0
    with pytest.raises(Exhausted, match="the server answered 429"):
        while True:
            tries.wait()
            tries.pause(Faltered("the server answered 429", throttled=True, hold=60.0), progressed=False)
            n_asked += 1
    assert 7200 <= clock.now - 1000 <= 8200 and n_asked > 100


def test_a_hold_may_be_a_date():
    assert read_hold("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert read_hold(None) is None and read_hold("1.5") == 1.5
