"""Against nibabel's orientation and nilearn's resampling; and every voxel stays where it was in the world."""

import itertools

import nibabel
import numpy as np
import pytest
from nilearn.image import resample_img

from sparkneuro.preprocess.volume_grid import find_orientation, plan_grid

SHAPE = (7, 9, 6)


def turn(order, signs, angles=(0.2, -0.15, 0.1), sizes=(2.0, 3.0, 4.0)):
    """An affine whose axes run in any order and direction, obliquely, with other sizes on every axis."""
    x, y, z = angles
    rotation = (
        np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        @ np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        @ np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.eye(3)[:, list(order)] * np.array(signs) * np.array(sizes)
    affine[:3, 3] = [-20.0, 31.0, 8.0]
    return affine


ORIENTATIONS = [
    turn(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def blob():
    """A volume without symmetry."""
    return np.random.default_rng(2).random(SHAPE).astype(np.float32) + 1


def world_center(volume, affine):
    """Centre of mass of the intensities (mm)."""
    places = np.indices(volume.shape).reshape(3, -1)
    return affine[:3, :3] @ (places * volume.ravel()).sum(axis=1) / volume.sum() + affine[:3, 3]


@pytest.mark.parametrize("affine", ORIENTATIONS, ids=lambda affine: "".join(nibabel.aff2axcodes(affine)))
def test_axes_are_turned_as_nibabel_turns_them(affine):
    volume = blob()
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume, affine))
    grid = plan_grid(SHAPE, affine, canonical.shape)
    np.testing.assert_array_equal(grid.place(volume), np.asarray(canonical.dataobj))
    np.testing.assert_allclose(grid.affine, canonical.affine, atol=1e-12)
    assert nibabel.aff2axcodes(grid.affine) == ("R", "A", "S")


@pytest.mark.parametrize("seed", range(20))
def test_sheared_axes_are_judged_as_nibabel_judges_them(seed):
    affine = np.eye(4)
    affine[:3, :3] = np.random.default_rng(seed).normal(size=(3, 3)) + np.eye(3)[np.random.default_rng(seed).permutation(3)]
    axes, flips = find_orientation(affine)
    expected = nibabel.io_orientation(affine)  # of each voxel axis: the world's axis, and its direction
    ours = [[axes.index(axis), -1 if flips[axes.index(axis)] else 1] for axis in range(3)]
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("new_shape", [(7, 9, 6), (4, 11, 3), (10, 5, 9), (1, 1, 1), (13, 12, 20)])
@pytest.mark.parametrize("affine", ORIENTATIONS[::11], ids=lambda affine: "".join(nibabel.aff2axcodes(affine)))
def test_after_cropping_and_padding_every_voxel_is_where_it_was(affine, new_shape):
    volume = blob()
    grid = plan_grid(SHAPE, affine, new_shape)
    placed = grid.place(volume)
    assert placed.shape == new_shape and placed.dtype == np.float32 and placed.flags.c_contiguous
    found = np.argwhere(placed)
    back = nibabel.affines.apply_affine(np.linalg.inv(affine) @ grid.affine, found)
    nearest = np.rint(back).astype(int)
    np.testing.assert_allclose(back, nearest, atol=1e-9)
    np.testing.assert_array_equal(volume[tuple(nearest.T)], placed[tuple(found.T)])
    lengths = [SHAPE[axis] for axis in grid.axes]
    assert len(found) == np.prod(np.minimum(new_shape, lengths))  # all that has room is kept
    middle = nibabel.affines.apply_affine(grid.affine, (np.array(new_shape) - 1) / 2)
    shift = np.linalg.inv(grid.affine[:3, :3]) @ (middle - nibabel.affines.apply_affine(affine, (np.array(SHAPE) - 1) / 2))
    assert (np.abs(shift) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize(("interpolation", "order"), [("linear", 1), ("nearest", 0)])
@pytest.mark.parametrize("affine", ORIENTATIONS[::13], ids=lambda affine: "".join(nibabel.aff2axcodes(affine)))
def test_resampled_values_are_nilearns(affine, interpolation, order):
    volume = blob()
    grid = plan_grid(SHAPE, affine, (12, 8, 11), voxel_size=1.7)
    theirs = resample_img(
        nibabel.Nifti1Image(volume, affine), grid.affine, grid.shape, interpolation=interpolation, force_resample=True,
        copy_header=True,
    )
    np.testing.assert_allclose(grid.place(volume, order), theirs.get_fdata(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, :3], axis=0), 1.7)
    grids = ((grid.affine, grid.shape), (affine, SHAPE))
    middles = [nibabel.affines.apply_affine(matrix, (np.array(shape) - 1) / 2) for matrix, shape in grids]
    np.testing.assert_allclose(*middles, atol=1e-9)


@pytest.mark.parametrize("voxel_size", [None, 1.5, 3.0])
def test_what_is_in_the_image_stays_where_it_is_in_the_world(voxel_size):
    affine = turn((2, 0, 1), (-1, 1, -1))
    volume = np.zeros((30, 34, 28), np.float32)
    volume[9:15, 12:17, 10:19] = np.random.default_rng(0).random((6, 5, 9)) + np.arange(9)
    grid = plan_grid(volume.shape, affine, (60, 64, 66), voxel_size)
    off = world_center(grid.place(volume), grid.affine) - world_center(volume, affine)
    assert np.abs(off).max() < 0.1


def test_a_voxel_size_that_is_there_already_resamples_nothing():
    affine = turn((0, 1, 2), (1, 1, 1), sizes=(2.00002, 2.0, 1.99999))
    grid = plan_grid(SHAPE, affine, (5, 5, 5), voxel_size=2.0)
    assert grid.steps is None and set(grid.place(blob()).ravel()) <= set(blob().ravel())
