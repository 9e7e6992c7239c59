"""The command as a whole. Tests without Spark call the tasks one after the other in this process; those at the end use it."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.block import write_block
from sparkneuro.data.cohort import read_participants
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.errors import FormatError, SettingsError, SparkneuroError
from sparkneuro.pipelines import ingest, merge
from sparkneuro.pipelines.merge import Settings
from sparkneuro.preprocess.harmonise import CombatModel

_spec = importlib.util.spec_from_file_location("scattered", Path(__file__).with_name("scattered.py"))
scattered = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(scattered)

N_SUBJECTS = (3, 3, 2)


def call_jobs(spark, function, jobs):
    """Stands in for Spark: the tasks one after the other, in this process."""
    results, failures = [], []
    for job in json.loads(json.dumps(jobs)):
        try:
            results.append(function(job))
        except SparkneuroError as error:
            failures.append(error)
    return results, failures


@pytest.fixture
def jobs(monkeypatch):
    """Calls the tasks in this process instead of Spark's; the list tells the names of those that were called."""
    called = []

    def run_jobs(spark, function, jobs):
        called.extend([function.__name__] * len(jobs))
        return call_jobs(spark, function, jobs)

    monkeypatch.setattr(data_spark, "run_jobs", run_jobs)
    return called


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three BIDS data sets, eight subjects in all; read only."""
    root = tmp_path_factory.mktemp("scattered")
    return [scattered.write_dataset(str(root / f"d{number}"), number, n) for number, n in enumerate(N_SUBJECTS)]


@pytest.fixture(scope="module")
def tables(folders):
    """A voxel table of each; read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", call_jobs)
        for folder in folders:
            ingest.run(ingest.Settings((folder,), output=f"{folder}.voxels", block_size=700), None)
    return [f"{folder}.voxels" for folder in folders]


@pytest.fixture
def output(tmp_path):
    """Path of a cohort that is not there yet."""
    return str(tmp_path / "cohort.voxels")


def read_run(table, run):
    """Numbers of the voxels and series (n_voxels, n_scans) of a run."""
    blocks = [table.read_block(run, block) for block in range(table.n_blocks)]
    return np.concatenate([voxel for voxel, _ in blocks]), np.concatenate([series for _, series in blocks])


def hash_files(folder):
    """The sha256 of every file below a folder, by name."""
    names = store.list_files(folder, recursive=True)
    return {name: hashlib.sha256(store.read_bytes(store.join(folder, name))).hexdigest() for name in names}


def check_truth(table):
    """Every run of a cohort follows the planted signal, in the right place at the right time."""
    places = scattered.places_of(table.shape, table.affine)[table.mask().ravel()]
    for run in table.runs:
        voxel, series = read_run(table, run)
        strength = scattered.field(places[voxel])
        expected = scattered.wave(np.arange(run.n_scans) * run.t_r)
        strong = np.abs(strength) > 0.5
        signed = series[strong] * np.sign(strength[strong])[:, None]
        agreement = [np.corrcoef(row, expected)[0, 1] for row in signed]
        assert strong.sum() > 200 and np.median(agreement) > 0.95 and np.min(agreement) > 0.8


def test_folders_of_different_grids_and_rates_become_one_table(folders, output, jobs):
    sentence = merge.run(Settings(tuple(folders), output=output, t_r="2", voxel_size=6.0, block_size=1000), None)
    assert "8 runs of 3 data sets merged" in sentence and "8 runs of 8 subjects on" in sentence
    table = VoxelTable.open(output)
    assert [run.subject for run in table.runs] == ["ds01sub01", "ds01sub02", "ds01sub03", "ds02sub01", "ds02sub02", "ds02sub03",
                                                   "ds03sub01", "ds03sub02"]  # fmt: skip
    assert {(run.t_r, run.n_scans) for run in table.runs} == {(2.0, 30)} and table.space == scattered.SPACE
    assert np.allclose(np.diag(table.affine), [6, 6, 6, 1]) and table.n_blocks == 2
    assert table.steps[:3] == ("detrend", "z-score", "merge of 3 data sets")
    assert table.steps[3:] == ("resampled to 2.0 s", "regridded (linear)", "z-score again")
    check_truth(table)
    for run in table.runs:
        voxel, series = read_run(table, run)
        np.testing.assert_allclose(series.std(axis=1, ddof=1), 1, rtol=1e-5)
        np.testing.assert_allclose(series.mean(axis=1), 0, atol=1e-5)
        assert run.n_voxels == len(voxel) == table.n_voxels - run.n_uncovered - run.n_constant and run.n_uncovered < 150
        tsnr = table.tsnr_map(run)[table.mask()]
        assert (tsnr[voxel] > 10).all() and (np.delete(tsnr, voxel) == 0).all()
    assert not [name for name in store.list_files(output, recursive=True) if name.startswith(("_datasets", "_merge"))]


