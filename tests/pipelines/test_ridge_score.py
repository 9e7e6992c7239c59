"""Predictions are scored against the same runs and voxels of the measured table, and nothing is scored twice."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sparkneuro.data.nifti import write_volume
from sparkneuro.data.target_block import read_columns
from sparkneuro.data.voxel_table import write_block
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import comparison, ridge_score
from sparkneuro.pipelines.comparison import match_predictions
from sparkneuro.pipelines.ridge_score import Settings, needs_spark

pytestmark = pytest.mark.processes  # takes seconds

SPEC = importlib.util.spec_from_file_location("encoding_tables", Path(__file__).parents[1] / "encoding" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

HELD_OUT = (1, 3)
MISSING = ((1, 5), (3, 19), (0, 7))  # runs and voxels without a row; run 0 is not held out


@pytest.fixture
def planted(tmp_path):
    return tables.plant(tmp_path, subjects=("01", "02"), missing=MISSING)


@pytest.fixture
def predicted(planted, tmp_path):
    """Noisy predictions of two of the four runs, as a dict of subject to (n_scans of all runs, n_voxels), on disk."""
    rng = np.random.default_rng(3)
    series = {
        subject: (0.5 * Y + 0.3 + rng.standard_normal(Y.shape)).astype(np.float32) for subject, Y in planted.Y.items()
    }
    series["01"][:, 23] = 0.5  # a prediction that is constant
    write_predictions(planted, tmp_path / "p.voxels", series)
    return series


@pytest.fixture
def in_process(monkeypatch):
    """Tasks run in this process; the jobs that they got, by command."""
    called = []

    def call(spark, function, jobs):
        called.extend(jobs)
        return tables.call_each(function, jobs)

    monkeypatch.setattr(comparison, "run_or_raise", call)
    return called


def write_predictions(planted, path, series, places=HELD_OUT, **changes):
    """A table of predictions of some runs; voxel 30 has none."""
    table = planted.table
    runs = [run for run in table.runs if int(run.run) - 1 in places]
    table = replace(table, path=str(path), runs=tuple(replace(run, n_voxels=table.n_voxels - 1) for run in runs), **changes)
    for run in runs:
        rows = series[run.subject][planted.runs[int(run.run) - 1]]
        for block in range(table.n_blocks):
            voxel = np.setdiff1d(table.voxels_of(block), [30]).astype(np.int32)
            write_block(table.path, run, block, voxel, np.ascontiguousarray(rows[:, voxel].T))
    write_volume(f"{table.path}/mask.nii.gz", planted.table.mask().astype(np.uint8), table.affine)
    table.save()


def settings_of(planted, tmp_path, predictions="p.voxels", output="out"):
    return Settings(str(tmp_path / predictions), planted.table.path, str(tmp_path / output))


def expected_scores(planted, predicted, subject):
    """Scores over the held-out runs together, by NumPy."""
    scans = np.r_[tuple(planted.runs[place] for place in HELD_OUT)]
    Y, prediction = planted.Y[subject][scans].astype(float), predicted[subject][scans].astype(float)
    voxel = np.setdiff1d(np.arange(Y.shape[1]), [30, 5, 19])
    with np.errstate(invalid="ignore"):
        r = np.array([np.corrcoef(Y[:, v], prediction[:, v])[0, 1] for v in voxel])
    return voxel, r, 1 - ((Y - prediction) ** 2).sum(axis=0)[voxel] / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)[voxel]


def check_scores(planted, predicted, folder):
    for subject in ("01", "02"):
        voxel, r, r2 = expected_scores(planted, predicted, subject)
        columns = read_columns(str(folder / "scores" / f"subject={subject}.parquet"))
        np.testing.assert_array_equal(columns["voxel"], voxel)
        if subject == "01":
            assert np.isnan(columns["r"][voxel == 23]).all() and np.isfinite(columns["r2"]).all()
            r[voxel == 23] = np.nan
        np.testing.assert_allclose(columns["r"], r, atol=1e-6)
        np.testing.assert_allclose(columns["r2"], r2, atol=1e-5)


def test_scores_are_those_of_all_runs_of_a_subject_together(planted, predicted, tmp_path, in_process):
    settings = settings_of(planted, tmp_path)
    assert needs_spark(settings)
    result = ridge_score.run(settings, None)
    check_scores(planted, predicted, tmp_path / "out")
    assert len(in_process) == 2 * planted.table.n_blocks
    summary = json.loads((tmp_path / "out" / "scores.json").read_text())
    facts = summary["subjects"]["01"]
    assert facts["runs"] == ["sub-01_task-movie_run-2", "sub-01_task-movie_run-4"]
    assert facts["n_scans"] == 37 + 33 and facts["n_targets"] == 57 and facts["r"]["n_nan"] == 1
    assert result["sub-01"].startswith("57 voxels, 70 scans, r 0.")
    volume = np.asanyarray(nibabel.load(tmp_path / "out" / "maps" / "sub-02_r.nii.gz").dataobj)
    voxel, r, _ = expected_scores(planted, predicted, "02")
    np.testing.assert_allclose(volume.reshape(-1)[voxel], r, atol=1e-6)  # all of the volume is in the mask


def test_a_block_that_is_there_is_not_scored_again(planted, predicted, tmp_path, in_process, caplog):
    settings = settings_of(planted, tmp_path)
    ridge_score.run(settings, None)
    assert not needs_spark(settings)
    (tmp_path / "out" / "_work" / "subject=02" / "block=00001.parquet").unlink()
    (tmp_path / "out" / "_work" / "subject=02" / ".unfinished-block=00001.parquet.x").touch()
    in_process.clear()
    assert needs_spark(settings)
    ridge_score.run(settings, None)
    assert [(job["subject"], job["block"]) for job in in_process] == [("02", 1)]
    assert "7 of 8 blocks are there already" in caplog.text
    check_scores(planted, predicted, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".unfinished*"))


def test_a_table_that_was_made_again_is_scored_again(planted, predicted, tmp_path, in_process):
    settings = settings_of(planted, tmp_path)
    ridge_score.run(settings, None)
    changed = {subject: -series for subject, series in predicted.items()}
    write_predictions(planted, tmp_path / "p.voxels", changed)
    assert needs_spark(settings)
    ridge_score.run(settings, None)
    check_scores(planted, changed, tmp_path / "out")


def test_a_folder_of_something_else_is_refused_and_not_harmed(planted, predicted, tmp_path, in_process):
    settings = settings_of(planted, tmp_path)
    ridge_score.run(settings, None)
    write_predictions(planted, tmp_path / "q.voxels", predicted)
    other = settings_of(planted, tmp_path, "q.voxels")
    with pytest.raises(SettingsError, match="holds results with other predictions; delete it or choose another folder"):
        needs_spark(other)
    before = sorted((tmp_path / "q.voxels").rglob("*"))
    with pytest.raises(SettingsError, match="holds something else than a ridge score"):
        ridge_score.run(settings_of(planted, tmp_path, output="q.voxels"), None)
    assert sorted((tmp_path / "q.voxels").rglob("*")) == before


def test_a_damaged_recipe_of_a_scoring_is_one_sentence(planted, predicted, tmp_path, in_process):
    settings = settings_of(planted, tmp_path)
    ridge_score.run(settings, None)
    (tmp_path / "out/_work/recipe.json").write_text("[")
    with pytest.raises(FormatError, match="this file is damaged .*; delete its folder and give the command again"):
        needs_spark(settings)


def test_a_model_is_scored_by_its_predictions_of_held_out_runs(planted, tmp_path, in_process):
    from sparkneuro.encoding.encoder_record import read_scores
    from sparkneuro.encoding.encoder_settings import EncoderSettings
    from sparkneuro.encoding.fit_encoder import fit_encoder

    blocks = {subject: list(range(planted.table.n_blocks)) for subject in ("01", "02")}
    asked = EncoderSettings((planted.features,), str(tmp_path / "m.ridge"), alphas=(1.0, 30.0), test_runs=("task-movie_run-3",))
    fit_encoder(planted.table.path, blocks, asked, tables.call_each)
    ridge_score.run(settings_of(planted, tmp_path, "m.ridge"), None)
    for subject in ("01", "02"):
        own = read_scores(asked.output, subject, blocks[subject])
        columns = read_columns(str(tmp_path / "out" / "scores" / f"subject={subject}.parquet"))
        np.testing.assert_array_equal(columns["voxel"], own["voxel"])
        for name in ("r", "r2"):
            np.testing.assert_allclose(columns[name], own[name], atol=1e-4)
    with pytest.raises(SettingsError, match="m.ridge: this folder holds something else than a ridge score"):
        needs_spark(settings_of(planted, tmp_path, "m.ridge", output="m.ridge"))
    (tmp_path / "m.ridge" / "predictions.voxels" / "voxel_table.json").unlink()
    with pytest.raises(FormatError, match="keeps no predictions of held-out runs; fit it again, with all blocks and --predic"):
        needs_spark(settings_of(planted, tmp_path, "m.ridge"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (4, 3, 5)}, r"the grid is \(4, 3, 5\), that of .* is \(4, 5, 3\); they must be of the same voxels"),
        ({"n_voxels": 59}, "the number of voxels is 59, that of .* is 60"),
        ({"block_size": 16}, "the block size is 16, that of .* is 17"),
        ({"affine": np.diag([2.0, 2.0, 2.0, 1.0]).tolist()}, "the affine is off by up to 0.5 from that of"),
    ],
)
def test_tables_of_other_voxels_are_refused(planted, predicted, tmp_path, changes, message):
    write_predictions(planted, tmp_path / "q.voxels", predicted)
    replace(match_predictions(str(tmp_path / "q.voxels"), planted.table.path).predictions, **changes).save()
    with pytest.raises(FormatError, match=message):
        needs_spark(settings_of(planted, tmp_path, "q.voxels"))


def test_another_mask_of_equal_size_is_refused(planted, predicted, tmp_path):
    mask = np.ones((4, 5, 3), np.uint8)
    mask[0, 0, 0] = 0
    write_volume(str(tmp_path / "p.voxels" / "mask.nii.gz"), mask, planted.table.affine)
    with pytest.raises(FormatError, match="the mask differs from that of"):
        needs_spark(settings_of(planted, tmp_path))


def test_runs_that_do_not_match_are_refused(planted, predicted, tmp_path):
    whole = planted.table
    replace(whole, runs=tuple(run for run in whole.runs if run.key != "sub-02_task-movie_run-4")).save()
    with pytest.raises(FormatError, match="there is no run sub-02_task-movie_run-4"):
        needs_spark(settings_of(planted, tmp_path))
    replace(whole, runs=tuple(replace(run, n_scans=run.n_scans + (run.run == "2")) for run in whole.runs)).save()
    with pytest.raises(FormatError, match="run sub-01_task-movie_run-2 has 37 scans, that of .* has 38"):
        needs_spark(settings_of(planted, tmp_path))


def test_what_is_no_table_is_refused(planted, tmp_path):
    with pytest.raises(FormatError, match="there is no such voxel table"):
        needs_spark(settings_of(planted, tmp_path))


def test_series_of_other_units_are_scored_with_a_warning(planted, predicted, tmp_path, in_process, caplog):
    write_predictions(planted, tmp_path / "q.voxels", predicted, units="source unit")
    ridge_score.run(settings_of(planted, tmp_path, "q.voxels"), None)
    assert "predictions are in source unit and the table in z-score: r compares them, R^2 cannot" in caplog.text


@pytest.mark.engine
def test_blocks_are_scored_on_spark(spark, planted, predicted, tmp_path):
    ridge_score.run(settings_of(planted, tmp_path), spark)
    check_scores(planted, predicted, tmp_path / "out")
