"""Banded ridge regression, against himalaya and against ridge regressions with a penalty for each feature written out."""

from itertools import product

import numpy as np
import pytest

from sparkneuro.encoding.banded import BandedFit, fit_banded_ridge, predict_banded, sample_gammas
from sparkneuro.encoding.choice import make_folds
from sparkneuro.encoding.folds import check_runs
from sparkneuro.encoding.ridge import fit_ridge
from sparkneuro.encoding.scores import r2, score_sums, split_r2
from sparkneuro.errors import FormatError, SettingsError

N_SCANS, N_TARGETS = 59, 7
NARROW, WIDE = (5, 11, 3), (40, 23, 31)
ALPHAS = np.logspace(-2, 4, 9)
RUNS = np.repeat([3, 1, 4, 2], [17, 12, 20, 10])


def draw(sizes=NARROW, seed=0, mean=2.0, n_scans=N_SCANS):
    """Feature spaces of different scales, and targets that follow the first, the second, ... or none of them."""
    rng = np.random.default_rng(seed)
    spaces = [mean + (i + 1) * rng.standard_normal((n_scans, size)) for i, size in enumerate(sizes)]
    coef = [rng.standard_normal((size, N_TARGETS)) * (np.arange(N_TARGETS) % 4 == i) for i, size in enumerate(sizes)]
    return spaces, -mean + sum(X @ b for X, b in zip(spaces, coef, strict=True)) + 2 * rng.standard_normal((n_scans, N_TARGETS))


def solve_with_penalties(spaces, Y, penalties, fit_intercept=True):
    """Solve ``(X'X + D) b = X'y``, and give the intercept."""
    X = np.concatenate(spaces, axis=1)
    X_mean, Y_mean = X.mean(axis=0) * fit_intercept, Y.mean(axis=0) * fit_intercept
    D = np.diag(np.repeat(penalties, [space.shape[1] for space in spaces]))
    coef = np.linalg.solve((X - X_mean).T @ (X - X_mean) + D, (X - X_mean).T @ (Y - Y_mean))
    return coef, Y_mean - X_mean @ coef


def losses_by_refitting(spaces, Y, penalties, folds, score):
    """Mean over folds, one fit a fold."""
    losses = []
    for test in folds:
        train = np.delete(np.arange(len(Y)), test)
        coef, intercept = solve_with_penalties([X[train] for X in spaces], Y[train], penalties)
        losses.append(score(Y[test], np.concatenate([X[test] for X in spaces], axis=1) @ coef + intercept))
    return np.mean(losses, axis=0)


def fit_by_himalaya(spaces, Y, gammas, cv=5, **options):
    """Weights and scores of himalaya, in the order of a `BandedFit`."""
    ridge = pytest.importorskip("himalaya.ridge")
    spaces, gammas = [X.copy() for X in spaces], gammas.copy()
    deltas, coef, scores, *intercept = ridge.solve_group_ridge_random_search(
        spaces, Y.copy(), n_iter=gammas, alphas=ALPHAS, cv=cv, return_weights=True, progress_bar=False, warn=False, **options
    )
    return deltas.T, coef, scores, intercept[0] if intercept else np.zeros(Y.shape[1])


def check_against_himalaya(fit, expected):
    deltas, coef, scores, intercept = expected
    np.testing.assert_allclose(fit.deltas, deltas, rtol=1e-10)
    np.testing.assert_allclose(np.concatenate(fit.coef), coef, atol=1e-8)
    np.testing.assert_allclose(fit.intercept, intercept, atol=1e-8)
    np.testing.assert_allclose(-fit.losses, scores, rtol=1e-8, atol=1e-8)


OPTIONS = list(product([NARROW, WIDE], [True, False], ["l2", "correlation"], [True, False]))


@pytest.mark.parametrize(("sizes", "alpha_per_target", "scoring", "fit_intercept"), OPTIONS)
def test_choices_and_coefficients_are_those_of_himalaya(sizes, alpha_per_target, scoring, fit_intercept):
    functions = pytest.importorskip("himalaya.scoring")
    score = {"l2": functions.l2_neg_loss, "correlation": functions.correlation_score}[scoring]
    spaces, Y = draw(sizes)
    gammas = sample_gammas(6, len(sizes), seed=1)
    fit = fit_banded_ridge(
        spaces, Y, ALPHAS, gammas, "kfold", alpha_per_target, "exhaustive", scoring=scoring, fit_intercept=fit_intercept
    )
    assert len(np.unique(fit.gammas, axis=0)) > 2
    expected = fit_by_himalaya(
        spaces, Y, gammas, local_alpha=alpha_per_target, score_func=score, fit_intercept=fit_intercept
    )
    check_against_himalaya(fit, expected)


