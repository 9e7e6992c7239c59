"""The battery that every reader of recordings passes, and what is special to one format."""

import gzip
import hashlib
import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ScalarAxis, SeriesAxis

from sparkneuro.data.cifti import read_brain_models, write_maps
from sparkneuro.data.recordings.recording import open_recording
from sparkneuro.errors import FormatError, SettingsError, StorageError

SHAPE, N_SCANS, T_R = (5, 6, 4), 9, 1.5
AFFINE = np.array([[-3.0, 0.1, 0, 90], [0.1, 3.5, 0, -110], [0, 0, 4, -60], [0, 0, 0, 1.0]])


def make_brain_models():
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 2:4, 1] = True
    return BrainModelAxis.from_surface([0, 2, 5, 7], 10, "CortexLeft") + BrainModelAxis.from_mask(mask, "thalamus_left", AFFINE)


def write_nifti(folder, values):
    image = nibabel.Nifti1Image(np.moveaxis(values.reshape(N_SCANS, *SHAPE), 0, -1), AFFINE, dtype=np.float32)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], T_R))
    nibabel.save(image, folder / "sub-01_bold.nii")
    return folder / "sub-01_bold.nii"


def write_gzipped(folder, values):
    content = write_nifti(folder, values).read_bytes()
    (folder / "sub-01_bold.nii").unlink()
    (folder / "sub-01_bold.nii.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder / "sub-01_bold.nii.gz"


def write_cifti(folder, values):
    image = nibabel.Cifti2Image(values, (SeriesAxis(0, T_R, N_SCANS, "second"), make_brain_models()))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nibabel.save(image, folder / "sub-01_bold.dtseries.nii")
    return folder / "sub-01_bold.dtseries.nii"


def write_hdf5(folder, values):
    with h5py.File(folder / "sub-01_bold.h5", "w") as file:
        file.create_dataset("responses", data=values, chunks=(4, values.shape[1]))
        file["responses"].attrs["t_r"] = T_R
    return folder / "sub-01_bold.h5"


# Format -> how a file of it is written, and the shape of its rows
FORMATS = {
    "nifti": (write_nifti, SHAPE), "gzipped nifti": (write_gzipped, SHAPE),
    "cifti": (write_cifti, (len(make_brain_models()),)), "hdf5": (write_hdf5, (11,)),
}  # fmt: skip


@pytest.fixture(params=FORMATS)
def recorded(request, tmp_path):
    """A file of each format: its path, and its values (n_scans, n_rows)."""
    write, shape = FORMATS[request.param]
    values = np.random.default_rng(5).normal(1000, 9, size=(N_SCANS, int(np.prod(shape)))).astype(np.float32)
    return write(tmp_path, values), values, shape


def test_a_reader_tells_shape_scans_and_repetition_time(recorded):
    path, _, shape = recorded
    recording = open_recording(str(path))
    assert (tuple(recording.shape), recording.n_scans, recording.t_r) == (shape, N_SCANS, T_R)
    assert (recording.affine is None) == (len(shape) == 1) and (recording.rows == "voxels") == (len(shape) == 3)


def test_a_reader_gives_the_chosen_rows_in_order(recorded):
    path, values, shape = recorded
    selected = np.random.default_rng(6).random(shape) < 0.4
    series, sha256 = open_recording(str(path)).read_series(selected)
    np.testing.assert_allclose(series.bold(slice(None)), values[:, selected.ravel()], rtol=1e-7)
    assert series.rows().shape == (selected.sum(), N_SCANS) and series.rows().dtype == np.float32
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_reader_gives_nothing_for_no_rows_and_all_for_all(recorded):
    path, values, shape = recorded
    recording = open_recording(str(path))
    assert recording.read_series(np.zeros(shape, bool))[0].rows().shape == (0, N_SCANS)
    series, _ = recording.read_series(np.ones(shape, bool))
    np.testing.assert_allclose(series.bold(slice(None)), values, rtol=1e-7)


def test_a_reader_averages_over_scans(recorded):
    path, values, shape = recorded
    np.testing.assert_allclose(open_recording(str(path)).read_mean(), values.mean(axis=0, dtype=float).reshape(shape), rtol=1e-7)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.98])
def test_a_file_that_was_cut_off_is_named(recorded, kept):
    path, _, shape = recorded
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(FormatError, match=f"{path.name}.*(is the download complete|not a NIfTI|file is empty)"):
        open_recording(str(path)).read_series(np.ones(shape, bool))


