"""Every criterion keeps one contract: what it computes from one fit is what refitting without each part would give."""

from functools import partial

import numpy as np
import pytest

from sparkneuro.encoding.choice import choose_criterion, choose_each, choose_one, make_criterion, make_folds
from sparkneuro.encoding.decomposition import decompose
from sparkneuro.encoding.kfold import KFold
from sparkneuro.encoding.leave_one_out import LeaveOneOut
from sparkneuro.encoding.leave_run_out import LeaveRunOut
from sparkneuro.encoding.residuals import take_targets
from sparkneuro.errors import SettingsError

N_TARGETS, N_FOLDS = 7, 3
ALPHAS = np.array([0.1, 2.0, 30.0, 400.0])
RUN_LENGTHS = {47: (13, 1, 20, 8, 5), 31: (9, 1, 12, 3, 6)}
SHAPES = {"fewer features than scans": (47, 9), "more features than scans": (31, 58)}


def runs_of(n_scans):
    """Runs of unequal length, one of them a single scan."""
    edges = np.r_[0, np.cumsum(RUN_LENGTHS[n_scans])].tolist()
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def draw(shape, seed=0):
    """Features, and targets that they explain the less, the later they come; neither is centred."""
    rng = np.random.default_rng(seed)
    X = 1 + rng.standard_normal(shape)
    B = rng.standard_normal((shape[1], N_TARGETS)) * np.geomspace(1, 0.05, N_TARGETS)
    return X, 2 + X @ B + rng.standard_normal((shape[0], N_TARGETS))


def fit_plainly(X, Y, alpha, fit_intercept):
    """Ridge regression as the least squares of an augmented matrix."""
    X_mean, Y_mean = X.mean(axis=0) * fit_intercept, Y.mean(axis=0) * fit_intercept
    rows = np.vstack([X - X_mean, np.sqrt(alpha) * np.eye(X.shape[1])])
    coef = np.linalg.lstsq(rows, np.vstack([Y - Y_mean, np.zeros((X.shape[1], Y.shape[1]))]))[0]
    return coef, Y_mean - X_mean @ coef


def predict_held_out(X, Y, alpha, fit_intercept, parts):
    """Every scan predicted from the scans of the other parts."""
    prediction, everything = np.empty_like(Y), np.arange(len(X))
    for part in parts:
        others = np.setdiff1d(everything, everything[part])
        coef, intercept = fit_plainly(X[others], Y[others], alpha, fit_intercept)
        prediction[part] = X[part] @ coef + intercept
    return prediction


def refit_without_each(X, Y, alpha, fit_intercept, parts):
    return np.square(Y - predict_held_out(X, Y, alpha, fit_intercept, parts)).mean(axis=0)


def refit_without_each_scan(X, Y, alpha, fit_intercept):
    return refit_without_each(X, Y, alpha, fit_intercept, [[scan] for scan in range(len(X))])


def refit_without_each_run(X, Y, alpha, fit_intercept):
    return refit_without_each(X, Y, alpha, fit_intercept, runs_of(len(X)))


def refit_without_each_fold(X, Y, alpha, fit_intercept):
    folds = make_folds(len(X), N_FOLDS, runs_of(len(X)))
    error = np.square(Y - predict_held_out(X, Y, alpha, fit_intercept, folds))
    return np.mean([error[fold].mean(axis=0) for fold in folds], axis=0)


def correlate_each_fold(X, Y, alpha, fit_intercept):
    folds = make_folds(len(X), N_FOLDS, runs_of(len(X)))
    prediction = predict_held_out(X, Y, alpha, fit_intercept, folds)
    return [-np.mean([np.corrcoef(Y[fold, j], prediction[fold, j])[0, 1] for fold in folds]) for j in range(N_TARGETS)]


def gcv_of_the_hat_matrix(X, Y, alpha, fit_intercept):
    identity = np.eye(len(X))
    coef, intercept = fit_plainly(X, identity, alpha, fit_intercept)
    hat = X @ coef + intercept
    return np.square(Y - hat @ Y).mean(axis=0) / (1 - np.trace(hat) / len(X)) ** 2


