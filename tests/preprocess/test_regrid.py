import numpy as np
import pytest
from nilearn.image import new_img_like, resample_img

from sparkneuro.data.nifti import make_image
from sparkneuro.preprocess.regrid import INTERPOLATIONS, Regridder, cover_grid, make_grid, same_grid

AFFINE = np.array([[-3.0, 0.2, 0, 30], [0.2, 3.0, 0.1, -40], [0, -0.1, 3.2, -20], [0, 0, 0, 1]])
TARGET = np.array([[4.0, 0, 0, -36], [0, 4, 0, -38], [0, 0, 4, -22], [0, 0, 0, 1]])
SHAPE, TARGET_SHAPE = (21, 23, 17), (17, 18, 15)


@pytest.fixture
def ball():
    """A ball within the grid, so that it has an edge on every side."""
    x, y, z = np.indices(SHAPE)
    return (x - 10) ** 2 + (y - 11) ** 2 + (z - 8) ** 2 < 45


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_constant_stays_constant_up_to_the_edge_of_the_mask(ball, interpolation):
    regridder = Regridder(ball, AFFINE, np.ones(TARGET_SHAPE, bool), TARGET, interpolation)
    values = regridder.regrid(np.full((int(ball.sum()), 3), 700, np.float32))
    assert regridder.covered.sum() > 300 and len(values) == regridder.covered.sum()
    np.testing.assert_allclose(values, 700, rtol=1e-6)


def test_without_division_the_edge_would_fade(ball):
    plain = resample_img(make_image(ball * 700.0, AFFINE), TARGET, TARGET_SHAPE, "linear", force_resample=True, copy_header=True)
    covered = cover_grid(ball, AFFINE, TARGET_SHAPE, TARGET)
    assert plain.get_fdata()[covered].min() < 400


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_inside_the_mask_it_is_what_nilearn_gives(ball, interpolation):
    everywhere = np.random.default_rng(0).normal(size=(*SHAPE, 4))
    x, y, z = np.indices(SHAPE)
    whole = np.ones(SHAPE, bool)
    target = np.zeros(TARGET_SHAPE, bool)
    target[5:11, 5:12, 4:9] = True  # far from every face of the grid
    regridder = Regridder(whole, AFFINE, target, TARGET, interpolation)
    ours = regridder.regrid(everywhere[whole].astype(np.float32))
    image = make_image(everywhere, AFFINE)
    theirs = resample_img(image, TARGET, TARGET_SHAPE, interpolation, clip=False, force_resample=True, copy_header=True)
    assert regridder.covered.all() and len(ours) == 6 * 7 * 5
    np.testing.assert_allclose(ours, new_img_like(theirs, theirs.get_fdata()).get_fdata()[target], atol=2e-3)


def test_linear_interpolation_keeps_a_gradient(ball):
    places = np.argwhere(ball) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    inner = np.zeros(TARGET_SHAPE, bool)
    inner[7:10, 7:10, 6:9] = True
    values = Regridder(ball, AFFINE, inner, TARGET).regrid((places[:, :1] * 2 + 5).astype(np.float32))
    expected = (np.argwhere(inner) @ TARGET[:3, :3].T + TARGET[:3, 3])[:, 0] * 2 + 5
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-4)


def test_many_scans_are_those_of_one_at_a_time(ball, monkeypatch):
    series = np.random.default_rng(1).normal(size=(int(ball.sum()), 7)).astype(np.float32)
    target = np.ones(TARGET_SHAPE, bool)
    at_once = Regridder(ball, AFFINE, target, TARGET).regrid(series)
    monkeypatch.setattr("sparkneuro.preprocess.regrid._BLOCK_BYTES", 1)
    np.testing.assert_array_equal(Regridder(ball, AFFINE, target, TARGET).regrid(series), at_once)


def test_a_mask_covers_its_own_grid_exactly(ball):
    np.testing.assert_array_equal(cover_grid(ball, AFFINE, SHAPE, AFFINE + 1e-5), ball)


def test_a_mask_elsewhere_covers_nothing(ball):
    for shift in (1000, -1000):
        moved = TARGET.copy()
        moved[:3, 3] += shift
        assert not cover_grid(ball, AFFINE, TARGET_SHAPE, moved).any()
        regridder = Regridder(ball, AFFINE, np.ones(TARGET_SHAPE, bool), moved)
        assert regridder.regrid(np.ones((int(ball.sum()), 2), np.float32)).shape == (0, 2)


def test_a_grid_of_a_voxel_size_holds_all_masks(ball):
    far = np.zeros((5, 6, 7), bool)
    far[4, 5, 6] = True
    shape, affine = make_grid([(ball, AFFINE), (far, TARGET)], 3.5)
    assert np.allclose(np.diag(affine), [3.5, 3.5, 3.5, 1]) and np.allclose(affine[:3, 3] % 3.5 % 3.5, 0, atol=1e-9)
    for mask, its_affine in ((ball, AFFINE), (far, TARGET)):
        places = np.argwhere(mask) @ its_affine[:3, :3].T + its_affine[:3, 3]
        indices = np.linalg.solve(affine, np.c_[places, np.ones(len(places))].T)[:3].T
        assert (indices > -0.51).all() and (indices < np.array(shape) - 0.49).all()
    assert np.prod(shape) < 30 * 30 * 30
    assert make_grid([(far, TARGET), (ball, AFFINE)], 3.5)[0] == shape


def test_grids_are_the_same_by_shape_and_affine():
    assert same_grid(SHAPE, AFFINE, list(SHAPE), AFFINE.tolist())
    assert not same_grid(SHAPE, AFFINE, SHAPE[::-1], AFFINE) and not same_grid(SHAPE, AFFINE, SHAPE, AFFINE + 0.01)
