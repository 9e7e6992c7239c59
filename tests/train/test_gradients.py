"""Gradients as a function of one vector, against plain Keras training. The tests run on both backends of Keras."""

import os
import time

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.errors import SettingsError  # noqa: E402
from sparkneuro.models.dca import DeepConvolutionalAutoencoder, build_dca  # noqa: E402
from sparkneuro.models.losses import HalfSquaredError  # noqa: E402
from sparkneuro.train.architecture import build_model, describe_model  # noqa: E402
from sparkneuro.train.gradients import is_finite, make_gradients, read_vector, write_vector  # noqa: E402
from sparkneuro.train.parameter_server.update_rules import apply_update, describe_rule, make_rule  # noqa: E402

pytestmark = pytest.mark.processes  # seconds of TensorFlow and Keras

layers = keras.layers


class Gathering(layers.Layer):
    """One of five learned vectors for every sample, by its sign and size."""

    def build(self, input_shape):
        self.vectors = self.add_weight(shape=(5, 2), initializer="glorot_uniform")

    def call(self, x):
        places = keras.ops.cast(keras.ops.clip(keras.ops.round(x * 2) + 2, 0, 4), "int32")
        return keras.ops.take(self.vectors, places, axis=0)


class Adding(layers.Layer):
    """The identity, which adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x)))
        return x


MODELS = {
    "plain": lambda: [],
    "batch statistics": lambda: [layers.BatchNormalization(momentum=0.9)],
    "dropout": lambda: [layers.Dropout(0.3), layers.GaussianNoise(0.1)],
    "further losses": lambda: [layers.Dense(5, kernel_regularizer="l2", activity_regularizer="l1"), Adding()],
    "a frozen layer": lambda: [layers.Dense(5, trainable=False)],
    "gathered vectors": lambda: [Gathering(), layers.Flatten()],
    "half precision": lambda: [layers.Dense(5, dtype="mixed_bfloat16")],
}


def model_with(name, optimizer=None):
    keras.utils.set_random_seed(3)
    first = [layers.Input((13,)), layers.Dense(7, activation="tanh")]
    model = keras.Sequential([*first, *MODELS[name](), layers.Dense(13)])
    model.compile(optimizer=optimizer or keras.optimizers.SGD(0.2, momentum=0.5), loss="mean_squared_error")
    return model


def train_by_gradients(model, series_length, batches):
    """The vector after a step with every batch, the model's optimizer being followed as a server does."""
    gradients, rule = make_gradients(model, series_length), make_rule(describe_rule(model.optimizer))
    vector, n_trainable = read_vector(model)
    slots = rule.make_slots(n_trainable)
    for x in batches:
        _, change = gradients.compute(vector, x)
        moved = vector + change
        apply_update(rule, vector[:n_trainable], change[:n_trainable], slots, moved[:n_trainable])
        vector = moved
    return vector


def loss_at(model, vector, x):
    write_vector(model, vector)
    return float(model.compute_loss(x=x, y=x, y_pred=model(x, training=True)))


def n_compilations(gradients):
    step = gradients._step
    return step.experimental_get_tracing_count() if keras.backend.backend() == "tensorflow" else step._cache_size()