# Name -> what makes it, and what it must equal.
CRITERIA = {
    "loo": (partial(make_criterion, "loo"), refit_without_each_scan),
    "gcv": (partial(make_criterion, "gcv"), gcv_of_the_hat_matrix),
    "leave_one_run_out": (partial(make_criterion, "leave_one_run_out"), refit_without_each_run),
    "kfold of l2": (partial(make_criterion, "kfold", n_folds=N_FOLDS), refit_without_each_fold),
    "kfold of correlation": (partial(make_criterion, "kfold", n_folds=N_FOLDS, scoring="correlation"), correlate_each_fold),
}


class Case:
    """A criterion, its centred targets, and the losses of brute force."""

    def __init__(self, name, shape, fit_intercept, dtype="float64", alphas=ALPHAS):
        make, brute_force = CRITERIA[name]
        self.X, self.targets = draw(shape)
        self.alphas = alphas
        X = self.X.astype(dtype)
        self.rule = make(decompose(X, fit_intercept), X, alphas, runs_of(shape[0]))
        self.Y = (self.targets - self.targets.mean(axis=0) * fit_intercept).astype(dtype)
        self.expect = lambda: np.array([brute_force(self.X, self.targets, alpha, fit_intercept) for alpha in alphas])

    def evaluate(self, Y=None):
        Y = self.Y if Y is None else Y
        projections = self.rule.project(Y)
        return np.array([self.rule.evaluate(index, projections, Y) for index in range(len(self.alphas))])

    def sum_up(self, Y=None):
        Y, sums = self.Y if Y is None else Y, self.rule.start_sums()
        self.rule.add(sums, self.rule.project(Y), Y)
        return sums

    def losses(self, sums):
        return np.array([self.rule.loss(sums, index) for index in range(len(self.alphas))])


@pytest.fixture(params=CRITERIA)
def name(request):
    return request.param


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(params=[True, False], ids=["intercept", "no intercept"])
def case(request, name, shape):
    return Case(name, shape, request.param)


def test_the_loss_of_each_target_is_that_of_brute_force(case):
    losses = case.evaluate()
    assert losses.dtype == np.float64 and losses.shape == (len(ALPHAS), N_TARGETS)
    np.testing.assert_allclose(losses, case.expect(), rtol=1e-8)


def test_the_loss_of_all_targets_is_the_mean_of_each(case):
    np.testing.assert_allclose(case.losses(case.sum_up()), case.expect().mean(axis=1), rtol=1e-8)


def test_the_sums_of_parts_add_up_to_the_sums_of_the_whole(case):
    whole, parts = case.sum_up(), [case.sum_up(part) for part in np.split(case.Y, [1, 4], axis=1)]
    added = {key: sum(part[key] for part in parts) for key in whole}
    for key in whole:
        np.testing.assert_allclose(added[key], whole[key], rtol=1e-9, atol=1e-9 * np.abs(whole[key]).max())
    np.testing.assert_allclose(case.losses(added), case.losses(whole), rtol=1e-9)


def test_adding_in_place_is_adding_up(case):
    whole, sums = case.sum_up(), case.rule.start_sums()
    for part in np.split(case.Y, [2, 3], axis=1):
        case.rule.add(sums, case.rule.project(part), part)
    np.testing.assert_allclose(case.losses(sums), case.losses(whole), rtol=1e-9)


def test_the_order_of_the_targets_in_memory_makes_no_difference(case):
    by_scan, by_target = np.ascontiguousarray(case.Y), np.asfortranarray(case.Y)
    np.testing.assert_allclose(case.evaluate(by_target), case.evaluate(by_scan), rtol=1e-10)
    np.testing.assert_allclose(case.losses(case.sum_up(by_target)), case.losses(case.sum_up(by_scan)), rtol=1e-10)


@pytest.mark.parametrize("columns", [[2], [1, 2, 3], [0, 3, 6]])
def test_some_targets_have_the_losses_that_they_have_among_all(case, columns):
    columns, projections = np.array(columns), case.rule.project(case.Y)
    some = case.rule.evaluate(1, take_targets(projections, columns), take_targets(case.Y, columns))
    np.testing.assert_allclose(some, case.rule.evaluate(1, projections, case.Y)[columns], rtol=1e-10)


