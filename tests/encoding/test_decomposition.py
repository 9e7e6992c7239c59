"""The decomposition of the features, against numpy's SVD; and where a Gram matrix has its limits."""

import tracemalloc

import numpy as np
import pytest

from sparkneuro.encoding import decomposition as module
from sparkneuro.encoding.decomposition import decompose, decomposition_flops, eigh_descending, left_vectors, prefers_kernel
from sparkneuro.encoding.leave_one_out import LeaveOneOut
from sparkneuro.errors import FormatError

SHAPES = [(41, 13), (13, 41), (23, 23), (24, 23), (23, 24), (2, 9)]
ALPHAS = np.array([0.1, 3.0, 200.0])


def draw(n_scans, n_features, dtype="float64", seed=0):
    """Features of unequal variance and mean."""
    rng = np.random.default_rng(seed)
    X = 5 + rng.standard_normal((n_scans, n_features)) * np.geomspace(2, 0.1, n_features)
    return X.astype(dtype)


@pytest.fixture(params=["gram", "kernel"])
def route(request, monkeypatch):
    """Both ways to the same decomposition, whatever is cheaper."""
    monkeypatch.setattr(module, "prefers_kernel", lambda *shape: request.param == "kernel")
    return request.param


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_routes_find_the_singular_values_and_vectors(route, shape, fit_intercept):
    X = draw(*shape)
    centred = X - X.mean(axis=0) * fit_intercept
    found = decompose(X, fit_intercept)
    rank = np.linalg.matrix_rank(centred)
    assert (found.n_scans, found.n_features, found.rank) == (*shape, rank)
    expected = np.linalg.svd(centred, compute_uv=False)[:rank]
    np.testing.assert_allclose(found.eigenvalues, expected**2, rtol=1e-9)
    np.testing.assert_allclose((found.U * np.sqrt(found.eigenvalues)) @ found.V.T, centred, atol=1e-9)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(rank), atol=1e-9)
    np.testing.assert_allclose(found.V.T @ found.V, np.eye(rank), atol=1e-9)
    np.testing.assert_allclose(found.X_mean, X.mean(axis=0) * fit_intercept, rtol=1e-12)


@pytest.mark.parametrize("shape", [(41, 13), (13, 41)])
def test_blocks_make_no_difference(route, shape, monkeypatch):
    X = draw(*shape)
    whole = decompose(X)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 6)
    blocks = decompose(X)
    np.testing.assert_allclose(blocks.eigenvalues, whole.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose((blocks.U * blocks.U).sum(axis=1), (whole.U * whole.U).sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(blocks.leverages(ALPHAS), whole.leverages(ALPHAS), rtol=1e-10)


def deficient(kind, dtype="float64"):
    """Features of less than full rank, and that rank."""
    rng = np.random.default_rng(1)
    X = draw(37, 11)
    if kind == "low rank":
        return (rng.standard_normal((37, 3)) @ rng.standard_normal((3, 11))).astype(dtype), 3
    if kind == "duplicate features":
        X[:, [7, 9]] = X[:, [2, 2]]
        return X.astype(dtype), 9
    if kind == "constant features":
        X[:, [0, 10]] = 0.1, -1e3
        return X.astype(dtype), 9
    if kind == "an opposite feature":
        X[:, 4] = -X[:, 5]
        return X.astype(dtype), 10
    return np.tile(draw(5, 11), (4, 1)).astype(dtype), 4  # repeated scans


KINDS = ["low rank", "duplicate features", "constant features", "an opposite feature", "repeated scans"]


@pytest.mark.parametrize("kind", KINDS)
def test_directions_without_variance_are_left_out(route, kind):
    X, rank = deficient(kind)
    found = decompose(X)
    assert found.rank == rank
    np.testing.assert_allclose((found.U * np.sqrt(found.eigenvalues)) @ found.V.T, X - X.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(found.U.T @ found.U, np.eye(rank), atol=1e-8)
    np.testing.assert_allclose(found.V.T @ found.V, np.eye(rank), atol=1e-8)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "low rank"])
def test_float32_features_have_the_same_rank(route, kind):
    X, rank = deficient(kind, "float32")
    assert decompose(X).rank == rank


@pytest.mark.parametrize("shape", [(41, 13), (13, 41)])
def test_the_type_of_the_vectors_can_be_chosen_and_is_that_of_the_features(route, shape):
    X = draw(*shape, "float32")
    exact = decompose(X.astype(float))
    for dtype in ("float32", "float64"):
        found = decompose(X, dtype=dtype)
        assert (found.U.dtype, found.V.dtype, found.eigenvalues.dtype, found.X_mean.dtype) == (dtype, dtype, "float64", "float64")
        np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, rtol=1e-9)
        np.testing.assert_allclose(np.abs(found.U), np.abs(exact.U), atol=1e-6 if dtype == "float32" else 1e-9)
    assert decompose(X).U.dtype == "float32" and decompose(X.astype(float)).V.dtype == "float64"


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_known_gram_matrix_spares_its_computation(fit_intercept, monkeypatch):
    X = draw(41, 13)
    expected = decompose(X, fit_intercept)
    monkeypatch.setattr(module, "gram_matrix", None)
    found = decompose(X, fit_intercept, gram=X.T @ X)
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(np.abs(found.U), np.abs(expected.U), atol=1e-9)