# Of gathered vectors Keras on TensorFlow has sparse gradients, whose repeated rows Adam and Adagrad square one by one; on JAX,
# and on a server, they square the sum. With SGD there is no difference.
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name, optimizer", [*[(name, "SGD") for name in MODELS], ("batch statistics", "Adam")])
def test_following_the_gradients_is_plain_training(name, optimizer, series):
    made = {"SGD": lambda: None, "Adam": lambda: keras.optimizers.Adam(0.01)}[optimizer]
    batches = [series[start : start + 11] for start in range(0, 107, 11)] * 5  # 50 steps, the tenth of each epoch with 8 rows
    start = read_vector(model_with(name))[0]
    found = train_by_gradients(model_with(name, made()), 13, batches)
    plain = model_with(name, made())
    for x in batches:
        plain.train_on_batch(x, x)
    expected = read_vector(plain)[0]
    assert np.linalg.norm(expected - start) > 0.01 * np.linalg.norm(start)  # it has learned something
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.processes
def test_the_autoencoder_of_the_paper_is_trained_alike():
    def make():
        keras.utils.set_random_seed(4)
        model = DeepConvolutionalAutoencoder(series_length=21, filters=(4, 5, 6, 7), kernel_sizes=(5, 3, 3, 3))
        model.build()
        model.compile(keras.optimizers.Adagrad(0.01), HalfSquaredError())
        return model

    batches = np.random.default_rng(1).standard_normal((5, 11, 21)).astype(np.float32)
    found, plain = train_by_gradients(make(), 21, batches), make()
    for x in batches:
        plain.train_on_batch(x, x)
    expected = read_vector(plain)[0]
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def test_the_gradient_is_that_of_the_loss(make_model, series):
    model = make_model()
    vector, n_trainable = read_vector(model)
    assert n_trainable == vector.size
    loss, change = make_gradients(model, 13).compute(vector, series)
    assert loss == pytest.approx(loss_at(model, vector, series), rel=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(5):  # along random directions, by central differences
        direction = rng.standard_normal(vector.size).astype(np.float32)
        step = 1e-2 / np.linalg.norm(direction)
        difference = loss_at(model, vector + step * direction, series) - loss_at(model, vector - step * direction, series)
        assert difference / (2 * step) == pytest.approx(change @ direction, rel=2e-2, abs=1e-3)


def test_the_change_of_batch_statistics_comes_behind_the_gradient(make_model, series):
    model = make_model(batch_normalization=True)
    vector, n_trainable = read_vector(model)
    _, change = make_gradients(model, 13).compute(vector, series)
    assert vector.size - n_trainable == 14  # moving mean and variance of 7 units
    np.testing.assert_array_equal(vector[n_trainable : n_trainable + 7], 0)
    hidden = keras.ops.convert_to_numpy(model.get_layer("hidden")(series))
    np.testing.assert_allclose(change[n_trainable : n_trainable + 7], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(change[n_trainable + 7 :], 0.1 * (hidden.var(axis=0) - 1), rtol=1e-4, atol=1e-6)


def test_a_gradient_depends_on_nothing_but_its_arguments(make_model, series):
    gradients = make_gradients(make_model(batch_normalization=True), 13)
    vector, _ = read_vector(gradients.model)
    loss, change = gradients.compute(vector, series)
    kept = change.copy()
    gradients.compute(vector + 1, series[:50])
    np.testing.assert_array_equal(change, kept)  # no later call writes into it
    np.testing.assert_array_equal(read_vector(gradients.model)[0], vector)  # nor into the model
    again = gradients.compute(vector, series)
    assert again[0] == loss
    np.testing.assert_array_equal(again[1], kept)


def test_what_is_dropped_differs_from_step_to_step(series):
    gradients = make_gradients(model_with("dropout"), 13)
    vector, _ = read_vector(gradients.model)
    losses = [gradients.compute(vector, series)[0] for _ in range(4)]
    assert len(set(losses)) == 4


def test_a_model_may_have_a_single_variable(series):
    model = keras.Sequential([layers.Input((13,)), layers.Dense(13, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    _, change = make_gradients(model, 13).compute(read_vector(model)[0], series)
    expected = 2 / series.size * series.T @ (series @ keras.ops.convert_to_numpy(model.weights[0]) - series)
    np.testing.assert_allclose(change, expected.reshape(-1), rtol=1e-4, atol=1e-6)


def test_a_size_of_batch_is_compiled_at_most_once(make_model, series):
    gradients = make_gradients(make_model(), 13)
    vector, _ = read_vector(gradients.model)
    gradients.warm_up([50, 7])
    compiled = n_compilations(gradients)
    assert compiled == {"tensorflow": 1, "jax": 2}[keras.backend.backend()]
    for n_rows in (50, 7, 50, 50, 7):
        gradients.compute(vector, series[:n_rows])
    assert n_compilations(gradients) == compiled


def test_a_warm_up_changes_nothing(series):
    cold, warm = (make_gradients(model_with("dropout"), 13) for _ in range(2))
    vector, _ = read_vector(cold.model)
    warm.warm_up([50, 7])
    np.testing.assert_array_equal(read_vector(warm.model)[0], vector)
    np.testing.assert_array_equal(warm.compute(vector, series)[1], cold.compute(vector, series)[1])


@pytest.mark.parametrize(
    "values, finite",
    [([1, -2], True), ([1e30, 1e30], True), ([], True), ([1, np.nan], False), ([1, np.inf], False), ([np.inf, -np.inf], False)],
)
def test_a_change_is_finite_when_each_of_its_values_is(values, finite):
    assert is_finite(np.float32(values)) is finite


def test_a_gradient_that_is_not_finite_is_noticed_though_the_loss_is(series):
    model = keras.Sequential([layers.Input((13,)), layers.Dense(13), layers.Activation(lambda x: keras.ops.sqrt(x * x))])
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    loss, change = make_gradients(model, 13).compute(np.zeros(13 * 14, np.float32), series)  # the root's slope at zero
    assert np.isfinite(loss) and not is_finite(change)


@pytest.mark.skipif(os.environ.get("PJRT_NPROC") != "1", reason="needs the environment that test_jax_backend sets")
def test_jax_keeps_to_the_cores_that_it_is_given():
    matrix = keras.ops.ones((1000, 1000))
    keras.ops.matmul(matrix, matrix).block_until_ready()
    wall, cpu = time.monotonic(), time.process_time()
    for _ in range(10):
        keras.ops.matmul(matrix, matrix).block_until_ready()
    assert time.process_time() - cpu < 1.3 * (time.monotonic() - wall)


def test_another_backend_is_refused(make_model, monkeypatch):
    model = make_model()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(SettingsError, match="needs the TensorFlow or the JAX backend of Keras; got torch"):
        make_gradients(model, 13)
    with pytest.raises(SettingsError, match="needs the TensorFlow or the JAX backend of Keras; got torch"):
        make_rule(describe_rule(keras.optimizers.Adam(0.1))).make_slots(3)


def test_a_weight_with_a_constraint_is_refused():
    model = keras.Sequential([layers.Input((13,)), layers.Dense(13, kernel_constraint="non_neg", name="positive")])
    with pytest.raises(SettingsError, match="must have no constraint; .*positive/kernel has NonNeg"):
        read_vector(model)


def test_a_described_model_is_built_again(make_model, series):
    model = make_model(keras.optimizers.SGD(0.2, momentum=0.5), batch_normalization=True)
    again = build_model(describe_model(model))
    vector, _ = read_vector(model)
    write_vector(again, vector)
    np.testing.assert_allclose(again.predict_on_batch(series), model.predict_on_batch(series), rtol=1e-6)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert again.loss == model.loss


def test_reading_undoes_writing(make_model):
    model = make_model(batch_normalization=True)
    wanted = np.random.default_rng(2).standard_normal(read_vector(model)[0].size).astype(np.float32)
    write_vector(model, wanted)
    np.testing.assert_array_equal(read_vector(model)[0], wanted)


def test_the_tiny_preset_has_a_gradient():
    model = build_dca("tiny", series_length=16, seed=1)
    vector, _ = read_vector(model)
    loss, change = make_gradients(model, 16).compute(vector, np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32))
    assert np.isfinite(loss) and is_finite(change) and np.count_nonzero(change) > 0.5 * vector.size
