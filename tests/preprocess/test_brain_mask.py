import numpy as np
import pytest
from nilearn.masking import compute_epi_mask, compute_multi_epi_mask

from sparkneuro.data import synthetic
from sparkneuro.data.nifti import make_image
from sparkneuro.errors import FormatError
from sparkneuro.preprocess.brain_mask import compute_mask, vote_mask

AFFINE = synthetic.AFFINE


@pytest.fixture
def runs():
    """Three short runs of a brain, each shifted by a voxel along another axis."""
    rng = np.random.default_rng(0)
    baseline = synthetic.make_brain()[1]
    shifted = [baseline, np.roll(baseline, 1, axis=0), np.roll(baseline, 1, axis=1)]
    return [image[..., None] + 30 * rng.normal(size=(*image.shape, 5)) for image in shifted]


def test_a_mask_of_the_mean_is_nilearns_mask_of_the_run(runs):
    theirs = compute_epi_mask(make_image(runs[0], AFFINE)).get_fdata() > 0
    np.testing.assert_array_equal(compute_mask(runs[0].mean(axis=-1), AFFINE), theirs)


def test_the_vote_of_runs_is_nilearns_common_mask(runs):
    theirs = compute_multi_epi_mask([make_image(run, AFFINE) for run in runs]).get_fdata() > 0
    masks = [compute_mask(run.mean(axis=-1), AFFINE) for run in runs]
    np.testing.assert_array_equal(vote_mask(sum(mask.astype(int) for mask in masks), 3, AFFINE), theirs)
    assert any((mask != theirs).any() for mask in masks)


def test_non_finite_background_does_not_matter(runs):
    mean = runs[0].mean(axis=-1)
    mean[0] = np.nan
    assert compute_mask(mean, AFFINE).sum() > 4000


def test_an_image_without_a_brain_is_refused():
    with pytest.raises(FormatError, match="no brain can be found in the mean image.*--mask FILE"):
        compute_mask(np.zeros((9, 10, 11)), AFFINE)


def test_masks_that_lie_apart_have_no_common_one():
    votes = np.zeros((5, 6, 7), int)
    votes[:2], votes[3:] = 1, 1
    with pytest.raises(FormatError, match="no voxel lies in more than half"):
        vote_mask(votes, 2, AFFINE)
