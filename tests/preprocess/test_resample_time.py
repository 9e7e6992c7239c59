import numpy as np
import pytest
from scipy.signal import resample_poly

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.resample_time import HALF_WIDTH, TimeResampler, count_resampled, same_t_r

RATIOS = [(400, 1.35, 2.0), (1000, 0.72, 2.5), (401, 0.8, 2.0), (400, 2.0, 1.35), (200, 2.0, 2.05), (150, 3.0, 0.72)]


def sample_sine(frequency, phase, t_r, n_scans):
    """A sine of 1 row, at the times of scans; frequency in Hz."""
    return np.sin(2 * np.pi * frequency * t_r * np.arange(n_scans) + phase)[None]


def inner(resampled, new_t_r, coarser):
    """The scans that the filter reaches neither end of the run from."""
    edge = int(np.ceil(HALF_WIDTH * coarser / new_t_r))
    return resampled[:, edge:-edge]


@pytest.mark.parametrize(("n_scans", "t_r", "new_t_r"), RATIOS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.85])
def test_a_sine_below_the_new_nyquist_keeps_amplitude_and_phase(n_scans, t_r, new_t_r, share):
    coarser = max(t_r, new_t_r)
    for phase in (0.3, 2.0):
        frequency = share * 0.5 / coarser
        resampler = TimeResampler(n_scans, t_r, new_t_r)
        resampled = resampler.resample(sample_sine(frequency, phase, t_r, n_scans))
        expected = sample_sine(frequency, phase, new_t_r, resampler.n_resampled)
        assert np.abs(inner(resampled - expected, new_t_r, coarser)).max() < 0.01


@pytest.mark.parametrize(("n_scans", "t_r", "new_t_r"), [ratio for ratio in RATIOS if ratio[2] > 1.3 * ratio[1]])
@pytest.mark.parametrize("share", [1.05, 1.2])
def test_a_sine_above_the_new_nyquist_is_suppressed_by_40_decibels(n_scans, t_r, new_t_r, share):
    frequency = share * 0.5 / new_t_r
    resampled = TimeResampler(n_scans, t_r, new_t_r).resample(sample_sine(frequency, 0.4, t_r, n_scans))
    assert 20 * np.log10(np.abs(inner(resampled, new_t_r, new_t_r)).max()) < -40
    kept = np.sqrt(2 * (resampled**2).mean())
    assert 20 * np.log10(kept) < -15 and np.abs(resampled).max() < 1  # the kink where the run is mirrored, at the very ends


@pytest.mark.parametrize(("n_scans", "t_r", "new_t_r"), [*RATIOS, (7, 1.35, 2.0), (30, 0.72, 3.1)])
def test_a_constant_stays_constant_to_the_ends(n_scans, t_r, new_t_r):
    resampled = TimeResampler(n_scans, t_r, new_t_r).resample(np.full((3, n_scans), 1234.5))
    np.testing.assert_allclose(resampled, 1234.5, rtol=1e-12)


@pytest.mark.parametrize(("n_scans", "t_r", "new_t_r"), RATIOS)
def test_the_time_axis_is_right_to_a_hundredth_of_a_scan(n_scans, t_r, new_t_r):
    coarser = max(t_r, new_t_r)
    frequency = 0.2 * 0.5 / coarser
    resampler = TimeResampler(n_scans, t_r, new_t_r)
    resampled = inner(resampler.resample(sample_sine(frequency, 0, t_r, n_scans)), new_t_r, coarser)[0]
    first = int(np.ceil(HALF_WIDTH * coarser / new_t_r))
    times = (first + np.arange(len(resampled))) * new_t_r
    sine, cosine = np.sin(2 * np.pi * frequency * times), np.cos(2 * np.pi * frequency * times)
    for part in (slice(0, len(times) // 2), slice(len(times) // 2, None)):  # neither a shift nor a drift
        weights = np.linalg.lstsq(np.c_[sine, cosine][part], resampled[part], rcond=None)[0]
        delay = np.arctan2(weights[1], weights[0]) / (2 * np.pi * frequency)
        assert abs(delay) < 0.01 * t_r


def test_a_pulse_comes_out_when_it_went_in():
    pulse = np.exp(-0.5 * ((np.arange(300) * 1.35 - 200) / 8) ** 2)[None]
    resampled = TimeResampler(300, 1.35, 2.0).resample(pulse)[0]
    times = np.arange(len(resampled)) * 2.0
    assert abs((times * resampled).sum() / resampled.sum() - 200) < 0.01
    np.testing.assert_allclose(resampled, np.exp(-0.5 * ((times - 200) / 8) ** 2), atol=1e-3)


def test_for_a_rational_ratio_it_is_what_a_polyphase_filter_gives():
    slow = np.random.default_rng(0).normal(size=(2, 60)).repeat(10, axis=1)  # smooth enough for both filters
    slow = np.apply_along_axis(lambda row: np.convolve(row, np.hanning(41) / 20, mode="same"), 1, slow)
    ours = TimeResampler(600, 1.0, 1.5).resample(slow)
    theirs = resample_poly(slow, 2, 3, axis=1)
    assert abs(ours.shape[1] - theirs.shape[1]) <= 1
    np.testing.assert_allclose(ours[:, 40:-40], theirs[:, 40 : ours.shape[1] - 40], atol=5e-3)


def test_equal_repetition_times_leave_every_bit_untouched():
    series = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    assert TimeResampler(50, 0.72, 0.7200000286).resample(series) is series
    assert same_t_r(0.72, 0.7200000286) and not same_t_r(2.0, 2.001)


def test_the_result_ends_where_the_run_does():
    for n_scans, t_r, new_t_r in RATIOS:
        last = (count_resampled(n_scans, t_r, new_t_r) - 1) * new_t_r
        assert last <= (n_scans - 1) * t_r + 1e-6 < last + new_t_r
    assert count_resampled(101, 0.1, 0.2) == 51  # the last scans meet, whatever floats say of a tenth


def test_the_type_and_the_input_are_kept():
    series = np.random.default_rng(0).normal(size=(3, 80)).astype(np.float32)
    before = series.copy()
    assert TimeResampler(80, 1.0, 2.0).resample(series).dtype == np.float32
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((100, 0.0, 2.0), "t_r must be a number above 0"), ((3, 1.0, 2.5), "3 scans of 1 s hold no two of 2.5 s")],
)
def test_what_cannot_be_resampled_is_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        TimeResampler(*arguments)


def test_series_of_another_length_are_refused():
    with pytest.raises(SettingsError, match=r"series must have shape \(n_voxels, 80\); got \(3, 81\)"):
        TimeResampler(80, 1.0, 2.0).resample(np.zeros((3, 81)))
