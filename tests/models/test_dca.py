"""The deep convolutional autoencoder: its size, its losses, its gradient, its parts and its files."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="the keras extra is not installed")
tensorflow = pytest.importorskip("tensorflow", reason="gradients are taken with TensorFlow")

from sparkneuro.errors import SettingsError  # noqa: E402
from sparkneuro.models.dca import DeepConvolutionalAutoencoder, build_dca  # noqa: E402
from sparkneuro.models.losses import HalfSquaredError  # noqa: E402


def draw_series(n_series, n_samples, seed=0):
    """Smooth z-scored series, float32."""
    noise = np.random.default_rng(seed).standard_normal((n_series, n_samples + 4))
    x = np.stack([np.convolve(row, np.ones(5), "valid") for row in noise])
    return ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)).astype("float32")


def build_normalized(n_samples):
    """The tiny preset with batch normalisation, compiled."""
    model = DeepConvolutionalAutoencoder.from_preset("tiny", series_length=n_samples, batch_normalization=True)
    model.build()
    model.compile(optimizer=keras.optimizers.Adagrad(0.01), loss=HalfSquaredError())
    return model


def losses_of(model, x):
    """The whole loss of a batch in training, and the reconstruction."""
    reconstruction = model(x, training=True)
    return model.compute_loss(x=x, y=x, y_pred=reconstruction), reconstruction


@pytest.mark.parametrize(
    ("preset", "total", "trainable"), [("dca", 6_023_549, 6_021_965), ("dca_plain", 6_020_381, 6_020_381)]
)
def test_presets_have_the_parameters_of_the_paper(preset, total, trainable):
    model = build_dca(preset, 284)
    assert model.count_params() == total
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == trainable


def test_every_parameter_is_in_the_encoder_or_the_decoder_once():
    model = build_normalized(33)
    parts = model.encoder.count_params() + model.decoder.count_params()
    assert model.count_params() == parts
    assert len({id(weight) for weight in model.weights}) == len(model.weights)


@pytest.mark.parametrize("n_samples", [16, 17, 39, 50])
def test_reconstructions_and_features_are_as_long_as_the_series(n_samples):
    model, x = build_dca("tiny", n_samples), draw_series(3, n_samples)
    assert model(x).shape == (3, n_samples)
    assert model.encoder(x).shape == (3, n_samples)
    assert model.decoder(model.encoder(x)).shape == (3, n_samples)


def test_the_loss_is_its_two_terms():
    model, x = build_dca("tiny", 39, seed=1), draw_series(5, 39)
    loss, reconstruction = losses_of(model, x)
    z, _ = model.encoder.convolve(x)
    z_again = model.decoder.expand(model.encoder(x))
    first = 0.5 * np.sum((x - reconstruction.numpy()) ** 2, axis=1)
    second = 0.5 * np.sum((z.numpy() - z_again.numpy()) ** 2, axis=(1, 2))
    assert second.mean() > 0
    np.testing.assert_allclose(float(model.losses[0]), 0.006 * second.mean(), rtol=1e-5)
    np.testing.assert_allclose(float(loss), np.mean(first + 0.006 * second), rtol=1e-5)


def test_the_second_term_counts_once_however_often_the_model_is_called():
    model, x = build_dca("tiny", 39, seed=1), draw_series(5, 39)
    for _ in range(3):
        model(x, training=True)
    assert len(model.losses) == 1


def test_the_gradient_is_the_slope_of_the_loss():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model, x = build_dca("tiny", 19, seed=3), draw_series(4, 19).astype("float64")
        with tensorflow.GradientTape() as tape:
            loss, _ = losses_of(model, x)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        rng, step = np.random.default_rng(0), 1e-6
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            start, direction = variable.numpy(), rng.standard_normal(variable.shape)
            ends = []
            for sign in (1, -1):
                variable.assign(start + sign * step * direction)
                ends.append(float(losses_of(model, x)[0]))
            variable.assign(start)
            slope = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-5, atol=1e-6, err_msg=variable.path)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.processes
def test_training_makes_the_parts_reconstruct_since_they_share_weights():
    model, x = build_normalized(40), draw_series(64, 40)
    before = model.encoder.predict_on_batch(x), model.decoder.predict_on_batch(x)
    model.fit(x, x, batch_size=24, epochs=1, verbose=0)
    after = model.encoder.predict_on_batch(x), model.decoder.predict_on_batch(x)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_the_whole_is_encoder_then_decoder_with_the_switches():
    model, x = build_normalized(37), draw_series(6, 37)
    z, switches = model.encoder.convolve(x)
    features = model.encoder(x)
    np.testing.assert_allclose(model.encoder.project(z), features, rtol=1e-5, atol=1e-6)
    again = model.decoder.deconvolve(model.decoder.expand(features), switches)
    np.testing.assert_allclose(again, model(x), rtol=1e-5, atol=1e-6)
    assert np.abs(model.decoder(features) - model(x)).max() > 1e-4


@pytest.mark.processes
def test_the_reconstruction_error_falls_to_a_fraction():
    model, x = build_dca("tiny", 32, seed=0), draw_series(512, 32)
    history = model.fit(x, x, batch_size=100, epochs=25, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    assert np.isfinite(history).all()


@pytest.mark.processes
@pytest.mark.parametrize("late", [0, 1])
def test_training_does_not_run_away_at_its_start_even_when_gradients_come_late(late):
    # The tiny preset never runs away; the real one did, from Keras's own start of Adagrad.
    model, x = build_dca("dca_plain", 284, seed=0), draw_series(384, 284)
    variables, waiting, losses = model.trainable_variables, [], []
    for start in range(0, len(x), 32):
        with tensorflow.GradientTape() as tape:
            loss, _ = losses_of(model, x[start : start + 32])
        losses.append(float(loss))
        waiting.append(tape.gradient(loss, [variable.value for variable in variables]))
        if len(waiting) > late:
            model.optimizer.apply(waiting.pop(0), variables)
    assert max(losses) < 1.2 * losses[0]


@pytest.mark.processes
def test_a_step_of_fit_is_the_step_that_the_gradient_asks_for():
    model, x = build_dca("tiny", 33, seed=5), draw_series(20, 33)
    by_hand = build_dca("tiny", 33, seed=5)
    model.fit(x, x, batch_size=20, epochs=1, shuffle=False, verbose=0)
    with tensorflow.GradientTape() as tape:
        loss, _ = losses_of(by_hand, x)
    variables = by_hand.trainable_variables
    by_hand.optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
    for one, other in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_one_seed_gives_one_model():
    first, again, other = (build_dca("tiny", 21, seed=seed).get_weights() for seed in (4, 4, 5))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.processes
def test_a_saved_model_comes_back_whole_with_its_optimizer(tmp_path):
    model, x = build_normalized(27), draw_series(30, 27)
    model.fit(x, x, batch_size=16, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
    np.testing.assert_array_equal(loaded.encoder.predict_on_batch(x), model.encoder.predict_on_batch(x))
    assert isinstance(loaded.loss, HalfSquaredError)
    for one in (model, loaded):  # the accumulators came back too: both go on alike
        one.fit(x, x, batch_size=30, epochs=1, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.processes
def test_mixed_precision_returns_float32_and_learns():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, x = build_dca("tiny", 35, seed=0), draw_series(60, 35)
        assert model(x).dtype == "float32"
        assert model.encoder(x).dtype == "float32"
        assert all(variable.dtype == "float32" for variable in model.trainable_variables)
        history = model.fit(x, x, batch_size=20, epochs=10, verbose=0).history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert history[-1] < history[0]


def test_the_model_can_be_called_without_state_for_other_backends():
    model, x = build_normalized(23), draw_series(6, 23)
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    reconstruction, after, losses = model.stateless_call(trainable, others, x, training=True, return_losses=True)
    assert reconstruction.shape == x.shape
    assert len(losses) == 1
    assert any(np.abs(one - other).max() > 0 for one, other in zip(others, after, strict=True) if one.dtype == "float32")


def test_series_of_another_length_are_refused():
    with pytest.raises(ValueError, match="expected shape=\\(None, 29\\), found shape=\\(2, 31\\)"):
        build_dca("tiny", 29)(draw_series(2, 31))


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(SettingsError, match="series_length must be a whole number of at least 16; got 15"):
        build_dca("tiny", 15)
    with pytest.raises(SettingsError, match="preset must be one of dca, dca_plain, tiny; got 'huge'"):
        build_dca("huge", 40)
    with pytest.raises(SettingsError, match="filters must be four whole numbers; got \\(3, 4\\)"):
        DeepConvolutionalAutoencoder(series_length=40, filters=(3, 4))
    with pytest.raises(SettingsError, match="learning_rate must be a number above 0"):
        build_dca("tiny", 40, learning_rate=0)
