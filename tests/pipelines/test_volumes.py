"""The command as a whole, against nibabel and nilearn. Tests without Spark call the tasks one after the other in this process."""

import os
import shutil

import nibabel
import numpy as np
import pytest
from nilearn.image import resample_img

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.storage.checksums import compare_checksums
from sparkneuro.data.storage.listing import is_hidden, list_infos
from sparkneuro.data.volumes.volume_store import VolumeStore
from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines import volumes, volumes_task
from sparkneuro.pipelines.volumes import Settings

AFFINE = np.array([[-3.0, 0.1, 0, 20], [0.1, 0, 3.5, -30], [0, -4, 0.2, 40], [0, 0, 0, 1.0]])  # to the left, down, to the front
SHAPE, RUN = (9, 7, 8), (9, 7, 8, 6)


def make_image(path, shape, dtype, seed=0, slope=None):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 900, size=shape).astype(dtype)
    values[:2] = 0
    image = nibabel.Nifti1Image(values, AFFINE, dtype=dtype)
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], 2.5))
    if slope:
        image.header.set_slope_inter(slope, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@pytest.fixture
def folder(tmp_path):
    """Two T1w images and two runs."""
    folder = tmp_path / "raw"
    make_image(folder / "sub-01/anat/sub-01_T1w.nii.gz", SHAPE, np.float32, 1)
    make_image(folder / "sub-02/anat/sub-02_T1w.nii", SHAPE, np.int16, 2)
    make_image(folder / "sub-01/func/sub-01_task-rest_bold.nii.gz", RUN, np.int16, 3, slope=0.5)
    make_image(folder / "sub-02/func/sub-02_task-rest_bold.nii.gz", (*SHAPE, 5), np.float32, 4)
    make_image(folder / "derivatives/sub-01_mask.nii.gz", SHAPE, np.uint8)
    (folder / "sub-02/func/sub-02_task-rest_bold.json").write_text('{"RepetitionTime": 0.8}')
    return folder


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "x.volumes")


def make_settings(folder, output, **options):
    return Settings((str(folder),), output=output, **{"shape": (7, 8, 10), "shard_mb": 0.008, **options})


def read_all(folder):
    return {name: store.read_bytes(f"{folder}/{name}") for name in list_infos(folder) if not is_hidden(name)}


def canonical(path):
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return image.get_fdata(dtype=np.float64), image.affine


def world_center(volume, affine):
    places = np.indices(volume.shape).reshape(3, -1)
    return nibabel.affines.apply_affine(affine, (places * volume.ravel()).sum(axis=1) / volume.sum())


