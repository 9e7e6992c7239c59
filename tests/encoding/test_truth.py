"""What is true is found: planted weights behind a haemodynamic response and autocorrelated noise, and nothing in nothing."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from sparkneuro.data.synthetic import haemodynamic_response
from sparkneuro.encoding.delays import delay_features
from sparkneuro.encoding.folds import random_split
from sparkneuro.encoding.ridge import fit_ridge
from sparkneuro.encoding.scores import correlation, score_sums
from sparkneuro.encoding.significance import circular_shift_p

pytestmark = pytest.mark.processes  # takes seconds
ALPHAS = np.logspace(0, 5, 11)
T_R = 1.5
N_RUNS, N_SCANS, N_FEATURES, N_TARGETS = 6, 210, 9, 140
DELAYS = tuple(range(1, 9))


def autoregressive(rng, shape, coefficient):
    """AR(1) noise of variance 1, scans first."""
    white = rng.standard_normal((200 + shape[0], *shape[1:])) * np.sqrt(1 - coefficient**2)
    return lfilter([1.0], [1.0, -coefficient], white, axis=0)[200:]


def plant_responses(rng, noise):
    """Runs of white features, the same after Glover's response, weights, and BOLD with AR(1) 0.4 noise."""
    response = haemodynamic_response(T_R)
    response /= np.abs(response).sum()
    X = rng.standard_normal((N_RUNS * N_SCANS, N_FEATURES))
    runs = np.repeat(np.arange(N_RUNS), N_SCANS)
    convolved = np.concatenate([lfilter(response, [1.0], X[runs == run], axis=0) for run in range(N_RUNS)])
    weights = rng.standard_normal((N_FEATURES, N_TARGETS))
    signal = convolved @ weights
    signal /= signal.std(axis=0)
    Y = signal + noise * autoregressive(rng, signal.shape, 0.4)
    return X, runs, signal, Y, weights, response


def test_planted_weights_are_recovered_through_the_haemodynamic_response():
    X, runs, signal, Y, weights, response = plant_responses(np.random.default_rng(0), noise=1.0)
    delayed = delay_features(X, DELAYS, runs)
    train = runs < 5
    fit = fit_ridge(delayed[train], Y[train], ALPHAS, alpha_per_target=True, run_labels=runs[train])
    found = fit.coef.reshape(len(DELAYS), N_FEATURES, N_TARGETS)
    planted = response[list(DELAYS)][:, None, None] * weights
    r = [np.corrcoef(found[..., j].ravel(), planted[..., j].ravel())[0, 1] for j in range(N_TARGETS)]
    # Floor: a wrong target's weights. Ceiling: what the standard errors of least squares on the true delays would leave.
    floor = [np.corrcoef(found[..., j].ravel(), planted[..., j - 1].ravel())[0, 1] for j in range(N_TARGETS)]
    assert np.median(r) > 0.9 and min(r) > 0.8
    assert abs(np.median(floor)) < 0.1


def test_held_out_scores_lie_between_nothing_and_the_noise_ceiling():
    X, runs, signal, Y, _, _ = plant_responses(np.random.default_rng(1), noise=1.0)
    delayed = delay_features(X, DELAYS, runs)
    train = runs < 5
    fit = fit_ridge(delayed[train], Y[train], ALPHAS, alpha_per_target=True, run_labels=runs[train])
    r = correlation(score_sums(Y[~train], delayed[~train] @ fit.coef + fit.intercept))
    ceiling = correlation(score_sums(Y[~train], signal[~train]))
    assert 0.85 * ceiling.mean() < r.mean() < ceiling.mean()
    assert ceiling.mean() == pytest.approx(np.sqrt(0.5), abs=0.03)


def independent(rng, n_targets=400):
    """Features and targets that know nothing of each other, both AR(1) with 0.8."""
    runs = np.repeat(np.arange(N_RUNS), N_SCANS)
    return autoregressive(rng, (len(runs), 30), 0.8), autoregressive(rng, (len(runs), n_targets), 0.8), runs


def test_independent_features_predict_nothing_on_held_out_runs():
    X, Y, runs = independent(np.random.default_rng(2))
    r = []
    for held_out in range(N_RUNS):
        train = runs != held_out
        fit = fit_ridge(X[train], Y[train], ALPHAS, run_labels=runs[train])
        r.append(correlation(score_sums(Y[~train], X[~train] @ fit.coef + fit.intercept)))
    assert abs(np.mean(r)) < 0.05


def test_p_values_of_independent_data_are_uniform_under_circular_shifts():
    # One prediction a target, each of its own features, so that p values do not depend on each other.
    rng, p = np.random.default_rng(3), []
    Y = autoregressive(rng, (N_RUNS * N_SCANS, 300), 0.8)
    prediction = np.empty((2 * N_SCANS, 300))
    for target in range(300):
        X = autoregressive(rng, (len(Y), 5), 0.8)
        fit = fit_ridge(X[: 4 * N_SCANS], Y[: 4 * N_SCANS, [target]], [10.0])
        prediction[:, target] = (X[4 * N_SCANS :] @ fit.coef)[:, 0]
    _, p, _ = circular_shift_p(Y[4 * N_SCANS :], prediction)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_random_split_warns_and_finds_what_is_not_there():
    X, Y, _ = independent(np.random.default_rng(4), n_targets=50)
    X = np.concatenate([X, autoregressive(np.random.default_rng(5), (len(X), 96), 0.8)], axis=1)
    with pytest.warns(UserWarning, match="leak"):
        test = random_split(len(X), 0.1, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_ridge(X[~test], Y[~test], ALPHAS, "loo")
    r = correlation(score_sums(Y[test], X[test] @ fit.coef + fit.intercept))
    assert r.mean() > 0.3
