"""QC-FC against loops over edges, on planted motion, and on a real run with its confounds."""

import numpy as np
import pytest
from scipy import stats

from sparkneuro.analysis.qc_fc import (
    connect_regions,
    correlate_cofluctuation,
    correlate_with_motion,
    expect_by_chance,
    summarise_qc_fc,
)
from sparkneuro.data.confounds_table import read_confounds
from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.clean import clean_bold

N_SUBJECTS, N_SCANS, N_REGIONS = 24, 130, 13


def make_subjects(artefact, seed=0):
    """Series of subjects who move by different amounts; at each movement all regions change together, by ``artefact`` a mm."""
    rng = np.random.default_rng(seed)
    fd = np.linspace(0.05, 0.6, N_SUBJECTS)
    movements = [rng.exponential(mean, size=N_SCANS) for mean in fd]
    series = [rng.normal(size=(N_SCANS, N_REGIONS)) + artefact * moved[:, None] for moved in movements]
    return series, movements, fd


def test_edges_are_the_upper_triangle_of_the_correlations():
    series = np.random.default_rng(0).normal(size=(N_SCANS, N_REGIONS)).cumsum(axis=0)
    np.testing.assert_allclose(connect_regions(series), np.corrcoef(series.T)[np.triu_indices(N_REGIONS, 1)])


def test_qc_fc_is_the_correlation_of_each_edge_with_motion_and_its_p():
    series, _, fd = make_subjects(1.5)
    edges = np.array([connect_regions(one) for one in series])
    edges[3, 7] = edges[11, 7] = np.nan
    edges[:16, 9] = np.nan
    r, p = correlate_with_motion(edges, fd)
    for edge in range(edges.shape[1]):
        there = np.isfinite(edges[:, edge])
        if edge == 9:  # eight subjects have it
            assert np.isnan(r[edge]) and np.isnan(p[edge])
            continue
        expected = stats.pearsonr(np.arctanh(edges[there, edge]), fd[there])
        assert r[edge] == pytest.approx(expected.statistic) and p[edge] == pytest.approx(expected.pvalue)


def test_planted_motion_is_seen_and_regression_removes_it():
    series, movements, fd = make_subjects(2.0)
    before = summarise_qc_fc(*correlate_with_motion(np.array([connect_regions(one) for one in series]), fd))
    cleaned = [clean_bold(one, 2.0, confounds=moved[:, None]) for one, moved in zip(series, movements, strict=True)]
    after = summarise_qc_fc(*correlate_with_motion(np.array([connect_regions(one) for one in cleaned]), fd))
    assert before["median_abs_r"] > 0.6 and before["significant"] > 0.9 and before["significant_fdr"] > 0.9
    assert after["median_abs_r"] < 0.25 and after["significant"] < 0.2 and after["significant_fdr"] < 0.05


def test_without_motion_a_twentieth_of_the_edges_is_significant():
    rng = np.random.default_rng(3)
    edges = np.tanh(rng.normal(0.2, 0.1, size=(N_SUBJECTS, 6000)))
    summary = summarise_qc_fc(*correlate_with_motion(edges, rng.exponential(size=N_SUBJECTS)))
    assert summary["significant"] == pytest.approx(0.05, abs=0.015) and summary["significant_fdr"] < 0.01


def test_chance_is_what_independent_edges_have():
    rng = np.random.default_rng(1)
    r, _ = correlate_with_motion(np.tanh(rng.normal(size=(N_SUBJECTS, 20_000)) / 5), rng.normal(size=N_SUBJECTS))
    assert np.median(np.abs(r)) == pytest.approx(expect_by_chance(N_SUBJECTS), rel=0.03)


def test_dependence_on_distance_is_told():
    distance = np.linspace(5, 120, 400)
    r = 0.5 - 0.004 * distance + 0.02 * np.random.default_rng(0).normal(size=400)
    p = np.full(400, 0.01)
    assert summarise_qc_fc(r, p, distance)["distance_dependence"] == pytest.approx(stats.spearmanr(distance, r).statistic)
    assert summarise_qc_fc(r, p)["distance_dependence"] is None
    assert summarise_qc_fc(r * np.nan, p)["median_abs_r"] is None


def test_nine_subjects_are_too_few():
    with pytest.raises(SettingsError, match="at least 10 subjects or runs whose motion is known; got 9"):
        correlate_with_motion(np.zeros((9, 4)), np.zeros(9))


def test_cofluctuation_is_correlated_edge_by_edge():
    rng = np.random.default_rng(0)
    series, fd = rng.normal(size=(N_SCANS, 5)), rng.exponential(size=N_SCANS)
    fd[0] = np.nan
    z = (series - series.mean(axis=0)) / series.std(axis=0)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    expected = [np.corrcoef(z[1:, i] * z[1:, j], fd[1:])[0, 1] for i, j in pairs]
    np.testing.assert_allclose(correlate_cofluctuation(series, fd), expected)


def test_movements_that_all_regions_share_show_within_one_run():
    series, movements, _ = make_subjects(2.0)
    moved = correlate_cofluctuation(series[-1], movements[-1])
    cleaned = correlate_cofluctuation(clean_bold(series[-1], 2.0, confounds=movements[-1][:, None]), movements[-1])
    assert np.median(moved) > 0.3 and np.abs(np.median(cleaned)) < 0.1


def test_the_confounds_of_brainfc_rest01_lower_qc_fc(shared_data):
    folder = shared_data / "brainfc_rest01"
    series, table = np.loadtxt(folder / "timeseries.tsv", skiprows=1), str(folder / "confounds.tsv")
    fd = read_confounds(table, ["framewise_displacement"], 150)[:, 0]
    fd[:5] = np.nan  # the scans that the provider leaves out too
    confounds = read_confounds(table, ["motion_matrix_??", "motion_offset_?", "csf", "white_matter"], 150)
    # Both are high-passed alike, so that slow drift, which the confounds remove too, is no difference between them.
    without = correlate_cofluctuation(clean_bold(series, 2.0, high_pass=0.01), fd)
    with_confounds = correlate_cofluctuation(clean_bold(series, 2.0, high_pass=0.01, confounds=confounds), fd)
    assert np.median(np.abs(with_confounds)) < 0.75 * np.median(np.abs(without))
    assert np.abs(np.median(with_confounds)) < 0.2 * np.abs(np.median(without))
