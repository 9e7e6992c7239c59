"""Outliers that are planted in a cohort are found, and only those."""

import numpy as np
import pytest

from sparkneuro.preprocess.outliers import MEASURES, Measure, find_outliers, find_robust_limit


def make_cohort(n_runs=40):
    """Runs that differ a little, evenly, so that none is far out."""
    even = np.linspace(-1, 1, n_runs)
    rng = np.random.default_rng(0)
    columns = {
        "fd_mean": 0.15 + 0.05 * even, "tsnr_median": 60 + 8 * rng.permutation(even),
        "coverage": 0.98 + 0.01 * rng.permutation(even), "dvars_spikes": 0.02 + 0.01 * rng.permutation(even),
    }  # fmt: skip
    return [{name: float(values[place]) for name, values in columns.items()} for place in range(n_runs)]


def test_a_cohort_without_outliers_has_none():
    outliers, scores = find_outliers(make_cohort())
    assert outliers == [] and (scores < 3).all()


def test_planted_outliers_are_found_and_only_those():
    rows = make_cohort()
    planted = {3: ("fd_mean", 0.44), 17: ("tsnr_median", 20.0), 22: ("coverage", 0.85), 38: ("dvars_spikes", 0.3)}
    for place, (name, value) in planted.items():
        rows[place][name] = value
    outliers, scores = find_outliers(rows)
    assert {found["row"]: (found["measure"], found["value"]) for found in outliers} == planted
    assert {found["reason"] for found in outliers} == {"unlike the other runs"}
    assert set(np.argsort(scores)[-4:]) == set(planted)


def test_a_run_on_the_good_side_is_no_outlier():
    rows = make_cohort()
    rows[5] |= {"fd_mean": 0.0, "tsnr_median": 400.0}
    assert find_outliers(rows)[0] == []


@pytest.mark.parametrize("n_runs", [1, 4])
def test_few_runs_are_held_against_fixed_limits_alone(n_runs):
    rows = make_cohort(n_runs)
    rows[0]["fd_mean"], rows[0]["tsnr_median"] = 0.7, 1.0
    (found,), _ = find_outliers(rows)
    assert found == {"row": 0, "measure": "fd_mean", "value": 0.7, "limit": 0.5, "reason": "fixed limit"}


def test_a_cohort_that_moves_a_lot_is_held_against_the_fixed_limit():
    rows = [{"fd_mean": value} for value in np.linspace(0.6, 1.0, 12)]
    assert {found["reason"] for found in find_outliers(rows)[0]} == {"fixed limit"}
    assert len(find_outliers(rows)[0]) == 12


def test_missing_numbers_are_left_out():
    rows = make_cohort()
    rows[4] = {"fd_mean": None, "tsnr_median": float("nan")}
    outliers, scores = find_outliers(rows)
    assert outliers == [] and scores[4] == 0


def test_runs_that_are_all_alike_have_no_outlier_by_a_hair():
    rows = [{"coverage": 1.0} for _ in range(9)] + [{"coverage": 0.999}]
    assert find_outliers(rows)[0] == []


def test_the_limit_is_three_scaled_mads_from_the_median():
    values = np.random.default_rng(0).normal(10, 2, size=20001)
    high, median, spread = find_robust_limit(values, Measure("x", "high", 0.0))
    assert median == pytest.approx(10, abs=0.05) and spread == pytest.approx(2, abs=0.05)
    assert high == pytest.approx(median + 3 * spread)
    assert find_robust_limit(values, Measure("x", "low", 0.0), n_mads=2)[0] == pytest.approx(median - 2 * spread)


def test_every_measure_has_a_side():
    assert {measure.bad for measure in MEASURES} == {"high", "low"}
