"""Ridge regressions of many targets, against scikit-learn and himalaya, whatever the sizes, types and blocks."""

import tracemalloc

import numpy as np
import pytest

from sparkneuro.encoding import ridge as module
from sparkneuro.encoding.decomposition import decompose
from sparkneuro.encoding.residuals import column_blocks
from sparkneuro.encoding.ridge import coefficient_operator, coefficients, fit_ridge, prefers_gram
from sparkneuro.errors import FormatError, SettingsError

N_TARGETS = 8
ALPHAS = np.array([1.0, 10.0, 100.0, 1000.0, 10_000.0])
SHAPES = {"fewer features than scans": (61, 13), "more features than scans": (29, 70)}
CRITERIA = ["loo", "gcv", "leave_one_run_out", "kfold"]
TOLERANCE = {"float64": 1e-8, "float32": 1e-4}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def draw(shape, dtype="float64", seed=0, mean=3.0):
    """Features, and targets that they explain the less, the later they come; neither is centred."""
    rng = np.random.default_rng(seed)
    X = 0.5 + rng.standard_normal(shape)
    B = rng.standard_normal((shape[1], N_TARGETS)) * np.geomspace(2, 0.02, N_TARGETS)
    return X.astype(dtype), (mean + X @ B + 3 * rng.standard_normal((shape[0], N_TARGETS))).astype(dtype)


def label_runs(n_scans):
    """Four runs of unequal length."""
    lengths = [n_scans // 3, n_scans // 4, n_scans // 5]
    return np.repeat(["c", "a", "d", "b"], [*lengths, n_scans - sum(lengths)])


def assert_close(actual, desired, tolerance):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * np.abs(desired).max())


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_leaving_one_scan_out_is_that_of_scikit_learn(shape, dtype, alpha_per_target, fit_intercept, search):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = draw(shape, dtype)
    fit = fit_ridge(X, Y, ALPHAS, "loo", alpha_per_target, search, fit_intercept=fit_intercept)
    oracle = linear_model.RidgeCV(ALPHAS, alpha_per_target=alpha_per_target, fit_intercept=fit_intercept)
    oracle.fit(X.astype(float), Y.astype(float))
    np.testing.assert_array_equal(fit.alphas, np.broadcast_to(oracle.alpha_, N_TARGETS))
    assert fit.coef.dtype == fit.intercept.dtype == dtype
    assert_close(fit.coef.T, oracle.coef_, TOLERANCE[dtype])
    assert_close(fit.intercept, np.broadcast_to(oracle.intercept_, N_TARGETS), TOLERANCE[dtype])
    if alpha_per_target:
        assert len(set(fit.alphas)) > 2


