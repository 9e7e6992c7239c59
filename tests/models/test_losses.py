"""The losses against their formulas in NumPy."""

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="the keras extra is not installed")

from sparkneuro.models.losses import HalfSquaredError, half_squared_norm  # noqa: E402


def test_the_loss_is_summed_over_samples_and_averaged_over_series():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 17)).astype("float32")
    expected = np.mean([0.5 * np.sum((row - other) ** 2) for row, other in zip(x, y, strict=True)])
    np.testing.assert_allclose(float(HalfSquaredError()(x, y)), expected, rtol=1e-6)


def test_a_reconstruction_of_zeros_costs_half_the_length_of_z_scored_series():
    x = np.random.default_rng(0).standard_normal((4, 30))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    np.testing.assert_allclose(float(HalfSquaredError()(x, 0 * x)), 15, rtol=1e-5)


def test_low_precision_is_widened_before_it_is_summed():
    x, y = keras.ops.cast(np.ones((2, 3000)), "bfloat16"), keras.ops.cast(np.zeros((2, 3000)), "bfloat16")
    # bfloat16 cannot count beyond 256 by ones.
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(half_squared_norm(x, y)), [1500, 1500])


def test_the_loss_comes_back_from_its_configuration():
    loss = keras.losses.deserialize(keras.losses.serialize(HalfSquaredError(reduction="sum")))
    assert isinstance(loss, HalfSquaredError)
    assert loss.reduction == "sum"