def test_the_metadata_say_what_came_from_where(folders, tables, output, jobs):
    merge.run(Settings((folders[1], tables[0]), output=output, t_r="keep", dataset_mask="subject"), None)
    table = VoxelTable.open(output)
    first, second = table.settings["datasets"]
    assert [first[name] for name in ("label", "name", "kind", "n_runs", "t_r")] == ["ds01", "Scattered 2", "bids", 3, [1.35]]
    assert [second[name] for name in ("label", "name", "kind", "shape")] == ["ds02", "d0", "voxels", [19, 22, 18]]
    assert {run.source for run in VoxelTable.open(tables[0]).runs} < {run.source for run in table.runs}
    people = read_participants(f"{output}/participants.tsv")
    assert people["ds01sub02"] == {
        "dataset": "ds01", "dataset_name": "Scattered 2", "source_participant_id": "sub-02", "age": "27", "sex": "F"
    }
    assert people["ds02sub03"]["age"] == "29"  # of the folder that the voxel table was made from
    assert sorted(people) == sorted({run.subject for run in table.runs})


def test_data_sets_of_one_name_stay_apart(tables, tmp_path, output, jobs):
    shutil.copytree(tables[0], tmp_path / "other" / "d0.voxels")
    merge.run(Settings((tables[0], str(tmp_path / "other" / "d0.voxels")), output=output), None)
    table = VoxelTable.open(output)
    assert [entry["name"] for entry in table.settings["datasets"]] == ["d0", "d0 (2)"]
    assert len({run.key for run in table.runs}) == 6


def test_a_run_on_the_grid_and_rate_of_the_cohort_comes_through_bit_by_bit(tables, output, jobs):
    merge.run(Settings(tuple(tables[:2]), output=output, t_r="2.0", mask_threshold=0.2, block_size=333), None)
    table, source = VoxelTable.open(output), VoxelTable.open(tables[0])
    np.testing.assert_allclose(table.affine, source.affine, rtol=0, atol=0)
    inverse = np.full(table.shape, -1)
    inverse[source.mask()] = np.arange(source.n_voxels)
    for run, origin in zip(table.runs[:3], source.runs, strict=True):
        voxel, series = read_run(table, run)
        own, rows = read_run(source, origin)
        rows = dict(zip(own.tolist(), rows, strict=True))
        assert len(voxel) == origin.n_voxels  # a fifth of the runs is enough for the mask, and these are half of them
        for number, row in zip(inverse[table.mask()][voxel].tolist(), series, strict=True):
            np.testing.assert_array_equal(row, rows[number])
    assert table.runs[4].t_r == 2.0 and table.runs[4].n_scans == 30


def test_without_a_rate_runs_that_differ_are_refused_and_can_keep_theirs(tables, output, jobs):
    message = r"different repetition times \(0.8, 1.35, 2 s\); resample all with --t-r SECONDS, or .* --t-r keep"
    with pytest.raises(SettingsError, match=message):
        merge.needs_spark(Settings(tuple(tables), output=output))
    merge.run(Settings(tuple(tables), output=output, t_r="keep"), None)
    table = VoxelTable.open(output)
    assert sorted({run.t_r for run in table.runs}) == [0.8, 1.35, 2.0]
    check_truth(table)


def rename_space(tables, tmp_path, space):
    """A copy of the second table that says to be in another space."""
    copy = shutil.copytree(tables[1], tmp_path / "moved.voxels")
    content = json.loads((copy / "voxel_table.json").read_text())
    (copy / "voxel_table.json").write_text(json.dumps({**content, "space": space}))
    return str(copy)