def test_folds_of_whole_runs_are_those_of_himalaya():
    selection = pytest.importorskip("sklearn.model_selection")
    spaces, Y = draw()
    gammas, runs = sample_gammas(4, 3, seed=2), check_runs(RUNS, N_SCANS)
    fit = fit_banded_ridge(spaces, Y, ALPHAS, gammas, "kfold", search="exhaustive", run_labels=RUNS, n_folds=3)
    fold_of_scan = np.empty(N_SCANS, int)
    for place, test in enumerate(make_folds(N_SCANS, 3, runs)):
        fold_of_scan[test] = place
    check_against_himalaya(fit, fit_by_himalaya(spaces, Y, gammas, selection.PredefinedSplit(fold_of_scan), fit_intercept=True))


def test_the_estimator_of_himalaya_predicts_the_same():
    ridge = pytest.importorskip("himalaya.ridge")
    spaces, Y = draw()
    gammas, others = sample_gammas(5, 3, seed=3), draw(seed=9, n_scans=13)[0]
    fit = fit_banded_ridge(spaces, Y, ALPHAS, gammas, "kfold", search="exhaustive", n_folds=4)
    solver = {"n_iter": gammas.copy(), "alphas": ALPHAS, "progress_bar": False}
    theirs = ridge.GroupRidgeCV(groups="input", cv=4, solver_params=solver, fit_intercept=True).fit([X.copy() for X in spaces], Y)
    np.testing.assert_allclose(predict_banded(fit, others)[1], theirs.predict(others), atol=1e-8)


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("criterion", ["loo", "leave_one_run_out"])
@pytest.mark.parametrize("alpha_per_target", [True, False])
def test_losses_are_those_of_refitting_without_the_scans(sizes, criterion, alpha_per_target):
    spaces, Y = draw(sizes)
    gammas, alphas = sample_gammas(3, len(sizes), seed=4), [1.0, 30.0, 1000.0]
    folds = [[i] for i in range(N_SCANS)] if criterion == "loo" else [np.flatnonzero(RUNS == run) for run in set(RUNS)]
    fit = fit_banded_ridge(spaces, Y, alphas, gammas, criterion, alpha_per_target, "exhaustive", RUNS)
    for gamma, losses in zip(gammas, fit.losses, strict=True):
        # The mean over scans, however many a fold has.
        tried = [
            len(folds) / N_SCANS * losses_by_refitting(spaces, Y, alpha / gamma, folds, lambda y, p: ((y - p) ** 2).sum(axis=0))
            for alpha in alphas
        ]
        expected = np.min(tried, axis=0) if alpha_per_target else tried[np.mean(tried, axis=1).argmin()]
        np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("criterion", ["loo", "gcv", "kfold"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_coefficients_solve_the_problem_with_the_chosen_penalties(sizes, criterion, fit_intercept):
    spaces, Y = draw(sizes)
    fit = fit_banded_ridge(spaces, Y, ALPHAS, 5, criterion, fit_intercept=fit_intercept, seed=5)
    assert [coef.shape for coef in fit.coef] == [(size, N_TARGETS) for size in sizes]
    for target, (alpha, gamma) in enumerate(zip(fit.alphas, fit.gammas, strict=True)):
        coef, intercept = solve_with_penalties(spaces, Y[:, target], alpha / gamma, fit_intercept)
        np.testing.assert_allclose(np.concatenate(fit.coef)[:, target], coef, atol=1e-8)
        np.testing.assert_allclose(fit.intercept[target], intercept, atol=1e-8)


@pytest.mark.parametrize("criterion", ["loo", "gcv", "kfold", "leave_one_run_out"])
@pytest.mark.parametrize("sizes", [NARROW[:1], WIDE])
def test_one_space_is_an_ordinary_ridge_regression(criterion, sizes):
    spaces, Y = draw(sizes)
    X = np.concatenate(spaces, axis=1)
    fit = fit_banded_ridge([X], Y, ALPHAS, 2, criterion, run_labels=RUNS, n_folds=4)
    ridge = fit_ridge(X, Y, ALPHAS, criterion, True, run_labels=RUNS, n_folds=4)
    np.testing.assert_array_equal(fit.alphas, ridge.alphas)
    np.testing.assert_allclose(fit.coef[0], ridge.coef, atol=1e-10)
    np.testing.assert_allclose(fit.intercept, ridge.intercept, atol=1e-9)
    np.testing.assert_allclose(fit.loss, np.nanmin(ridge.losses, axis=0), rtol=1e-9)


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
@pytest.mark.parametrize("criterion", ["loo", "kfold"])
def test_a_space_without_weight_is_as_if_it_were_not_there(sizes, criterion):
    spaces, Y = draw(sizes)
    fit = fit_banded_ridge(spaces, Y, ALPHAS, [[0.3, 0, 0.7]], criterion)
    without = fit_banded_ridge(spaces[::2], Y, ALPHAS, [[0.3, 0.7]], criterion)
    assert not fit.coef[1].any()
    assert np.isneginf(fit.deltas[:, 1]).all() and np.isfinite(fit.deltas[:, ::2]).all()
    np.testing.assert_allclose(fit.coef[0], without.coef[0], atol=1e-9)
    np.testing.assert_allclose(fit.coef[2], without.coef[1], atol=1e-9)
    np.testing.assert_allclose(fit.losses, without.losses, rtol=1e-9)


def test_each_target_finds_the_space_it_follows():
    spaces, Y = draw(WIDE, n_scans=200)
    fit = fit_banded_ridge(spaces, Y, ALPHAS, np.eye(3), "kfold")
    np.testing.assert_array_equal(fit.gammas[[0, 1, 2, 4, 5, 6]].argmax(axis=1), [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("alpha_per_target", [True, False])
def test_blocks_of_targets_do_not_change_the_result(alpha_per_target, monkeypatch):
    spaces, Y = draw()
    whole = fit_banded_ridge(spaces, Y, ALPHAS, 4, "kfold", alpha_per_target)
    monkeypatch.setattr("sparkneuro.encoding.banded.TARGETS_AT_ONCE", 3)
    blocks = fit_banded_ridge(spaces, Y, ALPHAS, 4, "kfold", alpha_per_target)
    np.testing.assert_array_equal(blocks.alphas, whole.alphas)
    np.testing.assert_array_equal(blocks.gammas, whole.gammas)
    np.testing.assert_allclose(np.concatenate(blocks.coef), np.concatenate(whole.coef), atol=1e-12)


@pytest.mark.parametrize("sizes", [NARROW, WIDE])
def test_float32_gives_what_float64_gives(sizes):
    spaces, Y = draw(sizes)
    exact = fit_banded_ridge(spaces, Y, [10.0, 100.0], 3, "kfold")
    fit = fit_banded_ridge([X.astype("float32") for X in spaces], Y.astype("float32"), [10.0, 100.0], 3, "kfold")
    assert {fit.intercept.dtype, *(coef.dtype for coef in fit.coef)} == {np.dtype("float32")}
    np.testing.assert_allclose(np.concatenate(fit.coef), np.concatenate(exact.coef), atol=1e-4)


def test_features_and_targets_are_not_modified():
    spaces, Y = draw()
    copies, Y_copy = [X.copy() for X in spaces], Y.copy()
    fit_banded_ridge(spaces, Y, ALPHAS, 2)
    assert all(np.array_equal(X, copy) for X, copy in zip(spaces, copies, strict=True)) and np.array_equal(Y, Y_copy)


def test_known_penalties_are_taken_as_they_are():
    spaces, Y = draw()
    fit = fit_banded_ridge(spaces, Y, 10.0, [[1, 2, 3]])
    np.testing.assert_allclose(np.concatenate(fit.coef), solve_with_penalties(spaces, Y, [10, 5, 10 / 3])[0], atol=1e-9)
    assert np.isnan(fit.loss).all() and np.isnan(fit.losses).all()


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
def test_a_target_that_is_constant_in_a_fold_is_chosen_by_the_other_folds(search):
    spaces, Y = draw()
    Y[:20, 2] = 0  # constant in the first fold: no correlation
    fit = fit_banded_ridge(spaces, Y, ALPHAS, 3, "kfold", search=search, scoring="correlation", fit_intercept=False)
    assert np.isfinite(fit.losses[:, 2]).all() and fit.loss[2] == fit.losses[:, 2].min()
    coef, _ = solve_with_penalties(spaces, Y[:, 2], fit.alphas[2] / fit.gammas[2], fit_intercept=False)
    np.testing.assert_allclose(np.concatenate(fit.coef)[:, 2], coef, atol=1e-8)


def test_contributions_add_up_to_the_prediction_and_so_does_their_r2():
    spaces, Y = draw()
    others, others_Y = draw(seed=6, n_scans=31)
    fit = fit_banded_ridge(spaces, Y, ALPHAS, 4)
    contributions, prediction = predict_banded(fit, others)
    assert contributions.shape == (3, 31, N_TARGETS)
    stacked = np.concatenate(others, axis=1) @ np.concatenate(fit.coef) + fit.intercept
    np.testing.assert_allclose(prediction, stacked, atol=1e-10)
    split = split_r2(others_Y - fit.intercept, contributions)
    np.testing.assert_allclose(split.sum(axis=0), r2(score_sums(others_Y, prediction)), rtol=1e-10)


def test_gammas_lie_on_the_simplex_and_depend_on_the_seed_alone():
    gammas = sample_gammas(9, 4, seed=7)
    assert gammas.shape == (9, 4) and (gammas >= 0).all()
    np.testing.assert_allclose(gammas.sum(axis=1), 1)
    np.testing.assert_array_equal(gammas[0], np.full(4, 0.25))
    np.testing.assert_array_equal(gammas[:5], sample_gammas(5, 4, seed=7))
    assert not np.array_equal(gammas, sample_gammas(9, 4, seed=8))


def test_concentrations_take_turns():
    gammas = sample_gammas(9, 4, concentration=(1e-3, 1e6))
    assert (gammas[2::2].max(axis=1) > 0.99).all()
    np.testing.assert_allclose(gammas[1::2], 0.25, atol=0.01)


def test_the_seed_of_a_fit_is_that_of_its_gammas():
    spaces, Y = draw()
    fits = [fit_banded_ridge(spaces, Y, ALPHAS, gammas, seed=8) for gammas in (4, sample_gammas(4, 3, seed=8))]
    np.testing.assert_array_equal(fits[0].losses, fits[1].losses)


WRONG_GAMMAS = {
    r"shape \(n_iter, 3\); got shape \(1, 2\)": [[0.5, 0.5]],
    r"shape \(n_iter, 3\); got shape \(3,\)": [0.2, 0.3, 0.5],
    r"shape \(n_iter, 3\); got shape \(0, 3\)": np.empty((0, 3)),
    "finite and not negative; got -0.1": [[0.6, 0.5, -0.1]],
    "finite and not negative; got nan": [[0.6, 0.4, np.nan]],
    "row 1 is zero everywhere": [[0, 0, 1], [0, 0, 0]],
    "n_iter must be a whole number of at least 1; got 0": 0,
}


@pytest.mark.parametrize(("match", "gammas"), WRONG_GAMMAS.items())
def test_gammas_that_do_not_go_with_the_spaces_are_refused(match, gammas):
    spaces, Y = draw()
    with pytest.raises(SettingsError, match=match):
        fit_banded_ridge(spaces, Y, ALPHAS, gammas)


WRONG_OPTIONS = {
    "criterion must be one of": {"criterion": "aic"},
    "at least two runs; got no run labels": {"criterion": "leave_one_run_out"},
    "search must be one of": {"search": "random"},
    "scoring must be one of": {"criterion": "kfold", "scoring": "r2"},
    "scoring must be l2 with criterion 'loo'": {"scoring": "correlation"},
    "concentration must hold numbers above 0": None,
}


@pytest.mark.parametrize(("match", "options"), WRONG_OPTIONS.items())
def test_options_that_make_no_sense_are_refused(match, options):
    spaces, Y = draw()
    with pytest.raises(SettingsError, match=match):
        sample_gammas(4, 3, concentration=[1, 0]) if options is None else fit_banded_ridge(spaces, Y, ALPHAS, 2, **options)


def test_spaces_that_do_not_go_together_are_refused():
    spaces, Y = draw()
    with pytest.raises(FormatError, match="at least one feature space; got none"):
        fit_banded_ridge([], Y, ALPHAS)
    with pytest.raises(FormatError, match="the same scans; got 59, 58, 59 scans"):
        fit_banded_ridge([spaces[0], spaces[1][1:], spaces[2]], Y, ALPHAS)
    with pytest.raises(FormatError, match=r"spaces\[1\] must hold no NaN"):
        fit_banded_ridge([spaces[0], spaces[1] * np.nan], Y, ALPHAS)
    with pytest.raises(FormatError, match="Y must have the 59 scans"):
        fit_banded_ridge(spaces, Y[1:], ALPHAS)


def test_spaces_of_another_fit_are_refused():
    coef, one = (np.zeros((5, 2)), np.zeros((11, 2))), np.ones(2)
    fit = BandedFit(coef, intercept=one, alphas=one, gammas=np.eye(2), loss=one, losses=np.ones((3, 2)))
    with pytest.raises(FormatError, match=r"must have \[5, 11\] features, as in the fit; got \[11, 5\]"):
        predict_banded(fit, draw((11, 5))[0])
