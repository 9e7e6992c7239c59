"""BOLD files as nibabel writes them: the oracle of our own reader."""

import nibabel
import numpy as np
import pytest

AFFINE = np.array([[-3.0, 0.1, 0, 90], [0.1, 3.5, 0, -110], [0, 0, 4, -60], [0, 0, 0, 1.0]])


@pytest.fixture
def affine():
    """An oblique affine in mm, different on every axis."""
    return AFFINE


@pytest.fixture
def write_bold(tmp_path):
    """A function that writes a (5, 6, 4, 7) BOLD run and returns its path and nibabel's image."""

    def write(
        name="sub-01_task-rest_bold.nii.gz", dtype=np.int16, image=nibabel.Nifti1Image, slope=None, t_r=2.5, shape=(5, 6, 4, 7)
    ):
        rng = np.random.default_rng(3)
        values = rng.integers(0, 100, size=shape) if np.dtype(dtype).kind in "iu" else rng.normal(50, 9, size=shape)
        stored = values.astype(dtype)
        made = image(stored, AFFINE, dtype=stored.dtype)
        made.header.set_xyzt_units("mm", "sec")
        if len(shape) == 4:
            made.header.set_zooms((*made.header.get_zooms()[:3], t_r))
        if slope is not None:
            made.header.set_slope_inter(slope, -2.0)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(made, path)
        return str(path), nibabel.load(path)

    return write