def test_data_sets_of_different_spaces_are_refused_unless_one_knows_better(tables, tmp_path, output, jobs, caplog):
    sources = (tables[0], rename_space(tables, tmp_path, "native"))
    with pytest.raises(SettingsError, match=r"in several \(d0: MNI152NLin2009cAsym, moved: native\); .*--assume-same-space"):
        merge.needs_spark(Settings(sources, output=output, t_r="keep"))
    with pytest.raises(SettingsError, match="a space that its subjects share, and these are in space native"):
        merge.needs_spark(Settings(sources[1:], output=output))
    merge.run(Settings(sources, output=output, t_r="keep", assume_same_space=True), None)
    assert VoxelTable.open(output).space == "MNI152NLin2009cAsym"
    assert "they are taken to lie in one space, as you say" in caplog.text


def test_the_mask_is_what_enough_runs_cover_or_a_file(tables, tmp_path, jobs):
    sizes = []
    for share in (0.1, 0.5, 1.0):
        output = str(tmp_path / f"{share}.voxels")
        merge.run(Settings(tuple(tables), output=output, t_r="keep", mask_threshold=share), None)
        sizes.append(VoxelTable.open(output).n_voxels)
    table = VoxelTable.open(output)
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    assert {run.n_uncovered for run in table.runs} == {0}
    box = np.zeros(table.shape, np.uint8)
    box[6:12, 5:13, 6:11] = 1
    write_volume(str(tmp_path / "box.nii.gz"), box, table.affine)
    output = str(tmp_path / "box.voxels")
    merge.run(Settings(tuple(tables), output=output, t_r="keep", mask=str(tmp_path / "box.nii.gz")), None)
    assert VoxelTable.open(output).n_voxels == 6 * 8 * 5
    with pytest.raises(FormatError, match=r"the affine is off.*from that of the cohort's grid \(--grid\)|the grid is"):
        elsewhere = Settings(tuple(tables[1:]), output=str(tmp_path / "x.voxels"), t_r="keep", mask=str(tmp_path / "box.nii.gz"))
        merge.run(elsewhere, None)
    assert not (tmp_path / "x.voxels").exists()


@pytest.mark.parametrize("interpolation", ["nearest", "continuous"])
def test_an_image_gives_the_grid(tables, tmp_path, output, jobs, interpolation):
    shape, affine = scattered.make_affine(5)
    write_volume(str(tmp_path / "grid.nii.gz"), np.zeros(shape, np.uint8), affine)
    options = {"grid": str(tmp_path / "grid.nii.gz"), "interpolation": interpolation}
    merge.run(Settings(tuple(tables), output=output, t_r="2", **options), None)
    table = VoxelTable.open(output)
    assert table.shape == shape and np.allclose(table.affine, affine, atol=1e-4)
    if interpolation == "continuous":
        check_truth(table)


def count_writes(monkeypatch, last):
    """Lets so many files be written, then interrupts; returns the list of those that were asked for."""
    written, open_replacement = [], store.open_replacement

    def write(path):
        written.append(path)
        if len(written) > last:
            raise KeyboardInterrupt
        return open_replacement(path)

    monkeypatch.setattr(store, "open_replacement", write)
    return written


@pytest.mark.processes
def test_stopped_at_any_file_and_run_again_it_gives_the_same_bytes(folders, tables, tmp_path, jobs):
    sources = (tables[0], folders[2])
    undisturbed = str(tmp_path / "undisturbed.voxels")
    with pytest.MonkeyPatch.context() as patch:
        written = count_writes(patch, 10**6)
        merge.run(Settings(sources, output=undisturbed, t_r="2.5", block_size=900), None)
    expected, n_writes = hash_files(undisturbed), len(written)
    assert n_writes > 30
    for number, last in enumerate(range(0, n_writes, 7)):
        output = str(tmp_path / f"{number}.voxels")
        settings = Settings(sources, output=output, t_r="2.5", block_size=900)
        for stop in (last, 1):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                count_writes(patch, stop)
                merge.run(settings, None)
            with pytest.raises(FormatError, match="has not finished|there is no such voxel table"):
                VoxelTable.open(output)
        merge.run(settings, None)
        assert hash_files(output) == expected


