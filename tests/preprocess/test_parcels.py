import numpy as np

from sparkneuro.data.recordings.masked_series import MaskedSeries
from sparkneuro.preprocess.parcels import average_parcels


def test_a_parcel_is_the_mean_of_its_voxels_scan_by_scan():
    rng = np.random.default_rng(0)
    bold, parcel = rng.normal(1000, 10, size=(130, 37)), rng.integers(0, 5, 37)
    series = MaskedSeries(bold[0], (bold - bold[0]).astype(np.float32))
    averaged, coverage = average_parcels(series, parcel, 5)
    expected = np.stack([bold[:, parcel == number].mean(axis=1) for number in range(5)], axis=1)
    np.testing.assert_allclose(averaged.bold(slice(None)), expected, rtol=1e-7)
    assert (coverage == 1).all()


def test_unusable_voxels_are_left_out_and_told_by_the_coverage():
    bold = np.random.default_rng(0).normal(size=(9, 6))
    bold[:, 1], bold[4, 2], bold[2, 5] = 3, np.nan, np.inf
    deviation = bold - np.where(np.isfinite(bold[0]), bold[0], 0)
    series = MaskedSeries(bold[0], deviation.astype(np.float32))
    averaged, coverage = average_parcels(series, np.array([0, 0, 0, 1, 1, 2]), 4)
    np.testing.assert_allclose(averaged.bold(0), bold[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coverage, [1 / 3, 1, 0, 0])
    assert not averaged.bold(slice(2, 4)).any()


def test_integers_are_averaged_as_they_are_stored():
    rng = np.random.default_rng(0)
    stored, parcel = rng.integers(30_000, 32_000, size=(70, 11), dtype=np.int16), rng.integers(0, 3, 11)
    kept, scaled = MaskedSeries(np.zeros(11), stored), MaskedSeries(stored[0] * 0.5, stored, stored[0], 0.5)
    expected = np.stack([stored[:, parcel == number].mean(axis=1) for number in range(3)], axis=1)
    np.testing.assert_allclose(average_parcels(kept, parcel, 3)[0].bold(slice(None)), expected, rtol=1e-7)
    np.testing.assert_allclose(average_parcels(scaled, parcel, 3)[0].bold(slice(None)), 0.5 * expected, rtol=1e-7)
