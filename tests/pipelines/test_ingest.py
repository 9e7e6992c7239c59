"""The command as a whole. Tests without Spark call the tasks one after the other in this process; two at the end use it."""

import gzip
import json
import os
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker
from nilearn.masking import compute_epi_mask, compute_multi_epi_mask

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.samples import write_synthetic
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines import ingest
from sparkneuro.pipelines.ingest import Settings

BOLD = "sub-{0}/func/sub-{0}_task-motor_run-1_bold.nii.gz"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Three subjects of the synthetic sample, 60 scans each; read only."""
    folder = tmp_path_factory.mktemp("sample") / "s"
    write_synthetic(str(folder), n_subjects=3, n_scans=60)
    return folder


@pytest.fixture
def copy(sample, tmp_path):
    """A copy of the sample that a test may damage."""
    return shutil.copytree(sample, tmp_path / "copy")


@pytest.fixture
def output(tmp_path):
    """Path of a table that is not there yet."""
    return str(tmp_path / "t.voxels")


def read_run(table, run):
    """Numbers of the voxels and series (n_voxels, n_scans) of a run."""
    blocks = [table.read_block(run, block) for block in range(table.n_blocks)]
    return np.concatenate([voxel for voxel, _ in blocks]), np.concatenate([series for _, series in blocks])


def change_bold(path, change):
    """Rewrite a run with other values: ``change`` gets them as float32 and alters them in place."""
    image = nibabel.load(path)
    values = image.get_fdata(dtype=np.float32)
    change(values)
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header, dtype=np.float32), path)


@pytest.mark.parametrize(
    "options",
    [{}, {"high_pass": 0.02}, {"detrend": False}, {"standardize": False}, {"confounds": ("rot_?", "csf"), "high_pass": 0.02}],
    ids=lambda options: "+".join(options) or "default",
)
def test_the_table_holds_what_nilearns_masker_gives(copy, output, jobs, options):
    path = copy / BOLD.format("02")
    confounds = np.random.default_rng(0).normal(size=(60, 3)).cumsum(axis=0)
    rows = ["rot_x\trot_y\tcsf", *("\t".join(map(repr, row)) for row in confounds.tolist())]
    (path.parent / "sub-02_task-motor_run-1_desc-confounds_timeseries.tsv").write_text("\n".join(rows))
    ingest.run(Settings((str(path),), output=output, block_size=1000, **options), None)
    table = VoxelTable.open(output)
    masker = NiftiMasker(
        nibabel.Nifti1Image(table.mask().astype(np.uint8), table.affine), detrend=options.get("detrend", True), t_r=0.72,
        high_pass=options.get("high_pass"), standardize="zscore_sample" if options.get("standardize", True) else None,
    )
    expected = masker.fit_transform(str(path), confounds=confounds if "confounds" in options else None)
    voxel, series = read_run(table, table.runs[0])
    np.testing.assert_array_equal(voxel, np.arange(table.n_voxels))
    unit = 1 if options.get("standardize", True) else expected.std()
    np.testing.assert_allclose(series / unit, expected.T / unit, rtol=1e-5, atol=1e-5)
    assert table.n_voxels > 4000 and table.n_blocks == -(-table.n_voxels // 1000)


@pytest.mark.processes
@pytest.mark.parametrize("options", [{}, {"high_pass": 0.01}, {"smoothing_fwhm": 8.0, "high_pass": 0.01}], ids="+".join)
def test_real_bold_gives_what_nilearns_masker_gives(shared_data, output, jobs, options):
    folder = shared_data / "studyforrest_localizer"
    ingest.run(Settings((str(folder),), output=output, **options), None)
    table = VoxelTable.open(output)
    path = next(folder.rglob("*_bold.nii.gz"))
    mask = compute_epi_mask(str(path))
    np.testing.assert_array_equal(table.mask(), mask.get_fdata() > 0)
    expected = NiftiMasker(mask, detrend=True, standardize="zscore_sample", t_r=2.0, **options).fit_transform(str(path))
    np.testing.assert_allclose(read_run(table, table.runs[0])[1], expected.T, rtol=1e-5, atol=1e-5)
    assert 60 < table.runs[0].tsnr_median < 80 or options.get("smoothing_fwhm")  # 64 over another mask, says its description
    assert table.runs[0].t_r == 2.0


def test_a_group_mask_is_nilearns_of_all_runs(sample, output, jobs):
    ingest.run(Settings((str(sample),), output=output), None)
    theirs = compute_multi_epi_mask([str(sample / BOLD.format(subject)) for subject in ("01", "02", "03")])
    table = VoxelTable.open(output)
    np.testing.assert_array_equal(table.mask(), theirs.get_fdata() > 0)
    assert table.steps == ("detrend", "z-score") and table.units == "z-score"
    assert [run.subject for run in table.runs] == ["01", "02", "03"]
    assert jobs == ["make_run_mask"] * 3 + ["ingest_run"] * 3


def test_with_subject_masks_a_run_has_the_rows_of_its_subject(copy, output, jobs):
    change_bold(copy / BOLD.format("02"), lambda values: values.__setitem__(slice(None), np.roll(values, 2, axis=0)))
    ingest.run(Settings((str(copy),), output=output, mask="subject", block_size=500), None)
    table = VoxelTable.open(output)
    masks = {subject: compute_epi_mask(str(copy / BOLD.format(subject))).get_fdata() > 0 for subject in ("01", "02", "03")}
    np.testing.assert_array_equal(table.mask(), np.any(list(masks.values()), axis=0))
    for run in table.runs:
        voxel, series = read_run(table, run)
        place = np.zeros(table.shape, bool)
        place[tuple(np.argwhere(table.mask())[voxel].T)] = True
        np.testing.assert_array_equal(place, masks[run.subject])
        expected = NiftiMasker(
            nibabel.Nifti1Image(place.astype(np.uint8), table.affine), detrend=True, standardize="zscore_sample"
        ).fit_transform(str(copy / BOLD.format(run.subject)))
        np.testing.assert_allclose(series, expected.T, rtol=1e-5, atol=1e-5)


def test_constant_and_non_finite_voxels_are_counted_listed_and_left_out(copy, output, jobs):
    mask = next((copy / "sub-01").rglob("*mask.nii.gz"))
    places = np.argwhere(nibabel.load(mask).get_fdata() > 0)
    dead = {"constant": [3, 4, 5, 700], "non_finite": [0, 1001, 4807]}

    def change(values):
        for number in dead["constant"]:
            values[tuple(places[number])] = 7
        for number in dead["non_finite"]:
            values[(*places[number], number % 60)] = np.nan

    change_bold(copy / BOLD.format("01"), change)
    ingest.run(Settings((str(copy),), output=output, mask=str(mask), block_size=1000, participant_label=("01",)), None)
    table = VoxelTable.open(output)
    run = table.runs[0]
    voxel, series = read_run(table, run)
    np.testing.assert_array_equal(voxel, np.setdiff1d(np.arange(len(places)), dead["constant"] + dead["non_finite"]))
    assert (run.n_constant, run.n_non_finite, run.n_voxels) == (4, 3, len(places) - 7) and np.isfinite(series).all()
    receipt = json.loads(store.read_bytes(f"{output}/_runs/{run.key}.json"))
    assert receipt["constant"] == [[3, 5], [700, 700]] and receipt["non_finite"] == [[0, 0], [1001, 1001], [4807, 4807]]


def test_the_tsnr_map_is_mean_over_deviation_before_cleaning(sample, output, jobs):
    ingest.run(Settings((str(sample / BOLD.format("01")),), output=output), None)
    table = VoxelTable.open(output)
    values, mask = nibabel.load(sample / BOLD.format("01")).get_fdata(), table.mask()
    expected = np.where(mask, values.mean(axis=-1) / values.std(axis=-1), 0)
    np.testing.assert_allclose(table.tsnr_map(table.runs[0]), expected, rtol=1e-5)
    assert table.runs[0].tsnr_median == pytest.approx(np.median(expected[mask]), abs=1e-3)


def test_a_second_time_nothing_is_done_and_no_session_is_needed(sample, output, jobs):
    settings = Settings((str(sample),), output=output, block_size=1500)
    assert ingest.needs_spark(settings)
    assert "3 runs ingested" in ingest.run(settings, None)
    before = {name: store.stat(f"{output}/{name}") for name in store.list_files(output, recursive=True)}
    del jobs[:]
    assert not ingest.needs_spark(settings)
    assert ingest.run(settings, None) == f"{output}: nothing is missing; 3 runs in the table already."
    assert not jobs and before == {name: store.stat(f"{output}/{name}") for name in store.list_files(output, recursive=True)}


def test_only_what_is_missing_or_changed_is_done_again(copy, output, jobs):
    settings = Settings((str(copy),), output=output, block_size=1500)
    ingest.run(Settings((str(copy),), output=output, block_size=1500, participant_label=("01", "02")), None)
    change_bold(copy / BOLD.format("02"), lambda values: values.__iadd__(np.float32(10) * np.arange(60, dtype=np.float32) % 7))
    del jobs[:]
    assert "2 runs ingested" in ingest.run(settings, None) and jobs == ["ingest_run"] * 2
    table = VoxelTable.open(output)
    assert [run.subject for run in table.runs] == ["01", "02", "03"]
    image = nibabel.Nifti1Image(table.mask().astype(np.uint8), table.affine)
    for run in table.runs:
        expected = NiftiMasker(image, detrend=True, standardize="zscore_sample").fit_transform(run.source)
        np.testing.assert_allclose(read_run(table, run)[1], expected.T, rtol=1e-5, atol=1e-5)
    os.remove(table.block_path(table.runs[0], 1))
    assert "1 run ingested" in ingest.run(settings, None)
    assert VoxelTable.open(output) == table


def test_an_ingest_that_died_is_taken_up_again(copy, output, jobs, monkeypatch):
    settings = Settings((str(copy),), output=output)
    original = ingest._ingest_missing

    def die(plan, spark):
        original(replace(plan, missing=plan.missing[:2]), spark)
        store.write_bytes(f"{output}/subject=03/block=00000/none_motor_1.parquet", b"PAR1 of a run without receipt")
        store.write_bytes(f"{output}/subject=09/block=00000/none_motor_1.parquet", b"PAR1 of a run that is never ingested")
        store.write_bytes(f"{output}/subject=03/block=00001/{store.TEMPORARY}x.parquet.1", b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest, "_ingest_missing", die)
    with pytest.raises(KeyboardInterrupt):
        ingest.run(settings, None)
    with pytest.raises(FormatError, match="has not finished; run it again"):
        VoxelTable.open(output)
    monkeypatch.setattr(ingest, "_ingest_missing", original)
    del jobs[:]
    assert "1 run ingested" in ingest.run(settings, None) and jobs == ["ingest_run"]
    table = VoxelTable.open(output)
    assert [len(read_run(table, run)[0]) for run in table.runs] == [run.n_voxels for run in table.runs]
    names = store.list_files(output, recursive=True)
    assert not [name for name in names if "subject=09" in name or store.TEMPORARY in name]
    assert len([name for name in names if name.endswith(".parquet")]) == 3 * table.n_blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"high_pass": 0.02}, "was begun with high_pass None, not 0.02; give the same setting, or another --output"),
        ({"detrend": False}, "was begun with detrend True, not False"),
        ({"block_size": 100}, "was begun with block_size 4096, not 100"),
        ({"mask": "subject"}, "was begun with mask group, not subject"),
    ],
)
def test_another_setting_than_the_tables_is_refused_and_harms_nothing(sample, output, jobs, change, message):
    source = (str(sample / BOLD.format("01")),)
    ingest.run(Settings(source, output=output), None)
    with pytest.raises(SettingsError, match=message):
        ingest.run(Settings(source, output=output, **change), None)
    assert VoxelTable.open(output).runs


def test_a_subject_cannot_join_a_table_of_subject_masks(sample, output, jobs):
    ingest.run(Settings((str(sample),), output=output, mask="subject", participant_label=("01", "02")), None)
    with pytest.raises(SettingsError, match="union of its subjects' masks, so subject 03 cannot be added"):
        ingest.run(Settings((str(sample),), output=output, mask="subject"), None)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flatten(path):
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata()[..., 0], image.affine), path)


def lose_t_r(path):
    image = nibabel.load(path)
    image.header["pixdim"][4] = 0
    nibabel.save(image, path)
    for sidecar in path.parent.glob("*_bold.json"):
        sidecar.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"sub-02.*header promises 1774080 bytes of data, the file holds \d+; is the download complete"),
        (lambda path: path.write_text("<!DOCTYPE html><title>Sign in</title>"), "sub-02.*web page, not a NIfTI file"),
        (flatten, r"sub-02.*a BOLD run is a 4-D image, and this one has shape \(24, 28, 22\)"),
        (lose_t_r, "sub-02.*repetition time is missing or 0.*--t-r SECONDS"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "sub-02.*not a NIfTI file"),
        (lambda path: change_bold(path, lambda values: values.fill(7)), "sub-02.*no brain can be found"),
    ],
    ids=["truncated", "web page", "3-D", "no TR", "empty", "constant"],
)
def test_a_bad_run_is_one_sentence_and_leaves_no_table(copy, output, jobs, damage, message):
    damage(copy / BOLD.format("02"))
    with pytest.raises(FormatError, match=message) as caught:
        ingest.run(Settings((str(copy),), output=output), None)
    assert "\n" not in str(caught.value) and not os.path.exists(output)


def test_good_runs_beside_a_bad_one_are_kept_for_the_next_time(copy, sample, output, jobs):
    mask = str(copy / "derivatives/truth/brain_mask.nii.gz")
    settings = Settings((str(copy),), output=output, mask=mask)
    truncate(copy / BOLD.format("02"))
    with pytest.raises(FormatError, match="is the download complete"):
        ingest.run(settings, None)
    with pytest.raises(FormatError, match="has not finished"):
        VoxelTable.open(output)
    assert not [name for name in store.list_files(output, recursive=True) if "subject=02" in name]
    shutil.copy(sample / BOLD.format("02"), copy / BOLD.format("02"))
    assert "1 run ingested" in ingest.run(settings, None)
    assert len(VoxelTable.open(output).runs) == 3


def move_mask_away(image):
    affine = image.affine.copy()
    affine[:3, 3] += 500
    return nibabel.Nifti1Image(np.asarray(image.dataobj), affine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (move_mask_away, "no voxel of the mask lies on the grid of .*bold.nii.gz; are they in the same space"),
        (lambda image: nibabel.Nifti1Image(np.asarray(image.dataobj) * 0, image.affine), "the mask is empty"),
        (lambda image: nibabel.Nifti1Image(np.indices(image.shape)[0].astype(np.uint8), image.affine), "24 values, is it a mask"),
        (lambda image: nibabel.Nifti1Image(np.stack([image.dataobj] * 2, axis=-1), image.affine), "a mask is a 3-D image"),
    ],
    ids=["affine", "empty", "parcels", "4-D"],
)
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_written(sample, output, tmp_path, jobs, change, message):
    nibabel.save(change(nibabel.load(sample / "derivatives/truth/brain_mask.nii.gz")), tmp_path / "mask.nii.gz")
    with pytest.raises(FormatError, match=message):
        ingest.run(Settings((str(sample),), output=output, mask=str(tmp_path / "mask.nii.gz")), None)
    assert not jobs and not os.path.exists(output)


def test_a_mask_over_nothing_that_changes_is_refused(copy, output, jobs):
    change_bold(copy / BOLD.format("01"), lambda values: values.fill(7))
    mask = str(copy / "derivatives/truth/brain_mask.nii.gz")
    with pytest.raises(FormatError, match="no voxel of the mask changes over time; is it the right mask"):
        ingest.run(Settings((str(copy),), output=output, mask=mask, participant_label=("01",)), None)
    assert not os.path.exists(output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": None}, "output is missing.*--output rest.voxels"),
        ({"mask": "brain.nii"}, "mask must be group, subject or a file; there is no file brain.nii"),
        ({"high_pass": 2.0}, "high_pass must be above 0 and below 0.694444 Hz"),
        ({"block_size": 0}, "block_size must be a whole number of at least 1"),
        ({"t_r": -1.0}, "t_r must be a number above 0"),
        ({"task_id": ("rest",)}, "--task-id rest selects no bold file: there is motor"),
        ({"smoothing_fwhm": 0.0}, "smoothing_fwhm must be a number above 0"),
        ({"labels": "atlas.nii"}, "labels must be a labels image; there is no file atlas.nii"),
        ({"denoise": "motion24", "high_pass": 0.01}, "motion24 removes slow drifts itself; leave --high-pass away"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_spark_starts(sample, output, options, message):
    with pytest.raises(SettingsError, match=message):
        ingest.needs_spark(Settings((str(sample),), **{"output": output, **options}))
    assert not os.path.exists(output)


def test_a_folder_that_is_no_table_is_left_alone(sample, tmp_path):
    (tmp_path / "thesis.txt").touch()
    for output in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(SettingsError, match="something else than a voxel table; choose another --output"):
            ingest.run(Settings((str(sample),), output=str(output)), None)
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(sample, output, jobs, monkeypatch):
    open_replacement = store.open_replacement

    def fill(path):
        if "block=00001" in path:
            raise StorageError(f"{path}: could not be written: the disk is full; free some space, or choose another folder.")
        return open_replacement(path)

    monkeypatch.setattr(store, "open_replacement", fill)
    with pytest.raises(StorageError, match=r"the disk is full; free some space.*\(2 more runs failed.\)"):
        ingest.run(Settings((str(sample),), output=output), None)
    assert not os.path.exists(output)


@pytest.mark.engine
def test_spark_makes_the_table_that_the_tasks_make_here(sample, output, spark, tmp_path, monkeypatch):
    here = str(tmp_path / "here.voxels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", lambda spark, function, jobs: ([function(job) for job in jobs], []))
        ingest.run(Settings((str(sample),), output=here), None)
    assert "3 runs ingested" in ingest.run(Settings((str(sample),), output=output), spark)
    ours, theirs = VoxelTable.open(output), VoxelTable.open(here)
    assert ours.runs == theirs.runs
    for run in ours.runs:
        for ours_part, theirs_part in zip(read_run(ours, run), read_run(theirs, run), strict=True):
            np.testing.assert_array_equal(ours_part, theirs_part)


@pytest.mark.engine
def test_a_truncated_run_fails_a_spark_job_with_its_sentence_alone(copy, output, spark):
    truncate(copy / BOLD.format("02"))
    with pytest.raises(FormatError, match="is the download complete") as caught:
        ingest.run(Settings((str(copy),), output=output), spark)
    assert "\n" not in str(caught.value) and not os.path.exists(output)