def test_what_a_killed_merge_has_left_is_swept_up(tables, output, jobs):
    settings = Settings((tables[0],), output=output)
    merge.run(settings, None)
    expected = hash_files(output)
    for name in ("voxel_table.json", "_runs/sub-ds01sub02_task-rest.json"):
        store.delete(store.join(output, name))
    for name in ("_merge/votes/x.nii.gz", "_datasets/old.voxels/a.parquet", f"subject=ds01sub02/{store.TEMPORARY}a.parquet.1"):
        store.write_bytes(store.join(output, name), b"left")
    store.write_bytes(store.join(output, "subject=ds09sub01/block=00000/none_rest_none.parquet"), b"of a run that is gone")
    jobs.clear()
    assert "1 run of 1 data set merged" in merge.run(settings, None)
    assert jobs == ["merge_run"] and hash_files(output) == expected


def test_a_second_run_does_nothing(folders, tables, output, jobs):
    settings = Settings((folders[2], tables[0]), output=output, t_r="2")
    merge.run(settings, None)
    before = hash_files(output)
    jobs.clear()
    assert not merge.needs_spark(settings)
    assert "nothing is missing; 5 runs of 2 data sets are there" in merge.run(settings, None)
    assert not jobs and hash_files(output) == before


def test_kept_tables_of_folders_are_voxel_tables_and_stay(folders, output, jobs):
    merge.run(Settings((folders[2],), output=output, keep_datasets=True), None)
    merge.run(Settings((folders[2],), output=output), None)
    kept = VoxelTable.open(f"{output}/_datasets/ds01-Scattered-3.voxels")
    assert [run.subject for run in kept.runs] == ["01", "02"]


def test_a_source_that_has_changed_is_done_again_and_nothing_else(folders, tables, tmp_path, output, jobs):
    folder = shutil.copytree(folders[2], tmp_path / "d2")
    settings = Settings((tables[0], str(folder)), output=output, t_r="2")
    merge.run(settings, None)
    mask, before = VoxelTable.open(output).mask(), VoxelTable.open(output).runs
    path = folder / "sub-02/func" / f"sub-02_task-rest_space-{scattered.SPACE}_bold.nii.gz"
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)[..., ::-1]
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    jobs.clear()
    assert "2 runs of 2 data sets merged" in merge.run(settings, None)
    assert jobs.count("merge_run") == 2 and "count_coverage" not in jobs
    table = VoxelTable.open(output)
    np.testing.assert_array_equal(table.mask(), mask)
    assert table.runs[:4] == before[:4] and table.runs[4].sha256 != before[4].sha256


def test_a_run_that_its_data_set_no_longer_has_leaves_the_cohort(folders, tmp_path, output, jobs):
    folder = shutil.copytree(folders[0], tmp_path / "d0")
    settings = Settings((str(folder),), output=output)
    merge.run(settings, None)
    shutil.rmtree(folder / "sub-02")
    merge.run(settings, None)
    assert [run.subject for run in VoxelTable.open(output).runs] == ["ds01sub01", "ds01sub03"]
    assert not [name for name in store.list_files(output, recursive=True) if "sub02" in name]


