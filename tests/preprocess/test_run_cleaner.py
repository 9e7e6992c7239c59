import numpy as np
import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.clean import clean_bold
from sparkneuro.preprocess.run_cleaner import RunCleaner


def make_bold(n_scans, n_voxels, drift=3.0, first=5000.0):
    """A run as a scanner gives it: whole numbers far from 0, drifts, confounds, and a first scan that stands out."""
    rng = np.random.default_rng(0)
    confounds = rng.normal(size=(n_scans, 7)).cumsum(axis=0)
    phase = np.linspace(0, np.pi, n_scans)[:, None] * rng.integers(1, 5, n_voxels)
    noise = rng.normal(size=(n_scans, n_voxels)) + confounds @ rng.normal(size=(7, n_voxels)) / n_scans**0.5
    bold = np.rint(rng.uniform(2000, 20000, n_voxels) + 80 * (noise + drift * np.cos(phase)))
    bold[0] += first
    return bold, confounds


@pytest.mark.parametrize("n_scans", [41, 310])
@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("high_pass", [None, 0.02])
@pytest.mark.parametrize("with_confounds", [True, False])
@pytest.mark.parametrize("standardize", [True, False])
def test_a_row_is_cleaned_as_nilearn_cleans_it(n_scans, detrend, high_pass, with_confounds, standardize):
    bold, confounds = make_bold(n_scans, 23)
    options = {"detrend": detrend, "high_pass": high_pass, "confounds": confounds if with_confounds else None}
    rows = np.ascontiguousarray(bold.T, np.float32)
    level, deviation, sure = RunCleaner(n_scans, 2.0, standardize=standardize, **options).clean(rows, np.zeros(23))
    expected = clean_bold(bold, 2.0, standardize=standardize, **options).T
    unit = 1 if standardize else expected.std(axis=1, ddof=1)[sure, None]
    np.testing.assert_allclose((rows[sure] - expected[sure]) / unit, 0, atol=1e-5)
    assert sure.mean() > 0.6
    np.testing.assert_allclose(level, bold.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, bold.std(axis=0), rtol=1e-6)


def test_the_baseline_belongs_to_the_level_and_to_what_is_not_detrended():
    bold, _ = make_bold(50, 4)
    baseline = np.array([1e4, 2e4, 3e4, 4e4])
    rows = np.ascontiguousarray(bold.T, np.float32)
    level = RunCleaner(50, 2.0, detrend=False, standardize=False).clean(rows, baseline)[0]
    np.testing.assert_allclose(level, bold.mean(axis=0) + baseline, rtol=1e-6)
    np.testing.assert_allclose(rows, bold.T + baseline[:, None], rtol=1e-6)


def test_what_is_taken_away_has_few_dimensions():
    confounds = make_bold(300, 1)[1]
    assert RunCleaner(300, 2.0, detrend=False).rank == 0
    assert RunCleaner(300, 2.0).rank == 2
    assert RunCleaner(300, 2.0, confounds=confounds).rank == 9
    assert 2 < RunCleaner(300, 2.0, high_pass=0.008).rank < 100


def test_a_filter_that_takes_nearly_everything_is_one_whole_matrix():
    bold, _ = make_bold(60, 5)
    cleaner = RunCleaner(60, 2.0, high_pass=0.2)
    rows = np.ascontiguousarray(bold.T, np.float32)
    sure = cleaner.clean(rows, np.zeros(5))[2]
    assert cleaner.rank == 60
    np.testing.assert_allclose(rows[sure], clean_bold(bold, 2.0, high_pass=0.2).T[sure], atol=1e-5)


def test_series_that_float32_cannot_clean_are_named():
    bold = make_bold(80, 9)[0].T
    bold[1], bold[2, 5], bold[3, 5] = 42, np.nan, np.inf
    bold[4] = 1000 + np.arange(80)
    bold[5] = 1e30 * np.random.default_rng(0).normal(size=80)
    bold[6] = 1e-30 * np.random.default_rng(0).normal(size=80)
    sure = RunCleaner(80, 2.0).clean(np.ascontiguousarray(bold, np.float32), np.zeros(9))[2]
    assert sure.tolist() == [True, False, False, False, False, False, False, True, True]


def test_equal_rows_give_equal_bytes():
    bold, confounds = make_bold(120, 6)
    both = [np.ascontiguousarray(bold.T, np.float32) for _ in range(2)]
    for rows in both:
        RunCleaner(120, 2.0, high_pass=0.01, confounds=confounds).clean(rows, np.zeros(6))
    assert both[0].tobytes() == both[1].tobytes()


def test_a_run_that_is_too_short_is_refused():
    with pytest.raises(SettingsError, match="high_pass needs a longer run than one of 9 scans"):
        RunCleaner(9, 2.0, high_pass=0.02)
    with pytest.raises(SettingsError, match="confounds must be fewer than the scans; got 7 for 8 scans"):
        RunCleaner(8, 2.0, confounds=make_bold(8, 1)[1])


@pytest.mark.parametrize("rows", [np.ones((3, 40)), np.ones((40, 3), np.float32).T])
def test_rows_that_cannot_be_cleaned_in_place_are_refused(rows):
    with pytest.raises(ValueError, match="rows must be contiguous rows of float32"):
        RunCleaner(40, 2.0).clean(rows, np.zeros(3))