@pytest.mark.parametrize("standardize", ["none", "zscore"])
def test_volumes_are_nibabels_cropped_and_padded_with_the_affine_of_where_they_are(folder, output, jobs, standardize):
    sentence = volumes.run(make_settings(folder, output, standardize=standardize), None)
    assert "4 images as 13 volumes of 7 x 8 x 10 in" in sentence and jobs.count("store_image") == 4
    made = VolumeStore.open(output)
    assert [record.n_scans for record in made.records] == [None, 6, None, 5]
    assert [record.t_r for record in made.records] == [None, 2.5, None, 0.8]
    for i, record in enumerate(made.records):
        values, affine = canonical(record.source)
        assert values.shape[:3] == (9, 8, 7)
        placed = np.zeros((7, 8, 10, *values.shape[3:]))
        placed[:, :, 2:9] = values[1:8, :, :]  # (7 - 10) // 2 = -2
        read = np.moveaxis(made.read_volume(i, original=True), 0, -1) if record.n_scans else made.read_volume(i, original=True)
        np.testing.assert_allclose(read, placed, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(record.affine, affine @ nibabel.affines.from_matvec(np.eye(3), [1, 0, -2]), atol=1e-12)
        np.testing.assert_allclose(record.source_affine, nibabel.load(record.source).affine)
        assert record.source_shape == list(nibabel.load(record.source).shape)
        if standardize == "zscore":
            brain = made.read_volume(i).astype(np.float64)
            brain = brain[brain != 0]
            assert abs(brain.mean()) < 1e-6 and abs(brain.std() - 1) < 1e-6
    assert (made.records[1].entities, made.records[1].suffix) == ({"sub": "01", "task": "rest"}, "bold")
    assert 0.7 < made.records[0].kept < 1


def test_real_t1w_images_are_not_flipped_and_where_they_were(shared_data, output, jobs):
    folder = shared_data / "ixi10_T1w_2mm/test/input/IXI/nifti"
    paths = tuple(str(path) for path in sorted(folder.glob("*.nii.gz"))[:2])
    volumes.run(Settings(paths, output=output, shape=(76, 100, 98), voxel_size=2.5, dtype="float16"), None)
    made = VolumeStore.open(output)
    for i, record in enumerate(made.records):
        source = nibabel.load(record.source)
        theirs = resample_img(
            source, np.array(record.affine), made.shape, interpolation="linear", force_resample=True, copy_header=True
        ).get_fdata()
        read = made.read_volume(i, original=True).astype(np.float64)
        largest = np.abs(theirs - record.coding.center).max()
        np.testing.assert_allclose(read, theirs, atol=largest * 2**-11 + 1e-3)
        off = world_center(read, record.affine) - world_center(source.get_fdata(), source.affine)
        assert record.kept > 0.97 and np.abs(off).max() < 2.5  # less than a voxel
        assert nibabel.aff2axcodes(np.array(record.affine)) == ("R", "A", "S") != nibabel.aff2axcodes(source.affine)


@pytest.mark.processes
def test_a_real_run_keeps_its_scans_in_order_within_the_rounding_of_int16(shared_data, output, jobs):
    path = next((shared_data / "studyforrest_localizer").rglob("*_bold.nii.gz"))
    volumes.run(Settings((str(path),), output=output, shape=(40, 44, 30), dtype="int16", shard_mb=5), None)
    made = VolumeStore.open(output)
    record = made.records[0]
    image = nibabel.as_closest_canonical(nibabel.load(path))
    low = [(n - side) // 2 for n, side in zip(image.shape, made.shape, strict=False)]
    window = image.slicer[tuple(slice(a, a + side) for a, side in zip(low, made.shape, strict=True)) + (slice(60, 75),)]
    assert record.n_scans == 156 and record.t_r == 2.0 and len(store.list_files(output)) > 4
    read = np.moveaxis(made.read_window(0, 60, 75, original=True), 0, -1)
    np.testing.assert_allclose(read, window.get_fdata(), atol=record.coding.rounding * record.coding.spread * 1.001 + 1e-3)
    np.testing.assert_allclose(record.affine, window.affine)


def test_labels_are_kept_whole(shared_data, output, jobs):
    path = next((shared_data / "ixi10_T1w_2mm").rglob("*_DLMUSE.nii.gz"))
    options = {"standardize": "none", "dtype": "int16", "interpolation": "nearest", "voxel_size": 3.0}
    volumes.run(Settings((str(path),), output=output, shape=(60, 70, 60), **options), None)
    read = VolumeStore.open(output).read_volume(0)
    assert set(np.unique(read)) <= set(np.unique(nibabel.load(path).get_fdata())) and len(np.unique(read)) > 50


def test_a_finished_store_is_whole_and_nothing_is_done_again(folder, output, tmp_path, jobs):
    settings = make_settings(folder, output)
    assert volumes.needs_spark(settings)
    volumes.run(settings, None)
    assert compare_checksums(output).is_whole and not [name for name in list_infos(output) if name.startswith(".parts")]
    before = list_infos(output)
    del jobs[:]
    assert not volumes.needs_spark(settings)
    assert volumes.run(settings, None) == f"{output}: nothing is missing; 4 images in the store already."
    assert list_infos(output) == before and not jobs
    os.remove(f"{output}/.sources.json")  # as in a copy of what is visible
    assert not volumes.needs_spark(settings)
    other = make_settings(folder, str(tmp_path / "other"))
    volumes.run(other, None)
    assert read_all(other.output) == read_all(output)


@pytest.mark.parametrize("task", ["store_image", "pack_shard"])
def test_a_store_whose_making_was_interrupted_is_finished_with_the_same_bytes(folder, output, tmp_path, jobs, monkeypatch, task):
    settings, whole = make_settings(folder, output), make_settings(folder, str(tmp_path / "whole"))
    volumes.run(whole, None)
    n_shards = jobs.count("pack_shard")
    original, calls = getattr(volumes_task, task), []

    def die(job):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(job)

    die.__name__ = task
    monkeypatch.setattr(volumes_task, task, die)
    with pytest.raises(KeyboardInterrupt):
        volumes.run(settings, None)
    monkeypatch.setattr(volumes_task, task, original)
    with pytest.raises(FormatError, match="has not finished; run it again"):
        VolumeStore.open(output)
    with pytest.raises(SettingsError, match="was begun with dtype float32, not int16; give the same setting"):
        volumes.needs_spark(make_settings(folder, output, dtype="int16"))
    store.write_bytes(f"{output}/.parts/{store.TEMPORARY}x", b"half")
    del jobs[:]
    assert volumes.needs_spark(settings)
    volumes.run(settings, None)
    expected = {"store_image": (2, n_shards), "pack_shard": (0, n_shards - 2)}[task]
    assert (jobs.count("store_image"), jobs.count("pack_shard")) == expected
    assert read_all(output) == read_all(whole.output)


def test_an_image_that_changes_before_the_store_is_finished_is_stored_again(folder, output, tmp_path, jobs, monkeypatch):
    settings = make_settings(folder, output)
    with monkeypatch.context() as patch:
        patch.setattr(volumes, "_finish", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            volumes.run(settings, None)
    make_image(folder / "sub-02/anat/sub-02_T1w.nii", SHAPE, np.int16, 9)
    del jobs[:]
    volumes.run(settings, None)
    assert jobs.count("store_image") == 1
    fresh = make_settings(folder, str(tmp_path / "fresh"))
    volumes.run(fresh, None)
    assert read_all(output) == read_all(fresh.output)


def test_a_finished_store_is_not_made_into_another(folder, output, jobs):
    volumes.run(make_settings(folder, output), None)
    with pytest.raises(SettingsError, match="was begun with standardize zscore, not minmax"):
        volumes.needs_spark(make_settings(folder, output, standardize="minmax"))
    with pytest.raises(SettingsError, match="made of other images: sub-01_T1w.nii.gz is not given now"):
        volumes.needs_spark(make_settings(folder, output, pattern=("*_bold.nii.gz", "sub-02*")))
    make_image(folder / "sub-03_T1w.nii", SHAPE, np.int16)
    with pytest.raises(SettingsError, match="sub-03_T1w.nii is new; a finished store is not added to"):
        volumes.needs_spark(make_settings(folder, output))
    os.remove(folder / "sub-03_T1w.nii")
    make_image(folder / "sub-02/anat/sub-02_T1w.nii", SHAPE, np.int16, 9)
    with pytest.raises(SettingsError, match="sub-02_T1w.nii is changed since"):
        volumes.needs_spark(make_settings(folder, output))
    os.remove(f"{output}/shard-00001.npy")
    make_image(folder / "sub-02/anat/sub-02_T1w.nii", SHAPE, np.int16, 2)
    os.remove(f"{output}/.sources.json")
    with pytest.raises(FormatError, match="shard-00001.npy of this volume store is missing"):
        volumes.needs_spark(make_settings(folder, output))


def test_values_that_are_no_numbers_become_background_and_are_counted(tmp_path, output, jobs):
    path = tmp_path / "x_T1w.nii"
    values = np.random.default_rng(0).normal(50, 9, SHAPE).astype(np.float32)
    values[4, 4, 4], values[5, 3, 4] = np.nan, np.inf
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    volumes.run(Settings((str(path),), output=output, shape=SHAPE), None)
    made = VolumeStore.open(output)
    read = made.read_volume(0)
    assert made.records[0].n_non_finite == 2 and np.isfinite(read).all() and read[4, 4, 4] == read[5, 3, 4] == 0
    assert np.count_nonzero(read) == values.size - 2


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"sub-01_task-rest_bold.nii.gz: .*is the download complete"),
        (lambda path: open(path, "w").write("<!DOCTYPE html>"), "web page, not a NIfTI file"),
        (lambda path: nibabel.save(nibabel.Nifti1Image(np.zeros(RUN, np.int16), AFFINE), path), "no voxel here that is not 0"),
        (lambda path: nibabel.save(nibabel.Nifti1Image(np.ones(RUN, np.int16), AFFINE), path), "every voxel is 1, which cannot"),
        (lambda path: nibabel.save(nibabel.Nifti1Image(np.ones((*RUN, 2), np.int16), AFFINE), path), "image of 3 or 4 axes"),
    ],
    ids=["cut", "page", "zeros", "constant", "5-D"],
)
def test_a_bad_image_is_one_sentence_and_the_good_ones_are_kept(folder, output, jobs, damage, message):
    path = folder / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    copy = shutil.copy(path, folder.parent / "copy")
    damage(path)
    with pytest.raises(FormatError, match=message) as caught:
        volumes.run(make_settings(folder, output), None)
    assert "\n" not in str(caught.value) and not store.exists(f"{output}/volumes.json")
    shutil.copy(copy, path)
    made = jobs.count("store_image")
    volumes.run(make_settings(folder, output), None)
    assert jobs.count("store_image") == (5 if made else 4) and len(VolumeStore.open(output)) == 4