def test_the_features_are_not_modified(route):
    X = draw(41, 13)
    before = X.copy()
    decompose(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("shape", [(16_000, 50), (50, 16_000)])
def test_the_features_are_never_copied_to_float64_as_a_whole(shape, monkeypatch):
    X = draw(*shape, "float32")
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 512)
    monkeypatch.setattr("sparkneuro.encoding.inputs.BYTES_AT_ONCE", 1 << 16)
    decompose(X[:60, :60])  # what is imported and compiled is no matter here
    tracemalloc.start()
    found = decompose(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = found.U.nbytes + found.V.nbytes
    assert kept < peak < kept + X.nbytes / 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("shape", [(41, 13), (13, 41)])
def test_features_that_are_not_finite_are_refused(route, shape, value):
    X = draw(*shape)
    X[4, 5] = value
    with np.errstate(all="ignore"), pytest.raises(FormatError, match="must be finite; they hold NaN, infinity or values"):
        decompose(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 1.0, 100.1])
@pytest.mark.parametrize("shape", [(410, 13), (13, 41)])
def test_features_that_never_change_are_refused(route, shape, value, dtype):
    X = np.full(shape, value, dtype)
    with pytest.raises(FormatError, match="at least one feature must vary from scan to scan; all are constant"):
        decompose(X)


def test_a_constant_is_a_direction_where_nothing_is_taken_off(route):
    found = decompose(np.ones((8, 3)), fit_intercept=False)
    np.testing.assert_allclose(found.eigenvalues, [24.0])
    np.testing.assert_allclose(np.abs(found.U), 8**-0.5)


def test_eigenvalues_descend_and_those_that_are_rounding_errors_are_left_out():
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((9, 9)))[0]
    wanted = np.array([1e8, 3e5, 40.0, 1e-3, 1e-12, 0, 0, 0, -1e-9])
    eigenvalues, vectors = eigh_descending((Q * wanted) @ Q.T)
    np.testing.assert_allclose(eigenvalues, wanted[:4], rtol=1e-3)
    np.testing.assert_allclose(np.abs(vectors.T @ Q[:, :3]), np.eye(4, 3), atol=1e-6)


