"""Seeded task fMRI with a known truth: a small brain, planted networks, a motor task's events, and noise. Arrays only.

The signal of voxel v in scan t is ``baseline[v] * (1 + (sum_k maps[k, v] * series[t, k] + noise[t, v]) / 100)``: networks and
noise are in percent of the baseline, as BOLD is.
"""

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter
from scipy.stats import gamma

SHAPE = (24, 28, 22)
VOXEL_SIZE = 6.0
AFFINE = np.array([[VOXEL_SIZE, 0, 0, -69], [0, VOXEL_SIZE, 0, -99], [0, 0, VOXEL_SIZE, -51], [0, 0, 0, 1.0]])
"""From voxel indices to mm, near MNI space."""

T_R = 0.72
"""Repetition time (s) of the motor task of the Human Connectome Project, which the design follows."""

CONDITIONS = ("cue", "left_finger", "right_finger", "left_toe", "right_toe", "tongue")
# condition -> (width as a standard deviation, centres), in mm; cue is seen, the others are moved
BLOBS = {
    "cue": (15.0, [(-14, -80, 2), (14, -80, 2)]),
    "left_finger": (12.0, [(36, -22, 44), (-20, -54, -18)]),
    "right_finger": (12.0, [(-36, -22, 44), (20, -54, -18)]),
    "left_toe": (11.0, [(10, -34, 54), (-16, -36, -22)]),
    "right_toe": (11.0, [(-10, -34, 54), (16, -36, -22)]),
    "tongue": (12.0, [(48, -8, 24), (-48, -8, 24)]),
}
CUE_SECONDS, MOVE_SECONDS, REST_SECONDS = 3.0, 12.0, 15.0
PEAK = 2.0
"""Response of a network's centre, in percent of the baseline, of an average subject."""


def make_events(rng, n_scans, t_r=T_R):
    """Lay out the blocks of a motor task: a cue, then a movement; every movement once a round, then rest.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the order of each round.
    n_scans : int
        Scans of the run.
    t_r : float
        Repetition time (s).

    Returns
    -------
    events : list of tuple of (float, float, str)
        Onset (s), duration (s) and condition; only blocks that the run holds whole.
    """
    events, time, end = [], 11.0, n_scans * t_r
    while True:
        for movement in rng.permutation(CONDITIONS[1:]).tolist():
            if time + CUE_SECONDS + MOVE_SECONDS > end:
                return events
            events += [(time, CUE_SECONDS, "cue"), (time + CUE_SECONDS, MOVE_SECONDS, movement)]
            time += CUE_SECONDS + MOVE_SECONDS
        time += REST_SECONDS


def haemodynamic_response(step, length=32.0):
    """Sample the BOLD response to a short event: the difference of two gamma densities, with Glover's parameters.

    Parameters
    ----------
    step : float
        Time between samples (s).
    length : float
        Time covered (s).

    Returns
    -------
    response : ndarray of shape (n_samples,)
        Response, summing to 1.

    References
    ----------
    Glover (1999), Deconvolution of impulse response in event-related BOLD fMRI, NeuroImage 9.

    Examples
    --------
    >>> response = haemodynamic_response(0.1)
    >>> bool(4.5 < response.argmax() * 0.1 < 6.0)
    True
    """
    time = np.arange(0, length, step)
    response = gamma.pdf(time, 6 / 0.9, scale=0.9) - 0.48 * gamma.pdf(time, 12 / 0.9, scale=0.9)
    return response / response.sum()


def make_time_courses(events, n_scans, t_r=T_R, oversampling=20):
    """Turn events into the time course of each condition's network: its boxcar convolved with the haemodynamic response.

    Parameters
    ----------
    events : list of tuple of (float, float, str)
        Onset (s), duration (s) and condition.
    n_scans : int
        Scans of the run.
    t_r : float
        Repetition time (s).
    oversampling : int
        Steps of the convolution in a scan.

    Returns
    -------
    series : ndarray of shape (n_scans, n_conditions)
        In the order of `CONDITIONS`; 1 is the response to a block that lasts for ever.
    """
    step = t_r / oversampling
    response = haemodynamic_response(step)
    series = np.zeros((n_scans, len(CONDITIONS)))
    for column, condition in enumerate(CONDITIONS):
        boxcar = np.zeros(n_scans * oversampling)
        for onset, duration, name in events:
            if name == condition:
                boxcar[round(onset / step) : round((onset + duration) / step)] = 1
        series[:, column] = np.convolve(boxcar, response)[: len(boxcar) : oversampling]
    return series