@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_a_tiny_penalty_is_not_chosen_for_a_rounding_error(alpha_per_target):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = draw((29, 170), "float32", seed=2)
    alphas = np.logspace(-6, 4, 11)
    fit = fit_ridge(X, Y, alphas, "loo", alpha_per_target, "exhaustive")
    oracle = linear_model.RidgeCV(alphas, store_cv_results=True).fit(X.astype(float), Y.astype(float))
    losses = oracle.cv_results_.mean(axis=0)
    if not alpha_per_target:
        losses = np.tile(losses.mean(axis=0), (N_TARGETS, 1))
    reached = losses[np.arange(N_TARGETS), np.searchsorted(alphas, fit.alphas)]
    np.testing.assert_allclose(reached, losses.min(axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    "alpha_per_target",
    [False, True],
)
def test_runs_that_the_others_hardly_describe_choose_no_penalty_for_a_rounding_error(alpha_per_target):
    X, Y = draw((90, 84), "float32")
    X, labels, alphas = 10 * X, np.repeat(range(5), 18), np.logspace(-4, 5, 10)  # 72 scans describe 84 features
    fit = fit_ridge(X, Y, alphas, None, alpha_per_target, "exhaustive", labels)
    exact = fit_ridge(X.astype(float), Y.astype(float), alphas, None, alpha_per_target, "exhaustive", labels)
    losses = exact.losses if alpha_per_target else np.tile(exact.losses[:, None], N_TARGETS)
    reached = losses[np.searchsorted(alphas, fit.alphas), np.arange(N_TARGETS)]
    np.testing.assert_allclose(reached, losses.min(axis=0), rtol=1e-2)


@pytest.mark.parametrize("scoring", ["l2", "correlation"])
@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_folds_are_those_of_himalaya(shape, alpha_per_target, scoring):
    ridge, scores = pytest.importorskip("himalaya.ridge"), pytest.importorskip("himalaya.scoring")
    score = {"l2": scores.l2_neg_loss, "correlation": scores.correlation_score}[scoring]
    X, Y = draw(shape)
    fit = fit_ridge(X, Y, ALPHAS, "kfold", alpha_per_target, "exhaustive", scoring=scoring)
    parameters = {"score_func": score, "local_alpha": alpha_per_target, "warn": False}
    oracle = ridge.RidgeCV(ALPHAS, fit_intercept=True, cv=5, solver_params=parameters).fit(X, Y)
    np.testing.assert_allclose(fit.alphas, oracle.best_alphas_, rtol=1e-6)
    assert_close(fit.coef, oracle.coef_, 1e-6)
    assert_close(fit.intercept, oracle.intercept_, 1e-6)
    losses = -fit.losses.min(axis=0)
    np.testing.assert_allclose(losses, oracle.cv_scores_ if alpha_per_target else oracle.cv_scores_.mean(), rtol=1e-6)


@pytest.mark.parametrize("scoring", ["l2", "correlation"])
@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_folds_are_those_of_kernel_ridge_regression(shape, alpha_per_target, scoring):
    ridge, scores = pytest.importorskip("himalaya.kernel_ridge"), pytest.importorskip("himalaya.scoring")
    score = {"l2": scores.l2_neg_loss, "correlation": scores.correlation_score}[scoring]
    X, Y = draw(shape)
    fit = fit_ridge(X, Y, ALPHAS, "kfold", alpha_per_target, n_folds=4, scoring=scoring, fit_intercept=False)
    parameters = {"score_func": score, "local_alpha": alpha_per_target}
    oracle = ridge.KernelRidgeCV(ALPHAS, cv=4, solver_params=parameters, warn=False).fit(X, Y)
    np.testing.assert_allclose(fit.alphas, oracle.best_alphas_, rtol=1e-6)
    assert_close(X @ fit.coef, oracle.predict(X), 1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_leaving_one_run_out_is_that_of_refitting(dtype):
    linear_model, selection = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.model_selection")
    X, Y = draw((60, 13), dtype)
    labels = np.repeat([3, 1, 4, 2], 15)
    parts, oracle = selection.LeaveOneGroupOut(), linear_model.Ridge()
    search = selection.GridSearchCV(oracle, {"alpha": ALPHAS}, cv=parts, scoring="neg_mean_squared_error")
    search.fit(X.astype(float), Y.astype(float), groups=labels)
    fit = fit_ridge(X, Y, ALPHAS, run_labels=labels, search="exhaustive")
    np.testing.assert_allclose(fit.losses, -search.cv_results_["mean_test_score"], rtol=TOLERANCE[dtype])
    assert set(fit.alphas) == {search.best_params_["alpha"]}
    assert_close(fit.coef.T, search.best_estimator_.coef_, TOLERANCE[dtype])
    for target in (0, 5):
        search.fit(X.astype(float), Y[:, target].astype(float), groups=labels)
        each = fit_ridge(X, Y, ALPHAS, "leave_one_run_out", True, run_labels=labels)
        assert each.alphas[target] == search.best_params_["alpha"]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_known_penalty_is_taken_as_it_is(shape, dtype, alpha_per_target, fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = draw(shape, dtype)
    fit = fit_ridge(X, Y, 2.5, alpha_per_target=alpha_per_target, fit_intercept=fit_intercept)
    oracle = linear_model.Ridge(2.5, fit_intercept=fit_intercept).fit(X.astype(float), Y.astype(float))
    assert_close(fit.coef.T, oracle.coef_, TOLERANCE[dtype])
    assert_close(fit.intercept, np.broadcast_to(oracle.intercept_, N_TARGETS), TOLERANCE[dtype])
    assert fit.losses is None
    np.testing.assert_array_equal(fit.alphas, np.full(N_TARGETS, 2.5))


@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_huge_mean_does_no_harm(shape, criterion, alpha_per_target):
    X, Y = draw(shape, "float32", mean=1e4)
    given = (ALPHAS, criterion, alpha_per_target, "exhaustive", label_runs(len(X)))
    fit, exact = fit_ridge(X, Y, *given), fit_ridge(X.astype(float), Y.astype(float) - 1e4, *given)
    np.testing.assert_array_equal(fit.alphas, exact.alphas)
    assert_close(fit.coef, exact.coef, 1e-3)
    np.testing.assert_allclose(fit.intercept, exact.intercept + 1e4, rtol=1e-6)


@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize(("criterion", "scoring"), [*((criterion, "l2") for criterion in CRITERIA), ("kfold", "correlation")])
def test_blocks_make_no_difference(shape, criterion, alpha_per_target, scoring, monkeypatch):
    X, Y = draw(shape)
    given = (ALPHAS, criterion, alpha_per_target, "exhaustive", label_runs(len(X)), 3, scoring)
    whole = fit_ridge(X, Y, *given)
    monkeypatch.setattr(module, "TARGETS_AT_ONCE", 3)  # 3, 3 and 2 targets
    monkeypatch.setattr(module, "GRAM_BYTES", 1)
    monkeypatch.setattr(column_blocks, "__defaults__", (1,))
    blocks = fit_ridge(X, Y, *given)
    np.testing.assert_array_equal(blocks.alphas, whole.alphas)
    np.testing.assert_allclose(blocks.losses, whole.losses, rtol=1e-9)
    assert_close(blocks.coef, whole.coef, 1e-10)
    assert_close(blocks.intercept, whole.intercept, 1e-10)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_blocks_hold_at_most_some_targets(criterion, monkeypatch):
    X, Y = draw((61, 13))
    widths, centred = [], module._centred_blocks

    def count(*given):
        for columns, part in centred(*given):
            widths.append(part.shape[1])
            yield columns, part

    monkeypatch.setattr(module, "_centred_blocks", count)
    monkeypatch.setattr(module, "TARGETS_AT_ONCE", 5)
    fit_ridge(X, Y, ALPHAS, criterion, True, run_labels=label_runs(61))
    assert widths == [5, 3]


@pytest.mark.parametrize("criterion", ["loo", "leave_one_run_out"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_products_of_scans_and_the_projected_targets_choose_alike(shape, criterion, dtype, monkeypatch):
    X, Y = draw(shape, dtype)
    fits = []
    for gram in (True, False):
        monkeypatch.setattr(module, "prefers_gram", lambda n_scans, rank, gram=gram: gram)
        fits.append(fit_ridge(X, Y, ALPHAS, criterion, False, "exhaustive", label_runs(len(X))))
    np.testing.assert_array_equal(fits[0].alphas, fits[1].alphas)
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=30 * TOLERANCE[dtype])
    np.testing.assert_array_equal(fits[0].coef, fits[1].coef)


def test_the_products_of_scans_are_preferred_where_they_cost_less_and_can_be_kept():
    for n_scans, rank in ((10_000, 9_999), (4000, 1000), (4000, 900), (16_385, 16_384), (69_202, 16_384)):
        cheaper = n_scans**2 <= 4 * n_scans * rank + rank**2
        assert prefers_gram(n_scans, rank) == (cheaper and n_scans <= 16_384)
    assert prefers_gram(4000, 1000) and not prefers_gram(4000, 900)


@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_beside_the_results_memory_does_not_grow_with_the_targets(criterion, alpha_per_target, monkeypatch):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((90, 5), "float32"), rng.standard_normal((90, 40_000), "float32")
    monkeypatch.setattr(module, "TARGETS_AT_ONCE", 512)
    monkeypatch.setattr(module, "GRAM_BYTES", 512 * 90 * 4)
    monkeypatch.setattr("sparkneuro.encoding.inputs.BYTES_AT_ONCE", 1 << 19)
    given = (ALPHAS[:2], criterion, alpha_per_target, "climb", label_runs(90))
    fit_ridge(X, Y[:, :600], *given)  # what is imported is no matter here
    tracemalloc.start()
    fit = fit_ridge(X, Y, *given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    results = sum(array.nbytes for array in (fit.coef, fit.intercept, fit.alphas, fit.losses))
    assert results < peak < results + Y.nbytes / 4


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_climb_chooses_what_trying_all_chooses(criterion):
    X, Y = draw((61, 13))
    alphas = np.geomspace(1e-2, 1e5, 29)
    given = {"run_labels": label_runs(61), "alpha_per_target": True}
    climbed, tried = (fit_ridge(X, Y, alphas, criterion, search=search, **given) for search in ("climb", "exhaustive"))
    np.testing.assert_array_equal(climbed.alphas, tried.alphas)
    np.testing.assert_array_equal(tried.alphas, alphas[tried.losses.argmin(axis=0)])
    known = np.isfinite(climbed.losses)
    np.testing.assert_allclose(climbed.losses[known], tried.losses[known], rtol=1e-9)
    assert known.all() == (criterion == "gcv")  # which has them all at once


def test_folds_take_whole_runs_together():
    X, Y = draw((61, 13))
    labels = np.repeat([2, 0, 1], [20, 11, 30])
    by_fold = fit_ridge(X, Y, ALPHAS, "kfold", run_labels=labels, n_folds=3, search="exhaustive")
    expected = []
    for run in range(3):
        fits = [fit_ridge(X[labels != run], Y[labels != run], [alpha]) for alpha in ALPHAS]
        expected.append([np.square(Y - X @ fit.coef - fit.intercept)[labels == run].mean() for fit in fits])
    np.testing.assert_allclose(by_fold.losses, np.mean(expected, axis=0), rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 40.0])
def test_an_operator_turns_targets_into_coefficients_and_predictions(shape, alpha):
    X, Y = draw(shape)
    X_test = draw((5, shape[1]), seed=7)[0]
    fit, decomposition = fit_ridge(X, Y, [alpha]), decompose(X)
    centred = Y - Y.mean(axis=0)
    assert_close(coefficient_operator(decomposition, alpha) @ centred, fit.coef, 1e-10)
    rows = (X_test - decomposition.X_mean) @ decomposition.V
    operator = coefficient_operator(decomposition, alpha, V=rows)
    assert operator.shape == (5, shape[0])
    assert_close(operator @ centred + Y.mean(axis=0), X_test @ fit.coef + fit.intercept, 1e-10)


def test_coefficients_of_each_penalty_are_written_where_they_are_wanted(shape):
    X, Y = draw(shape)
    decomposition, alphas = decompose(X), np.repeat(ALPHAS[[3, 0, 4]], [2, 5, 1])
    out = np.empty((shape[1], N_TARGETS))
    assert coefficients(decomposition, alphas, decomposition.project(Y - Y.mean(axis=0)), out=out) is out
    expected = [fit_ridge(X, Y[:, [j]], [alphas[j]]).coef[:, 0] for j in range(N_TARGETS)]
    assert_close(out, np.transpose(expected), 1e-10)


@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_constant_and_repeated_features_change_no_prediction(shape, alpha_per_target):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, Y = draw(shape)
    X[:, 2], X[:, 5] = X[:, 1], -7.3
    fit = fit_ridge(X, Y, ALPHAS, "loo", alpha_per_target, "exhaustive")
    oracle = linear_model.RidgeCV(ALPHAS, alpha_per_target=alpha_per_target).fit(X, Y)
    np.testing.assert_array_equal(fit.alphas, np.broadcast_to(oracle.alpha_, N_TARGETS))
    assert_close(X @ fit.coef + fit.intercept, oracle.predict(X), 1e-8)
    np.testing.assert_allclose(fit.coef[5], 0, atol=1e-12)
    np.testing.assert_allclose(fit.coef[1], fit.coef[2], atol=1e-8)


@pytest.mark.parametrize("scoring", ["l2", "correlation"])
@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_a_constant_target_is_its_mean_and_disturbs_no_other(alpha_per_target, scoring):
    X, Y = draw((61, 13))
    given = (ALPHAS, "kfold", alpha_per_target, "exhaustive", None, 5, scoring)
    others = fit_ridge(X, np.delete(Y, 3, axis=1), *given)
    Y[:, 3] = -0.7
    fit = fit_ridge(X, Y, *given)
    np.testing.assert_allclose(fit.coef[:, 3], 0, atol=1e-12)
    np.testing.assert_allclose(fit.intercept[3], -0.7)
    assert_close(np.delete(fit.coef, 3, axis=1), others.coef, 1e-9)


def test_neither_features_nor_targets_are_modified():
    X, Y = draw((61, 13))
    X.flags.writeable = Y.flags.writeable = False
    for criterion in CRITERIA:
        fit_ridge(X, Y, ALPHAS, criterion, run_labels=label_runs(61))


@pytest.mark.parametrize(("X_dtype", "Y_dtype"), [("float32", "float64"), ("float64", "float32"), ("int16", "float32")])
def test_the_wider_type_is_computed_with(X_dtype, Y_dtype):
    X, Y = draw((61, 13))
    X, Y = (3 * X).astype(X_dtype), Y.astype(Y_dtype)
    fit, exact = fit_ridge(X, Y, ALPHAS), fit_ridge(X.astype(float), Y.astype(float), ALPHAS)
    assert fit.coef.dtype == "float64"
    assert_close(fit.coef, exact.coef, 1e-10)


def replace(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, Y: (replace(X, (4, 2), np.nan), Y), "X must hold no NaN and no infinity; feature 2 of scan 4 is nan"),
        (lambda X, Y: (X, replace(Y, (9, 6), -np.inf)), "Y must hold no NaN and no infinity; target 6 of scan 9 is -inf"),
        (lambda X, Y: (X, Y[1:]), "Y must have the 61 scans of the features; got 60"),
        (lambda X, Y: (X[None], Y), r"X must have shape \(n_scans, n_features\); got \(1, 61, 13\)"),
        (lambda X, Y: (X, Y[:, 0]), r"Y must have shape \(n_scans, n_targets\); got \(61,\)"),
        (lambda X, Y: (X + 1j, Y), "X must be real; got complex numbers"),
        (lambda X, Y: (X, Y * 1j), "Y must be real; got complex numbers"),
        (lambda X, Y: (np.ones_like(X), Y), "at least one feature must vary from scan to scan; all are constant"),
        (lambda X, Y: (X[:1], Y[:1]), "X must have at least two scans; got n_samples = 1"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(change, message):
    with pytest.raises(FormatError, match=message):
        fit_ridge(*change(*draw((61, 13))), ALPHAS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": [0.0, 1.0]}, "alphas must be above 0 and finite; got 0"),
        ({"alphas": [2.0, 1.0]}, "alphas must ascend without repeats; got 2, 1"),
        ({"alphas": [1.0, 1.0]}, "alphas must ascend without repeats; got 1, 1"),
        ({"alphas": []}, r"alphas must be one or more numbers in a row; got shape \(0,\)"),
        ({"criterion": "aic"}, "criterion must be one of loo, gcv, leave_one_run_out, kfold; got 'aic'"),
        ({"search": "random"}, "search must be one of climb, exhaustive; got 'random'"),
        ({"scoring": "r2", "criterion": "kfold"}, "scoring must be one of l2, correlation; got 'r2'"),
        ({"scoring": "correlation"}, "scoring must be l2 unless criterion is kfold; got 'correlation' with 'loo'"),
        ({"criterion": "leave_one_run_out"}, "leave_one_run_out must have at least two runs; got no run labels"),
        ({"run_labels": ["a"] * 61}, "leave_one_run_out must have at least two runs; got one run. Take criterion loo or kfold"),
        ({"criterion": "kfold", "n_folds": 1}, "n_folds must be a whole number of at least 2 and of at most 61; got 1"),
        ({"criterion": "kfold", "n_folds": 62}, "n_folds must be a whole number of at least 2 and of at most 61; got 62"),
        ({"run_labels": ["a"] * 60}, r"one label for each of 61 scans, at least one; got shape \(60,\)"),
        ({"run_labels": [0, 1] * 30 + [0]}, "the scans of a run must follow each other; run 0 comes back at scan 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises((SettingsError, FormatError), match=message):
        fit_ridge(*draw((61, 13)), **{"alphas": ALPHAS, **settings})


@pytest.mark.parametrize("criterion", ["gcv", "kfold"])
def test_many_targets_have_one_penalty_by_criteria_that_look_at_each(criterion):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 12))
    Y = X @ rng.standard_normal((12, 900)) + 3 * rng.standard_normal((30, 900))
    alphas = [0.1, 1.0, 10.0, 100.0]
    one = fit_ridge(X, Y, alphas, criterion, search="exhaustive")
    each = fit_ridge(X, Y, alphas, criterion, alpha_per_target=True, search="exhaustive")
    np.testing.assert_allclose(one.losses, each.losses.mean(axis=1), rtol=1e-8)
