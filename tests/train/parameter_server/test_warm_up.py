import pytest

from sparkneuro.train.parameter_server.warm_up import WarmUpGate


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_without_warm_up_everybody_may_train():
    gate = WarmUpGate(0)
    assert gate.enter(0) and gate.enter(1)


def test_the_first_trains_alone_until_the_steps_are_done(clock):
    gate = WarmUpGate(3, clock=clock)
    assert gate.enter(7)
    assert not gate.enter(2)
    gate.report(7, 2)
    assert not gate.enter(2)
    gate.report(7, 1)
    assert gate.enter(2)


def test_a_retry_of_the_first_may_go_on(clock):
    gate = WarmUpGate(3, clock=clock)
    assert gate.enter(7) and gate.enter(7)


def test_the_place_passes_on_when_the_first_is_done_early(clock):
    gate = WarmUpGate(3, clock=clock)
    gate.enter(7)
    gate.report(7, 1)
    gate.leave(7)
    assert gate.enter(2)
    assert not gate.enter(5)


def test_the_place_passes_on_when_the_first_has_died_silently(clock):
    gate = WarmUpGate(3, silence_s=10, clock=clock)
    gate.enter(7)
    clock.now = 9
    gate.report(7)
    clock.now = 18
    assert not gate.enter(2)
    clock.now = 20
    assert gate.enter(2)
    assert not gate.enter(7)


def test_a_waiter_is_woken_when_the_steps_are_done(in_thread):
    gate = WarmUpGate(1)
    gate.enter(7)
    waiting = in_thread(gate.enter, 2, 20.0)
    gate.report(7, 1)
    assert waiting.result(timeout=10)


def test_a_waiter_is_woken_when_the_place_is_free(in_thread):
    gate = WarmUpGate(5)
    gate.enter(7)
    waiting = in_thread(gate.enter, 2, 20.0)
    gate.leave(7)
    assert waiting.result(timeout=10)
    assert gate.partition == 2
