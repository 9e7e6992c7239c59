"""Features put together part by part are those that `delay_features` makes at once."""

import numpy as np
import pytest

from sparkneuro.encoding.decomposition import decompose
from sparkneuro.encoding.delayed_features import DelayedFeatures
from sparkneuro.encoding.delays import delay_features

SIZES = (13, 9, 17)
RUNS = [slice(0, 13), slice(13, 22), slice(22, 39)]
LABELS = np.repeat([0, 1, 2], SIZES)


@pytest.fixture
def X():
    return np.random.default_rng(0).standard_normal((39, 5)).astype(np.float32)


@pytest.mark.parametrize("delays", [(0,), (1, 2, 4), (-2, 0, 3)])
def test_every_slice_is_that_of_the_delayed_matrix(X, delays):
    lazy, whole = DelayedFeatures(X, delays, RUNS), delay_features(X, delays, LABELS)
    assert lazy.shape == whole.shape and len(lazy) == 39
    for rows in (slice(None), slice(3, 21), slice(30, 99)):
        np.testing.assert_array_equal(lazy[rows], whole[rows])
        for columns in (slice(None), slice(2, 11), slice(4, 5)):
            np.testing.assert_array_equal(lazy[rows, columns], whole[rows, columns])


def test_scans_can_be_chosen_and_columns_scaled(X):
    scans, scale = np.array([20, 3, 14, 38]), np.linspace(0.5, 3, 10)
    lazy = DelayedFeatures(X, (1, 2), RUNS, scans, scale)
    np.testing.assert_allclose(lazy[:], delay_features(X, (1, 2), LABELS)[scans] * scale, rtol=1e-6)


@pytest.mark.parametrize("delays", [(0, 1), tuple(range(8))])
def test_they_are_decomposed_without_being_held(X, delays):
    lazy, whole = DelayedFeatures(X, delays, RUNS), delay_features(X, delays, LABELS)
    found, expected = decompose(lazy), decompose(whole)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-6)
