import numpy as np

from sparkneuro.preprocess.resample_labels import resample_labels

AFFINE = np.array([[2.0, 0, 0, -7], [0, 2.0, 0, -9], [0, 0, 2.0, -5], [0, 0, 0, 1.0]])


def test_an_image_on_the_same_grid_is_the_image():
    labels = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    assert resample_labels(labels, AFFINE, (3, 4, 5), AFFINE + 1e-4) is labels


def test_each_voxel_takes_the_value_at_its_place_in_mm():
    labels = np.random.default_rng(0).integers(0, 9, size=(7, 9, 5)).astype(np.int32)
    target = np.diag([3.0, 3.0, 3.0, 1.0])
    target[:3, 3] = [-6.2, -8.3, -4.4]
    resampled = resample_labels(labels, AFFINE, (6, 5, 4), target)
    places = np.indices((6, 5, 4)).reshape(3, -1)
    there = (np.linalg.inv(AFFINE) @ target @ np.vstack([places, np.ones(places.shape[1])]))[:3]
    last = np.array([[6], [8], [4]])
    inside, beyond = ((there >= 0) & (there <= last)).all(axis=0), ((there < -0.5) | (there > last + 0.5)).any(axis=0)
    nearest = np.rint(there).astype(int)
    np.testing.assert_array_equal(resampled.reshape(-1)[inside], labels[tuple(nearest[:, inside])])
    assert inside.sum() > 30 and beyond.any()
    assert not resampled.reshape(-1)[beyond].any() and resampled.dtype == np.int32


def test_a_mask_stays_a_mask():
    mask = np.random.default_rng(0).random((7, 9, 5)) < 0.5
    assert resample_labels(mask, AFFINE, (4, 4, 4), np.diag([3.0, 3.0, 3.0, 1.0])).dtype == bool
