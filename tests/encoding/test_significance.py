"""Circular-shift p values are honest for autocorrelated series, and q values are Benjamini and Hochberg's."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import false_discovery_control, kstest

from sparkneuro.encoding.significance import circular_shift_null, circular_shift_p, fdr
from sparkneuro.errors import FormatError, SettingsError


def draw_ar1(n_scans, n_targets, seed, coefficient=0.8):
    """Stationary first-order autoregressive series."""
    noise = np.random.default_rng(seed).standard_normal((n_scans + 100, n_targets))
    return lfilter([1], [1, -coefficient], noise, axis=0)[100:]


@pytest.mark.parametrize("n_scans", [83, 84])
def test_every_shift_is_the_correlation_of_the_rolled_prediction(n_scans):
    Y, prediction, min_shift = 50 + draw_ar1(n_scans, 3, seed=0), draw_ar1(n_scans, 3, seed=1), 7
    null, observed = circular_shift_null(Y, prediction, min_shift)
    shifts = range(min_shift, n_scans - min_shift + 1)
    assert null.shape == (len(shifts), 3)
    for target in range(3):
        y, p = Y[:, target], prediction[:, target]
        expected = [np.corrcoef(y, np.roll(p, shift))[0, 1] for shift in shifts]
        np.testing.assert_allclose(null[:, target], expected, atol=1e-12)
        np.testing.assert_allclose(observed[target], np.corrcoef(y, p)[0, 1], atol=1e-12)


def test_p_values_of_independent_autocorrelated_series_are_uniform():
    Y, prediction = draw_ar1(1001, 600, seed=2), draw_ar1(1001, 600, seed=3)
    _, p, _ = circular_shift_p(Y, prediction, min_shift=30)
    assert kstest(p, "uniform").pvalue > 0.05
    # The p values of independent scans are not: the test can tell.
    r = np.array([np.corrcoef(Y[:, target], prediction[:, target])[0, 1] for target in range(600)])
    assert kstest(0.5 * (1 - np.tanh(np.arctanh(r))), "uniform").pvalue < 1e-10


@pytest.mark.parametrize(("n_scans", "n_targets", "most"), [(200, 4000, 0.08), (1000, 2000, 0.065)])
def test_false_positives_are_few_more_than_they_should_be(n_scans, n_targets, most):
    _, p, _ = circular_shift_p(draw_ar1(n_scans, n_targets, seed=14), draw_ar1(n_scans, n_targets, seed=15), min_shift=10)
    assert 0.04 < np.mean(p <= 0.05) < most
    assert np.mean(p == p.min()) < 6 * p.min()


def test_a_planted_relation_gets_the_smallest_p():
    prediction = draw_ar1(500, 40, seed=4)
    Y = draw_ar1(500, 40, seed=5)
    Y[:, :15] += prediction[:, :15]
    observed, p, _ = circular_shift_p(Y, prediction)
    np.testing.assert_allclose(p[:15], 1 / (1 + 481))
    assert np.all(observed[:15] > 0.5)
    assert np.all(fdr(p)[:15] < 0.05)


def test_p_counts_the_shifts_that_do_as_well(monkeypatch):
    monkeypatch.setattr("sparkneuro.encoding.significance.TARGETS_AT_ONCE", 4)
    Y, prediction = draw_ar1(90, 11, seed=6).astype("float32"), draw_ar1(90, 11, seed=7)
    observed, p, null_counts = circular_shift_p(Y, prediction, min_shift=5)
    null, expected = circular_shift_null(Y, prediction, min_shift=5)
    np.testing.assert_allclose(observed, expected, atol=1e-14)
    np.testing.assert_allclose(p, (1 + (null >= expected).sum(axis=0)) / (1 + 81))
    np.testing.assert_array_equal(null_counts, np.histogram(null, bins=200, range=(-1, 1))[0])
    assert null_counts.sum() == 81 * 11


def test_a_shift_that_repeats_the_prediction_counts_as_doing_as_well():
    block_design = np.tile(np.repeat([0.0, 1.0], 10), 6)[:, None]
    _, p, _ = circular_shift_p(block_design + 0.1 * draw_ar1(120, 1, seed=8), block_design, min_shift=10)
    np.testing.assert_allclose(p, (1 + 5) / (1 + 101))


def test_a_constant_has_no_p():
    Y, prediction = draw_ar1(60, 3, seed=9), draw_ar1(60, 3, seed=10)
    Y[:, 0], prediction[:, 2] = 0.1, 0.1
    observed, p, null_counts = circular_shift_p(Y, prediction)
    np.testing.assert_array_equal(np.isnan(p), [True, False, True])
    np.testing.assert_array_equal(np.isnan(observed), [True, False, True])
    assert null_counts.sum() == 41


def test_series_without_enough_shifts_are_refused():
    Y = draw_ar1(39, 2, seed=11)
    with pytest.raises(FormatError, match="at least 20 circular shifts; 38 scans and min_shift 10 leave 19"):
        circular_shift_p(Y[:38], Y[:38])
    assert len(circular_shift_null(Y, Y)[0]) == 20
    with pytest.raises(FormatError, match=r"both have shape \(n_scans, n_targets\); got \(39, 2\) and \(39, 1\)"):
        circular_shift_p(Y, Y[:, :1])
    with pytest.raises(SettingsError, match="min_shift must be a whole number of at least 1; got 0"):
        circular_shift_p(Y, Y, min_shift=0)


def test_q_values_are_those_of_scipy():
    p = np.random.default_rng(12).uniform(size=57) ** 3
    p[[5, 6]] = p[7]
    np.testing.assert_allclose(fdr(p), false_discovery_control(p, method="bh"), rtol=1e-12)


def test_targets_without_a_p_do_not_count():
    p = np.random.default_rng(13).uniform(size=23)
    p[[0, 9]] = np.nan
    q = fdr(p)
    np.testing.assert_array_equal(np.isnan(q), np.isnan(p))
    np.testing.assert_allclose(q[~np.isnan(p)], false_discovery_control(p[~np.isnan(p)]), rtol=1e-12)
    assert np.isnan(fdr(np.full(3, np.nan))).all()


def test_what_is_no_probability_is_refused():
    with pytest.raises(FormatError, match="between 0 and 1; got -0.2 to 0.3"):
        fdr(np.array([-0.2, 0.3, np.nan]))
