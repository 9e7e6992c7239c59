import gzip

import nibabel
import numpy as np
import pytest

from sparkneuro.data import nifti
from sparkneuro.errors import FormatError


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("image", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_header_says_what_nibabel_says(write_bold, name, image):
    path, theirs = write_bold(name, image=image, slope=0.5)
    header = nifti.read_header(path)
    assert header.shape == theirs.shape and header.dtype == theirs.get_data_dtype() and header.t_r == 2.5
    assert (header.slope, header.inter) == (theirs.dataobj.slope, theirs.dataobj.inter) == (0.5, -2.0)
    np.testing.assert_array_equal(header.affine, theirs.affine)


@pytest.mark.parametrize(
    ("unit", "stored", "t_r"), [("sec", 2.5, 2.5), ("msec", 2500, 2.5), ("usec", 720000, 0.72), ("sec", 0, None)]
)
def test_the_repetition_time_is_in_seconds_or_missing(write_bold, tmp_path, unit, stored, t_r):
    image = write_bold()[1]
    image.header.set_xyzt_units("mm", unit)
    image.header.set_zooms((*image.header.get_zooms()[:3], stored))
    nibabel.save(image, tmp_path / "b.nii")
    assert nifti.read_header(tmp_path / "b.nii").t_r == t_r


def test_trailing_axes_of_one_are_dropped(write_bold):
    assert nifti.read_header(write_bold(shape=(5, 6, 4, 7, 1, 1))[0]).shape == (5, 6, 4, 7)


@pytest.mark.parametrize("volume", [np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.ones((3, 4, 5, 2), np.float32)])
def test_a_written_volume_is_read_back_by_us_and_by_nibabel(tmp_path, affine, volume):
    path = str(tmp_path / "v.nii.gz")
    nifti.write_volume(path, volume, affine, t_r=1.25 if volume.ndim == 4 else None, slope=0.25)
    ours, our_affine = nifti.read_volume(path)
    theirs = nibabel.load(path)
    np.testing.assert_array_equal(ours, volume * 0.25)
    np.testing.assert_array_equal(ours, theirs.get_fdata())
    np.testing.assert_allclose(our_affine, affine, atol=1e-5)
    np.testing.assert_allclose(theirs.affine, our_affine)
    assert volume.ndim == 3 or theirs.header.get_zooms()[3] == 1.25


def test_a_volume_without_scaling_keeps_its_type_in_native_byte_order(tmp_path, affine):
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=">i4").reshape(2, 3, 4), affine, dtype=">i4"), tmp_path / "v.nii")
    volume = nifti.read_volume(tmp_path / "v.nii")[0]
    assert volume.dtype == np.dtype("=i4") and volume[1, 2, 3] == 23


def test_writing_twice_gives_equal_bytes(tmp_path, affine):
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write_volume(str(tmp_path / name), np.ones((2, 3, 4), np.uint8), affine)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>404 Not Found</html>", "web page, not a NIfTI file; did the download need a login"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "pointer to the file"),
        (b"/annex/objects/MD5E-s31--2.nii.gz", "pointer to the file.*datalad get"),
        (bytes(400), "not a NIfTI file"),
        (b"\x5c\x01\x00\x00" + bytes(400), "Analyze"),
        (b"\x5c\x01\x00\x00" + bytes(20), "ends within its header"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_another_file_is_refused_by_what_it_is(tmp_path, content, message, compress):
    (tmp_path / "x.nii.gz").write_bytes(compress(content))
    with pytest.raises(FormatError, match=message):
        nifti.read_header(tmp_path / "x.nii.gz")


def test_a_plain_file_that_is_too_short_is_refused_by_its_header_alone(write_bold, tmp_path):
    content = open(write_bold("a.nii")[0], "rb").read()
    (tmp_path / "b.nii").write_bytes(content[:-100])
    with pytest.raises(FormatError, match=r"promises 1680 bytes of data, the file holds 1580; is the download complete"):
        nifti.read_header(tmp_path / "b.nii")


def test_complex_and_colour_voxels_are_refused(write_bold, tmp_path, affine):
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.complex64), affine), tmp_path / "c.nii")
    with pytest.raises(FormatError, match="must be one real number"):
        nifti.read_header(tmp_path / "c.nii")


def test_a_pair_of_header_and_image_is_refused(tmp_path, affine):
    nibabel.save(nibabel.Nifti1Pair(np.zeros((2, 3, 4), np.int16), affine), tmp_path / "p.hdr")
    with pytest.raises(FormatError, match=".hdr/.img pair"):
        nifti.read_header(tmp_path / "p.hdr")
