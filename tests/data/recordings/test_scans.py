import gzip
import hashlib

import nibabel
import numpy as np
import pytest

from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.nifti import parse_header, read_header
from sparkneuro.data.recordings import scans
from sparkneuro.errors import FormatError

REAL_TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def read_masked_series(path, mask):
    """Baseline, deviations (n_scans, n_voxels) and hash, as `read_series` gives them."""
    series, sha256 = scans.read_series(path, mask)
    deviation = series.scans(0, series.n_scans)
    return series.bold(slice(None))[0], (deviation - deviation[0]).astype(np.float32), sha256


@pytest.fixture
def mask():
    """A mask on the grid of `write_bold`, neither full nor regular."""
    return np.random.default_rng(1).random((5, 6, 4)) < 0.4


@pytest.mark.parametrize("dtype", [*REAL_TYPES, ">i2", ">f4", ">f8"])
@pytest.mark.parametrize("slope", [None, 0.37])
def test_masked_series_are_those_of_nibabel_for_every_type(write_bold, mask, dtype, slope):
    path, theirs = write_bold(dtype=np.dtype(dtype), slope=slope)
    baseline, deviation, sha256 = read_masked_series(path, mask)
    expected = theirs.get_fdata()[mask].T
    assert (baseline.dtype, deviation.dtype) == (np.float64, np.float32) and deviation.flags.c_contiguous
    np.testing.assert_array_equal(baseline, expected[0])
    np.testing.assert_array_equal(deviation, (expected - expected[0]).astype(np.float32))
    assert sha256 == hashlib.sha256(open(path, "rb").read()).hexdigest()


@pytest.mark.parametrize(
    ("name", "image"), [("a.nii", nibabel.Nifti1Image), ("b.nii", nibabel.Nifti2Image), ("c.nii.gz", nibabel.Nifti2Image)]
)
def test_every_kind_of_file_gives_the_same_series(write_bold, mask, name, image):
    path, theirs = write_bold(name, image=image)
    baseline, deviation, _ = read_masked_series(path, mask)
    np.testing.assert_array_equal(baseline + deviation, theirs.get_fdata()[mask].T)


def test_a_large_offset_does_not_cost_precision(tmp_path, affine, mask):
    values = 1e6 + np.random.default_rng(0).normal(size=(5, 6, 4, 7))
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "offset.nii")
    baseline, deviation, _ = read_masked_series(str(tmp_path / "offset.nii"), mask)
    np.testing.assert_allclose(baseline + deviation - 1e6, values[mask].T - 1e6, atol=1e-6)


@pytest.mark.parametrize("n_bytes", [1, 5 * 6 * 4 * 2, 3 * 5 * 6 * 4 * 2, 1 << 30])
def test_blocks_cover_every_scan_once_whatever_their_size(write_bold, n_bytes):
    path, theirs = write_bold()
    with ByteStream(path) as stream:
        header = parse_header(stream)
        blocks = [(first, block.copy()) for first, block in scans.read_blocks(header, stream, n_bytes)]
    assert [first for first, _ in blocks] == list(np.cumsum([0, *(len(block) for _, block in blocks)])[:-1])
    assert max(len(block) for _, block in blocks) == min(7, max(1, n_bytes // 240))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), theirs.get_fdata().reshape(-1, 7, order="F").T)


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_the_mean_image_is_the_mean_over_scans(write_bold, dtype):
    path, theirs = write_bold(dtype=np.dtype(dtype), slope=0.5)
    mean, affine = scans.read_mean_image(path)
    np.testing.assert_allclose(mean, theirs.get_fdata().mean(axis=-1), rtol=1e-12)
    np.testing.assert_array_equal(affine, theirs.affine)


@pytest.mark.parametrize("read", [read_masked_series, lambda path, mask: scans.read_mean_image(path)])
def test_a_truncated_file_is_told_from_a_damaged_one(write_bold, tmp_path, mask, read):
    path, _ = write_bold(dtype=np.float64)
    content = open(path, "rb").read()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match=r"promises 6720 bytes of data, the file holds \d+; is the download complete"):
        read(str(tmp_path / "cut.nii.gz"), mask)
    (tmp_path / "bad.nii.gz").write_bytes(content[:-8] + b"\0\0\0\0" + content[-4:])
    with pytest.raises(FormatError, match="damaged"):
        read(str(tmp_path / "bad.nii.gz"), mask)


def test_a_gzip_member_that_ends_early_is_called_truncated(write_bold, tmp_path, mask):
    content = gzip.decompress(open(write_bold()[0], "rb").read())
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(content[:-240]))
    with pytest.raises(FormatError, match="promises 1680 bytes of data, the file holds 1440"):
        read_masked_series(str(tmp_path / "short.nii.gz"), mask)


def test_a_volume_is_not_a_run_and_a_mask_must_fit(write_bold, mask):
    with pytest.raises(FormatError, match="4-D image, and this one has shape .*is it a mask or a mean image"):
        scans.read_mean_image(write_bold("v.nii.gz", shape=(5, 6, 4))[0])
    with pytest.raises(FormatError, match=r"grid is \(5, 6, 4\), that of the mask is \(6, 5, 4\); resample"):
        read_masked_series(write_bold()[0], mask.transpose(1, 0, 2))


def test_float64_beyond_float32_becomes_infinite_without_a_warning(tmp_path, affine):
    values = np.arange(120).reshape(2, 3, 4, 5) * 1e300
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "big.nii")
    assert read_header(tmp_path / "big.nii").dtype == np.float64
    assert np.isinf(read_masked_series(str(tmp_path / "big.nii"), np.ones((2, 3, 4), bool))[1][1:]).all()
