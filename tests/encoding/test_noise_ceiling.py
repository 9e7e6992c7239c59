"""Explainable variance and noise ceiling, against simulations whose signal and noise are known."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import zscore

from sparkneuro.encoding.noise_ceiling import explainable_variance, noise_ceiling
from sparkneuro.errors import FormatError

N_SCANS, N_TARGETS, N_REPEATS = 20_000, 3, 5
SIGNAL, NOISE = np.array([4.0, 1.0, 0.0]), np.array([1.0, 3.0, 2.0])  # variances


def draw_repeats(n_repeats=N_REPEATS):
    """A signal, and repeats of it in noise that is autocorrelated in time, each with a gain and a mean of its own."""
    rng = np.random.default_rng(0)
    signal = np.sqrt(SIGNAL) * rng.standard_normal((N_SCANS, N_TARGETS))
    noise = lfilter([np.sqrt(1 - 0.5**2)], [1, -0.5], rng.standard_normal((n_repeats, N_SCANS, N_TARGETS)), axis=1)
    gain = np.linspace(1, 2, n_repeats)[:, None, None]
    return signal, 100 * gain + gain * (signal + np.sqrt(NOISE) * noise)


def test_explainable_variance_is_the_share_of_the_signal():
    np.testing.assert_allclose(explainable_variance(draw_repeats()[1]), SIGNAL / (SIGNAL + NOISE), atol=0.015)


def test_explainable_variance_does_not_depend_on_the_number_of_repeats():
    two, many = explainable_variance(draw_repeats(2)[1]), explainable_variance(draw_repeats(9)[1])
    np.testing.assert_allclose(two, many, atol=0.03)


def test_explainable_variance_is_the_bias_corrected_variance_of_the_mean():
    repeats = draw_repeats()[1][:, :40]
    standardized = zscore(repeats, axis=1)
    uncorrected = 1 - np.var(standardized - standardized.mean(axis=0), axis=(0, 1))
    expected = uncorrected - (1 - uncorrected) / (N_REPEATS - 1)
    np.testing.assert_allclose(explainable_variance(repeats), expected, rtol=1e-10, atol=1e-12)


def test_the_ceiling_is_what_the_signal_itself_reaches():
    signal, repeats = draw_repeats()
    of_mean, of_one = noise_ceiling(repeats)
    mean = zscore(repeats, axis=1).mean(axis=0)
    for target in (0, 1):
        np.testing.assert_allclose(of_mean[target], np.corrcoef(signal[:, target], mean[:, target])[0, 1], atol=0.01)
        np.testing.assert_allclose(of_one[target], np.corrcoef(signal[:, target], repeats[2, :, target])[0, 1], atol=0.01)
    assert of_mean[2] < 0.1


def test_repeats_that_oppose_each_other_have_a_ceiling_of_zero():
    series = np.random.default_rng(1).standard_normal((1, 30, 4))
    np.testing.assert_allclose(explainable_variance(np.concatenate([series, -series])), -1)
    np.testing.assert_array_equal(noise_ceiling(np.concatenate([series, -series])), np.zeros((2, 4)))


def test_a_repeat_that_is_constant_has_no_ceiling():
    repeats = np.random.default_rng(2).standard_normal((3, 30, 4))
    repeats[1, :, 2] = 0.1
    for ceiling in noise_ceiling(repeats):
        np.testing.assert_array_equal(np.isnan(ceiling), [False, False, True, False])


@pytest.mark.parametrize("shape", [(1, 30, 4), (30, 4)])
def test_what_are_no_repeats_is_refused(shape):
    with pytest.raises(FormatError, match=r"repeats must have shape \(n_repeats, n_scans, n_targets\), at least 2 repeats"):
        noise_ceiling(np.zeros(shape))