def make_brain():
    """Make the brain: an ellipsoid of voxels, and what they measure without any activity.

    Returns
    -------
    mask : ndarray of shape `SHAPE`, bool
        The brain.
    baseline : ndarray of shape `SHAPE`, float64
        Mean signal, arbitrary unit: about 10,000 in the brain, 200 outside.
    """
    x, y, z = _coordinates()
    mask = (x / 60) ** 2 + ((y + 18) / 76) ** 2 + ((z - 12) / 54) ** 2 <= 1
    shading = 1 + 0.15 * np.cos(x / 50) + 0.1 * np.sin(y / 40) - 0.05 * z / 60
    softened = gaussian_filter(mask.astype(np.float64), 0.5)
    return mask, 200 + 9800 * shading * np.where(mask, 0.7 + 0.3 * softened, 0.08 * softened)


def make_networks(rng, mask):
    """Plant one network a condition: smooth blobs, a few mm off their usual place.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws where exactly.
    mask : ndarray of shape `SHAPE`, bool
        The brain.

    Returns
    -------
    maps : ndarray of shape (n_conditions, x, y, z), float32
        Weights from 0 to 1; 0 outside the brain and where they would be below 0.05.
    """
    grid = np.stack(_coordinates())
    maps = np.zeros((len(CONDITIONS), *SHAPE), np.float32)
    for weights, condition in zip(maps, CONDITIONS, strict=True):
        width, centres = BLOBS[condition]
        for centre in centres:
            place = np.asarray(centre, np.float64) + rng.normal(0, 2.0, size=3)
            distance = ((grid - place[:, None, None, None]) ** 2).sum(axis=0)
            np.maximum(weights, np.exp(-distance / (2 * width**2)), out=weights)
        weights[(weights < 0.05) | ~mask] = 0
    return maps


def make_noise(rng, n_scans, n_voxels):
    """Draw the noise of a run: autoregressive, white, and a slow drift, each voxel its own.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws it.
    n_scans, n_voxels : int
        Size.

    Returns
    -------
    noise : ndarray of shape (n_scans, n_voxels)
        Its fast part has a standard deviation of 1: 60 % of the variance AR(1) with coefficient 0.4, 40 % white. The drift is
        a line and two cosines of at most one period a run, each with a standard deviation of 0.3.
    """
    coefficient, warm_up = 0.4, 20
    shocks = rng.standard_normal((n_scans + warm_up, n_voxels))
    autoregressive = lfilter([np.sqrt(1 - coefficient**2)], [1, -coefficient], shocks, axis=0)[warm_up:]
    fast = np.sqrt(0.6) * autoregressive + np.sqrt(0.4) * rng.standard_normal((n_scans, n_voxels))
    phase = (np.arange(n_scans) + 0.5) / n_scans
    drifts = np.stack([np.sqrt(3) * (2 * phase - 1), np.sqrt(2) * np.cos(np.pi * phase), np.sqrt(2) * np.cos(2 * np.pi * phase)])
    for drift in drifts:
        fast += 0.3 * drift[:, None] * rng.standard_normal(n_voxels)
    return fast


def make_run(rng, maps, series, noise_level):
    """Simulate one subject's run.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the subject's response and the noise.
    maps : ndarray of shape (n_conditions, x, y, z)
        Networks.
    series : ndarray of shape (n_scans, n_conditions)
        Time courses of an average subject.
    noise_level : float
        Standard deviation of the noise's fast part, in percent of the baseline.

    Returns
    -------
    bold : ndarray of shape (x, y, z, n_scans), float32
        What a scanner would measure.
    truth : ndarray of shape (x, y, z, n_scans), float32
        The same without noise.
    amplitudes : ndarray of shape (n_conditions,)
        The subject's responses, in percent of the baseline.
    """
    mask, baseline = make_brain()
    amplitudes = PEAK * np.exp(rng.normal(0, 0.15, size=len(maps)))
    percent = np.zeros((len(series), int(mask.sum())))
    for weights, course, amplitude in zip(maps[:, mask], series.T, amplitudes, strict=True):
        percent += amplitude * course[:, None] * weights
    truth = np.repeat(baseline[None], len(series), axis=0)
    bold = truth + 20 * rng.standard_normal(truth.shape)
    truth[:, mask] = baseline[mask] * (1 + percent / 100)
    percent += noise_level * make_noise(rng, len(series), percent.shape[1])
    bold[:, mask] = baseline[mask] * (1 + percent / 100)
    return np.moveaxis(np.abs(bold), 0, -1).astype(np.float32), np.moveaxis(truth, 0, -1).astype(np.float32), amplitudes


def _coordinates():
    """Coordinates in mm of every voxel: three arrays of shape `SHAPE`."""
    indices = np.indices(SHAPE, dtype=np.float64)
    return [indices[axis] * AFFINE[axis, axis] + AFFINE[axis, 3] for axis in range(3)]
