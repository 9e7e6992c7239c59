import pytest

from sparkneuro.train.parameter_server.training_log import TrainingLog


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def log():
    clock = Clock()
    log = TrainingLog(n_partitions=2, rows_per_epoch=10, now=clock)
    log.clock = clock
    for partition in (0, 1):
        log.note_worker(partition, finished=False)
    return log


def push(log, seconds, partition, rows=5, loss=1.0, staleness=0, finished=False):
    log.clock.now = 100.0 + seconds
    log.note_push(partition, rows, loss * rows, staleness, finished)


def test_an_epoch_ends_when_all_its_rows_have_come(log):
    push(log, 1, 0, loss=3.0)
    assert log.summarise()["epochs"] == []
    push(log, 4, 1, loss=1.0, staleness=2)
    (epoch,) = log.summarise()["epochs"]
    assert epoch["loss"] == pytest.approx(2.0)
    assert (epoch["staleness_mean"], epoch["staleness_max"]) == (1.0, 2)
    assert epoch["series_per_s"] == pytest.approx(10 / 4)
    assert epoch["seconds"] == pytest.approx(4)


def test_the_steady_state_leaves_start_and_end_out(log):
    for seconds, partition in [(20, 0), (21, 0), (30, 1), (40, 1)]:  # both have pushed twice at 40 s
        push(log, seconds, partition)
    push(log, 45, 0)
    push(log, 50, 1, finished=True)
    push(log, 90, 0, finished=True)
    summary = log.summarise()
    assert summary["series_per_s"] == pytest.approx(10 / 10)
    assert summary["startup_s"] == pytest.approx(40)


def test_there_is_no_rate_before_the_steady_state(log):
    push(log, 1, 0)
    push(log, 2, 0)
    assert log.summarise()["series_per_s"] is None


def test_the_running_loss_is_that_of_the_running_epoch(log):
    assert log.summarise()["loss"] is None
    push(log, 1, 0, loss=4.0)
    push(log, 2, 1, loss=2.0)
    assert log.summarise()["loss"] == pytest.approx(3.0)
    push(log, 3, 0, loss=0.5)
    assert log.summarise()["loss"] == pytest.approx(0.5)


def test_idle_time_counts_from_the_last_sign_of_life(log):
    log.clock.now = 107.0
    assert log.summarise()["idle_s"] == pytest.approx(7)
    push(log, 9, 0)
    log.clock.now = 111.0
    assert log.summarise()["idle_s"] == pytest.approx(2)
    log.note_life()
    log.clock.now = 112.0
    assert log.summarise()["idle_s"] == pytest.approx(1)
