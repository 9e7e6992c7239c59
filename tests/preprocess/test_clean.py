import warnings

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.clean import check_high_pass, clean_bold

AFFINE = np.diag([3.0, 3.5, 4.0, 1.0])


@pytest.fixture
def bold():
    """A drifting run of 40 scans and 6 voxels, and two confounds that are in it."""
    rng = np.random.default_rng(0)
    confounds = rng.normal(size=(40, 2)).cumsum(axis=0)
    drift = np.linspace(0, 5, 40)[:, None] * rng.normal(size=6)
    return 1000 + 3 * rng.normal(size=(40, 6)) + drift + confounds @ rng.normal(size=(2, 6)), confounds


@pytest.mark.parametrize("detrend", [True, False])
@pytest.mark.parametrize("high_pass", [None, 0.02])
@pytest.mark.parametrize("with_confounds", [True, False])
@pytest.mark.parametrize("standardize", [True, False])
def test_cleaning_is_what_nilearns_masker_does(bold, detrend, high_pass, with_confounds, standardize):
    series, confounds = bold
    confounds = confounds if with_confounds else None
    image = nibabel.Nifti1Image(series.T.reshape(1, 2, 3, 40), AFFINE)
    mask = nibabel.Nifti1Image(np.ones((1, 2, 3), np.uint8), AFFINE)
    masker = NiftiMasker(
        mask, detrend=detrend, high_pass=high_pass, t_r=2.0, standardize="zscore_sample" if standardize else None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = masker.fit_transform(image, confounds=confounds)
        ours = clean_bold(series, 2.0, detrend=detrend, high_pass=high_pass, confounds=confounds, standardize=standardize)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_the_input_is_not_modified(bold):
    series = bold[0].copy()
    clean_bold(series, 2.0, high_pass=0.02)
    untouched = clean_bold(series, 2.0, detrend=False, standardize=False)
    np.testing.assert_array_equal(series, bold[0])
    np.testing.assert_array_equal(untouched, series)
    assert untouched is not series


def test_confounds_are_gone_afterwards(bold):
    series, confounds = bold
    cleaned = clean_bold(series, 2.0, detrend=False, confounds=confounds, standardize=False)
    centred = confounds - confounds.mean(axis=0)
    np.testing.assert_allclose(centred.T @ cleaned, 0, atol=1e-6)


@pytest.mark.parametrize("high_pass", [0.25, 0.3, 0, -1])
def test_a_cut_off_that_no_run_holds_is_refused(high_pass):
    with pytest.raises(SettingsError, match="high_pass must be above 0 and below 0.25 Hz"):
        check_high_pass(high_pass, 2.0)


def test_a_run_that_is_too_short_is_refused(bold):
    with pytest.raises(SettingsError, match="high_pass needs a longer run than one of 9 scans"):
        clean_bold(bold[0][:9], 2.0, high_pass=0.02)
    with pytest.raises(SettingsError, match="confounds must be fewer than the scans; got 2 for 4 scans"):
        clean_bold(bold[0][:4], 2.0, confounds=bold[1][:4])
