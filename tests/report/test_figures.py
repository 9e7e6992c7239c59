"""Charts are well-formed SVG and hold every part that they promise."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")

from sparkneuro.report import figures  # noqa: E402


def count_panels(svg):
    """Number of axes in an SVG of matplotlib."""
    ElementTree.fromstring(svg)
    return len(re.findall(rb'id="axes_\d+"', svg))


def make_history(n_epochs, staleness=True, validation=True):
    """A training's course."""
    return [
        {
            "epoch": epoch, "loss": 90 / epoch, "validation_loss": 95 / epoch if validation else None, "series_per_s": 800.0,
            "staleness_mean": 0.7 if staleness else None, "staleness_max": 2 if staleness else None, "seconds": 30.0 * epoch,
        }
        for epoch in range(1, n_epochs + 1)
    ]


@pytest.mark.parametrize("n_epochs", [1, 2, 30])
@pytest.mark.parametrize("staleness", [True, False])
@pytest.mark.parametrize("validation", [True, False])
def test_a_training_of_any_kind_is_drawn(n_epochs, staleness, validation):
    history = make_history(n_epochs, staleness, validation)
    assert count_panels(figures.draw_losses(history, 40)) == 2
    assert count_panels(figures.draw_speed(history)) == (2 if staleness else 1)


@pytest.mark.parametrize(("n_filters", "t_r"), [(32, 2.0), (4, None), (11, 0.72)])
def test_every_filter_has_a_panel(n_filters, t_r):
    kernel = np.random.default_rng(0).standard_normal((21, n_filters))
    svg = figures.draw_filters(kernel, t_r)
    # Panels that stay empty to fill the last row are axes without a line.
    assert count_panels(svg) == -(-n_filters // 8) * 8 if n_filters > 8 else n_filters


def test_a_filter_bank_of_zeros_is_drawn():
    assert count_panels(figures.draw_filters(np.zeros((5, 3)))) == 3


def test_every_series_has_a_panel():
    rng = np.random.default_rng(0)
    series, reconstructions = rng.standard_normal((2, 3, 33))
    examples = [
        {"name": "x < 3 & more", "series": series[n], "reconstruction": reconstructions[n], "correlation": 0.1} for n in range(3)
    ]
    assert count_panels(figures.draw_reconstructions(examples, 2.0, "z-score")) == 3


def test_errors_and_distributions_are_drawn():
    assert count_panels(figures.draw_errors(np.linspace(1, 0, 41), {"autoencoder": 0.3}, "z-score²")) == 1
    values = np.array([0.1, np.nan, 0.5, 0.4])
    assert count_panels(figures.draw_distribution(values, "r", {"median": 0.4})) == 1


def test_the_same_values_give_the_same_bytes():
    errors = np.linspace(1, 0, 41)
    assert figures.draw_errors(errors, {"x": 0.3}, "") == figures.draw_errors(errors, {"x": 0.3}, "")
