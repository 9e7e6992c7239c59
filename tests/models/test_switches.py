"""Pooling with switches and its inverses, against loops over every sample."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="the keras extra is not installed")
from keras import ops  # noqa: E402

from sparkneuro.models.switches import pool_pairs, repeat_pairs, unpool_pairs  # noqa: E402

LENGTHS = [2, 3, 8, 17, 71]


def pool_by_loop(x):
    """The larger of every pair, and True where it is the second, one sample at a time."""
    n_series, n_samples, channels = x.shape
    pooled = np.empty((n_series, -(-n_samples // 2), channels), x.dtype)
    switches = np.zeros(pooled.shape, bool)
    for series, pair, channel in np.ndindex(pooled.shape):
        first = x[series, 2 * pair, channel]
        second = x[series, 2 * pair + 1, channel] if 2 * pair + 1 < n_samples else -np.inf
        pooled[series, pair, channel] = max(first, second)
        switches[series, pair, channel] = second > first
    return pooled, switches


def unpool_by_loop(pooled, switches, n_samples):
    """Every value at the place of its switch, one value at a time."""
    unpooled = np.zeros((pooled.shape[0], n_samples, pooled.shape[2]), pooled.dtype)
    for series, pair, channel in np.ndindex(pooled.shape):
        unpooled[series, 2 * pair + int(switches[series, pair, channel]), channel] = pooled[series, pair, channel]
    return unpooled


def with_ties(rng, n_samples):
    """Whole numbers between -2 and 2, of which many neighbours are equal and many pairs are negative."""
    return rng.integers(-2, 3, size=(3, n_samples, 5)).astype("float32")


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_pooling_is_what_a_loop_over_pairs_gives(n_samples):
    x = with_ties(np.random.default_rng(n_samples), n_samples)
    pooled, switches = pool_pairs(ops.convert_to_tensor(x))
    expected, expected_switches = pool_by_loop(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(pooled), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(switches), expected_switches)


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_unpooling_puts_every_value_back_where_a_loop_puts_it(n_samples):
    rng = np.random.default_rng(n_samples)
    _, switches = pool_by_loop(with_ties(rng, n_samples))
    values = rng.standard_normal(switches.shape).astype("float32")
    unpooled = unpool_pairs(ops.convert_to_tensor(values), ops.convert_to_tensor(switches), n_samples)
    np.testing.assert_array_equal(ops.convert_to_numpy(unpooled), unpool_by_loop(values, switches, n_samples))


@pytest.mark.parametrize("n_samples", LENGTHS)
def test_unpooling_without_switches_repeats_and_crops(n_samples):
    values = np.random.default_rng(n_samples).standard_normal((3, -(-n_samples // 2), 5)).astype("float32")
    unpooled = repeat_pairs(ops.convert_to_tensor(values), n_samples)
    np.testing.assert_array_equal(ops.convert_to_numpy(unpooled), np.repeat(values, 2, axis=1)[:, :n_samples])


def test_the_padded_sample_never_wins_even_against_minus_infinity():
    x = np.full((1, 3, 1), -np.inf, "float32")
    pooled, switches = pool_pairs(ops.convert_to_tensor(x))
    assert not ops.convert_to_numpy(switches).any()
    assert np.isneginf(ops.convert_to_numpy(pooled)).all()


@pytest.mark.parametrize("n_samples", [8, 17])
def test_the_gradient_of_pooling_and_unpooling_reaches_the_winner_alone(n_samples):
    tensorflow = pytest.importorskip("tensorflow", reason="gradients are taken with TensorFlow")
    rng = np.random.default_rng(0)
    x, weights = with_ties(rng, n_samples), rng.standard_normal((3, n_samples, 5)).astype("float32")
    tensor = tensorflow.constant(x)
    with tensorflow.GradientTape() as tape:
        tape.watch(tensor)
        pooled, switches = pool_pairs(tensor)
        total = ops.sum(unpool_pairs(pooled, switches, n_samples) * weights)
    _, won = pool_by_loop(x)
    places = unpool_by_loop(np.ones(won.shape, "float32"), won, n_samples)
    np.testing.assert_array_equal(tape.gradient(total, tensor).numpy(), weights * places)


def test_pooling_keeps_the_type_of_low_precision():
    pooled, _ = pool_pairs(ops.cast(np.ones((2, 5, 3)), "bfloat16"))
    assert "bfloat16" in str(pooled.dtype)
    assert np.isfinite(ops.convert_to_numpy(ops.cast(pooled, "float32"))).all()
