"""Scores from sums, against scipy, himalaya and the definitions."""

from functools import reduce

import numpy as np
import pytest
from scipy.stats import pearsonr

from sparkneuro.encoding.scores import correlation, merge, r2, score_sums, split_r2
from sparkneuro.errors import FormatError

N_SCANS, N_TARGETS = 57, 5


def draw(seed=0, mean=3.0):
    """Targets, and a prediction that is right to a different degree for each."""
    rng = np.random.default_rng(seed)
    Y = mean + rng.standard_normal((N_SCANS, N_TARGETS))
    return Y, Y * np.linspace(-0.5, 1, N_TARGETS) + 0.3 * rng.standard_normal((N_SCANS, N_TARGETS))


def exact_r2(Y, prediction):
    return 1 - ((Y - prediction) ** 2).sum(axis=0) / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)


def test_correlation_is_that_of_scipy():
    Y, prediction = draw()
    np.testing.assert_allclose(correlation(score_sums(Y, prediction)), pearsonr(Y, prediction).statistic, rtol=1e-12)


def test_r2_is_its_definition():
    Y, prediction = draw()
    np.testing.assert_allclose(r2(score_sums(Y, prediction)), exact_r2(Y, prediction), rtol=1e-12)


@pytest.mark.parametrize("edges", [[20], [1, 2, 50], [0, 0, 30, 57]])
def test_merged_parts_score_as_the_whole(edges, monkeypatch):
    Y, prediction = draw()
    whole = score_sums(Y, prediction)
    monkeypatch.setattr("sparkneuro.encoding.scores.ROWS_AT_ONCE", 8)
    parts = [score_sums(*pair) for pair in zip(np.split(Y, edges), np.split(prediction, edges), strict=True)]
    merged = reduce(merge, reversed(parts))
    assert merged.n_scans == N_SCANS
    np.testing.assert_allclose(correlation(merged), correlation(whole), rtol=1e-12)
    np.testing.assert_allclose(r2(merged), r2(whole), rtol=1e-12)


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(1)
    Y = np.float32(2**20) + rng.integers(-8, 8, (N_SCANS, N_TARGETS)).astype("float32")
    prediction = Y + rng.integers(-3, 3, Y.shape).astype("float32")
    sums = reduce(merge, [score_sums(Y[i : i + 10], prediction[i : i + 10]) for i in range(0, N_SCANS, 10)])
    near_zero = score_sums(Y - np.float32(2**20), prediction - np.float32(2**20))
    np.testing.assert_allclose(correlation(sums), correlation(near_zero), rtol=1e-9)
    np.testing.assert_allclose(r2(sums), r2(near_zero), rtol=1e-9)


def test_a_nearly_perfect_prediction_keeps_its_error():
    Y, _ = draw(mean=0.0)
    error = 1e-9 * np.random.default_rng(2).standard_normal(Y.shape)
    np.testing.assert_allclose(score_sums(Y, Y + error).squared_errors, (error**2).sum(axis=0), rtol=1e-5)
    assert np.all(correlation(score_sums(Y, Y)) <= 1)


def test_a_constant_has_no_score():
    Y, prediction = draw()
    Y[:, 0], prediction[:, 2] = 0.1, 0.1
    sums = reduce(merge, [score_sums(Y[i : i + 10], prediction[i : i + 10]) for i in range(0, N_SCANS, 10)])
    np.testing.assert_array_equal(np.isnan(correlation(sums)), [True, False, True, False, False])
    np.testing.assert_array_equal(np.isnan(r2(sums)), [True, False, False, False, False])
    np.testing.assert_array_equal(np.isnan(split_r2(Y, prediction[None]))[0], [True, False, False, False, False])
    assert np.isnan(r2(score_sums(Y[:0], prediction[:0]))).all()


def draw_bands():
    """Targets, and correlated predictions of three bands, all centred."""
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((N_SCANS, N_TARGETS))
    predictions = 0.3 * Y + 0.4 * rng.standard_normal((1, N_SCANS, N_TARGETS)) + rng.standard_normal((3, N_SCANS, N_TARGETS))
    return Y - Y.mean(axis=0), predictions - predictions.mean(axis=1, keepdims=True)


def test_the_split_is_that_of_himalaya():
    scoring = pytest.importorskip("himalaya.scoring")
    Y, predictions = draw_bands()
    np.testing.assert_allclose(split_r2(Y, predictions), scoring.r2_score_split(Y, predictions), rtol=1e-10)


def test_the_split_adds_up_to_the_r2_of_the_sum():
    Y, predictions = draw_bands()
    Y, predictions = Y + 20, predictions + np.array([15.0, 5.5, -1.0])[:, None, None]  # the sum is half a unit short
    split = split_r2(Y, predictions)
    assert split.shape == (3, N_TARGETS)
    np.testing.assert_allclose(split.sum(axis=0), exact_r2(Y, predictions.sum(axis=0)), rtol=1e-10)


def test_the_split_does_not_ask_which_band_holds_the_intercept():
    Y, predictions = draw_bands()
    intercept = np.array([20.0, 0.0, 0.0])[:, None, None]
    np.testing.assert_allclose(
        split_r2(Y + 20, predictions + intercept), split_r2(Y + 20, predictions + intercept[::-1]), rtol=1e-10
    )


def test_shapes_that_differ_are_refused():
    Y, prediction = draw()
    with pytest.raises(FormatError, match=r"both have shape \(n_scans, n_targets\); got \(57, 5\) and \(57, 4\)"):
        score_sums(Y, prediction[:, :4])
    with pytest.raises(FormatError, match=r"shape \(n_bands, 57, 5\); got \(57, 5\)"):
        split_r2(Y, prediction)