def test_a_data_set_joins_a_cohort_on_its_grid_and_mask(tables, output, jobs):
    merge.run(Settings((tables[0],), output=output, t_r="2"), None)
    before = hash_files(output)
    jobs.clear()
    merge.run(Settings((tables[2],), output=output, t_r="2"), None)
    table = VoxelTable.open(output)
    assert jobs == ["merge_run"] * 2
    assert [run.subject for run in table.runs] == ["ds01sub01", "ds01sub02", "ds01sub03", "ds02sub01", "ds02sub02"]
    after = hash_files(output)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"voxel_table.json", "participants.tsv", "_runs/recipe.json"}
    people = read_participants(f"{output}/participants.tsv")
    assert people["ds01sub01"]["age"] == "23" and people["ds02sub01"]["age"] == "25"
    check_truth(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_r": "2.5"}, "was begun with t_r 2.0, not 2.5; give the same setting, or another --output"),
        ({"interpolation": "nearest"}, "was begun with interpolation linear, not nearest"),
        ({"mask_threshold": 0.7}, "was begun with mask_threshold 0.5, not 0.7"),
        ({"standardize": False}, "was begun with standardize True, not False"),
        ({"confounds": ("csf", "rot_?")}, "was begun with confounds nothing, not csf rot_?"),
    ],
)
def test_another_setting_than_the_cohorts_is_refused_and_harms_nothing(tables, output, jobs, change, message):
    merge.run(Settings((tables[0],), output=output, t_r="2"), None)
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        merge.run(Settings((tables[0],), output=output, **{"t_r": "2", **change}), None)
    assert VoxelTable.open(output).runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": None}, "output is missing.*--output cohort.voxels"),
        ({"t_r": "often"}, "t_r must be a number of seconds, or keep; got 'often'"),
        ({"t_r": "70"}, "t_r must be a number above 0 and of at most 60"),
        ({"t_r": "60"}, r"t_r must be shorter than a run: \d+ scans of .* s hold no two of 60 s"),
        ({"interpolation": "cubic"}, "interpolation must be one of linear, nearest, continuous; got 'cubic'"),
        ({"mask_threshold": 1.5}, "mask_threshold must be a number above 0 and of at most 1"),
        ({"voxel_size": -3.0}, "voxel_size must be a number above 0"),
        ({"grid": "there.nii"}, "grid must be first or a NIfTI file; there is no file there.nii"),
        ({"mask": "there.nii"}, "mask must be a NIfTI file; there is no file there.nii"),
        ({"covariates": ("age",)}, "covariates and training_subjects are for --harmonise combat"),
        ({"harmonise": "combat"}, "z-scored series all have the same; make the tables with --no-standardize"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_spark_starts(tables, tmp_path, output, options, message):
    with pytest.raises(SettingsError, match=message):
        merge.needs_spark(Settings(tuple(tables), **{"output": output, "t_r": "keep", **options}))
    assert not (tmp_path / "cohort.voxels").exists()


def test_sources_that_make_no_sense_are_refused(folders, tables, tmp_path, output, jobs):
    (tmp_path / "empty").mkdir()
    for sources, message in (
        ((tables[0], tables[0]), "sources must be different data sets; .*d0.voxels is named twice"),
        ((tables[0], output), "sources must be different data sets; the output is one of them"),
        ((tables[0], str(tmp_path / "none")), "none: a source is a voxel table or a BIDS folder; there is no such folder"),
        ((str(tmp_path / "empty"),), "no file here is named"),
    ):
        with pytest.raises(SparkneuroError, match=message):
            merge.needs_spark(Settings(sources, output=output))
    with pytest.raises(SettingsError, match="in one unit .*d0: z-score, Scattered 3: source unit"):
        merge.needs_spark(Settings((tables[0], folders[2]), output=output, t_r="keep", standardize=False))
    with pytest.raises(SettingsError, match="made by another job than a merge"):
        merge.needs_spark(Settings((tables[0],), output=tables[1], t_r="keep"))
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SettingsError, match="something else than a cohort"):
        merge.needs_spark(Settings((tables[0],), output=str(tmp_path)))


