"""What an ingest can start from, and what its rows can be: derivatives, parcels, regions, grayordinates, HDF5, the HCP."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, SeriesAxis
from nilearn.image import resample_to_img
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

from sparkneuro import __version__
from sparkneuro.data.receipts import read_receipt
from sparkneuro.data.scan_ranges import from_ranges
from sparkneuro.data.storage.folder_lock import lock_folder
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import ingest
from sparkneuro.pipelines.ingest import Settings

_SPEC = importlib.util.spec_from_file_location("derivatives", Path(__file__).with_name("derivatives.py"))
derivatives = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(derivatives)


@pytest.fixture(scope="module")
def fmriprep(tmp_path_factory):
    """Two subjects as fMRIPrep leaves them; read only."""
    folder = tmp_path_factory.mktemp("derivatives") / "fmriprep"
    return folder, derivatives.write_derivatives(folder)


@pytest.fixture
def output(tmp_path):
    """Path of a table that is not there yet."""
    return str(tmp_path / "t.voxels")


def read_run(table, number):
    """Row numbers and series (n_rows, n_scans) of a run."""
    blocks = [table.read_block(table.runs[number], block) for block in range(table.n_blocks)]
    return np.concatenate([row for row, _ in blocks]), np.concatenate([series for _, series in blocks])


def load_float64(path):
    """An image that nilearn smooths and averages in float64: in float32 it is itself off by 5e-5."""
    image = nibabel.load(path)
    return nibabel.Nifti1Image(image.get_fdata(), image.affine, image.header, dtype=np.float64)


def resample(labels, image):
    """Values of a labels image on the grid of a run."""
    options = {"interpolation": "nearest", "copy_header": True, "force_resample": True}
    return resample_to_img(labels, image.slicer[..., 0], **options).get_fdata(dtype=np.float32)


def mask_image(table):
    return nibabel.Nifti1Image(table.mask().astype(np.uint8), np.array(table.affine))


def use_masker(table, path, confounds=None, sample_mask=None, **options):
    masker = NiftiMasker(mask_image(table), t_r=derivatives.T_R, **{"detrend": True, "standardize": "zscore_sample", **options})
    source = path if isinstance(path, nibabel.Nifti1Image) else str(path)
    return masker.fit_transform(source, confounds=confounds, sample_mask=sample_mask).T


def test_the_masks_of_derivatives_are_taken_instead_of_computed_ones(fmriprep, output, jobs):
    folder, paths = fmriprep
    sentence = ingest.run(Settings((str(folder),), output=output), None)
    masks = [nibabel.load(next(path.parent.glob("*_desc-brain_mask.nii.gz"))).get_fdata() for path in paths.values()]
    np.testing.assert_array_equal(VoxelTable.open(output).mask(), np.mean(masks, axis=0) > 0.5)
    assert "raw BOLD" not in sentence
    assert VoxelTable.open(output).space == derivatives.SPACE


def test_raw_bold_works_with_a_notice_of_what_was_not_done(fmriprep, output, jobs, tmp_path):
    raw = tmp_path / "raw" / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz"
    raw.parent.mkdir(parents=True)
    shutil.copy(fmriprep[1]["01"], raw)
    sentence = ingest.run(Settings((str(tmp_path / "raw"),), output=output), None)
    assert "Notice: 1 run of raw BOLD (not corrected for motion, slice timing or distortion" in sentence


@pytest.mark.parametrize("strategy", ["motion24", "simple", "compcor"])
def test_a_strategy_gives_what_nilearns_masker_gives_with_the_same_confounds(fmriprep, output, jobs, strategy):
    path = fmriprep[1]["02"]
    ingest.run(Settings((str(path),), output=output, denoise=strategy), None)
    if strategy == "motion24":
        confounds, _ = load_confounds(str(path), strategy=("motion", "high_pass"), motion="full")
        assert confounds.shape[1] == 24 + 3
    else:
        confounds, _ = load_confounds_strategy(str(path), denoise_strategy=strategy)
    table = VoxelTable.open(output)
    np.testing.assert_allclose(read_run(table, 0)[1], use_masker(table, path, confounds), rtol=1e-5, atol=1e-5)
    assert f"confounds by {strategy}" in table.steps


def test_scrubbed_scans_are_left_out_and_recorded_as_a_sample_mask(fmriprep, output, jobs):
    path = fmriprep[1]["01"]
    sentence = ingest.run(Settings((str(path),), output=output, denoise="scrubbing"), None)
    confounds, kept = load_confounds_strategy(str(path), denoise_strategy="scrubbing")
    table = VoxelTable.open(output)
    run = table.runs[0]
    assert 0 < len(kept) < derivatives.N_SCANS and not {20, 21} & set(kept)
    np.testing.assert_array_equal(from_ranges(run.sample_mask), kept)
    assert (run.n_scans, run.n_source_scans) == (len(kept), derivatives.N_SCANS)
    expected = use_masker(table, path, confounds, sample_mask=kept)
    np.testing.assert_allclose(read_run(table, 0)[1], expected, rtol=1e-5, atol=1e-5)
    assert f"{derivatives.N_SCANS - len(kept)} scans of 1 run were left out (with motion" in sentence


def test_columns_and_a_strategy_are_regressed_out_together(fmriprep, output, jobs):
    path = fmriprep[1]["01"]
    ingest.run(Settings((str(path),), output=output, denoise="motion24", confounds=("global_signal",)), None)
    confounds, _ = load_confounds(str(path), strategy=("motion", "high_pass", "global_signal"), global_signal="basic")
    table = VoxelTable.open(output)
    np.testing.assert_allclose(read_run(table, 0)[1], use_masker(table, path, confounds), rtol=1e-5, atol=1e-5)


def test_smoothing_gives_what_nilearns_masker_gives(fmriprep, output, jobs):
    path = fmriprep[1]["01"]
    ingest.run(Settings((str(path),), output=output, smoothing_fwhm=8.0, high_pass=0.01), None)
    table = VoxelTable.open(output)
    expected = use_masker(table, load_float64(path), smoothing_fwhm=8.0, high_pass=0.01)
    np.testing.assert_allclose(read_run(table, 0)[1], expected, rtol=1e-5, atol=1e-5)
    assert table.steps[0] == "smoothing 8.0 mm"


def test_a_region_of_interest_on_another_grid_is_resampled_to_the_runs(fmriprep, output, jobs, tmp_path):
    finer = np.diag([2.0, 2.0, 2.0, 1.0])
    finer[:3, 3] = [-16, -22, -10]
    region = np.zeros((16, 22, 11), np.uint8)
    region[3:11, 4:17, 2:9] = 1
    image = nibabel.Nifti1Image(region, finer)
    nibabel.save(image, tmp_path / "roi.nii.gz")
    path = fmriprep[1]["01"]
    ingest.run(Settings((str(path),), output=output, mask=str(tmp_path / "roi.nii.gz")), None)
    table = VoxelTable.open(output)
    np.testing.assert_array_equal(table.mask(), resample(image, nibabel.load(path)) > 0)
    assert 50 < table.n_voxels < region.sum()


@pytest.fixture
def atlas(tmp_path):
    """A labels image on a grid of its own, with gaps in its values and with names."""
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = [-25, -30, -20]
    labels = np.zeros((11, 13, 9), np.int16)
    for place, value in enumerate((3, 4, 9, 12)):
        labels[2 + 2 * place : 4 + 2 * place, 3:10, 2:8] = value
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "atlas.nii.gz")
    (tmp_path / "atlas.tsv").write_text("index\tname\n3\tVis\n9\tSomMot\n")
    return str(tmp_path / "atlas.nii.gz")


def test_parcels_are_nilearns_and_their_coverage_is_told(fmriprep, output, jobs, atlas):
    folder, paths = fmriprep
    sentence = ingest.run(Settings((str(folder),), output=output, labels=atlas), None)
    table = VoxelTable.open(output)
    assert (table.rows, table.n_voxels) == ("parcels", 4)
    for number, path in enumerate(paths.values()):
        image = load_float64(path)
        labels = nibabel.Nifti1Image(resample(atlas, image), image.affine)
        masker = NiftiLabelsMasker(labels, detrend=True, standardize="zscore_sample", t_r=derivatives.T_R)
        np.testing.assert_allclose(read_run(table, number)[1], masker.fit_transform(image).T, rtol=1e-5, atol=1e-5)
    lines = Path(output, "coverage.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["row", "index", "name", "sub-01_task-rest", "sub-02_task-rest"]
    assert lines[1].split("\t") == ["0", "3", "Vis", "1.0", "1.0"] and lines[2].split("\t")[2] == "4"
    assert "Every parcel is covered whole" in sentence
    np.testing.assert_array_equal(table.row_numbers() > 0, nibabel.load(atlas).get_fdata() > 0)


def test_a_parcel_is_the_mean_of_its_usable_voxels(fmriprep, output, jobs, atlas, tmp_path):
    image = nibabel.load(fmriprep[1]["01"])
    labels = resample(atlas, image)
    values = image.get_fdata(dtype=np.float32)
    outside = np.zeros(labels.shape, bool)
    outside[:, :, :4] = True
    values[outside] = 0
    values[labels == 12] = 0
    path = tmp_path / "sub-01_task-rest_desc-x_bold.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    sentence = ingest.run(Settings((str(path),), output=output, labels=atlas, standardize=False, detrend=False), None)
    table = VoxelTable.open(output)
    row, series = read_run(table, 0)
    assert row.tolist() == [0, 1, 2]  # nothing of the last one can be used
    np.testing.assert_allclose(series[1], values[(labels == 4) & ~outside].mean(axis=0), rtol=1e-5)
    coverage = read_receipt(output, table.runs[0].key)["coverage"]
    assert coverage[1] == pytest.approx(((labels == 4) & ~outside).sum() / (labels == 4).sum(), abs=1e-4) and coverage[3] == 0
    assert "least covered parcel is 12, 0% of it in sub-01_task-rest" in sentence


def test_parcels_need_no_common_grid(fmriprep, output, jobs, atlas, tmp_path):
    image = nibabel.load(fmriprep[1]["01"])
    cropped = tmp_path / "sub-09_task-rest_desc-x_bold.nii.gz"
    nibabel.save(image.slicer[1:, :, :], cropped)
    sources = (str(fmriprep[1]["02"]), str(cropped))
    with pytest.raises(FormatError, match="grid is .* take parcels with --labels, or .* 'sparkneuro merge'"):
        ingest.run(Settings(sources, output=output), None)
    ingest.run(Settings(sources, output=output, labels=atlas), None)
    assert len(VoxelTable.open(output).runs) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels * 0.5, "holds whole numbers from 0 on; is it a probabilistic atlas"),
        (lambda labels: labels * 0, "the labels image is empty"),
        (lambda labels: np.stack([labels] * 2, axis=-1), "a labels image is a 3-D image"),
    ],
)
def test_what_is_no_labels_image_is_refused(fmriprep, output, jobs, atlas, tmp_path, change, message):
    image = nibabel.load(atlas)
    nibabel.save(nibabel.Nifti1Image(change(image.get_fdata()).astype(np.float32), image.affine), tmp_path / "bad.nii.gz")
    with pytest.raises(FormatError, match=message):
        ingest.run(Settings((str(fmriprep[0]),), output=output, labels=str(tmp_path / "bad.nii.gz")), None)
    assert not os.path.exists(output)


def write_dense_series(path, values, models):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Cifti2Image(values, (SeriesAxis(0, 0.72, len(values), "second"), models))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nibabel.save(image, path)


def standardize(values):
    times = np.arange(len(values))
    trend = np.polynomial.polynomial.polyfit(times, values, 1)
    left = values - np.polynomial.polynomial.polyval(times, trend).T
    return (left / left.std(axis=0, ddof=1)).T


def test_grayordinates_of_the_hcps_layout_are_rows(output, jobs, tmp_path):
    models = BrainModelAxis.from_surface(np.arange(40), 60, "CortexLeft") + BrainModelAxis.from_surface([1, 3], 9, "CortexRight")
    values = np.random.default_rng(0).normal(500, 5, size=(30, 42)).astype(np.float32)
    values[:, 7] = 3
    folder = tmp_path / "hcp" / "100307" / "MNINonLinear" / "Results" / "tfMRI_MOTOR_LR"
    write_dense_series(folder / "tfMRI_MOTOR_LR_Atlas_MSMAll.dtseries.nii", values, models)
    np.savetxt(folder / "Movement_Regressors.txt", np.random.default_rng(1).normal(size=(30, 12)))
    ingest.run(Settings((str(tmp_path / "hcp"),), output=output, block_size=16), None)
    table = VoxelTable.open(output)
    row, series = read_run(table, 0)
    assert (table.rows, table.space, table.shape, table.n_blocks) == ("grayordinates", "fsLR", (42,), 3)
    assert (table.runs[0].key, table.runs[0].t_r) == ("sub-100307_task-MOTOR_run-dirLR", 0.72)
    np.testing.assert_array_equal(row, np.delete(np.arange(42), 7))
    np.testing.assert_allclose(series, standardize(np.delete(values, 7, axis=1).astype(float)), rtol=1e-4, atol=1e-5)
    with pytest.raises(FormatError, match="one of 42 grayordinates, which have no grid"):
        table.mask()
    write_dense_series(tmp_path / "sub-02_task-x_space-fsLR_bold.dtseries.nii", values, models[::-1])
    with pytest.raises(FormatError, match="its grayordinates are others than the table's"):
        ingest.run(Settings((str(tmp_path / "sub-02_task-x_space-fsLR_bold.dtseries.nii"),), output=output, block_size=16), None)


def test_rows_of_hdf5_recordings_are_rows(output, jobs, tmp_path):
    values = np.random.default_rng(0).normal(size=(25, 13))
    with h5py.File(tmp_path / "sub-01_task-movie_bold.h5", "w") as file:
        file["bold"], file["other"] = values, np.zeros(3)
        file["bold"].attrs["t_r"] = 2.0
    ingest.run(Settings((str(tmp_path / "sub-01_task-movie_bold.h5"),), output=output), None)
    table = VoxelTable.open(output)
    assert (table.rows, table.n_voxels, table.affine) == ("series", 13, [])
    np.testing.assert_allclose(read_run(table, 0)[1], standardize(values), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"labels": "a.nii"}, {"smoothing_fwhm": 4.0}, {"mask": "subject"}])
def test_options_for_voxels_are_refused_for_other_rows(output, jobs, tmp_path, options):
    with h5py.File(tmp_path / "sub-01_bold.h5", "w") as file:
        file["bold"] = np.zeros((5, 3))
    with pytest.raises(SettingsError, match="is for images of voxels; .* holds series"):
        ingest.run(Settings((str(tmp_path / "sub-01_bold.h5"),), output=output, t_r=2.0, **options), None)


def test_files_with_new_times_but_the_same_content_are_not_ingested_again(fmriprep, output, jobs, tmp_path):
    folder = shutil.copytree(fmriprep[0], tmp_path / "copy")
    settings = Settings((str(folder),), output=output, denoise="motion24")
    ingest.run(settings, None)
    before = [read_run(VoxelTable.open(output), number)[1] for number in (0, 1)]
    confounds = next(folder.glob("sub-01/func/*_timeseries.tsv"))
    for path in folder.rglob("*_bold.nii.gz"):
        os.utime(path, ns=(1, 10**15))
    assert "2 runs left alone, with new times or places but the same content" in ingest.run(settings, None)
    assert "nothing is missing" in ingest.run(settings, None)
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    moved = Settings((str(elsewhere),), output=output, denoise="motion24")
    assert "2 runs left alone" in ingest.run(moved, None)
    assert all(run.source.startswith(str(elsewhere)) for run in VoxelTable.open(output).runs)
    ingest.run(settings, None)
    lines = confounds.read_text().splitlines()
    confounds.write_text("\n".join([*lines[:30], lines[31], lines[30], *lines[32:]]) + "\n")
    assert "1 run ingested" in ingest.run(settings, None)
    after = [read_run(VoxelTable.open(output), number)[1] for number in (0, 1)]
    assert not np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])


def test_runs_of_another_version_are_made_again(fmriprep, output, jobs):
    settings = Settings((str(fmriprep[0]),), output=output)
    ingest.run(settings, None)
    receipt = Path(output, "_runs", "sub-01_task-rest.json")
    receipt.write_text(receipt.read_text().replace(f'"version": "{__version__}"', '"version": "0.0.1"'))
    assert "1 run ingested" in ingest.run(settings, None)


def test_the_table_says_as_a_bids_derivative_what_made_it_from_what(fmriprep, output, jobs):
    ingest.run(Settings((str(fmriprep[0]),), output=output, high_pass=0.01), None)
    description = json.loads(Path(output, "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["SourceDatasets"] == [{"URL": f"file://{fmriprep[0]}"}]
    (made,) = description["GeneratedBy"]
    assert (made["Name"], made["Version"], made["Parameters"]["high_pass"]) == ("sparkneuro", __version__, 0.01)


def test_a_parcel_partly_outside_the_runs_grid_is_told(fmriprep, output, jobs, tmp_path):
    affine = derivatives.AFFINE.copy()
    affine[:3, 3] += derivatives.AFFINE[:3, :3] @ [-3, 0, 0]  # three voxels beyond the first of the run
    labels = np.zeros((8, 6, 4), np.int16)
    labels[1:7, 3:5, 2:4] = 1
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "a.nii.gz")
    sentence = ingest.run(Settings((str(fmriprep[1]["01"]),), output=output, labels=str(tmp_path / "a.nii.gz")), None)
    assert "least covered parcel is 1, 67% of it" in sentence


def test_two_ingests_of_one_table_at_once_are_refused(fmriprep, output, jobs):
    ingest.run(Settings((str(fmriprep[1]["01"]),), output=output), None)
    with lock_folder(output, ingest.LOCK, "ingest"):
        with pytest.raises(SettingsError, match="another ingest is at work in this folder"):
            ingest.run(Settings((str(fmriprep[1]["02"]),), output=output), None)


def test_another_data_sets_run_of_the_same_labels_is_refused(fmriprep, output, jobs, tmp_path):
    ingest.run(Settings((str(fmriprep[1]["01"]),), output=output), None)
    before = read_run(VoxelTable.open(output), 0)[1]
    other = derivatives.write_derivatives(tmp_path / "other", ("01",), n_scans=70, seed=9)
    with pytest.raises(FormatError, match="the run sub-01_task-rest of .* is another file, .*; choose another --output"):
        ingest.run(Settings((str(other["01"]),), output=output), None)
    np.testing.assert_array_equal(read_run(VoxelTable.open(output), 0)[1], before)


def test_a_corrected_repetition_time_makes_a_run_again(fmriprep, output, jobs, tmp_path):
    folder = shutil.copytree(fmriprep[0], tmp_path / "copy")
    settings = Settings((str(folder),), output=output, high_pass=0.02)
    ingest.run(settings, None)
    (folder / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 1.0}))
    assert "2 runs ingested" in ingest.run(settings, None)
    assert {run.t_r for run in VoxelTable.open(output).runs} == {1.0}


def test_other_names_are_another_parcellation(fmriprep, output, jobs, atlas):
    settings = Settings((str(fmriprep[1]["01"]),), output=output, labels=atlas)
    ingest.run(settings, None)
    Path(atlas).with_name("atlas.tsv").write_text("index\tname\n3\tV1\n9\tSomMot\n")
    with pytest.raises(SettingsError, match="was begun with labels sha256:"):
        ingest.run(settings, None)


def test_parcels_and_a_mask_are_refused_together(fmriprep, output, jobs, atlas):
    with pytest.raises(SettingsError, match="leave --mask away, or cut the labels image"):
        ingest.run(Settings((str(fmriprep[0]),), output=output, labels=atlas, mask="subject"), None)


def test_files_that_are_not_ours_stay_in_a_tables_folder(fmriprep, output, jobs):
    ingest.run(Settings((str(fmriprep[1]["01"]),), output=output), None)
    Path(output, "mine.index.parquet").write_bytes(b"PAR1")
    ingest.run(Settings((str(fmriprep[1]["02"]),), output=output), None)
    assert Path(output, "mine.index.parquet").exists() and len(VoxelTable.open(output).runs) == 2


def test_a_link_without_content_is_named_when_it_is_wanted(fmriprep, output, jobs, tmp_path):
    folder = shutil.copytree(fmriprep[0], tmp_path / "copy")
    path = next(folder.glob("sub-02/func/*_bold.nii.gz"))
    path.unlink()
    path.symlink_to("../../.git/annex/objects/x")
    with pytest.raises(FormatError, match=f"{path.name}: this is a link whose content is not here; get it with 'datalad get'"):
        ingest.run(Settings((str(folder),), output=output), None)
    assert "1 run ingested" in ingest.run(Settings((str(folder),), output=output, participant_label=("01",)), None)


def test_a_label_without_letters_or_digits_is_refused(fmriprep, output, jobs, tmp_path):
    shutil.copy(fmriprep[1]["01"], tmp_path / "sub-é_task-rest_bold.nii.gz")
    with pytest.raises(FormatError, match="a subject's label needs letters A to Z or digits"):
        ingest.run(Settings((str(tmp_path / "sub-é_task-rest_bold.nii.gz"),), output=output), None)


def test_a_confounds_table_in_another_encoding_is_no_obstacle_where_it_is_not_asked_for(fmriprep, output, jobs, tmp_path):
    folder = shutil.copytree(fmriprep[0], tmp_path / "copy")
    for path in folder.rglob("*_timeseries.tsv"):
        path.write_text(path.read_text(), encoding="utf-16")
    assert "2 runs ingested" in ingest.run(Settings((str(folder),), output=output), None)
    with pytest.raises(FormatError, match="this is no table in UTF-8"):
        ingest.run(Settings((str(folder),), output=output + "2", confounds=("csf",)), None)
