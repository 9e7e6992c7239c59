import threading

import pytest

from sparkneuro.data.download.threads import run_in_threads


def test_every_item_comes_back_with_what_became_of_it():
    def half(number):
        if number % 7 == 3:
            raise ValueError(number)
        return number / 2

    with run_in_threads(half, range(40), 4) as outcomes:
        found = dict(outcomes)
    assert set(found) == set(range(40))
    assert all(isinstance(value, ValueError) if n % 7 == 3 else value == n / 2 for n, value in found.items())


def test_so_many_run_at_a_time_as_were_asked_for():
    meeting = threading.Barrier(5, timeout=10)
    with run_in_threads(lambda item: meeting.wait(), range(20), 5) as outcomes:
        assert sorted(place for _, place in outcomes) == sorted(list(range(5)) * 4)


def test_a_body_that_ends_early_stops_the_threads():
    stop, called = threading.Event(), []
    with pytest.raises(KeyboardInterrupt):
        with run_in_threads(called.append, range(1000000), 2, stop) as outcomes:
            next(outcomes)
            raise KeyboardInterrupt
    assert stop.is_set() and len(called) < 1000000


def test_nothing_to_do_is_soon_done():
    with run_in_threads(print, [], 8) as outcomes:
        assert list(outcomes) == []
