"""Pictures of penalties and scores show the numbers that they were given."""

import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from matplotlib.axes import Axes  # noqa: E402

from sparkneuro.report import encoding  # noqa: E402

ALPHAS = (0.1, 1.0, 100.0, 1200.0, 3e6)


def texts_of(svg):
    """Words of an SVG of matplotlib, which draws them as paths and says them in comments."""
    ElementTree.fromstring(svg)
    return [unescape(text.decode()) for text in re.findall(rb"<!-- (.*?) -->", svg)]


@pytest.fixture
def stairs(monkeypatch):
    """What `stairs` was called with: a list of (heights, edges)."""
    calls, real = [], Axes.stairs

    def record(self, values, edges=None, **options):
        calls.append((np.array(values), np.array(edges)))
        return real(self, values, edges, **options)

    monkeypatch.setattr(Axes, "stairs", record)
    return calls


@pytest.fixture
def slices(monkeypatch):
    """What `draw_slices` was called with: a list of dict."""
    calls = []
    monkeypatch.setattr(encoding, "draw_slices", lambda *values, **options: calls.append((values, options)) or b"PNG")
    return calls


def test_each_penalty_has_a_bar_with_its_share_of_the_targets():
    chosen = np.array([0.1] * 80 + [1.0] + [100.0] * 279 + [3e6] * 440 + [np.nan])
    texts = texts_of(encoding.draw_alphas(ALPHAS, chosen))
    assert [text for text in texts if text.endswith("%")] == ["10%", "<1%", "35%", "55%"]
    assert {"0.1", "1", "100", "1200", r"$3.0\times10^{6}$", "targets (of 800)"} <= set(texts)


def test_many_penalties_have_few_labels():
    alphas = np.logspace(-3, 8, 45)
    texts = texts_of(encoding.draw_alphas(alphas, alphas[[3, 3, 17]]))
    assert not [text for text in texts if text.endswith("%")]
    assert len([text for text in texts if "10^" in text or re.fullmatch(r"[\d.]+", text)]) < 45


def test_one_penalty_is_marked_on_the_curve_of_its_losses():
    losses = [None, 0.7, 0.6, 0.9, None]
    texts = texts_of(encoding.draw_alphas(ALPHAS, 100.0, losses, "loss (gcv)"))
    assert "chosen: 100" in texts and "loss (gcv)" in texts and not [text for text in texts if "weighting" in text]


def test_the_best_of_several_weightings_stands_out():
    losses = [[0.8, 0.7, np.nan, 0.9, 1.0], [np.nan] * 5, [0.75, 0.5, 0.6, 0.9, 1.0], [50.0, 40.0, 60.0, 70.0, np.nan]]
    texts = texts_of(encoding.draw_alphas(ALPHAS, 1.0, losses))
    assert "chosen: 1" in texts and "3 other weightings" in texts


def test_a_flat_curve_is_drawn():
    assert "chosen: 1200" in texts_of(encoding.draw_alphas(ALPHAS, 1200.0, [[0.5] * 5, [0.5] * 5]))


def test_the_null_has_the_area_of_the_scores(stairs):
    rng = np.random.default_rng(0)
    r = np.append(rng.normal(0.3, 0.1, 700).clip(-1, 1), np.nan)
    null_counts = np.histogram(rng.normal(0, 0.1, 31_000), 200, range=(-1, 1))[0]
    texts = texts_of(encoding.draw_score_histogram(r, null_counts, label="r of a test"))
    (null, null_edges), (counts, edges) = stairs
    np.testing.assert_array_equal(null_edges, edges)
    np.testing.assert_array_equal(counts, np.histogram(r[:-1], edges)[0])
    assert null.sum() == pytest.approx(counts.sum()) and counts.sum() == 700
    merged = null_counts.reshape(len(null), -1).sum(axis=1)
    np.testing.assert_allclose(null / null.sum(), merged / merged.sum())
    assert {"r of a test", "targets", "700 targets", f"mean: {r[:-1].mean():.3f}"} <= set(texts)


@pytest.mark.parametrize("r", [[-0.5], [0.2, 0.2, 0.2], np.linspace(-1, 1, 5000), [np.nan, 1.0, -1.0]])
def test_every_score_is_in_the_window(r, stairs, monkeypatch):
    panels, real = [], Axes.set_xlabel
    monkeypatch.setattr(Axes, "set_xlabel", lambda self, label: panels.append(self) or real(self, label))
    encoding.draw_score_histogram(np.array(r))
    low, high = panels[0].get_xlim()
    assert low < np.nanmin(r) and high > np.nanmax(r)
    assert stairs[0][0].sum() == np.isfinite(r).sum()


def test_no_scores_and_an_empty_null_are_drawn():
    texts = texts_of(encoding.draw_score_histogram(np.full(3, np.nan), np.zeros(200)))
    assert "no target has a finite score" in texts


def test_correlations_of_both_signs_have_one_scale(slices):
    volume = np.full((3, 4, 5), np.nan)
    volume[1, 2, 3], volume[0, 0, 0], volume[2, 0, 0] = -0.4, 0.3, 0.9
    mask = np.ones(volume.shape, bool)
    mask[2] = False
    encoding.draw_correlation_map(volume, mask, np.eye(4))
    assert slices[0][1]["limits"] == (-0.4, 0.4)
    encoding.draw_correlation_map(np.full((3, 4, 5), np.nan), mask, np.eye(4))
    assert slices[1][1]["limits"] == (-1, 1)


def test_penalties_are_drawn_by_their_logarithm_between_the_ends_of_their_list(slices):
    volume = np.full((3, 4, 5), np.nan)
    volume[1, 2, 3] = 100.0
    encoding.draw_alpha_map(volume, np.ones(volume.shape, bool), np.eye(4), ALPHAS)
    (drawn, *_), options = slices[0]
    assert drawn[1, 2, 3] == 2 and np.isnan(drawn).sum() == 59
    np.testing.assert_allclose(options["limits"], (-1, np.log10(3e6)))


def test_maps_are_pictures():
    volume = np.random.default_rng(1).uniform(-1, 1, (5, 6, 4))
    mask = np.ones(volume.shape, bool)
    assert encoding.draw_correlation_map(volume, mask, np.eye(4)).startswith(b"\x89PNG")
    assert encoding.draw_alpha_map(np.full(volume.shape, 10.0), mask, np.eye(4), [10.0]).startswith(b"\x89PNG")


def test_the_same_scores_give_the_same_bytes():
    r = np.random.default_rng(2).uniform(-1, 1, 50)
    assert encoding.draw_score_histogram(r) == encoding.draw_score_histogram(r)
