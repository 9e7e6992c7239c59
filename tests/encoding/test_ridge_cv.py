"""The class of scikit-learn's kind: its checks, its attributes, and its company."""

import pickle
import warnings

import numpy as np
import pytest

from sparkneuro.errors import FormatError, SettingsError

linear_model = pytest.importorskip("sklearn.linear_model", reason="needs the extra encoding")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from sparkneuro.encoding import RidgeCV  # noqa: E402

N_SCANS, N_FEATURES, N_TARGETS = 47, 9, 5
ALPHAS = (0.01, 0.1, 1.0, 10.0, 100.0)
SETTINGS = {
    "alphas": (0.5, 2.0), "criterion": "kfold", "alpha_per_target": True, "search": "exhaustive", "n_folds": 3,
    "scoring": "correlation", "fit_intercept": False,
}  # fmt: skip


def draw(seed=0, dtype="float64"):
    """Features, and targets with an intercept that depend on them the less, the later they come."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N_SCANS, N_FEATURES))
    B = rng.standard_normal((N_FEATURES, N_TARGETS)) * np.geomspace(1, 0.01, N_TARGETS)
    return X.astype(dtype), (7 + X @ B + rng.standard_normal((N_SCANS, N_TARGETS))).astype(dtype)


@parametrize_with_checks([RidgeCV(), RidgeCV(criterion="gcv", alpha_per_target=True), RidgeCV(criterion="kfold", alphas=[1, 5])])
def test_it_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("alpha_per_target", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_it_fits_and_predicts_as_the_class_of_scikit_learn(alpha_per_target, fit_intercept):
    X, Y = draw()
    model = RidgeCV(ALPHAS, alpha_per_target=alpha_per_target, fit_intercept=fit_intercept).fit(X, Y)
    oracle = linear_model.RidgeCV(ALPHAS, alpha_per_target=alpha_per_target, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, oracle.alpha_)
    assert isinstance(model.alpha_, float) or alpha_per_target
    np.testing.assert_allclose(model.coef_, oracle.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.intercept_, np.broadcast_to(oracle.intercept_, N_TARGETS), rtol=1e-9)
    np.testing.assert_allclose(model.predict(X[:3]), oracle.predict(X[:3]), rtol=1e-9)
    assert model.score(X, Y) == pytest.approx(oracle.score(X, Y))
    assert model.n_features_in_ == oracle.n_features_in_


def test_its_default_penalties_are_those_of_scikit_learn():
    assert RidgeCV().alphas == linear_model.RidgeCV().alphas


def test_losses_are_the_errors_of_the_left_out_scans():
    X, Y = draw()
    model = RidgeCV(ALPHAS, alpha_per_target=True, search="exhaustive").fit(X, Y)
    oracle = linear_model.RidgeCV(ALPHAS, store_cv_results=True).fit(X, Y)
    np.testing.assert_allclose(model.losses_, oracle.cv_results_.mean(axis=0).T, rtol=1e-9)


@pytest.mark.parametrize("alpha_per_target", [False, True])
def test_one_target_has_one_dimension_less(alpha_per_target):
    X, Y = draw()
    model = RidgeCV(ALPHAS, alpha_per_target=alpha_per_target).fit(X, Y[:, 0])
    oracle = linear_model.RidgeCV(ALPHAS).fit(X, Y[:, 0])
    assert (type(model.alpha_), model.alpha_) == (float, oracle.alpha_)
    assert type(model.intercept_) is float and model.intercept_ == pytest.approx(oracle.intercept_)
    assert model.losses_.shape == (len(ALPHAS),)
    np.testing.assert_allclose(model.coef_, oracle.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X), oracle.predict(X), rtol=1e-9)


def test_a_column_of_targets_stays_a_column():
    X, Y = draw()
    model = RidgeCV(ALPHAS, alpha_per_target=True).fit(X, Y[:, :1])
    assert (model.coef_.shape, model.intercept_.shape, model.alpha_.shape) == ((1, N_FEATURES), (1,), (1,))
    assert model.predict(X).shape == (N_SCANS, 1)


def test_a_known_penalty_has_no_losses():
    X, Y = draw()
    model = RidgeCV([3.0]).fit(X, Y)
    np.testing.assert_allclose(model.coef_, linear_model.Ridge(3.0).fit(X, Y).coef_, rtol=1e-9)
    assert model.alpha_ == 3.0 and model.losses_ is None


def test_float32_stays_float32():
    X, Y = draw(dtype="float32")
    model = RidgeCV(ALPHAS).fit(X, Y)
    assert (model.coef_.dtype, model.intercept_.dtype, model.predict(X).dtype) == ("float32",) * 3
    assert RidgeCV(ALPHAS).fit(X.astype(float), Y).coef_.dtype == "float64"


def test_every_parameter_reaches_the_fit(monkeypatch):
    X, Y = draw()
    model, came = RidgeCV(**SETTINGS), []
    monkeypatch.setattr("sparkneuro.encoding.ridge_cv.fit_ridge", lambda *given: came.extend(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, run_labels="labels")
    assert came[2:] == [(0.5, 2.0), "kfold", True, "exhaustive", "labels", 3, "correlation", False]


def test_runs_are_left_out_where_there_are_runs():
    X, Y = draw()
    labels = np.repeat(["a", "b", "c"], [20, 11, 16])
    by_default, asked_for = RidgeCV(ALPHAS), RidgeCV(ALPHAS, criterion="leave_one_run_out")
    np.testing.assert_array_equal(by_default.fit(X, Y, labels).losses_, asked_for.fit(X, Y, run_labels=labels).losses_)
    assert np.nanmin(by_default.losses_) != np.nanmin(RidgeCV(ALPHAS).fit(X, Y).losses_)


def test_a_clone_and_a_pickle_have_its_parameters():
    X, Y = draw()
    model = RidgeCV(**SETTINGS)
    assert model.get_params() == clone(model).get_params() == pickle.loads(pickle.dumps(model)).get_params() == SETTINGS
    fitted = pickle.loads(pickle.dumps(model.fit(X, Y)))
    np.testing.assert_array_equal(fitted.predict(X), model.predict(X))


def test_it_works_in_a_pipeline():
    X, Y = draw()
    X = X * np.geomspace(0.01, 100, N_FEATURES)
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)).fit(X, Y)
    oracle = make_pipeline(StandardScaler(), linear_model.RidgeCV(ALPHAS)).fit(X, Y)
    np.testing.assert_allclose(model.predict(X), oracle.predict(X), rtol=1e-9)


def test_it_works_in_a_grid_search_over_runs():
    X, Y = draw()
    Y, labels = Y[:, :2], np.repeat([4, 2, 3, 1], [14, 11, 9, 13])
    search = GridSearchCV(RidgeCV(), {"alphas": [(1e4,), (0.1, 1.0)]}, cv=GroupKFold(4))
    search.fit(X, Y, groups=labels, run_labels=labels)
    assert search.best_params_ == {"alphas": (0.1, 1.0)}
    expected = [
        RidgeCV(search.best_params_["alphas"]).fit(X[labels != run], Y[labels != run], labels[labels != run])
        .score(X[labels == run], Y[labels == run]) for run in (1, 2, 3, 4)
    ]  # fmt: skip
    assert search.best_score_ == pytest.approx(np.mean(expected))


def test_it_works_in_cross_validation():
    X, Y = draw()
    model, oracle = RidgeCV(ALPHAS), linear_model.RidgeCV(ALPHAS)
    np.testing.assert_allclose(cross_val_score(model, X, Y, cv=3), cross_val_score(oracle, X, Y, cv=3), rtol=1e-9)


def test_a_table_gives_its_names():
    pandas = pytest.importorskip("pandas")
    X, Y = draw()
    table = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(N_FEATURES)])
    model = RidgeCV(ALPHAS).fit(table, pandas.DataFrame(Y))
    assert model.feature_names_in_.tolist() == list(table.columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict(table), RidgeCV(ALPHAS).fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table[table.columns[::-1]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_features_and_targets_are_named_and_have_no_coefficient(dtype):
    X, Y = draw(dtype=dtype)
    X[:, 3], Y[:, [1, 4]] = 1000.1, -0.3
    with pytest.warns(UserWarning) as caught:
        model = RidgeCV(ALPHAS).fit(X, Y)
    feature = "a feature that never changes explains nothing and has the coefficient 0: 1 feature (3)."
    target = "a target that never changes cannot be explained and has coefficients of 0: 2 targets (1, 4)."
    assert [str(warning.message) for warning in caught] == [feature, target]
    assert {warning.filename for warning in caught} == {__file__}
    np.testing.assert_allclose(model.coef_[:, 3], 0, atol=1e-12)
    np.testing.assert_allclose(model.coef_[[1, 4]], 0, atol=1e-7)
    np.testing.assert_allclose(model.predict(X)[:, [1, 4]], -0.3, rtol=1e-6)
    others = RidgeCV([model.alpha_]).fit(np.delete(X, 3, axis=1), Y[:, 0])
    np.testing.assert_allclose(np.delete(model.coef_[0], 3), others.coef_, rtol=1e-4, atol=1e-5)


def test_a_constant_target_alone_is_named():
    X, Y = draw()
    with pytest.warns(UserWarning, match=r"coefficients of 0: 1 target \(0\)\.$"):
        RidgeCV().fit(X, np.ones(N_SCANS))


def test_a_constant_feature_is_an_intercept_where_there_is_none():
    X, Y = draw()
    X[:, 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = RidgeCV([1e-6], fit_intercept=False).fit(X, Y)
    oracle = linear_model.LinearRegression().fit(X[:, 1:], Y)
    np.testing.assert_allclose(model.coef_[:, 0], oracle.intercept_, rtol=1e-5)


def test_what_is_not_finite_is_named():
    X, Y = draw()
    wrong = X.copy()
    wrong[3, 2] = np.nan
    with pytest.raises(FormatError, match=r"X must hold no NaN and no infinity; feature 2 of scan 3 is nan \(1 such values\)"):
        RidgeCV().fit(wrong, Y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        RidgeCV().fit(X, Y).predict(wrong)
    Y[4, [0, 1]] = np.inf
    with pytest.raises(FormatError, match=r"Y must hold no NaN and no infinity; target 0 of scan 4 is inf \(2 such values\)"):
        RidgeCV().fit(X, Y)


def test_what_does_not_go_together_is_refused():
    X, Y = draw()
    with pytest.raises(FormatError, match="Y must have the 47 scans of the features; got 46"):
        RidgeCV().fit(X, Y[1:])
    with pytest.raises(FormatError, match=r"Y must have shape \(n_scans, n_targets\); got \(47, 5, 1\)"):
        RidgeCV().fit(X, Y[:, :, None])
    with pytest.raises(SettingsError, match="criterion must be one of loo, gcv, leave_one_run_out, kfold; got 'aic'"):
        RidgeCV(criterion="aic").fit(X, Y)
    with pytest.raises(SettingsError, match="alphas must ascend without repeats; got 1, 0.1"):
        RidgeCV([1, 0.1]).fit(X, Y)


def test_the_package_has_no_other_lazy_name():
    import sparkneuro.encoding

    with pytest.raises(AttributeError, match="module 'sparkneuro.encoding' has no attribute 'RidgeCv'"):
        sparkneuro.encoding.RidgeCv  # noqa: B018
