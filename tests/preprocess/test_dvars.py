"""DVARS against a slow reading of its definition, voxel by voxel and scan by scan."""

import numpy as np
import pytest

from sparkneuro.preprocess import dvars
from sparkneuro.preprocess.dvars import DvarsSums, compute_dvars, predict_difference_sd

N_SCANS, N_VOXELS = 61, 83


def slow_dvars(series):
    """Raw and standardised DVARS by loops: quartiles that are scans' values, the lower ones, and Yule-Walker's equation."""
    n_scans, n_voxels = series.shape
    raw = [np.sqrt(sum((series[t, v] - series[t - 1, v]) ** 2 for v in range(n_voxels)) / n_voxels) for t in range(1, n_scans)]
    predicted = []
    for one in series.T:
        low, high = np.percentile(one, (25, 75), method="lower")
        centred = one - one.mean()
        covariance = [sum(centred[t] * centred[t + lag] for t in range(n_scans - lag)) / n_scans for lag in (0, 1)]
        predicted.append(np.sqrt(2 * (1 - covariance[1] / covariance[0])) * (high - low) / 1.349)
    return np.array(raw), np.array(raw) / np.mean(predicted)


def make_series(seed=0, n_scans=N_SCANS, n_voxels=N_VOXELS):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_scans, n_voxels))
    noise[1:] += 0.4 * noise[:-1]
    return 1000 + rng.uniform(3, 30, n_voxels) * noise


@pytest.mark.parametrize("n_scans", [60, 61, 62, 63])
def test_dvars_is_what_its_definition_says(n_scans):
    series = make_series(n_scans=n_scans)
    raw, standardised = compute_dvars(series)
    slow_raw, slow_standardised = slow_dvars(series)
    assert np.isnan(raw[0]) and np.isnan(standardised[0])
    np.testing.assert_allclose(raw[1:], slow_raw)
    np.testing.assert_allclose(standardised[1:], slow_standardised)


def test_a_run_without_artefacts_is_near_one():
    rng = np.random.default_rng(1)
    white = 500 + 7 * rng.normal(size=(400, 300))
    assert np.nanmean(compute_dvars(white)[1]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("widths", [[83], [1, 82], [40, 0, 43]])
def test_it_does_not_matter_how_the_voxels_are_cut(widths):
    series = make_series()
    sums = DvarsSums(N_SCANS, N_VOXELS)
    for part in np.split(series, np.cumsum(widths)[:-1], axis=1):
        sums.add(part)
    for found, whole in zip(sums.finish(), compute_dvars(series), strict=True):
        np.testing.assert_allclose(found, whole)
    np.testing.assert_allclose(sums.total, series.sum(axis=1))


def test_some_voxels_predict_what_all_would(monkeypatch):
    monkeypatch.setattr(dvars, "PREDICTED_VOXELS", 500)
    series = make_series(n_voxels=5000)
    sums = DvarsSums(*series.shape)
    for part in np.array_split(series, 17, axis=1):
        sums.add(part)
    raw, standardised = sums.finish()
    assert raw[1] / standardised[1] == pytest.approx(predict_difference_sd(series.T).mean(), rel=0.05)
    assert sums._predicted[1] == 500


def test_a_planted_spike_is_found_at_its_scan():
    series = make_series()
    series[40] += 120
    raw, standardised = compute_dvars(series)
    # The image changes to the bad scan and back from it.
    assert set(np.argsort(raw[1:])[-2:] + 1) == {40, 41}
    assert set(np.flatnonzero(standardised > 1.5)) == {40, 41}


def test_series_that_never_change_have_no_standardised_dvars():
    raw, standardised = compute_dvars(np.full((9, 4), 5.0))
    assert (raw[1:] == 0).all() and np.isnan(standardised).all()


@pytest.mark.parametrize("shape", [(1, 4), (2, 0)])
def test_what_cannot_change_is_no_error(shape):
    assert len(compute_dvars(np.zeros(shape))[0]) == shape[0]
