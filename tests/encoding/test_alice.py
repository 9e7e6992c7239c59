"""Real data: listening to Alice in Wonderland. The left posterior temporal lobe follows the words best of six regions."""

import numpy as np
import pytest
from scipy import stats

from sparkneuro.encoding.ridge import fit_ridge
from sparkneuro.encoding.significance import circular_shift_null

REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
N_SCANS, T_R, CUTOFF = 362, 2.0, 128.0
HALVES = (slice(0, 181), slice(181, 362))
pytestmark = pytest.mark.processes  # takes seconds
ALPHAS = np.logspace(-1, 5, 13)
UNUSABLE = ("s33",)  # constant


@pytest.fixture(scope="module")
def listeners(shared_data):
    """Features and BOLD of each subject and half, drifts slower than 128 s taken out of both."""
    folder = shared_data / "alice_fmri_roi" / "alice_data_shared"
    linguistic = np.loadtxt(next(folder.glob("sept18-generic-predictors*")))[10:]  # the first ten scans were not kept
    subjects = sorted(path.name[:3] for path in (folder / "6mm").iterdir())
    found = {}
    for subject in subjects:
        if subject not in UNUSABLE:
            Y = np.loadtxt(folder / "6mm" / f"{subject}-timecourses.txt")
            own = [np.loadtxt(folder / f"{subject}-{name}.txt") for name in ("rate", "sndpwr")]
            X = np.column_stack([linguistic, *own])
            found[subject] = [(without_drifts(X[half]), without_drifts(Y[half])) for half in HALVES]
    return found


def without_drifts(series):
    """Residuals of a constant, a line and cosines slower than the cut-off; z-scored."""
    n = len(series)
    order = int(2 * n * T_R / CUTOFF)
    cosines = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(order + 1)) / n)
    drifts = np.column_stack([cosines, np.linspace(-1, 1, n)])
    residual = series - drifts @ np.linalg.lstsq(drifts, series, rcond=None)[0]
    return residual / residual.std(axis=0)


@pytest.fixture(scope="module")
def scores(listeners):
    """Held-out r of each subject, half and region, and its null: trained on the other half of the story, in all subjects."""
    r, null = np.empty((len(listeners), 2, len(REGIONS))), 0
    for half in range(2):
        X, Y = (np.concatenate([data[1 - half][part] for data in listeners.values()]) for part in (0, 1))
        labels = np.repeat(np.arange(len(listeners)), 181)
        fit = fit_ridge(X, Y, ALPHAS, alpha_per_target=True, run_labels=labels)
        for place, data in enumerate(listeners.values()):
            test_X, test_Y = data[half]
            shifted, r[place, half] = circular_shift_null(test_Y, test_X @ fit.coef + fit.intercept)
            null = null + shifted / (2 * len(listeners))
    return r.mean(axis=1), null


def test_there_are_27_listeners(listeners):
    assert len(listeners) == 27


def test_the_left_posterior_temporal_lobe_stands_out(scores):
    r, null = scores
    mean = r.mean(axis=0)
    p = stats.ttest_1samp(np.arctanh(r), 0, alternative="greater").pvalue
    shifted_p = (1 + (null >= mean).sum(axis=0)) / (1 + len(null))
    for region, values in zip(REGIONS, zip(mean, p, shifted_p, strict=True), strict=True):
        print(f"{region:<6} r {values[0]:.3f}   p over subjects {values[1]:.1e}   p of circular shifts {values[2]:.4f}")
    best = REGIONS.index("LPTL")
    assert mean.argmax() == best
    assert mean[best] > 0.15 and p[best] < 1e-8
    assert shifted_p[best] == pytest.approx(1 / (1 + len(null)))  # no shift comes near