def test_neither_sums_nor_losses_write_to_the_targets(case):
    before = case.Y.copy()
    case.sum_up()
    case.evaluate()
    np.testing.assert_array_equal(case.Y, before)


def test_the_projections_of_all_scans_are_among_the_projections(case):
    decomposition = case.rule.decomposition
    np.testing.assert_allclose(case.rule.of_all_scans(case.rule.project(case.Y)), decomposition.U.T @ case.Y, atol=1e-9)


def test_a_search_starts_near_the_best_penalty(case, name):
    starts, best = case.rule.start(case.rule.project(case.Y), case.Y), case.evaluate().argmin(axis=0)
    assert starts.shape == (N_TARGETS,) and 0 <= starts.min() <= starts.max() < len(ALPHAS)
    # The start is that of squared errors, whatever is compared.
    assert np.median(np.abs(starts - best)) <= (2 if name == "kfold of correlation" else 1)
    assert 0 <= case.rule.start_all(case.sum_up()) < len(ALPHAS)


def assert_four_digits(case):
    expected = case.expect()
    np.testing.assert_allclose(case.evaluate(), expected, rtol=1e-4)
    np.testing.assert_allclose(case.losses(case.sum_up()), expected.mean(axis=1), rtol=1e-4)


def test_float32_has_four_digits(name):
    assert_four_digits(Case(name, SHAPES["fewer features than scans"], True, "float32"))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("dtype", "alphas"), [("float32", [0.001, 0.1, 30.0]), ("float64", [1e-7, 1e-5])])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_small_penalty_has_four_digits_where_nothing_else_keeps_a_fit_from_the_targets(name, dtype, alphas, fit_intercept):
    assert_four_digits(Case(name, SHAPES["more features than scans"], fit_intercept, dtype, np.array(alphas)))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", [name for name in CRITERIA if name in ("loo", "leave_one_run_out")])
def test_the_products_of_scans_say_as_much_as_the_targets(name, shape, fit_intercept):
    case = Case(name, shape, fit_intercept)
    by_gram, by_targets = case.rule.start_sums(), case.sum_up()
    for part in np.split(case.Y, [3], axis=1):
        case.rule.add_gram(by_gram, part @ part.T, part.shape[1])
    for key in by_targets:
        np.testing.assert_allclose(by_gram[key], by_targets[key], rtol=1e-9, atol=1e-9 * np.abs(by_targets[key]).max())
    np.testing.assert_allclose(case.losses(by_gram), case.losses(by_targets), rtol=1e-9)


def test_blocks_of_rows_make_no_difference(shape, monkeypatch):
    case = Case("loo", shape, True)
    expected = case.losses(case.sum_up())
    monkeypatch.setattr("sparkneuro.encoding.leave_one_out.ROWS_AT_ONCE", 10)
    np.testing.assert_allclose(case.losses(case.sum_up()), expected, rtol=1e-8)


def test_runs_of_one_scan_each_are_left_out_as_scans_are(shape):
    X, Y = draw(shape)
    found, Y = decompose(X), Y - Y.mean(axis=0)
    runs = [slice(scan, scan + 1) for scan in range(len(X))]
    by_run, by_scan = LeaveRunOut(found, ALPHAS, runs), LeaveOneOut(found, ALPHAS)
    Z = found.project(Y)
    np.testing.assert_allclose(by_run.evaluate(2, Z, Y), by_scan.evaluate(2, Z, Y), rtol=1e-9)


def test_runs_as_folds_are_left_out_as_runs_are(shape):
    X, Y = draw(shape)
    found, Y, size = decompose(X), Y - Y.mean(axis=0), shape[0] // 3
    runs = [slice(0, size), slice(size, 2 * size), slice(2 * size, 3 * size)]
    X, Y = X[: 3 * size], Y[: 3 * size] - Y[: 3 * size].mean(axis=0)
    found = decompose(X)
    by_run, by_fold = LeaveRunOut(found, ALPHAS, runs), KFold(found, X - X.mean(axis=0), ALPHAS, runs)
    np.testing.assert_allclose(
        by_run.evaluate(1, by_run.project(Y), Y), by_fold.evaluate(1, by_fold.project(Y), Y), rtol=1e-9
    )


