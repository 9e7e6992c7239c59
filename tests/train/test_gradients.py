import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.train.architecture import build_model, describe_model  # noqa: E402
from sparkneuro.train.gradients import TensorFlowGradients, read_vector, write_vector  # noqa: E402


def loss_at(model, vector, x):
    write_vector(model, vector)
    return float(model.compute_loss(x=x, y=x, y_pred=model(x, training=True)))


def test_the_gradient_is_that_of_the_loss(make_model, series):
    model = make_model()
    vector, n_trainable = read_vector(model)
    assert n_trainable == vector.size
    loss, change = TensorFlowGradients(model, 13).compute(vector, series)
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
    _, change = TensorFlowGradients(model, 13).compute(vector, series)
    assert vector.size - n_trainable == 14  # moving mean and variance of 7 units
    np.testing.assert_array_equal(vector[n_trainable : n_trainable + 7], 0)
    hidden = keras.ops.convert_to_numpy(model.get_layer("hidden")(series))
    np.testing.assert_allclose(change[n_trainable : n_trainable + 7], 0.1 * hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(change[n_trainable + 7 :], 0.1 * (hidden.var(axis=0) - 1), rtol=1e-4, atol=1e-6)


def test_a_gradient_depends_on_nothing_but_its_arguments(make_model, series):
    gradients = TensorFlowGradients(make_model(batch_normalization=True), 13)
    vector, _ = read_vector(gradients.model)
    first = gradients.compute(vector, series)
    gradients.compute(vector + 1, series[:50])
    again = gradients.compute(vector, series)
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1], again[1])


def test_a_partial_batch_costs_no_second_tracing(make_model, series):
    gradients = TensorFlowGradients(make_model(), 13)
    vector, _ = read_vector(gradients.model)
    for n_rows in (50, 7, 1):
        gradients.compute(vector, series[:n_rows])
    assert gradients._step.experimental_get_tracing_count() == 1


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
