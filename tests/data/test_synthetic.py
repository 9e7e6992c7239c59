import numpy as np
import pytest
from nilearn.glm.first_level import glover_hrf

from sparkneuro.data import synthetic


def correlate(first, second):
    """Pearson r of the rows of two matrices."""
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    return (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))


@pytest.fixture(scope="module")
def simulation():
    """A run as the sample has it: maps, time courses, bold, truth, amplitudes."""
    mask, _ = synthetic.make_brain()
    maps = synthetic.make_networks(np.random.default_rng(0), mask)
    events = synthetic.make_events(np.random.default_rng(0), 284)
    series = synthetic.make_time_courses(events, 284)
    return mask, maps, series, *synthetic.make_run(np.random.default_rng(1), maps, series, 0.9)


def test_the_haemodynamic_response_is_glovers():
    theirs = glover_hrf(1.0, oversampling=10, time_length=32.0)
    assert np.corrcoef(synthetic.haemodynamic_response(0.1), theirs)[0, 1] > 0.999


@pytest.mark.parametrize("n_scans", [60, 284, 500])
def test_blocks_follow_each_other_within_the_run_each_after_its_cue(n_scans):
    events = synthetic.make_events(np.random.default_rng(5), n_scans)
    assert [name == "cue" for _, _, name in events] == [True, False] * (len(events) // 2)
    for (onset, duration, _), (following, _, _) in zip(events, events[1:], strict=False):
        assert onset + duration <= following
    assert events[-1][0] + events[-1][1] <= n_scans * synthetic.T_R


def test_two_rounds_show_every_movement_twice():
    names = [name for _, _, name in synthetic.make_events(np.random.default_rng(5), 284)]
    assert {name: names.count(name) for name in synthetic.CONDITIONS} == {"cue": 10, **dict.fromkeys(synthetic.CONDITIONS[1:], 2)}


def test_a_time_course_rises_after_its_block_and_comes_back():
    series = synthetic.make_time_courses([(30.0, 12.0, "tongue")], 200)[:, synthetic.CONDITIONS.index("tongue")]
    time = np.arange(200) * synthetic.T_R
    assert np.all(series[time <= 30] == 0) and 36 < time[series.argmax()] < 48 and abs(series[time > 90]).max() < 1e-3


def test_networks_are_smooth_lie_in_the_brain_and_overlap_a_little(simulation):
    mask, maps = simulation[:2]
    assert maps.shape == (6, *synthetic.SHAPE) and maps.min() == 0 and 0.9 < maps.max() <= 1 and not maps[:, ~mask].any()
    strong = maps > 0.5
    assert 0 < (strong.sum(axis=0) > 1).sum() < 0.2 * strong.any(axis=0).sum()


def test_noise_has_unit_variance_autocorrelation_and_a_drift():
    noise = synthetic.make_noise(np.random.default_rng(2), 4000, 300)
    fast = np.diff(noise, axis=0)  # the drift all but vanishes
    r1 = 0.6 * 0.4  # lag-one autocorrelation of the sum
    assert fast.var() == pytest.approx(2 * (1 - r1), rel=0.02)
    assert noise.var(axis=0).mean() == pytest.approx(1 + 3 * 0.3**2, rel=0.05)


def test_the_truth_is_the_formula_and_the_run_is_the_truth_plus_noise(simulation):
    mask, maps, series, bold, truth, amplitudes = simulation
    _, baseline = synthetic.make_brain()
    percent = np.einsum("kxyz,tk,k->xyzt", maps, series, amplitudes)
    np.testing.assert_allclose(truth, baseline[..., None] * (1 + percent / 100), rtol=1e-5)
    noise = 100 * (bold - truth)[mask] / baseline[mask][:, None]
    assert np.diff(noise).std() == pytest.approx(0.9 * np.sqrt(2 * (1 - 0.24)), rel=0.02)


def test_planted_voxels_resemble_their_truth_by_half(simulation):
    mask, maps, _, bold, truth, _ = simulation
    planted = (maps > 0.5).any(axis=0)
    trend = np.vander(np.arange(284), 2)
    raw, clean = (rows - (trend @ np.linalg.lstsq(trend, rows.T, rcond=None)[0]).T for rows in (bold[planted], truth[planted]))
    assert 0.4 < np.median(correlate(raw, clean)) < 0.6


def test_equal_seeds_give_equal_runs(simulation):
    _, maps, series, bold, truth, _ = simulation
    again = synthetic.make_run(np.random.default_rng(1), maps, series, 0.9)
    np.testing.assert_array_equal(again[0], bold)
    other = synthetic.make_run(np.random.default_rng(2), maps, series, 0.9)
    assert not np.array_equal(other[0], bold) and not np.array_equal(other[1], truth)
