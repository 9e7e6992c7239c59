import numpy as np

from sparkneuro.preprocess.quality import measure_quality


def test_unusable_voxels_are_told_apart():
    bold = np.random.default_rng(0).normal(100, 5, size=(7, 6))
    bold[:, 1], bold[3, 2], bold[0, 4], bold[:, 5] = 42, np.nan, np.inf, np.nan
    non_finite, constant, tsnr = measure_quality(bold)
    assert non_finite.tolist() == [False, False, True, False, True, True]
    assert constant.tolist() == [False, True, False, False, False, False]
    np.testing.assert_array_equal(tsnr[[1, 2, 4, 5]], 0)
    np.testing.assert_allclose(tsnr[[0, 3]], bold[:, [0, 3]].mean(axis=0) / bold[:, [0, 3]].std(axis=0), rtol=1e-6)


def test_one_odd_scan_makes_a_voxel_usable():
    bold = np.full((9, 1), 5.0)
    bold[4] = 6
    assert measure_quality(bold)[2][0] > 0
