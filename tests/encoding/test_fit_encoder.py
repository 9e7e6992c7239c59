"""The fit over a voxel table, tasks called in this process: the same numbers as `fit_ridge` on arrays, whatever the blocks."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tables import call_each, plant  # noqa: E402

from sparkneuro.data import store  # noqa: E402
from sparkneuro.data.feature_table import write_features  # noqa: E402
from sparkneuro.data.target_block import read_columns, read_targets  # noqa: E402
from sparkneuro.data.voxel_table import VoxelTable, write_block  # noqa: E402
from sparkneuro.encoding import block_tasks, ridge  # noqa: E402
from sparkneuro.encoding import fit_encoder as fitting
from sparkneuro.encoding.banded import sample_gammas  # noqa: E402
from sparkneuro.encoding.block_tasks import coefficient_path, fit_block  # noqa: E402
from sparkneuro.encoding.delays import delay_features  # noqa: E402
from sparkneuro.encoding.encoder_record import read_record, read_scores  # noqa: E402
from sparkneuro.encoding.encoder_settings import EncoderSettings  # noqa: E402
from sparkneuro.encoding.fit_encoder import fit_encoder  # noqa: E402
from sparkneuro.encoding.folds import random_split  # noqa: E402
from sparkneuro.encoding.predict import plan_prediction, predict_run  # noqa: E402
from sparkneuro.encoding.ridge import fit_ridge  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402

ALPHAS = tuple(np.logspace(-1, 4, 9))
SUBJECTS = ("01", "02")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"), SUBJECTS, missing=[(1, 3)])


def fit(planted, output, n_slots=2, subjects=SUBJECTS, blocks=None, **options):
    settings = EncoderSettings((planted.features,), str(output), alphas=ALPHAS, n_folds=3)
    settings = replace(settings, **options)
    blocks = blocks or {subject: list(range(planted.table.n_blocks)) for subject in subjects}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*leak", category=UserWarning)
        return fit_encoder(planted.table.path, blocks, settings, call_each, n_slots, progress=False)


def gather(record, subject, name):
    """A column of the coefficient files of a subject, targets last."""
    facts = record["subjects"][subject]
    paths = [coefficient_path(record["settings"]["output"], subject, block) for block in facts["blocks"]]
    return np.concatenate([read_columns(path)[name] for path in paths]).T


def split_rows(planted, record, subject):
    """Training scans, their run labels, and test scans, as the record says."""
    labels = np.concatenate([np.full(run.stop - run.start, place) for place, run in enumerate(planted.runs)])
    if record["settings"]["split"] == "random":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test = random_split(len(labels), 0.1, 0)
    else:
        held_out = [int(key[-1]) - 1 for key in record["subjects"][subject]["test_runs"]]
        test = np.isin(labels, held_out)
    return np.flatnonzero(~test), labels[~test], np.flatnonzero(test)


@pytest.mark.parametrize("criterion", ["loo", "gcv", "leave_one_run_out", "kfold"])
@pytest.mark.parametrize("per_target", [False, True])
@pytest.mark.parametrize(("delays", "split"), [((0,), "runs"), ((1, 2), "runs"), ((0, 1), "random"), (tuple(range(20)), "runs")])
def test_a_fit_over_blocks_is_the_fit_of_one_matrix(planted, tmp_path, criterion, per_target, delays, split):
    options = {"criterion": criterion, "alpha_per_target": per_target, "delays": delays, "split": split, "standardize": False}
    record = fit(planted, tmp_path / "m.ridge", **options)
    for subject in SUBJECTS:
        scores = read_scores(record["settings"]["output"], subject, record["subjects"][subject]["blocks"])
        train, labels, test = split_rows(planted, record, subject)
        X = delay_features(planted.X, delays, np.repeat(np.arange(4), [run.stop - run.start for run in planted.runs]))
        Y = planted.Y[subject][:, scores["voxel"]]
        expected = fit_ridge(X[train], Y[train], ALPHAS, criterion, per_target, run_labels=labels, n_folds=3)
        np.testing.assert_allclose(scores["alpha"], expected.alphas)
        np.testing.assert_allclose(gather(record, subject, "coefficients"), expected.coef, atol=2e-5)
        np.testing.assert_allclose(gather(record, subject, "intercept"), expected.intercept, atol=1e-5)
        predicted = X[test] @ expected.coef + expected.intercept
        r = [np.corrcoef(predicted[:, j], Y[test, j])[0, 1] for j in range(Y.shape[1])]
        np.testing.assert_allclose(scores["r"], r, atol=2e-4)


@pytest.mark.parametrize("per_target", [False, True])
@pytest.mark.parametrize("n_slots", [1, 3, 9])
def test_the_result_does_not_depend_on_the_number_of_workers(planted, tmp_path, per_target, n_slots):
    records = [
        fit(planted, tmp_path / f"{n}.ridge", n, alpha_per_target=per_target, criterion="loo") for n in (2, n_slots)
    ]
    alphas = [read_scores(record["settings"]["output"], "01", range(4))["alpha"] for record in records]
    np.testing.assert_array_equal(*alphas)


def test_the_result_does_not_depend_on_the_size_of_blocks(tmp_path):
    alphas = []
    for size in (5, 60):
        planted = plant(tmp_path / str(size), block_size=size)
        record = fit(planted, tmp_path / f"{size}.ridge", subjects=("01",))
        alphas.append(read_scores(record["settings"]["output"], "01", range(planted.table.n_blocks))["alpha"])
    np.testing.assert_array_equal(*alphas)


@pytest.mark.parametrize("criterion", ["loo", "leave_one_run_out"])
def test_both_ways_of_summing_targets_choose_the_same_alpha(planted, tmp_path, monkeypatch, criterion):
    first = fit(planted, tmp_path / "a.ridge", criterion=criterion, delays=tuple(range(8)), search="exhaustive")
    monkeypatch.setattr(ridge, "LARGEST_GRAM", 0)
    second = fit(planted, tmp_path / "b.ridge", criterion=criterion, delays=tuple(range(8)), search="exhaustive")
    for subject in SUBJECTS:
        facts = [record["subjects"][subject] for record in (first, second)]
        assert facts[0]["alpha"] == facts[1]["alpha"]
        np.testing.assert_allclose(facts[0]["losses"], facts[1]["losses"], rtol=1e-5)


def test_subjects_with_one_stimulus_share_one_decomposition(planted, tmp_path):
    record = fit(planted, tmp_path / "m.ridge")
    designs = {facts["design"] for facts in record["subjects"].values()}
    assert len(designs) == 1
    assert {name.partition("/")[0] for name in store.list_files(str(tmp_path / "m.ridge/designs"), recursive=True)} == designs


def test_a_subject_with_a_stimulus_of_its_own_has_a_design_of_its_own(planted, tmp_path):
    features = tmp_path / "own.features"
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        write_features(str(features), replace(run, subject=""), planted.X[rows])
        write_features(str(features), replace(run, subject="02"), planted.X[rows][:, ::-1])
    record = fit(planted, tmp_path / "m.ridge", features=(str(features),), standardize=False)
    shared = fit(planted, tmp_path / "n.ridge", standardize=False)
    assert record["subjects"]["01"]["design"] != record["subjects"]["02"]["design"]
    reversed_coef = gather(record, "02", "coefficients")[::-1]
    np.testing.assert_allclose(reversed_coef, gather(shared, "02", "coefficients"), atol=1e-5)


def test_standardized_features_have_coefficients_per_standard_deviation(planted, tmp_path):
    record = fit(planted, tmp_path / "m.ridge", alphas=(10.0,))
    train, _, _ = split_rows(planted, record, "01")
    X = (planted.X - planted.X[train].mean(axis=0)) / planted.X[train].std(axis=0)
    voxel = read_scores(record["settings"]["output"], "01", range(4))["voxel"]
    expected = fit_ridge(X[train], planted.Y["01"][train][:, voxel], [10.0])
    np.testing.assert_allclose(gather(record, "01", "coefficients"), expected.coef, atol=1e-5)


def test_a_feature_that_never_changes_has_coefficient_zero_and_is_named(planted, tmp_path, caplog):
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        X = planted.X[rows].copy()
        X[:, 3] = 0.7
        write_features(str(tmp_path / "dead.features"), replace(run, subject=""), X)
    record = fit(planted, tmp_path / "m.ridge", features=(str(tmp_path / "dead.features"),), subjects=("01",))
    assert "1 feature (3) never change" in caplog.text
    coef = gather(record, "01", "coefficients")
    assert np.abs(coef[3]).max() < 1e-6 < np.abs(coef[2]).max()


def test_banded_ridge_finds_the_feature_table_that_matters(planted, tmp_path):
    rng = np.random.default_rng(1)
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        noise = rng.standard_normal((rows.stop - rows.start, 11)).astype(np.float32)
        write_features(str(tmp_path / "noise.features"), replace(run, subject=""), noise)
    features = (planted.features, str(tmp_path / "noise.features"))
    for per_target in (True, False):
        record = fit(planted, tmp_path / f"{per_target}.ridge", features=features, n_gammas=6, alpha_per_target=per_target)
        scores = read_scores(record["settings"]["output"], "01", range(4))
        weights = sample_gammas(6, 2, seed=0)[scores["weighting"]]
        assert np.median(weights[:, 0]) > 0.6
        assert record["subjects"]["01"]["r"]["mean"] > 0.55


def test_predictions_are_a_voxel_table_of_the_held_out_runs(planted, tmp_path):
    record = fit(planted, tmp_path / "m.ridge")
    table = VoxelTable.open(str(tmp_path / "m.ridge/predictions.voxels"))
    assert [run.key for run in table.runs] == [key for s in SUBJECTS for key in record["subjects"][s]["test_runs"]]
    run, scores = table.runs[0], read_scores(str(tmp_path / "m.ridge"), "01", range(4))
    voxel, series = table.read_block(run, 0)
    _, measured = planted.table.read_block(planted.table.find_run(run.key), 0)
    measured = measured[np.isin(planted.table.read_block(planted.table.find_run(run.key), 0)[0], voxel)]
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(series, measured, strict=True)]
    np.testing.assert_allclose(r, scores["r"][: len(voxel)], atol=1e-5)


def test_an_interrupted_fit_goes_on_with_the_blocks_that_are_missing(planted, tmp_path, monkeypatch):
    done = []

    def stops_after_two(job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job["block"])
        return fit_block(job)

    monkeypatch.setattr(fitting, "fit_block", stops_after_two)
    with pytest.raises(KeyboardInterrupt):
        fit(planted, tmp_path / "m.ridge", subjects=("01",))
    with pytest.raises(FormatError, match="its fit has not finished; run it again"):
        read_record(str(tmp_path / "m.ridge"))
    again = []
    monkeypatch.setattr(fitting, "fit_block", lambda job: again.append(job["block"]) or fit_block(job))
    resumed = fit(planted, tmp_path / "m.ridge", subjects=("01",))
    assert sorted(done + again) == [0, 1, 2, 3]
    monkeypatch.undo()
    whole = fit(planted, tmp_path / "n.ridge", subjects=("01",))
    assert {**resumed["subjects"]["01"], "design": ""} == {**whole["subjects"]["01"], "design": ""}


def test_a_fit_that_is_done_does_nothing_again(planted, tmp_path, monkeypatch):
    first = fit(planted, tmp_path / "m.ridge")
    monkeypatch.setattr(fitting, "fit_block", lambda job: pytest.fail("a block was fitted again"))
    monkeypatch.setattr(block_tasks, "read_targets", lambda *args: pytest.fail("targets were read again"))
    assert fit(planted, tmp_path / "m.ridge") == first


def test_a_folder_that_holds_another_fit_is_refused_with_the_difference(planted, tmp_path):
    fit(planted, tmp_path / "m.ridge", criterion="loo")
    with pytest.raises(SettingsError, match="holds a fit with other delays, criterion; delete it or choose another folder"):
        fit(planted, tmp_path / "m.ridge", criterion="gcv", delays=(1,))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.doc").write_text("years of work")
    with pytest.raises(SettingsError, match="holds something else than an encoding model"):
        fit(planted, tmp_path / "other")
    assert (tmp_path / "other/thesis.doc").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"features": ()}, "features must name at least one feature table"),
        ({"alphas": (1.0, 0.1)}, "alphas must ascend"),
        ({"alphas": (0.0, 0.1)}, "alphas must be above 0"),
        ({"delays": (1, 1)}, "delays must be whole numbers of scans, each once"),
        ({"delays": (33,)}, "a delay of 33 and a run of 33 scans"),
        ({"n_gammas": 3}, "n_gammas must be 1 with a single feature table"),
        ({"scoring": "correlation"}, "scoring must be l2 unless criterion is kfold"),
        ({"test_runs": ("task-movie_run-9",)}, "test_runs must be runs of subject 01 .*; got task-movie_run-9"),
        ({"test_runs": tuple(f"task-movie_run-{n}" for n in range(1, 5))}, "must leave a run to train on"),
        ({"test_runs": tuple(f"task-movie_run-{n}" for n in range(1, 4))}, "must have at least two runs; got one run"),
        ({"test_runs": ("task-movie_run-1",), "split": "none"}, "test_runs must be left out unless split is runs"),
        ({"test_fraction": 0.0}, "test_fraction must be a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_and_nothing_is_written(planted, tmp_path, options, sentence):
    with pytest.raises(SettingsError, match=sentence):
        fit(planted, tmp_path / "m.ridge", **options)
    assert not (tmp_path / "m.ridge").exists()


def test_a_table_or_features_that_have_changed_since_are_refused(planted, tmp_path):
    other = plant(tmp_path, SUBJECTS, seed=5)
    fit(other, tmp_path / "m.ridge")
    run = other.table.find_run("sub-01_task-movie_run-1")
    write_features(other.features, replace(run, subject=""), other.X[other.runs[0]] + 1)
    with pytest.raises(SettingsError, match="holds a fit with other values of the features; delete it"):
        fit(other, tmp_path / "m.ridge")


def test_features_of_other_lengths_are_refused_with_run_and_numbers(planted, tmp_path):
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        stop = rows.stop - 2 * (place == 2)
        write_features(str(tmp_path / "short.features"), replace(run, subject=""), planted.X[rows.start : stop])
    with pytest.raises(FormatError, match="run-3.*45.*43|run-3.*43.*45"):
        fit(planted, tmp_path / "m.ridge", features=(str(tmp_path / "short.features"),))
    assert not (tmp_path / "m.ridge").exists()


def test_features_of_other_runs_are_refused(planted, tmp_path):
    run = planted.table.find_run("sub-01_task-movie_run-1")
    write_features(str(tmp_path / "few.features"), replace(run, subject=""), planted.X[planted.runs[0]])
    with pytest.raises(FormatError, match="run-2"):
        fit(planted, tmp_path / "m.ridge", features=(str(tmp_path / "few.features"),))


def test_a_target_that_is_not_finite_is_named(tmp_path):
    planted = plant(tmp_path)
    run = planted.table.find_run("sub-01_task-movie_run-2")
    voxel, series = planted.table.read_block(run, 1)
    series = series.copy()
    series[4, 11] = np.nan
    write_block(planted.table.path, run, 1, voxel, series)
    with pytest.raises(FormatError, match=f"voxel {voxel[4]}, scan 11 of run sub-01_task-movie_run-2 is not finite"):
        fit(planted, tmp_path / "m.ridge", subjects=("01",))


@pytest.mark.parametrize("per_target", [False, True])
def test_a_block_without_targets_is_fitted_to_nothing(tmp_path, per_target):
    planted = plant(tmp_path, missing=[(2, voxel) for voxel in range(17, 34)])
    record = fit(planted, tmp_path / "m.ridge", subjects=("01",), alpha_per_target=per_target)
    assert record["subjects"]["01"]["n_targets"] == 43
    _, series = predict_run(str(tmp_path / "m.ridge"), "01", 1, plan_prediction(str(tmp_path / "m.ridge"))["01"][0])
    assert series.shape == (0, 41)


def test_one_run_needs_another_split_and_criterion(tmp_path):
    planted = plant(tmp_path, scans=(70,))
    with pytest.raises(SettingsError, match="needs at least 2 runs; got 1"):
        fit(planted, tmp_path / "m.ridge", subjects=("01",))
    with pytest.raises(SettingsError, match="leave_one_run_out must have at least two runs"):
        fit(planted, tmp_path / "n.ridge", subjects=("01",), split="none")
    record = fit(planted, tmp_path / "o.ridge", subjects=("01",), split="none", criterion="loo")
    assert record["subjects"]["01"]["n_targets"] == 60 and "r" not in record["subjects"]["01"]


def test_a_model_without_coefficients_keeps_scores_and_predictions(planted, tmp_path):
    with_them = fit(planted, tmp_path / "m.ridge")
    without = fit(planted, tmp_path / "n.ridge", coefficients=False)
    assert not (tmp_path / "n.ridge/coefficients").exists()
    for subject in SUBJECTS:
        a, b = (read_scores(record["settings"]["output"], subject, range(4)) for record in (with_them, without))
        np.testing.assert_allclose(a["r"], b["r"], atol=1e-5)


def test_a_second_fit_in_the_same_folder_is_refused_while_the_first_is_at_work(planted, tmp_path, monkeypatch):
    def starts_another(job):
        with pytest.raises(SettingsError, match="another fit is at work in this folder"):
            fit(planted, tmp_path / "m.ridge", subjects=("01",))
        return fit_block(job)

    monkeypatch.setattr(fitting, "fit_block", starts_another)
    assert fit(planted, tmp_path / "m.ridge", subjects=("01",))["subjects"]["01"]["r"]["mean"] > 0.5


def test_a_run_that_is_named_twice_is_held_out_once(planted, tmp_path):
    record = fit(planted, tmp_path / "m.ridge", test_runs=("task-movie_run-4", "task-movie_run-4"))
    assert record["subjects"]["01"]["test_runs"] == ["sub-01_task-movie_run-4"]


def write_shifted(planted, folder, shift, dtype):
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        write_features(str(folder), replace(run, subject=""), (planted.X[rows].astype(np.float64) + shift).astype(dtype))
    return str(folder)


def test_features_far_from_zero_lose_no_digits(planted, tmp_path):
    far = write_shifted(planted, tmp_path / "far.features", 1e8, np.float64)
    near = fit(planted, tmp_path / "m.ridge", subjects=("01",))["subjects"]["01"]["r"]["mean"]
    assert fit(planted, tmp_path / "n.ridge", subjects=("01",), features=(far,))["subjects"]["01"]["r"]["mean"] == pytest.approx(
        near, abs=1e-4
    )  # fmt: skip


def test_what_was_refused_is_taken_when_it_is_mended(planted, tmp_path):
    broken = write_shifted(planted, tmp_path / "x.features", 0, np.float32)
    np.save(f"{broken}/task-movie_run-2.npy", np.full((37, 7), np.nan, np.float32))
    with pytest.raises(FormatError, match="NaN"):
        fit(planted, tmp_path / "m.ridge", features=(broken,))
    write_shifted(planted, tmp_path / "x.features", 0, np.float32)
    assert fit(planted, tmp_path / "m.ridge", features=(broken,))["subjects"]["01"]["n_targets"] == 59


@pytest.mark.parametrize("content", ["[", "[]", "null"])
def test_a_damaged_recipe_is_one_sentence(planted, tmp_path, content):
    fit(planted, tmp_path / "m.ridge", subjects=("01",))
    (tmp_path / "m.ridge/_work/recipe.json").write_text(content)
    with pytest.raises(FormatError, match="this file is damaged .*; delete its folder and give the command again"):
        fit(planted, tmp_path / "m.ridge", subjects=("01",))


@pytest.mark.parametrize("content", ["[]", "null", '{"format": "x"}', '{"format": 1}', '{"format": 99, "subjects": {}}'])
def test_a_damaged_record_is_one_sentence(planted, tmp_path, content):
    fit(planted, tmp_path / "m.ridge", subjects=("01",))
    (tmp_path / "m.ridge/encoder.json").write_text(content)
    with pytest.raises(FormatError, match="is damaged|this model has format 99"):
        read_record(str(tmp_path / "m.ridge"))


def test_a_block_whose_coefficients_were_lost_is_fitted_again(planted, tmp_path):
    fit(planted, tmp_path / "m.ridge", subjects=("01",))
    path = Path(coefficient_path(str(tmp_path / "m.ridge"), "01", 2))
    path.unlink()
    fit(planted, tmp_path / "m.ridge", subjects=("01",))
    assert path.exists()


def test_targets_too_large_for_float32_are_refused(tmp_path):
    planted = plant(tmp_path)
    for place in range(4):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        voxel, series = planted.table.read_block(run, 0)
        write_block(planted.table.path, run, 0, voxel, series * np.float32(1e30))
    with pytest.raises(SettingsError, match="drown in rounding|finite"), np.errstate(all="ignore"):
        fit(planted, tmp_path / "m.ridge", subjects=("01",))
    with pytest.raises(FormatError, match="no penalty has a finite loss for 17 targets of block 0"), np.errstate(all="ignore"):
        fit(planted, tmp_path / "n.ridge", subjects=("01",), alpha_per_target=True, criterion="loo")


def test_folds_that_cut_runs_apart_are_said_to(planted, tmp_path, caplog):
    fit(planted, tmp_path / "m.ridge", subjects=("01",), criterion="kfold", n_folds=5)
    assert "5 folds of 3 training runs cut runs apart" in caplog.text
    with pytest.raises(SettingsError, match="n_folds must be at most the number of training scans"):
        fit(planted, tmp_path / "n.ridge", subjects=("01",), criterion="kfold", n_folds=5000)


def test_feature_tables_in_another_order_are_refused_for_prediction(planted, tmp_path):
    for place, rows in enumerate(planted.runs):
        run = planted.table.find_run(f"sub-01_task-movie_run-{place + 1}")
        write_features(str(tmp_path / "few.features"), replace(run, subject=""), planted.X[rows, :3])
    tables = (planted.features, str(tmp_path / "few.features"))
    fit(planted, tmp_path / "m.ridge", subjects=("01",), features=tables)
    assert len(plan_prediction(str(tmp_path / "m.ridge"), tables)["01"]) == 4
    with pytest.raises(FormatError, match=r"\[7, 3\] columns, table by table as in the fit; got \[3, 7\]"):
        plan_prediction(str(tmp_path / "m.ridge"), tables[::-1])


def test_features_that_were_written_again_are_read_again(planted, tmp_path):
    features = write_shifted(planted, tmp_path / "x.features", 0, np.float32)
    fit(planted, tmp_path / "m.ridge", subjects=("01",), features=(features,), standardize=False)
    (run, *_) = plan_prediction(str(tmp_path / "m.ridge"))["01"]
    _, before = predict_run(str(tmp_path / "m.ridge"), "01", 0, run)
    write_shifted(planted, tmp_path / "x.features", 1, np.float32)
    _, after = predict_run(str(tmp_path / "m.ridge"), "01", 0, run)
    assert np.abs(after - before).max() > 0.01


@pytest.mark.parametrize(("alphas", "words"), [((1e4, 1e5), "smallest penalty, 10000"), ((1e-3, 1e-2), "largest penalty, 0.01")])
def test_a_best_penalty_at_the_edge_of_those_given_is_said(planted, tmp_path, caplog, alphas, words):
    fit(planted, tmp_path / "m.ridge", alphas=alphas, subjects=("01",))
    assert f"sub-01: the {words}, is the best of those given" in caplog.text


def test_the_record_is_plain_json(planted, tmp_path):
    fit(planted, tmp_path / "m.ridge")
    content = json.loads((tmp_path / "m.ridge/encoder.json").read_text())
    assert content["format"] == 1 and content["subjects"]["01"]["n_targets"] == 59


def test_whoever_watches_sees_each_block_when_it_is_summed_up(planted, tmp_path, monkeypatch):
    seen = []

    def read_and_look(table, runs, block, order):
        seen.append(len(list((tmp_path / "m.ridge/_work").rglob("block=*"))))
        return read_targets(table, runs, block, order)

    monkeypatch.setattr(block_tasks, "read_targets", read_and_look)
    fit(planted, tmp_path / "m.ridge", n_slots=1, subjects=("01",))
    assert seen[:4] == [0, 1, 2, 3]