def test_a_damaged_source_is_one_sentence_and_what_was_finished_is_kept(tables, tmp_path, output, jobs):
    broken = shutil.copytree(tables[1], tmp_path / "d1.voxels")
    file = next(broken.glob("subject=02/block=00001/*.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    settings = Settings((tables[0], str(broken)), output=output, t_r="2")
    with pytest.raises(FormatError, match="d1.voxels/subject=02/block=00001/.*is damaged"):
        merge.run(settings, None)
    assert len([name for name in store.list_files(f"{output}/_runs") if name.endswith(".json") and name != "recipe.json"]) == 5
    file.write_bytes(content)
    assert "1 run of 2 data sets merged" in merge.run(settings, None)


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """Three tables in source units: a scanner's factor (1, 2.5, 0.5) and an effect of age (3 % a year) on the amplitude."""
    root, made = tmp_path_factory.mktemp("loud"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", call_jobs)
        for number, factor in enumerate((1.0, 2.5, 0.5)):
            folder = scattered.write_dataset(str(root / f"l{number}"), number, 6, seconds=50, factor=factor, ageing=0.03)
            ingest.run(ingest.Settings((folder,), output=f"{folder}.voxels", standardize=False), None)
            made.append(f"{folder}.voxels")
    return made


def measure_amplitudes(table):
    """Mean log standard deviation of each subject."""
    return {run.subject: np.log(read_run(table, run)[1].std(axis=1)).mean() for run in table.runs}


def fit_amplitudes(table):
    """Regression of the subjects' amplitudes: effect of age, and range of the data sets' effects."""
    people = read_participants(f"{table.path}/participants.tsv")
    measured = measure_amplitudes(table)
    sites = sorted({row["dataset"] for row in people.values()})
    design = [[float(people[label]["age"]), *(people[label]["dataset"] == site for site in sites)] for label in measured]
    weights = np.linalg.lstsq(np.array(design, float), np.array(list(measured.values())), rcond=None)[0]
    return weights[0], np.ptp(weights[1:])


@pytest.mark.processes
def test_combat_takes_a_planted_scanner_away_and_leaves_age(loud, tmp_path, jobs):
    plain, combat = str(tmp_path / "plain.voxels"), str(tmp_path / "combat.voxels")
    merge.run(Settings(tuple(loud), output=plain, t_r="keep", mask_threshold=1), None)
    age, scanners = fit_amplitudes(VoxelTable.open(plain))
    assert abs(age - 0.03) < 0.003 and scanners > 1.4
    merge.run(Settings(tuple(loud), output=combat, t_r="keep", mask_threshold=1, harmonise="combat", covariates=("age",)), None)
    table = VoxelTable.open(combat)
    age, scanners = fit_amplitudes(table)
    assert abs(age - 0.03) < 0.005 and scanners < 0.08
    assert table.steps[-1] == "combat" and table.units == "source unit"
    assert sorted(store.list_files(f"{combat}/harmonisation")) == ["amplitude.npz", "harmonisation.json"]
    for run, origin in zip(table.runs, VoxelTable.open(plain).runs, strict=True):  # a scaling, so the shape of a series stays
        ours, theirs = read_run(table, run)[1][::50], read_run(VoxelTable.open(plain), origin)[1][::50]
        assert min(np.corrcoef(row, other)[0, 1] for row, other in zip(ours, theirs, strict=True)) > 0.99999


@pytest.mark.processes
def test_combat_takes_differences_of_the_mean_level_away_where_it_was_kept(tmp_path, jobs):
    folders = [
        scattered.write_dataset(str(tmp_path / f"b{number}"), number, 5, seconds=40, baseline=baseline)
        for number, baseline in enumerate((1000, 1800))
    ]
    output, options = str(tmp_path / "level.voxels"), {"standardize": False, "detrend": False, "harmonise": "combat"}
    merge.run(Settings(tuple(folders), output=output, t_r="keep", **options), None)
    table = VoxelTable.open(output)
    assert table.steps == ("merge of 2 data sets", "regridded (linear)", "combat")
    assert CombatModel.load(f"{output}/harmonisation/level.npz").kept.mean() > 0.9
    levels = [read_run(table, run)[1].mean() for run in table.runs]
    deviations = [read_run(table, run)[1].std(axis=1).mean() for run in table.runs]
    assert np.ptp(levels) < 20 and np.mean(levels) > 1300  # they were 800 apart
    assert np.ptp(deviations) < 0.1 * np.mean(deviations)


@pytest.mark.processes
def test_subjects_that_are_not_trained_on_do_not_touch_the_model(loud, tmp_path, jobs):
    training = [f"ds{site:02d}sub{subject:02d}" for site in (1, 2, 3) for subject in (1, 2, 3, 4)]
    (tmp_path / "training.txt").write_text("participant_id\n" + "".join(f"sub-{label}\n" for label in training))
    quiet = shutil.copytree(loud[1], tmp_path / "l1.voxels")
    table = VoxelTable.open(str(quiet))
    for run in table.runs[4:]:
        for block in range(table.n_blocks):
            voxel, series = table.read_block(run, block)
            write_block(table.path, run, block, voxel, np.ascontiguousarray(series[:, ::-1] ** 3))
    models, settings = [], {"t_r": "keep", "mask_threshold": 1, "harmonise": "combat", "covariates": ("age",)}
    for name, second in (("a", loud[1]), ("b", str(quiet))):
        output = str(tmp_path / f"{name}.voxels")
        words = (str(tmp_path / "training.txt"),) if name == "a" else tuple(training)
        merge.run(Settings((loud[0], second, loud[2]), output=output, training_subjects=words, **settings), None)
        models.append(Path(output, "harmonisation", "amplitude.npz").read_bytes())
        assert json.loads(Path(output, "harmonisation", "harmonisation.json").read_text())["training_subjects"] == training
    assert models[0] == models[1]
    assert CombatModel.load(f"{output}/harmonisation/amplitude.npz").sites.tolist() == ["ds01", "ds02", "ds03"]
    held_out = measure_amplitudes(VoxelTable.open(str(tmp_path / "a.voxels")))
    for site, subject in ((2, 5), (3, 5), (2, 6), (3, 6)):  # a year older in each data set, and no scanner any more
        older = held_out[f"ds{site:02d}sub{subject:02d}"] - held_out[f"ds01sub{subject:02d}"]
        assert abs(older - 0.03 * (site - 1)) < 0.1


@pytest.mark.processes
def test_stopped_anywhere_harmonisation_gives_the_same_bytes(loud, tmp_path, jobs):
    options = {"t_r": "2", "harmonise": "combat", "covariates": ("age",)}
    undisturbed = str(tmp_path / "undisturbed.voxels")
    with pytest.MonkeyPatch.context() as patch:
        written = count_writes(patch, 10**6)
        merge.run(Settings(tuple(loud), output=undisturbed, **options), None)
    expected = hash_files(undisturbed)
    for number, last in enumerate(np.linspace(3, len(written) - 1, 5).astype(int)):
        settings = Settings(tuple(loud), output=str(tmp_path / f"{number}.voxels"), **options)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            count_writes(patch, last)
            merge.run(settings, None)
        merge.run(settings, None)
        assert hash_files(settings.output) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariates": ("iq",)}, "the covariate iq is unknown for ds01sub01, ds01sub02, ds01sub03 and 15 more"),
        ({"training_subjects": ("ds01sub01", "ds01sub02")}, r"combat cannot harmonise ds02 \(l1\): it has no training subject"),
        ({"training_subjects": ("l0:01", "l9:01")}, "training_subjects must be subjects of the cohort; there is no l9:01"),
    ],
)
def test_a_harmonisation_that_cannot_be_is_refused(loud, output, options, message):
    with pytest.raises(SettingsError, match=message):
        merge.needs_spark(Settings(tuple(loud), output=output, t_r="keep", harmonise="combat", **options))


def test_a_fit_that_does_not_fit_into_memory_is_refused(loud, output):
    from sparkneuro.pipelines.merge_harmonise import check_memory
    from sparkneuro.pipelines.merge_plan import make_plan

    design = make_plan(Settings(tuple(loud), output=output, t_r="keep", harmonise="combat")).design
    check_memory(design, 200_000, available=10**9)
    with pytest.raises(SettingsError, match=r"needs 2.2 GB of memory on the driver for 18 training subjects and 2000000 voxels"):
        check_memory(design, 2_000_000, available=10**9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": "parcels"}, "a cohort is made of voxels, and the rows of this table are parcels"),
        ({"sample_mask": [[0, 1], [7, 8]], "n_source_scans": 9}, "4 of 9 scans are left, .*: it cannot be resampled in time"),
    ],
)
def test_tables_that_cannot_be_brought_together_are_refused(tmp_path, change, message):
    run = Run("01", "", "rest", "", 4, 2.0, "x.nii.gz", "", 5, **{name: change[name] for name in change if name != "rows"})
    path = str(tmp_path / "s.voxels")
    VoxelTable(
        path, "MNI", np.eye(4).tolist(), (5, 1, 1), (run,), 4096, 5, (), "z-score", rows=change.get("rows", "voxels")
    ).save()
    with pytest.raises(SettingsError, match=message):
        merge.needs_spark(merge.Settings((path,), output=str(tmp_path / "c.voxels"), t_r="3.0"))
