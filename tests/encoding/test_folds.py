"""Splits never take a run apart, unless they are asked to."""

import numpy as np
import pytest

from sparkneuro.encoding.folds import check_runs, choose_test_runs, kfold_by_run, kfold_contiguous, random_split
from sparkneuro.errors import FormatError, SettingsError

RUNS = ["run-1", "run-2", "run-3", "run-4", "run-5", "run-6", "run-7"]


def slices_of(*lengths):
    edges = np.r_[0, np.cumsum(lengths)].tolist()
    return [slice(start, stop) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


@pytest.mark.parametrize("names", [["b", "a", "c"], [2, 0, 1], [2.5, 0.5, 1.5]])
def test_runs_are_the_stretches_of_one_label(names):
    assert check_runs(np.repeat(names, [4, 1, 3]), 8) == slices_of(4, 1, 3)


def test_scans_without_labels_are_one_run():
    assert check_runs(None, 9) == slices_of(9)


def test_a_run_that_comes_back_is_refused():
    with pytest.raises(FormatError, match="run 'a' comes back at scan 3: put the scans of a run together"):
        check_runs(["a", "a", "b", "a"], 4)
    with pytest.raises(FormatError, match="run 1 comes back at scan 3"):
        check_runs(np.array([1, 1, 2, 1]), 4)


def test_labels_that_do_not_fit_the_scans_are_refused():
    with pytest.raises(FormatError, match=r"one label for each of 5 scans, at least one; got shape \(4,\)"):
        check_runs(["a"] * 4, 5)
    with pytest.raises(FormatError, match=r"each of 0 scans, at least one"):
        check_runs(None, 0)


@pytest.mark.parametrize(("fraction", "n_test"), [(0.01, 1), (0.1, 1), (0.3, 2), (0.99, 6)])
def test_at_least_one_run_is_tested_on_and_one_trained_on(fraction, n_test):
    test_runs = choose_test_runs(RUNS, fraction)
    assert len(test_runs) == n_test
    assert test_runs == [run for run in RUNS if run in test_runs]


def test_the_seed_decides_which_runs_are_drawn():
    assert choose_test_runs(RUNS, 0.3, seed=4) == choose_test_runs(RUNS, 0.3, seed=4)
    assert {run for seed in range(50) for run in choose_test_runs(RUNS, seed=seed)} == set(RUNS)


def test_one_run_cannot_be_held_out():
    with pytest.raises(SettingsError, match="at least 2 runs; got 1: fit without one"):
        choose_test_runs(["run-1"])
    with pytest.raises(SettingsError, match="a name of its own; got run-1, run-1"):
        choose_test_runs(["run-1", "run-1"])


@pytest.mark.parametrize(("fraction", "n_test"), [(0.001, 1), (0.1, 20), (0.999, 202)])
def test_random_scans_are_drawn_with_a_warning(fraction, n_test):
    with pytest.warns(UserWarning, match="scans drawn at random leak"):
        is_test = random_split(203, fraction, seed=1)
    assert is_test.shape == (203,)
    assert is_test.sum() == n_test


@pytest.mark.parametrize(("fraction", "message"), [(0, "above 0; got 0"), (1, "below 1, .* got 1"), ("x", "a number above 0")])
def test_a_fraction_that_leaves_nothing_is_refused(fraction, message):
    with pytest.raises(SettingsError, match=message):
        choose_test_runs(RUNS, fraction)


def test_folds_of_runs_hold_every_run_once_and_about_as_many_scans():
    runs = slices_of(50, 10, 30, 20, 40, 25, 35)
    folds = kfold_by_run(runs, n_folds=3)
    assert sorted((run for fold in folds for run in fold), key=lambda run: run.start) == runs
    assert all(fold == sorted(fold, key=lambda run: run.start) for fold in folds)
    n_scans = [sum(run.stop - run.start for run in fold) for fold in folds]
    assert max(n_scans) - min(n_scans) <= 10  # the shortest run


def test_as_many_folds_as_runs_leave_each_out_once():
    runs = slices_of(3, 9, 5)
    assert sorted(fold[0].start for fold in kfold_by_run(runs, n_folds=3)) == [0, 3, 12]


def test_more_folds_than_runs_are_refused():
    with pytest.raises(SettingsError, match="n_folds must be at most the number of runs, 3; got 5"):
        kfold_by_run(slices_of(3, 9, 5))
    with pytest.raises(SettingsError, match="n_folds must be a whole number of at least 2; got 1"):
        kfold_by_run(slices_of(3, 9, 5), n_folds=1)


@pytest.mark.parametrize(("n_scans", "n_folds"), [(10, 2), (23, 5), (7, 7), (101, 4)])
def test_contiguous_folds_are_those_of_scikit_learn(n_scans, n_folds):
    model_selection = pytest.importorskip("sklearn.model_selection")
    oracle = model_selection.KFold(n_folds).split(np.zeros(n_scans))
    folds = kfold_contiguous(n_scans, n_folds)
    for fold, (_, expected) in zip(folds, oracle, strict=True):
        np.testing.assert_array_equal(np.arange(n_scans)[fold], expected)


def test_more_contiguous_folds_than_scans_are_refused():
    with pytest.raises(SettingsError, match="n_folds must be a whole number of at least 2 and of at most 4; got 5"):
        kfold_contiguous(4, 5)
