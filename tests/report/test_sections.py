"""Sections say what was measured, in words that fit the case."""

import re

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from sparkneuro.report import sections  # noqa: E402

AFFINE = np.diag([2.0, 2, 2, 1])


def make_runs(n_runs):
    """Fields of runs."""
    run = {"session": "", "task": "rest", "run": "", "n_scans": 40, "t_r": 2.0, "n_voxels": 50, "n_constant": 1}
    return [{**run, "subject": f"{n:03d}", "n_non_finite": 2, "tsnr_median": 64.25} for n in range(n_runs)]


def make_mask():
    """A small block of voxels."""
    mask = np.zeros((6, 7, 8), bool)
    mask[1:5, 1:6, 2:7] = True
    return mask


def test_the_data_are_counted_and_a_long_list_is_cut_aloud():
    heading, parts = sections.describe_data(make_runs(63), ("detrend", "z-score"), make_mask(), AFFINE, None, "z-score")
    text = " ".join(parts)
    assert heading == "Data"
    assert "63 runs of 63 subjects; 3,150 rows" in text
    assert text.count("<tr>") == 61
    assert "3 more runs are not listed" in text
    assert "keeps no tSNR map" in text


def test_a_map_of_tsnr_replaces_the_mask_where_there_is_one():
    _, parts = sections.describe_data(make_runs(1), (), make_mask(), AFFINE, 50.0 * make_mask(), "z-score")
    assert "1 run of 1 subject;" in parts[0]
    assert "Temporal signal-to-noise ratio" in parts[-1]


@pytest.mark.parametrize(("mode", "staleness", "words"), [("downpour", 0.5, "Staleness:"), ("standalone", None, "No staleness")])
def test_a_training_is_told_as_what_it_was(mode, staleness, words):
    epoch = {"epoch": 1, "loss": 9.0, "validation_loss": None, "series_per_s": 100.0, "seconds": 5.0}
    history = [{**epoch, "staleness_mean": staleness, "staleness_max": staleness}]
    record = {"mode": mode, "n_parameters": 6_023_549, "n_training_series": 10, "training_s": 4.6, "series_length": 40}
    _, parts = sections.describe_training({**record, "history": history, "series_per_s": None, "startup_s": None})
    assert sections.MODES[mode] in parts[0] and "1 epoch in 5 s" in parts[0]
    assert words in parts[-1]
    _, parts = sections.describe_training({**record, "history": []})
    assert "No epoch was completed" in parts[-1]


def test_the_comparison_says_that_the_features_are_as_wide_as_the_series():
    rows = [("autoencoder", 40, 999, 0.3, 0.9), ("PCA, T/2", 20, 0, 0.4, None)]
    _, parts = sections.describe_errors(rows, np.linspace(1, 0, 41), {"autoencoder": 0.3}, "7 rows", "the same rows", "z-score²")
    assert "Measured on 7 rows. The principal components were fitted on the same rows." in parts[0]
    assert "H is as wide as the series (40 numbers)" in parts[2]


def test_the_directions_that_carry_the_features_are_counted():
    _, parts = sections.describe_features(np.array([6.0, 3.0, 0.6, 0.4]), 12, "h.voxels")
    assert re.findall(r'<td class="number">(\d+)</td>', parts[1]) == ["1", "2", "3", "4"]


def test_series_without_any_correlation_are_not_drawn():
    _, parts = sections.describe_reconstructions([], np.array([np.nan]), "1 row", 2.0, "z-score")
    assert "constant in every row" in parts[0]


def test_settings_and_versions_are_listed():
    _, parts = sections.describe_settings({"epochs": 3, "workers": None, "subjects": ["01", "02"]}, {"keras": "3.0"})
    assert "<td>epochs</td><td>3</td>" in parts[0]
    assert "<td>workers</td><td>–</td>" in parts[0]
    assert "01, 02" in parts[0]
    assert "<td>keras</td><td>3.0</td>" in parts[1]
