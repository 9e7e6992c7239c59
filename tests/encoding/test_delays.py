"""Delayed features stay within their run, and their Gram matrix needs no delayed features."""

import numpy as np
import pytest

from sparkneuro.encoding.delays import delay_features, delayed_gram, delayed_sum
from sparkneuro.errors import FormatError, SettingsError

N_FEATURES = 5
LENGTHS = [31, 9, 17]
DELAYS = [(0,), (1, 2, 3, 4), (4, 0, 2), (-3, -1), (2, -3, 0, 7), (-8, 8), (8,), (-8, -7, 0)]


def draw(dtype="float64"):
    """Features of three runs of different lengths, with a mean that is not zero, and the label of every scan."""
    X = 1.5 + np.random.default_rng(0).standard_normal((sum(LENGTHS), N_FEATURES))
    return X.astype(dtype), np.repeat(["b", "a", "c"], LENGTHS)


def delay_one_by_one(X, delays, run_labels):
    """The definition, scan by scan."""
    delayed = np.zeros((len(X), len(delays), N_FEATURES), X.dtype)
    for scan in range(len(X)):
        for d, delay in enumerate(delays):
            source = scan - delay
            if 0 <= source < len(X) and run_labels[source] == run_labels[scan]:
                delayed[scan, d] = X[source]
    return delayed.reshape(len(X), -1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("delays", DELAYS)
def test_a_delayed_feature_is_the_feature_of_an_earlier_scan_of_the_run(delays, dtype):
    X, run_labels = draw(dtype)
    delayed = delay_features(X, delays, run_labels)
    assert delayed.dtype == dtype
    np.testing.assert_array_equal(delayed, delay_one_by_one(X, delays, run_labels))


@pytest.mark.parametrize("rows_at_once", [7, 2048])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("delays", DELAYS)
def test_the_gram_of_the_delayed_features_follows_from_the_features(delays, dtype, rows_at_once, monkeypatch):
    monkeypatch.setattr("sparkneuro.encoding.delays.ROWS_AT_ONCE", rows_at_once)
    X, run_labels = draw(dtype)
    delayed = delay_features(X, delays, run_labels).astype(float)
    gram = delayed_gram(X, delays, run_labels)
    assert gram.dtype == np.float64
    np.testing.assert_allclose(gram, delayed.T @ delayed, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(delayed_sum(X, delays, run_labels), delayed.sum(axis=0), rtol=1e-12, atol=1e-12)


def test_gram_and_sum_give_the_covariance_of_the_delayed_features():
    X, run_labels = draw()
    total = delayed_sum(X, (1, 3), run_labels)
    centred = delayed_gram(X, (1, 3), run_labels) - np.outer(total, total) / len(X)
    expected = np.cov(delay_features(X, (1, 3), run_labels), rowvar=False) * (len(X) - 1)
    np.testing.assert_allclose(centred, expected, rtol=1e-10, atol=1e-10)


def test_scans_without_labels_are_one_run():
    X, _ = draw()
    one_run = np.zeros(len(X))
    np.testing.assert_array_equal(delay_features(X, (0, 20)), delay_features(X, (0, 20), one_run))
    np.testing.assert_array_equal(delayed_gram(X, (0, 20)), delayed_gram(X, (0, 20), one_run))


def test_whole_numbers_become_floats():
    X = np.arange(12).reshape(6, 2)
    np.testing.assert_array_equal(delay_features(X, (1,)), delay_features(X.astype(float), (1,)))
    assert delay_features(X, (1,)).dtype == np.float64


@pytest.mark.parametrize("function", [delay_features, delayed_gram, delayed_sum])
def test_delays_that_make_no_sense_are_refused(function):
    X, run_labels = draw()
    for delays in [(1, 1), (0.5, 1), (), 4, "ab"]:
        with pytest.raises(SettingsError, match="delays must be distinct whole numbers of scans"):
            function(X, delays, run_labels)
    for delay in (9, -9):
        with pytest.raises(SettingsError, match=f"shorter than every run; got delay {delay} and a run of 9: leave out"):
            function(X, (0, delay), run_labels)


@pytest.mark.parametrize("function", [delay_features, delayed_gram, delayed_sum])
def test_features_that_do_not_fit_their_runs_are_refused(function):
    X, run_labels = draw()
    with pytest.raises(FormatError, match="run 'b' comes back at scan 40"):
        function(X, (1,), np.where(run_labels == "c", "b", run_labels))
    with pytest.raises(FormatError, match="one label for each of 57 scans"):
        function(X, (1,), run_labels[1:])
    with pytest.raises(FormatError, match=r"X must have shape \(n_scans, n_features\); got \(57,\)"):
        function(X[:, 0], (1,), run_labels)
