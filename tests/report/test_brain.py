"""Orientation of slices, and their pictures."""

import itertools

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from sparkneuro.report.brain import _choose_slices, draw_slices, orient  # noqa: E402

TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))


def make_affine(axes, signs):
    """Affine of a grid whose voxel axis ``axes[k]`` runs along world axis k, 2, 3 and 4 mm apart, slightly oblique."""
    affine = np.eye(4)
    affine[:3, :3] = 0.05
    for world, (axis, sign, size) in enumerate(zip(axes, signs, (2.0, 3.0, 4.0), strict=True)):
        affine[world, axis] = sign * size
    affine[:3, 3] = -30, -40, 50
    return affine


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_orienting_moves_no_voxel_in_the_world(axes, signs):
    affine = make_affine(axes, signs)
    # Every voxel holds its own place along the world's x axis.
    places = np.moveaxis(np.indices((3, 4, 5)), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    for world in range(3):
        oriented, turned = orient(places[..., world], affine)
        again = np.moveaxis(np.indices(oriented.shape), 0, -1) @ turned[:3, :3].T + turned[:3, 3]
        np.testing.assert_allclose(oriented, again[..., world], atol=1e-12)
    assert (np.diag(turned) > 0).all()
    assert (np.argmax(np.abs(turned[:3, :3]), axis=0) == np.arange(3)).all()


@pytest.mark.parametrize(("height", "n_slices"), [(1, 18), (17, 18), (18, 18), (19, 18), (35, 18), (90, 12)])
def test_slices_lie_at_one_distance_and_lose_equally_at_both_ends(height, n_slices):
    inside = np.zeros((2, 3, height + 7), bool)
    inside[:, :, 4 : 4 + height] = True
    places = _choose_slices(inside, n_slices)
    assert 0 < len(places) <= n_slices
    assert len(set(np.diff(places))) <= 1
    assert abs((places[0] - 4) - (3 + height - places[-1])) <= 1


@pytest.mark.parametrize("n_voxels", [0, 1, 200])
def test_a_map_is_drawn_however_few_voxels_it_has(n_voxels):
    mask = np.zeros((7, 8, 9), bool)
    mask.flat[:n_voxels] = True
    volume = np.random.default_rng(0).standard_normal(mask.shape)
    volume.flat[0] = np.nan
    png = draw_slices(volume, mask, np.diag([3.0, 3, 4, 1]), "error (z-score²)")
    assert png.startswith(b"\x89PNG")
