"""The quality of a run, gathered in strips, against NumPy on the whole run."""

import json
import tracemalloc

import numpy as np
import pytest

from sparkneuro.analysis.qc_fc import connect_regions
from sparkneuro.preprocess.carpet import unpack_carpet
from sparkneuro.preprocess.clean import clean_bold
from sparkneuro.preprocess.dvars import compute_dvars
from sparkneuro.preprocess.run_quality import RunQuality

N_SCANS, N_VOXELS, SPIKE = 90, 700, 55
STEP = 3  # ceil(700 / 300)


def make_run(seed=0, spike=0.0):
    """Series with a baseline, drift, a signal that all share, and a jump of all voxels at one scan; their motion."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(800, 1200, N_VOXELS) + 9 * rng.normal(size=(N_SCANS, N_VOXELS))
    before += np.linspace(0, 30, N_SCANS)[:, None] + 4 * rng.normal(size=(N_SCANS, 1))
    before[SPIKE] += spike
    fd = rng.uniform(0.02, 0.08, N_SCANS)
    fd[0], fd[SPIKE] = np.nan, 0.9
    return before, fd


def watch(before, after, fd=None, widths=(256, 256, 188), keep=None):
    """Feed a run strip by strip."""
    quality = RunQuality(N_SCANS, N_VOXELS)
    start = 0
    for width in widths:
        voxels = np.arange(start, start + width, dtype=np.int32)
        voxels = voxels if keep is None else voxels[keep[voxels]]
        quality.add(voxels, before[:, voxels], after[:, voxels])
        start += width
    return quality.finish(fd)


@pytest.fixture(scope="module")
def measured():
    """Everything on one run with a spike: before, after, fd, numbers, arrays."""
    before, fd = make_run(spike=60)
    after = clean_bold(before, 2.0, confounds=np.nan_to_num(fd)[:, None])
    return before, after, fd, *watch(before, after, fd)


def test_traces_are_those_of_the_whole_run(measured):
    before, after, fd, numbers, arrays = measured
    grand_mean = before.mean()
    raw, standardised = compute_dvars(before)
    np.testing.assert_allclose(arrays["dvars"], 100 * raw / grand_mean, rtol=1e-5)
    np.testing.assert_allclose(arrays["dvars_std_before"], standardised, rtol=1e-5)
    np.testing.assert_allclose(arrays["dvars_std_after"], compute_dvars(after)[1], rtol=1e-5)
    np.testing.assert_allclose(arrays["global"], 100 * (before.mean(axis=1) / grand_mean - 1), atol=1e-4)
    np.testing.assert_array_equal(arrays["fd"], fd.astype(np.float32))
    assert numbers["dvars_mean"] == pytest.approx(np.nanmean(100 * raw / grand_mean), rel=1e-4)
    assert numbers["dvars_std_max_before"] == pytest.approx(np.nanmax(standardised), rel=1e-4)
    assert numbers["global_sd"] == pytest.approx(100 * before.mean(axis=1).std() / grand_mean, rel=1e-4)


def test_numbers_of_the_sample_are_those_of_every_third_voxel(measured):
    before, after, fd, numbers, arrays = measured
    sample = np.arange(0, N_VOXELS, STEP)
    np.testing.assert_array_equal(arrays["voxel"], sample)
    sd = before[:, sample].std(axis=0)
    r = [np.corrcoef(before[:, v], after[:, v])[0, 1] for v in sample]
    assert numbers["sd_before"] == pytest.approx(100 * np.median(sd) / before.mean(), rel=1e-3)
    assert numbers["variance_kept"] == pytest.approx(np.median(np.square(r)), rel=1e-3)
    for name, series in (("before", before), ("after", after)):
        signal = series.mean(axis=1)
        assert numbers[f"r_global_{name}"] == pytest.approx(
            np.median([abs(np.corrcoef(series[:, v], signal)[0, 1]) for v in sample]), rel=1e-3
        )
        assert numbers[f"r_fd_{name}"] == pytest.approx(
            np.median([abs(np.corrcoef(series[1:, v], fd[1:])[0, 1]) for v in sample]), rel=1e-3
        )
        assert numbers[f"r_dvars_fd_{name}"] == pytest.approx(
            np.corrcoef(compute_dvars(series)[1][1:], fd[1:])[0, 1], rel=1e-3
        )


def test_variance_kept_is_the_share_that_cleaning_leaves_of_the_variance():
    before, _ = make_run()
    after = clean_bold(before, 2.0, standardize=False)
    numbers, _ = watch(before, after)
    shares = (after.var(axis=0) / before.var(axis=0))[::STEP]
    assert numbers["variance_kept"] == pytest.approx(np.median(shares), rel=1e-3)


def test_a_planted_spike_is_found_at_its_scan_and_cleaning_takes_it_away(measured):
    *_, numbers, arrays = measured
    assert set(np.flatnonzero(arrays["dvars_std_before"] > 1.5)) == {SPIKE, SPIKE + 1}
    assert numbers["n_dvars_spikes_before"] == 2 and numbers["n_dvars_spikes_after"] == 0
    assert numbers["n_fd_spikes"] == 1 and numbers["fd_max"] == 0.9
    assert numbers["r_fd_after"] < 0.2 * numbers["r_fd_before"]
    column_before, column_after = (unpack_carpet(arrays[f"carpet_{stage}"])[:, SPIKE].mean() for stage in ("before", "after"))
    assert column_before > 2 > 0.5 > abs(column_after)


def test_edges_are_the_correlations_of_the_nodes_and_a_missing_voxel_has_none(measured):
    before, after, *_, arrays = measured
    nodes = arrays["nodes"]
    np.testing.assert_array_equal(nodes, np.arange(0, N_VOXELS, 3 * STEP))
    np.testing.assert_allclose(arrays["edges_after"], connect_regions(after[:, nodes]), atol=1e-3)
    keep = np.ones(N_VOXELS, bool)
    keep[nodes[4]] = False
    _, fewer = watch(before, after, keep=keep)
    first, second = np.triu_indices(len(nodes), 1)
    np.testing.assert_array_equal(np.isnan(fewer["edges_after"]), (first == 4) | (second == 4))
    assert len(fewer["voxel"]) == len(arrays["voxel"]) - 1


def test_equal_input_gives_equal_numbers_and_bytes(measured):
    before, after, fd, numbers, arrays = measured
    again, same = watch(before, after, fd)
    assert json.dumps(again) == json.dumps(numbers)
    assert {name: array.tobytes() for name, array in same.items()} == {name: array.tobytes() for name, array in arrays.items()}


def test_without_motion_its_numbers_are_absent():
    before, _ = make_run()
    numbers, arrays = watch(before, clean_bold(before, 2.0))
    assert numbers["r_fd_before"] is None and "fd_mean" not in numbers and "fd" not in arrays


def test_centred_series_have_no_percent_but_all_else():
    before, fd = make_run()
    before = before - before.mean(axis=0)
    numbers, arrays = watch(before, clean_bold(before, 2.0), fd)
    assert numbers["dvars_mean"] is None and numbers["sd_before"] is None and numbers["global_sd"] is None
    assert numbers["dvars_std_mean_before"] == pytest.approx(1, abs=0.15)


def test_a_run_without_a_usable_voxel_is_no_error():
    numbers, arrays = RunQuality(N_SCANS, N_VOXELS).finish()
    json.dumps(numbers, allow_nan=False)
    assert numbers["dvars_mean"] is None and arrays["carpet_before"].shape == (0, N_SCANS)
    assert np.isnan(arrays["edges_before"]).all()


def test_memory_does_not_grow_with_the_voxels():
    n_scans, n_voxels = 1200, 100_000
    quality = RunQuality(n_scans, n_voxels)
    strip = np.random.default_rng(0).normal(size=(n_scans, 250)) + 100
    tracemalloc.start()
    for start in range(0, n_voxels, 250):
        if start < 5000 or start % 10_000 == 0:  # the strips between these would add the same again
            quality.add(np.arange(start, start + 250), strip, strip)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5e6
