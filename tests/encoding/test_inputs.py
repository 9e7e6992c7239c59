"""What comes through the door of a ridge regression, and what is said to the rest."""

import tracemalloc
import warnings

import numpy as np
import pytest

from sparkneuro.encoding.inputs import (
    check_alphas,
    check_features,
    check_targets,
    describe_places,
    find_constant,
    mean_of_columns,
)
from sparkneuro.errors import FormatError, SettingsError

N_SCANS, N_COLUMNS = 301, 7


def draw(dtype="float64", mean=0.0):
    return (mean + np.random.default_rng(0).standard_normal((N_SCANS, N_COLUMNS))).astype(dtype)


@pytest.mark.parametrize("alphas", [[0.1, 1, 10], (0.1, 1.0, 10.0), np.array([0.1, 1, 10], "float32"), ["0.1", "1", "10"]])
def test_penalties_become_float64(alphas):
    checked = check_alphas(alphas)
    assert checked.dtype == np.float64
    np.testing.assert_allclose(checked, [0.1, 1, 10], rtol=1e-7)


def test_a_number_is_one_penalty():
    assert check_alphas(3).tolist() == [3.0]


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ([0.0, 1.0], "alphas must be above 0 and finite; got 0."),
        ([1.0, -2.5], "alphas must be above 0 and finite; got -2.5."),
        ([1.0, np.nan], "alphas must be above 0 and finite; got nan."),
        ([1.0, np.inf], "alphas must be above 0 and finite; got inf."),
        ([1.0, 0.5, 2.0], "alphas must ascend without repeats; got 1, 0.5, 2."),
        ([1.0, 1.0], "alphas must ascend without repeats; got 1, 1."),
        ([], r"alphas must be one or more numbers in a row; got shape \(0,\)."),
        ([[1.0, 2.0]], r"alphas must be one or more numbers in a row; got shape \(1, 2\)."),
        (None, "alphas must be above 0 and finite; got nan."),
        ("many", "alphas must be numbers; got 'many'."),
        ([[1], [2, 3]], r"alphas must be numbers; got \[\[1\], \[2, 3\]\]."),
    ],
)
def test_penalties_that_are_none_are_refused(alphas, message):
    with pytest.raises(SettingsError, match=message):
        check_alphas(alphas)


@pytest.mark.parametrize("check", [check_features, lambda matrix: check_targets(matrix, N_SCANS)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_not_copied(check, dtype):
    matrix = draw(dtype)
    assert check(matrix) is matrix


@pytest.mark.parametrize("dtype", ["int16", "float16", "bool", "object"])
def test_other_numbers_become_float64(dtype):
    matrix = draw().astype(dtype)
    assert check_features(matrix).dtype == check_targets(matrix, N_SCANS).dtype == np.float64
    np.testing.assert_array_equal(check_features(matrix.tolist()), matrix.astype(float))


def test_shapes_that_are_no_matrix_are_refused():
    with pytest.raises(FormatError, match=r"X must have shape \(n_scans, n_features\); got \(7,\)."):
        check_features(np.ones(7))
    with pytest.raises(FormatError, match=r"layer 3 must have shape \(n_scans, n_features\); got \(2, 3, 4\)."):
        check_features(np.ones((2, 3, 4)), "layer 3")
    with pytest.raises(FormatError, match=r"X must have shape \(n_scans, n_features\); got \(5, 0\)."):
        check_features(np.ones((5, 0)))
    with pytest.raises(FormatError, match=r"Y must have shape \(n_scans, n_targets\); got \(5,\)."):
        check_targets(np.ones(5), 5)
    with pytest.raises(FormatError, match=r"bold must have shape \(n_scans, n_targets\); got \(5, 0\)."):
        check_targets(np.ones((5, 0)), 5, "bold")


def test_numbers_of_scans_that_do_not_fit_are_refused():
    with pytest.raises(FormatError, match="X must have at least two scans; got n_samples = 1."):
        check_features(np.ones((1, 4)))
    with pytest.raises(FormatError, match="Y must have the 6 scans of the features; got 5."):
        check_targets(np.ones((5, 3)), 6)


def test_what_is_no_real_number_is_refused():
    with pytest.raises(FormatError, match="X must be real; got complex numbers. Complex data not supported."):
        check_features(draw() + 1j)
    with pytest.raises(FormatError, match=r"Y must be an array of numbers \(could not convert string to float: .*'a'"):
        check_targets([["a", "b"]], 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_named(dtype, value):
    matrix = draw(dtype)
    matrix[[200, 13, 13], [1, 5, 6]] = value
    message = rf"must hold no NaN and no infinity; {{}} 5 of scan 13 is {value} \(3 such values\). Replace or leave them out."
    with pytest.raises(FormatError, match="^X " + message.format("feature")):
        check_features(matrix)
    with pytest.raises(FormatError, match="^Y " + message.format("target")):
        check_targets(matrix, N_SCANS)


def test_infinities_of_both_signs_raise_an_error_and_no_warning():
    matrix = draw()
    matrix[3, 2], matrix[4, 2] = np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError, match=r"feature 2 of scan 3 is inf \(2 such values\)"):
            check_features(matrix)


def test_finite_values_whose_sum_overflows_pass():
    matrix = np.full((N_SCANS, N_COLUMNS), 3e38, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_features(matrix) is matrix


@pytest.mark.parametrize("mean", [0.0, 1e4, -3e6])
def test_a_large_mean_costs_the_average_no_digits(mean):
    matrix = draw("float32", mean)
    np.testing.assert_allclose(mean_of_columns(matrix), matrix.astype(float).mean(axis=0), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_is_its_own_average(dtype):
    matrix = np.full((N_SCANS, 3), [0.1, -1234.567, 1e30], dtype)
    np.testing.assert_array_equal(mean_of_columns(matrix) - matrix, 0)


@pytest.mark.parametrize("shape", [(4096, 64), (64, 4096)])
def test_averaging_makes_no_float64_copy(shape, monkeypatch):
    monkeypatch.setattr("sparkneuro.encoding.inputs.BYTES_AT_ONCE", 1 << 15)
    matrix = np.ones(shape, "float32")
    tracemalloc.start()
    mean_of_columns(matrix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < matrix.nbytes / 4


def test_columns_that_never_change_are_found():
    matrix = draw()
    matrix[:, [0, 4]] = -0.1, 1e9
    matrix[1:, 2] = 5  # changes once
    assert find_constant(matrix).tolist() == [0, 4]
    assert find_constant(matrix.astype("float32")).tolist() == [0, 4]
    assert find_constant(matrix[:1]).tolist() == list(range(N_COLUMNS))


def test_a_few_places_are_named_of_many():
    assert describe_places([4], "target") == "1 target (4)"
    assert describe_places(np.arange(5), "target") == "5 targets (0, 1, 2, 3, 4)"
    assert describe_places(np.arange(3, 10), "feature") == "7 features (3, 4, 5, 6, 7, ...)"