def test_a_web_page_is_no_recording(recorded):
    path, _, _ = recorded
    path.write_bytes(b"<!DOCTYPE html><html><body>504 Gateway Time-out</body></html>" * 20)
    with pytest.raises(FormatError, match=path.name):
        open_recording(str(path))


def test_a_missing_file_is_one_sentence(recorded):
    path, _, _ = recorded
    path.unlink()
    with pytest.raises(StorageError, match=path.name):
        open_recording(str(path))


def test_rows_without_a_grid_are_not_smoothed(recorded):
    path, _, shape = recorded
    if len(shape) == 1:
        with pytest.raises(SettingsError, match="cannot be smoothed"):
            open_recording(str(path)).read_series(np.ones(shape, bool), prepare=lambda scans: scans)


def test_whole_scans_are_prepared_before_rows_are_taken(tmp_path):
    values = np.random.default_rng(5).normal(size=(N_SCANS, int(np.prod(SHAPE)))).astype(np.float32)
    path = write_gzipped(tmp_path, values)
    selected = np.random.default_rng(6).random(SHAPE) < 0.4
    series, _ = open_recording(str(path)).read_series(selected, prepare=lambda scans: np.flip(scans, axis=2))
    expected = np.flip(values.reshape(N_SCANS, *SHAPE), axis=2)[:, selected]
    np.testing.assert_allclose(series.bold(slice(None)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("slope", "inter"), [(None, None), (0.5, 700.0), (1.0, -3.0)])
def test_scans_are_scaled_before_they_are_prepared(tmp_path, slope, inter):
    stored = np.random.default_rng(5).integers(-900, 900, size=(*SHAPE, N_SCANS), dtype=np.int16)
    image = nibabel.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, tmp_path / "sub-01_bold.nii.gz")
    selected = np.random.default_rng(6).random(SHAPE) < 0.4
    series, _ = open_recording(str(tmp_path / "sub-01_bold.nii.gz")).read_series(selected, prepare=lambda scans: scans + 1)
    expected = nibabel.load(tmp_path / "sub-01_bold.nii.gz").get_fdata()[selected].T + 1
    np.testing.assert_allclose(series.bold(slice(None)), expected, rtol=1e-6, atol=1e-4)


def test_maps_over_grayordinates_come_back(tmp_path):
    path, values = str(tmp_path / "m.dscalar.nii"), np.arange(16, dtype=np.float32).reshape(2, 8)
    write_maps(path, ["a", "b"], values, make_brain_models())
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), values)
    assert list(image.header.get_axis(0).name) == ["a", "b"] and read_brain_models(path) == make_brain_models()
    first = Path(path).read_bytes()
    write_maps(path, ["a", "b"], values, make_brain_models())
    assert Path(path).read_bytes() == first


def test_a_cifti_file_of_another_kind_is_told_apart(tmp_path):
    image = nibabel.Cifti2Image(np.zeros((2, 2), np.float32), (ScalarAxis(["a", "b"]), ScalarAxis(["a", "b"])))
    nibabel.save(image, tmp_path / "x.dtseries.nii")
    with pytest.raises(FormatError, match="a series over grayordinates .* is expected; this file holds Scalar by Scalar"):
        open_recording(str(tmp_path / "x.dtseries.nii"))
    nibabel.save(nibabel.Nifti2Image(np.zeros((3, 4, 2), np.float32), AFFINE), tmp_path / "y.dtseries.nii")
    with pytest.raises(FormatError, match="without the CIFTI extension"):
        open_recording(str(tmp_path / "y.dtseries.nii"))


@pytest.mark.parametrize(("name", "values"), [("bold", np.zeros((4, 3, 2))), ("bold", np.array([["a", "b"]], "S1"))])
def test_an_hdf5_dataset_of_another_form_is_refused(tmp_path, name, values):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file[name] = values
    with pytest.raises(FormatError, match=r"must hold numbers of shape \(n_scans, n_rows\)"):
        open_recording(str(tmp_path / "x.h5"))


def test_a_sidecar_is_not_needed_where_the_header_tells_the_repetition_time(recorded):
    path, _, _ = recorded
    path.with_name("sub-01_bold.json").write_text(json.dumps({"RepetitionTime": 3.0}))
    assert open_recording(str(path)).t_r == T_R
