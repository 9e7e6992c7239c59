"""Principal components from sums, against scikit-learn's on the series themselves."""

import numpy as np
import pytest

from sparkneuro.analysis.pca import accumulate, fit_components, mean_squared_errors, merge, reconstruct
from sparkneuro.errors import SettingsError

N_SCANS = 23


def draw_series(n_series, seed):
    """Series of a few smooth sources and noise, with a mean that is not zero, float32."""
    rng = np.random.default_rng(seed)
    sources = np.cumsum(np.random.default_rng(7).standard_normal((5, N_SCANS)), axis=1)
    return (1.5 + rng.standard_normal((n_series, 5)) @ sources + rng.standard_normal((n_series, N_SCANS))).astype("float32")


def test_components_and_variances_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    series = draw_series(400, seed=0)
    pca, oracle = fit_components(accumulate(series)), decomposition.PCA(svd_solver="full").fit(series.astype(float))
    np.testing.assert_allclose(pca.mean, oracle.mean_, rtol=1e-6)
    np.testing.assert_allclose(pca.variances, oracle.explained_variance_, rtol=1e-6)
    # A component's sign is free.
    np.testing.assert_allclose(np.abs(np.sum(pca.components * oracle.components_, axis=1)), 1, rtol=1e-6)


@pytest.mark.parametrize("n_components", [1, 6, 11, N_SCANS])
def test_errors_on_held_out_series_are_those_of_scikit_learn(n_components):
    decomposition = pytest.importorskip("sklearn.decomposition")
    training, held_out = draw_series(400, seed=0), draw_series(150, seed=1)
    pca, oracle = fit_components(accumulate(training)), decomposition.PCA(n_components).fit(training.astype(float))
    expected = oracle.inverse_transform(oracle.transform(held_out.astype(float)))
    errors = mean_squared_errors(accumulate(held_out), pca)
    np.testing.assert_allclose(reconstruct(held_out, pca, n_components), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(errors[n_components], np.mean((held_out - expected) ** 2), rtol=1e-6, atol=1e-9)


def test_errors_fall_with_every_component_to_nothing():
    series = draw_series(90, seed=2)
    errors = mean_squared_errors(accumulate(series), fit_components(accumulate(series)))
    assert errors.shape == (N_SCANS + 1,)
    assert (np.diff(errors) <= 0).all()
    assert errors[-1] == 0


def test_sums_of_parts_are_the_sums_of_the_whole(monkeypatch):
    monkeypatch.setattr("sparkneuro.analysis.pca.ROWS_AT_ONCE", 16)
    series = draw_series(101, seed=3)
    whole, parts = accumulate(series), merge(accumulate(series[:40]), merge(accumulate(series[40:40]), accumulate(series[40:])))
    assert whole.n_series == parts.n_series == 101
    np.testing.assert_allclose(parts.total, series.sum(axis=0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(parts.products, series.T.astype(float) @ series, rtol=1e-12)
    np.testing.assert_allclose(whole.products, parts.products, rtol=1e-12)


def test_too_few_series_are_refused():
    pca = fit_components(accumulate(draw_series(9, seed=0)))
    with pytest.raises(SettingsError, match="at least 2 series; got 1"):
        fit_components(accumulate(draw_series(1, seed=0)))
    with pytest.raises(SettingsError, match="at least one series"):
        mean_squared_errors(accumulate(np.empty((0, N_SCANS))), pca)
    with pytest.raises(SettingsError, match="n_components must be a whole number of at least 0 and of at most 23; got 24"):
        reconstruct(draw_series(2, seed=0), pca, 24)
