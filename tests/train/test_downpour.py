"""Downpour SGD without Spark: real servers on loopback, workers in this process."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.data.batches import BatchSequence  # noqa: E402
from sparkneuro.errors import TrainingError  # noqa: E402
from sparkneuro.train.architecture import build_model, describe_model  # noqa: E402
from sparkneuro.train.downpour import DownpourSettings, train_partition  # noqa: E402
from sparkneuro.train.gradients import TensorFlowGradients, read_vector, write_vector  # noqa: E402
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings  # noqa: E402
from sparkneuro.train.parameter_server.push import Push  # noqa: E402
from sparkneuro.train.parameter_server.server import ParameterServer  # noqa: E402
from sparkneuro.train.parameter_server.update_rules import describe_rule  # noqa: E402

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


def settings_of(rule, n_trainable, n_fetch=1, n_push=1, pipeline=False):
    return DownpourSettings(n_fetch, n_push, rule, n_trainable, timeout_s=20, pipeline=pipeline)


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


@pytest.mark.processes
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


@pytest.mark.processes
@pytest.mark.parametrize("n_servers", [1, 3])
@pytest.mark.parametrize("name, sizes", [("sgd", (40,) * 5), ("adagrad", (40,) * 5), ("adagrad", (40, 37, 31, 40, 22))])
def test_five_replicas_of_twenty_rows_in_step_are_plain_training_on_their_hundred(serve, make_model, name, sizes, n_servers):
    model = make_model(OPTIMIZERS[name](), batch_normalization=False)
    values, n_trainable = read_vector(model)
    rule = describe_rule(model.optimizer)
    rng = np.random.default_rng(2)
    tables = [np.sin(rng.uniform(0, 6, (n, 1)) + 0.7 * np.arange(13)).astype(np.float32) for n in sizes]
    sequences = [BatchSequence(table, 20, 15, partition=i) for i, table in enumerate(tables)]  # 2 batches an epoch: 30 steps
    servers = serve(values, n_trainable, rule, n_servers, n_partitions=5, mode="synchronous")
    workers = [
        (servers.connect(), TensorFlowGradients(build_model(describe_model(model)), 13), sequence, partition, 0)
        for partition, sequence in enumerate(sequences)
    ]
    with ThreadPoolExecutor(5) as pool:
        settings = settings_of(rule, n_trainable)
        for running in [pool.submit(train_partition, *worker, settings) for worker in workers]:
            running.result(timeout=60)
    for clock in range(1, 31):
        x = np.concatenate([sequence.batch(clock) for sequence in sequences])
        model.train_on_batch(x, x)
    plain = read_vector(model)[0]
    assert np.abs(plain - values).max() > 0.01
    assert np.linalg.norm(servers.connect().pull()[0] - plain) <= 1e-5 * np.linalg.norm(plain)
    assert [shard.version for shard in servers.shards] == [30] * n_servers
    assert servers.shards[0].status()["staleness_max"] == 0


@pytest.mark.parametrize("n_fetch, n_push", [(1, 1), (3, 1), (1, 3), (3, 3), (2, 5), (50, 50)])
def test_overlapped_exchanges_bring_every_row_once(serve, n_fetch, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 0.01}, n_servers=2, rows_per_epoch=23)
    gradients = CountingGradients(5)
    sequence = BatchSequence(numbered_rows(23), batch_size=4, epochs=3)
    settings = settings_of({"name": "SGD"}, 5, n_fetch, n_push, pipeline=True)
    train_partition(servers.connect(), gradients, sequence, 0, 0, settings)
    assert sorted(gradients.rows) == sorted(list(range(23)) * 3)
    for shard in servers.shards:
        assert (shard.ledger.entries[0].clock, shard.ledger.entries[0].rows) == (18, 69)
        np.testing.assert_allclose(shard.pull()[0], -18 * 0.01, rtol=1e-5)


@pytest.mark.parametrize("pipeline", [False, True])
def test_overlapped_exchanges_make_gradients_one_update_staler(serve, pipeline):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 0.01}, n_servers=2, rows_per_epoch=23)
    sequence = BatchSequence(numbered_rows(23), batch_size=4, epochs=2)
    train_partition(servers.connect(), CountingGradients(5), sequence, 0, 0, settings_of({"name": "SGD"}, 5, pipeline=pipeline))
    for shard in servers.shards:
        epochs = shard.status()["epochs"]
        assert [epoch["staleness_max"] for epoch in epochs] == [int(pipeline)] * 2
        assert epochs[0]["staleness_mean"] == pytest.approx(5 / 6 if pipeline else 0)  # the first push of all is fresh


class WatchedGradients:
    """Gradients of zeros, what weights they were asked for at, and something that happens before one of them."""

    def __init__(self, n_values, at, happen):
        self.seen, self._n_values, self._at, self._happen = [], n_values, at, happen

    def compute(self, vector, x):
        if len(self.seen) + 1 == self._at:
            self._happen()
        self.seen.append(float(vector[0]))
        return 1.0, np.zeros(self._n_values, np.float32)


def lag_of(servers, settings):
    """After how many batches a worker computes from what another has pushed."""
    servers.connect().register(1, 0, 9)
    push = Push(partition=1, attempt=0, clock=1, n_batches=1, rows=1, loss=1.0, version=0)
    gradients = WatchedGradients(5, 4, lambda: servers.connect().push(push, np.full(5, -1000, np.float32), [0], 20.0))
    train_partition(servers.connect(), gradients, BatchSequence(numbered_rows(24), 1, 1), 0, 0, settings)
    return [weight == 1000 for weight in gradients.seen].index(True) - 3


@pytest.mark.parametrize("n_fetch, n_push", [(1, 1), (1, 4), (3, 1), (3, 3)])
def test_a_worker_sees_what_others_have_pushed_at_its_next_fetch(serve, n_fetch, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0}, n_partitions=2)
    rule = {"name": "SGD", "learning_rate": 1.0}
    assert lag_of(servers, settings_of(rule, 5, n_fetch, n_push)) <= n_fetch


@pytest.mark.parametrize("n_push", [1, 4])
def test_an_overlapped_fetch_is_seen_one_batch_later(serve, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0}, n_partitions=2)
    assert lag_of(servers, settings_of({"name": "SGD", "learning_rate": 1.0}, 5, 1, n_push, pipeline=True)) <= 2


@pytest.mark.parametrize("n_fetch, n_push", [(2, 1), (3, 1)])
def test_an_overlapped_fetch_is_seen_however_rare_it_is(serve, n_fetch, n_push):
    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0}, n_partitions=2)
    assert lag_of(servers, settings_of({"name": "SGD", "learning_rate": 1.0}, 5, n_fetch, n_push, pipeline=True)) <= 3 * n_fetch


class WholeGradients:
    """A gradient of whole numbers that depends on the batch alone, so that the weights are the sum over all batches, exactly."""

    def __init__(self, at=None, happen=None):
        self.calls, self._at, self._happen = 0, at, happen

    def compute(self, vector, x):
        self.calls += 1
        if self.calls == self._at:
            self._happen()
        return 1.0, self.of(x)

    @staticmethod
    def of(x):
        return np.float32([1, len(x), x[:, 0].sum(), x[:, 1].sum() ** 2 % 97, 3, len(x) ** 2, x[0, 0]])


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("lost", [(0,), (2,), (0, 1, 2)])
def test_what_a_server_loses_is_trained_again_once_and_at_that_server_alone(serve, tmp_path, lost, pipeline):
    rule = {"name": "SGD", "learning_rate": 1.0}
    checkpoints = CheckpointSettings(str(tmp_path), every=7)
    servers = serve(np.zeros(7, np.float32), 7, rule, 3, n_partitions=2, rows_per_epoch=60, checkpoints=checkpoints)
    sequences = [BatchSequence(numbered_rows(n), 4, 3, partition=i) for i, n in enumerate((23, 37))]  # 18 and 30 batches
    versions = []

    def lose():
        for shard in lost:
            versions.append(servers.shards[shard].version)
            servers.replace(shard, ParameterServer(servers.shards[shard].settings))
            versions[-1] -= servers.shards[shard].version

    settings = settings_of(rule, 7, pipeline=pipeline)
    # One worker has ended already, and cannot train anything again.
    assert train_partition(servers.connect(), WholeGradients(), sequences[0], 0, 0, settings) == 0
    again = train_partition(servers.connect(), WholeGradients(13, lose), sequences[1], 1, 0, settings)
    assert max(versions) > 0 and 0 < again <= max(versions) + 3  # what was lost, and what was under way or just computed
    for shard in servers.shards:
        assert [(entry.clock, entry.rows) for entry in shard.ledger.entries.values()] == [(18, 69), (30, 111)]
        assert shard.version == 48
    replayed = -sum(WholeGradients.of(s.batch(clock)) for s in sequences for clock in range(1, s.last_clock + 1))
    np.testing.assert_array_equal(servers.connect().pull()[0], replayed)


class QuadraticGradients:
    """``H w - c`` of a convex quadratic, in double precision: what the wire does to it can be bounded."""

    def __init__(self, hessian, target):
        self._hessian, self._target, self.norms = hessian, target, []

    def compute(self, vector, x):
        gradient = self._hessian @ (vector - self._target)
        self.norms.append((np.linalg.norm(vector), np.linalg.norm(gradient)))
        return float(0.5 * (vector - self._target) @ gradient), gradient.astype(np.float32)


@pytest.mark.parametrize("wire_type, unit", [("float32", 2.0**-24), ("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_a_short_wire_type_costs_no_more_than_its_rounding(serve, wire_type, unit):
    """Weights and gradient are each rounded by a share of `unit`. With rate r and H below 1 / r the error is never amplified:
    ``e' = (1 - r H) e + r (H dw + dg)``, with ``|dw| <= unit |w|`` and ``|dg| <= unit |g|``."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(0, 1, (9, 9)))[0]
    hessian, target = basis @ np.diag(np.linspace(0.2, 4, 9)) @ basis.T, rng.normal(0, 1, 9)
    rule, rate = {"name": "SGD", "learning_rate": 0.2}, 0.2
    servers = serve(np.zeros(9, np.float32), 9, rule, 2, rows_per_epoch=40)
    gradients = QuadraticGradients(hessian, target)
    client = servers.connect(wire_type=wire_type)
    train_partition(client, gradients, BatchSequence(numbered_rows(40), 1, 1), 0, 0, settings_of(rule, 9))
    exact = np.zeros(9)
    for _ in range(40):
        exact -= rate * hessian @ (exact - target)
    # Float32 at both ends rounds too, and float16 has no numbers between 0 and 2**-24.
    bound = sum(
        rate * (1.01 * unit * (4 * weights + gradient) + 5 * 3 * 2.0**-25) + 2.0**-23 * (weights + gradient)
        for weights, gradient in gradients.norms
    )
    found = np.linalg.norm(servers.connect().pull()[0] - exact)
    assert found <= bound < 0.2 * np.linalg.norm(target)
    if wire_type != "float32":
        assert found > 1e-3 * bound  # and it is the wire that makes the difference


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_stops_the_worker_before_it_pushes(serve, bad, pipeline):
    class Diverging(CountingGradients):
        def compute(self, vector, x):
            loss, change = super().compute(vector, x)
            if self.calls == 3:
                change[2] = bad
            return loss, change

    servers = serve(np.zeros(5, np.float32), 5, {"name": "SGD", "learning_rate": 1.0}, n_servers=2)
    with pytest.raises(TrainingError, match="gradient of partition 0 is not finite at batch 3, though the loss is 1;"):
        settings = settings_of({"name": "SGD"}, 5, pipeline=pipeline)
        train_partition(servers.connect(), Diverging(5), BatchSequence(numbered_rows(9), 2, 1), 0, 1, settings)
    assert [shard.version for shard in servers.shards] == [2, 2]
    assert np.isfinite(servers.connect().pull()[0]).all()


@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_late_gradient_is_divided_by_its_staleness_when_asked_to(serve, late):
    rule = {"name": "Adagrad", "learning_rate": 0.5, "initial_accumulator_value": 0.0, "epsilon": 0.0}
    steps = []
    for scaling in (False, True):
        servers = serve(np.zeros(5, np.float32), 4, rule, n_partitions=2, staleness_scaling=scaling)
        client = servers.connect()
        for partition in (0, 1):
            client.register(partition, 0, 9)
        for clock in range(1, late + 1):
            push = Push(partition=0, attempt=0, clock=clock, n_batches=1, rows=1, loss=1.0, version=0)
            client.push(push, np.ones(5, np.float32), [clock - 1], 20.0)
        before = client.pull()[0]
        push = Push(partition=1, attempt=0, clock=1, n_batches=1, rows=1, loss=1.0, version=0)
        client.push(push, np.float32([1, 2, 3, 4, 5]), [0], 20.0)
        steps.append(client.pull()[0] - before)
    np.testing.assert_allclose(steps[1][:4], steps[0][:4] / (1 + late), rtol=1e-5)
    np.testing.assert_allclose([step[4] for step in steps], 5 / (1 + late))  # averaged state is always divided
