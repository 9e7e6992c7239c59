"""Downpour SGD without Spark: real servers on loopback, workers in this process."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.data.batches import BatchSequence  # noqa: E402
from sparkneuro.errors import TrainingError  # noqa: E402
from sparkneuro.train.architecture import build_model, describe_model  # noqa: E402
from sparkneuro.train.downpour import DownpourSettings, train_partition  # noqa: E402
from sparkneuro.train.gradients import TensorFlowGradients, read_vector, write_vector  # noqa: E402
from sparkneuro.train.update_rules import describe_rule  # noqa: E402

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.5),
    "momentum": lambda: keras.optimizers.SGD(0.2, momentum=0.8),
    "nesterov": lambda: keras.optimizers.SGD(0.2, momentum=0.8, nesterov=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
}


class CountingGradients:
    """A gradient of ones, and a note of every row it was asked for."""

    def __init__(self, n_values, loss=1.0, fail_at=None):
        self.rows, self.calls = [], 0
        self._n_values, self._loss, self._fail_at = n_values, loss, fail_at

    def compute(self, vector, x):
        self.calls += 1
        if self.calls == self._fail_at:
            raise InterruptedError("killed on purpose")
        self.rows.extend(x[:, 0].astype(int))
        return self._loss, np.ones(self._n_values, np.float32)


def settings_of(rule, n_trainable, n_fetch=1, n_push=1):
    return DownpourSettings(n_fetch, n_push, rule, n_trainable, timeout_s=20)


def numbered_rows(n_rows):
    return np.repeat(np.arange(n_rows, dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize(
    "name, batch_normalization, n_servers",
    [("sgd", False, 1), ("momentum", False, 3), ("nesterov", True, 1), ("adagrad", False, 1), ("adagrad", True, 3)],
)
def test_one_worker_is_plain_training(serve, make_model, series, name, batch_normalization, n_servers):
    model = make_model(OPTIMIZERS[name](), batch_normalization)
    values, n_trainable = read_vector(model)
    rule = describe_rule(model.optimizer)
    sequence = BatchSequence(series, batch_size=11, epochs=5)  # 10 batches an epoch, the last of 8 rows: 50 steps
    assert sequence.last_clock == 50
    client = serve(values, n_trainable, rule, n_servers).connect()
    gradients = TensorFlowGradients(build_model(describe_model(model)), 13)
    train_partition(client, gradients, sequence, 0, 0, settings_of(rule, n_trainable))
    for clock in range(1, 51):
        model.train_on_batch(sequence.batch(clock), sequence.batch(clock))
    plain = read_vector(model)[0]
    assert np.abs(plain - values).max() > 0.01  # it has learned something
    assert np.linalg.norm(client.pull()[0] - plain) <= 1e-6 * np.linalg.norm(plain)


@pytest.mark.parametrize("n_fetch, n_push", [(1, 1), (3, 1), (1, 3), (3, 3), (2, 5), (50, 50)])
def test_every_row_of_every_epoch_reaches_the_servers(serve, n_fetch, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 0.01}, n_servers=2, rows_per_epoch=23)
    gradients = CountingGradients(5)
    sequence = BatchSequence(numbered_rows(23), batch_size=4, epochs=3)
    train_partition(servers.connect(), gradients, sequence, 0, 0, settings_of({"name": "SGD"}, 5, n_fetch, n_push))
    assert sorted(gradients.rows) == sorted(list(range(23)) * 3)
    for shard in servers.shards:
        assert (shard.ledger.entries[0].clock, shard.ledger.entries[0].rows) == (18, 69)
        assert shard.status()["rows"] == 69 and len(shard.status()["epochs"]) == 3
        np.testing.assert_allclose(shard.pull()[0], -18 * 0.01, rtol=1e-5)  # 18 gradients of ones, whatever was accumulated


class StateGradients:
    """No gradient, and batches whose statistic is 0: they draw the averaged state from 5 towards it, a tenth each."""

    def compute(self, vector, x):
        return 1.0, np.float32([0, 0.1 * (0 - vector[1])])


@pytest.mark.parametrize("n_fetch, n_push", [(1, 1), (1, 30), (30, 1), (4, 6), (30, 30)])
def test_averaged_state_stays_between_its_start_and_what_the_batches_have(serve, n_fetch, n_push):
    client = serve(np.float32([0, 5]), 1, {"name": "SGD", "learning_rate": 0.1}, rows_per_epoch=60).connect()
    sequence = BatchSequence(numbered_rows(60), batch_size=2, epochs=1)  # 30 batches
    train_partition(client, StateGradients(), sequence, 0, 0, settings_of({"name": "SGD"}, 1, n_fetch, n_push))
    state = client.pull()[0][1]
    assert 0 <= state < 4.9
    if n_fetch == n_push:
        assert state == pytest.approx(5 * 0.9**30, rel=1e-3)


def test_a_workers_own_pushes_do_not_make_its_weights_stale(serve):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 0.01}, rows_per_epoch=23)
    sequence = BatchSequence(numbered_rows(23), batch_size=4, epochs=2)
    train_partition(servers.connect(), CountingGradients(5), sequence, 0, 0, settings_of({"name": "SGD"}, 5, n_fetch=4))
    assert [epoch["staleness_max"] for epoch in servers.shards[0].status()["epochs"]] == [0, 0]


def test_series_that_are_not_finite_are_named_as_the_cause(serve):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0})
    rows = numbered_rows(7)
    rows[3, 1] = np.nan
    with pytest.raises(TrainingError, match="series of partition 0 must be finite; batch 1 holds NaN"):
        sequence = BatchSequence(rows, 7, 1)
        train_partition(servers.connect(), CountingGradients(5, np.nan), sequence, 0, 1, settings_of({"name": "SGD"}, 5))


def test_a_window_of_batches_is_the_sum_of_their_gradients(serve, make_model, series):
    model = make_model(keras.optimizers.SGD(0.1))
    values, n_trainable = read_vector(model)
    rule = describe_rule(model.optimizer)
    client = serve(values, n_trainable, rule).connect()
    sequence = BatchSequence(series, batch_size=50, epochs=1)  # batches of 50, 50 and 7 rows
    gradients = TensorFlowGradients(model, 13)
    train_partition(client, gradients, sequence, 0, 0, settings_of(rule, n_trainable, n_fetch=3, n_push=3))
    expected = values
    for clock in (1, 2, 3):  # plain SGD follows each gradient: locally and at the server the same sum
        expected = expected - np.float32(0.1) * gradients.compute(expected, sequence.batch(clock))[1]
    np.testing.assert_allclose(client.pull()[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_push", [1, 4])
def test_a_retried_worker_goes_on_where_the_servers_stand(serve, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0}, n_servers=3, rows_per_epoch=23)
    sequence = BatchSequence(numbered_rows(23), batch_size=2, epochs=2, seed=4, partition=6)
    settings = settings_of({"name": "SGD"}, 5, n_push=n_push, n_fetch=n_push)
    with pytest.raises(InterruptedError):
        train_partition(servers.connect(), CountingGradients(5, fail_at=18), sequence, 6, 100, settings)
    retry = CountingGradients(5)
    train_partition(servers.connect(), retry, sequence, 6, 101, settings)
    for shard in servers.shards:
        assert (shard.ledger.entries[6].clock, shard.ledger.entries[6].rows) == (24, 46)
        np.testing.assert_allclose(shard.pull()[0], -24)
    assert retry.calls < 24  # not from the beginning


def test_a_finished_partition_is_not_trained_again(serve):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0})
    sequence, settings = BatchSequence(numbered_rows(7), 2, 1), settings_of({"name": "SGD"}, 5)
    train_partition(servers.connect(), CountingGradients(5), sequence, 0, 1, settings)
    again = CountingGradients(5)
    assert train_partition(servers.connect(), again, sequence, 0, 2, settings) == 0
    assert again.calls == 0


def test_a_loss_that_is_not_finite_stops_the_worker_before_it_pushes(serve):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0})
    with pytest.raises(TrainingError, match="loss of partition 0 became nan at batch 1; try a lower learning rate"):
        sequence = BatchSequence(numbered_rows(7), 2, 1)
        train_partition(servers.connect(), CountingGradients(5, np.nan), sequence, 0, 1, settings_of({"name": "SGD"}, 5))
    assert servers.shards[0].version == 0


def test_workers_together_learn(serve, in_thread, make_model, series):
    model = make_model(keras.optimizers.Adagrad(0.05))
    values, n_trainable = read_vector(model)
    rule = describe_rule(model.optimizer)
    servers = serve(values, n_trainable, rule, n_servers=2, warmup_steps=3, n_partitions=3, rows_per_epoch=107)
    workers = []
    for partition in range(3):
        gradients = TensorFlowGradients(build_model(describe_model(model)), 13)
        sequence = BatchSequence(series[partition::3], 8, 20, partition=partition)
        workers.append(
            in_thread(train_partition, servers.connect(), gradients, sequence, partition, 0, settings_of(rule, n_trainable))
        )
    for worker in workers:
        worker.result(timeout=60)
    before = model.evaluate(series, series, verbose=0)
    write_vector(model, servers.connect().pull()[0])
    assert model.evaluate(series, series, verbose=0) < 0.5 * before
    status = servers.shards[0].status()
    assert status["rows"] == 107 * 20 and status["unfinished"] == [] and len(status["epochs"]) == 20