def test_when_nothing_could_be_stored_nothing_is_left(folder, output, jobs, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000 if str(path) != output else usage.free))
    with pytest.raises(StorageError, match=r"needed here while .* is standardised and 0 MB are free; make room, or set TMPDIR"):
        volumes.run(make_settings(folder, output), None)
    assert not store.exists(output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": None}, "output is missing"), ({"shape": (4, 5)}, "shape must be three numbers of voxels; got 4 5"),
        ({"shape": (4, 5, 0)}, "shape must be a whole number of at least 1"), ({"voxel_size": 0.0}, "voxel_size must be"),
        ({"shard_mb": 0.0}, "shard_mb must be"), ({"dtype": "int8"}, "dtype must be one of"),
        ({"standardize": "x"}, "standardize must be"), ({"interpolation": "x"}, "interpolation must be"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_spark_starts(folder, output, options, message):
    with pytest.raises(SettingsError, match=message):
        volumes.needs_spark(make_settings(folder, **{"output": output, **options}))
    assert not store.exists(output)


def test_a_folder_without_images_or_of_something_else_is_refused(folder, output, tmp_path):
    with pytest.raises(FormatError, match="no file here is named .*_T2w.nii"):
        volumes.needs_spark(make_settings(folder, output, pattern=("*_T2w.nii",)))
    with pytest.raises(FormatError, match="absent: there is no such file or folder"):
        volumes.needs_spark(make_settings(tmp_path / "absent", output))
    with pytest.raises(SettingsError, match="something else than a volume store"):
        volumes.needs_spark(make_settings(folder, str(folder)))


@pytest.mark.engine
def test_spark_makes_the_store_that_the_tasks_make_here(folder, output, spark, tmp_path):
    here = str(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", lambda spark, function, jobs: ([function(job) for job in jobs], []))
        volumes.run(make_settings(folder, here), None)
    volumes.run(make_settings(folder, output), spark)
    assert read_all(output) == read_all(here)