def test_folds_that_do_not_follow_each_other_are_right(shape):
    X, Y = draw(shape)
    folds = [np.arange(start, len(X), 4) for start in range(4)]
    rule, Y = KFold(decompose(X), X - X.mean(axis=0), ALPHAS, folds), Y - Y.mean(axis=0)
    error = np.square(Y - predict_held_out(X, Y, ALPHAS[1], True, folds))
    expected = np.mean([error[fold].mean(axis=0) for fold in folds], axis=0)
    np.testing.assert_allclose(rule.evaluate(1, rule.project(Y), Y), expected, rtol=1e-8)


def test_a_constant_target_correlates_with_nothing(shape):
    case = Case("kfold of correlation", shape, True)
    expected, Y = case.evaluate(), case.Y.copy()
    Y[:, 3] = 0.0
    losses = case.evaluate(Y)
    np.testing.assert_array_equal(losses[:, 3], 0)
    np.testing.assert_allclose(np.delete(losses, 3, axis=1), np.delete(expected, 3, axis=1), rtol=1e-10)
    np.testing.assert_allclose(case.losses(case.sum_up(Y)), losses.mean(axis=1), rtol=1e-10)


def test_folds_take_whole_runs_together_where_there_are_as_many():
    runs = runs_of(47)
    folds = make_folds(47, N_FOLDS, runs)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(47))
    for run in runs:
        scans = np.arange(47)[run]
        assert sum(np.isin(scans, fold).all() for fold in folds) == 1
    assert make_folds(47, 6, runs) == make_folds(47, 6) == [slice(i * 8 - max(i - 5, 0), min(i * 8 + 8, 47)) for i in range(6)]


@pytest.mark.parametrize("search", ["climb", "exhaustive"])
def test_the_choice_is_the_smallest_loss(case, search):
    expected = case.evaluate()
    chosen, losses = choose_each(case.rule, case.rule.project(case.Y), case.Y, search)
    reached = expected[chosen, np.arange(N_TARGETS)]
    padded = np.pad(expected, ((1, 1), (0, 0)), constant_values=np.inf)
    assert (reached <= padded[chosen, np.arange(N_TARGETS)]).all() and (reached <= padded[chosen + 2, np.arange(N_TARGETS)]).all()
    known = np.isfinite(losses)
    np.testing.assert_allclose(losses[known], expected[known], rtol=1e-9)
    if search == "exhaustive":
        assert known.all()
        np.testing.assert_array_equal(chosen, expected.argmin(axis=0))
        place, losses = choose_one(case.rule, case.sum_up(), search)
        assert place == expected.mean(axis=1).argmin()
        np.testing.assert_allclose(losses, expected.mean(axis=1), rtol=1e-8)


def test_the_criterion_follows_from_the_runs():
    runs = runs_of(47)
    assert choose_criterion(None, None, 3) == "loo"
    assert choose_criterion(None, runs, 3) == "leave_one_run_out"
    assert choose_criterion("gcv", runs, 3) == "gcv"
    assert choose_criterion("leave_one_run_out", None, 1) == "none"
    assert make_criterion("none", None, None, None) is None


def test_a_criterion_that_cannot_be_had_is_refused():
    with pytest.raises(SettingsError, match="criterion must be one of loo, gcv, leave_one_run_out, kfold; got 'aic'"):
        choose_criterion("aic", None, 1)
    with pytest.raises(SettingsError, match="at least two runs; got no run labels. Take criterion loo or kfold instead."):
        choose_criterion("leave_one_run_out", None, 3)
    with pytest.raises(SettingsError, match="at least two runs; got one run."):
        choose_criterion(None, [slice(0, 9)], 3)


def test_a_kfold_can_be_written_and_read(shape):
    case = Case("kfold of l2", shape, True)
    arrays = case.rule.to_arrays()
    assert list(arrays) == KFold.array_names(N_FOLDS)
    again = KFold.from_arrays(case.rule.decomposition, ALPHAS, "l2", arrays)
    np.testing.assert_array_equal(again.evaluate(1, again.project(case.Y), case.Y), case.evaluate()[1])