def test_left_vectors_of_other_scans_predict_them():
    X, others = draw(41, 13), draw(7, 13, seed=3)
    found = decompose(X)
    rows = left_vectors(others, found.X_mean, found.eigenvalues, found.V)
    np.testing.assert_allclose((rows * np.sqrt(found.eigenvalues)) @ found.V.T, others - X.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(left_vectors(X, found.X_mean, found.eigenvalues, found.V), found.U, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_leverages_are_the_diagonal_of_the_hat_matrix(route, shape, fit_intercept, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    X = draw(*shape)
    found, centred = decompose(X, fit_intercept), X - X.mean(axis=0) * fit_intercept
    assert found.intercept_leverage == fit_intercept / shape[0]
    for alpha, leverages in zip(ALPHAS, found.leverages(ALPHAS), strict=True):
        hat = centred @ np.linalg.solve(centred.T @ centred + alpha * np.eye(shape[1]), centred.T) + fit_intercept / shape[0]
        np.testing.assert_allclose(leverages, np.diagonal(hat), rtol=1e-9)


def test_shrinkage_and_weights_are_those_of_ridge_regression():
    X, Y = draw(41, 13), draw(41, 4, seed=4)
    found, centred = decompose(X), X - X.mean(axis=0)
    Z = found.project(Y - Y.mean(axis=0))
    np.testing.assert_allclose(Z, found.U.T @ (Y - Y.mean(axis=0)), atol=1e-12)
    for place, alpha in enumerate(ALPHAS):
        coef = np.linalg.solve(centred.T @ centred + alpha * np.eye(13), centred.T @ Y)
        np.testing.assert_allclose(found.V @ (found.coefficient_weights(ALPHAS)[place][:, None] * Z), coef, atol=1e-10)
        np.testing.assert_allclose(found.U @ (found.shrinkage(ALPHAS)[place][:, None] * Z), centred @ coef, atol=1e-10)


def test_projections_of_a_target_stand_together_in_memory():
    assert decompose(draw(41, 13)).project(draw(41, 4)).flags.f_contiguous


@pytest.mark.parametrize(("n_scans", "n_features"), [(100, 99), (99, 100), (69_202, 16_384), (10_000, 16_384), (10, 10)])
def test_the_cheaper_route_is_taken(n_scans, n_features):
    kernel, gram = (decomposition_flops(n_scans, n_features, kernel) for kernel in (True, False))
    assert prefers_kernel(n_scans, n_features) == (kernel < gram) == (n_scans < n_features)


def ill_conditioned(n_scans, n_features, largest):
    """Centred features whose singular values span 6e7, and targets that follow from them."""
    rng = np.random.default_rng(5)
    rank = min(n_scans - 1, n_features)
    U = np.linalg.qr(np.column_stack([np.ones(n_scans), rng.standard_normal((n_scans, rank))]))[0][:, 1:]
    V = np.linalg.qr(rng.standard_normal((n_features, rank)))[0]
    values = np.geomspace(largest, largest / 6e7, rank)
    X = (U * values) @ V.T
    Y = X @ V @ rng.standard_normal((rank, 5)) * 0.1 / values[rank // 3] + rng.standard_normal((n_scans, 5))
    return X, Y - Y.mean(axis=0)


def loo_score(U, eigenvalues, Y, alpha=0.1):
    """Leave-one-out R^2 from singular vectors, as the definition has it."""
    weight = eigenvalues / (eigenvalues + alpha)
    error = (Y - U @ (weight[:, None] * (U.T @ Y))) / (1 - np.square(U) @ weight - 1 / len(U))[:, None]
    return 1 - (error**2).sum(axis=0) / (Y**2).sum(axis=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("largest", [600.0, 6000.0, 60_000.0])
@pytest.mark.parametrize("shape", [(300, 40), (90, 200)])
def test_a_float64_gram_matrix_is_exact_enough_at_a_condition_number_of_6e7(shape, largest, dtype):
    X, Y = ill_conditioned(*shape, largest)
    U, values, _ = np.linalg.svd(X, full_matrices=False)
    criterion = LeaveOneOut(decompose(X, dtype=dtype), [0.1])
    targets = Y.astype(dtype)
    score = 1 - criterion.evaluate(0, criterion.project(targets), targets) / (Y**2).mean(axis=0)
    np.testing.assert_allclose(score, loo_score(U, values**2, Y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(300, 40), (90, 200)])
def test_a_float32_gram_matrix_would_not_be(shape):
    X, Y = ill_conditioned(*shape, 6000.0)
    U, values, _ = np.linalg.svd(X, full_matrices=False)
    single = X.astype("float32")
    kernel = shape[0] < shape[1]
    eigenvalues, vectors = np.linalg.eigh(single @ single.T if kernel else single.T @ single)
    kept = eigenvalues > eigenvalues[-1] * np.finfo("float32").eps
    eigenvalues, vectors = eigenvalues[kept].astype(float), vectors[:, kept].astype(float)
    score = loo_score(vectors if kernel else X @ vectors / np.sqrt(eigenvalues), eigenvalues, Y)
    assert np.abs(score - loo_score(U, values**2, Y)).max() > 1e-3
