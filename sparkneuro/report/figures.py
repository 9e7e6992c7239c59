"""Charts of a training and of what a model learned: plain values in, SVG out."""

from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"  # told apart by colour-blind readers (Okabe and Ito)
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4",
    "axes.axisbelow": True, "legend.frameon": False, "svg.fonttype": "path", "svg.hashsalt": "sparkneuro",
}


def draw_losses(history, series_length):
    """Draw training and validation loss over epochs and over time.

    Parameters
    ----------
    history : list of dict
        One an epoch: epoch, loss, validation_loss (or None), seconds.
    series_length : int
        Samples T of a series; a reconstruction of zeros costs T / 2 where series are z-scored.

    Returns
    -------
    svg : bytes
        The picture.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        minutes = max(row["seconds"] for row in history) > 180
        axes = (("epoch", "epoch", 1), ("seconds", f"time since the start ({'min' if minutes else 's'})", 60 if minutes else 1))
        for panel, (key, label, unit) in zip(panels, axes, strict=True):
            for name, text, colour in (("loss", "training", BLUE), ("validation_loss", "validation", ORANGE)):
                points = [(row[key] / unit, row[name]) for row in history if row.get(name) is not None]
                if points:
                    panel.plot(*zip(*points, strict=True), "o-", ms=3.5, lw=1.4, color=colour, label=text)
            panel.axhline(series_length / 2, color=GREY, lw=0.9, ls="--", label="z-scored series, reconstructed as zeros")
            panel.set_xlabel(label)
            panel.set_ylim(bottom=0)
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[1].set_xlim(left=0)
        panels[0].set_ylabel("loss of a series")
        panels[1].legend(fontsize=8)
        return _to_svg(figure)


def draw_speed(history):
    """Draw throughput, and staleness where there is one, over epochs.

    Parameters
    ----------
    history : list of dict
        One an epoch: epoch, series_per_s, staleness_mean and staleness_max (or None).

    Returns
    -------
    svg : bytes
        The picture.
    """
    stale = [row for row in history if row.get("staleness_mean") is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6 if stale else 5.2, 2.8), layout="constrained")
        panels = figure.subplots(1, 2 if stale else 1, squeeze=False)[0]
        panels[0].plot(*_points(history, "series_per_s"), "o-", ms=3.5, lw=1.4, color=BLUE)
        panels[0].set_ylabel("throughput (series/s)")
        if stale:
            panels[1].plot(*_points(stale, "staleness_max"), "o-", ms=3.5, lw=1.4, color=GREY, label="largest")
            panels[1].plot(*_points(stale, "staleness_mean"), "o-", ms=3.5, lw=1.4, color=ORANGE, label="mean")
            panels[1].set_ylabel("staleness of a push (updates)")
            panels[1].legend(fontsize=8)
        for panel in panels:
            panel.set_xlabel("epoch")
            panel.set_ylim(bottom=0)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _to_svg(figure)


def draw_reconstructions(examples, t_r, unit):
    """Draw a few series under their reconstructions.

    Parameters
    ----------
    examples : list of dict
        name, series and reconstruction (ndarray of shape (n_scans,)), correlation.
    t_r : float or None
        Repetition time (s); None where runs differ.
    unit : str
        Of the series.

    Returns
    -------
    svg : bytes
        The picture.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.5 + 1.45 * len(examples)), layout="constrained")
        panels = figure.subplots(len(examples), 1, squeeze=False, sharex=True)[:, 0]
        for panel, example in zip(panels, examples, strict=True):
            time = np.arange(len(example["series"])) * (t_r or 1)
            panel.plot(time, example["series"], lw=1.1, color=GREY, label="original")
            panel.plot(time, example["reconstruction"], lw=1.3, color=ORANGE, label="reconstruction")
            panel.set_title(f"{example['name']}: r = {example['correlation']:.2f}", loc="left", fontsize=9)
            panel.set_ylabel(unit, fontsize=8)
            panel.margins(x=0.005)
        panels[0].legend(fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        panels[-1].set_xlabel("time (s)" if t_r else "time (scans)")
        return _to_svg(figure)


def draw_filters(kernel, t_r=None):
    """Draw every filter of a first convolution, on one scale.

    Parameters
    ----------
    kernel : ndarray of shape (n_samples, n_filters)
        Weights.
    t_r : float or None
        Repetition time (s); None where runs differ.

    Returns
    -------
    svg : bytes
        The picture.
    """
    n_samples, n_filters = kernel.shape
    n_columns = min(8, n_filters)
    n_rows = -(-n_filters // n_columns)
    lags = (np.arange(n_samples) - n_samples // 2) * (t_r or 1)
    largest = 1.05 * np.abs(kernel).max() or 1.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.4 + 1.05 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
        for place, panel in enumerate(panels.ravel()):
            if place >= n_filters:
                panel.set_axis_off()
                continue
            panel.axhline(0, color=GREY, lw=0.6)
            panel.plot(lags, kernel[:, place], lw=1.2, color=BLUE)
            panel.set_ylim(-largest, largest)
            panel.set_title(str(place + 1), fontsize=7, pad=1.5)
            panel.tick_params(labelsize=7)
        figure.supxlabel(f"lag ({'s' if t_r else 'scans'})", fontsize=9)
        figure.supylabel("weight", fontsize=9)
        return _to_svg(figure)


def draw_errors(pca_errors, levels, unit):
    """Draw the error of PCA against its number of components, with other methods as horizontal lines.

    Parameters
    ----------
    pca_errors : ndarray of shape (n_scans + 1,)
        Mean squared error with 0, 1, ..., n_scans components.
    levels : dict of str to float
        Mean squared error of other methods, by name.
    unit : str
        Of the errors.

    Returns
    -------
    svg : bytes
        The picture.
    """
    n_scans = len(pca_errors) - 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        panel = figure.subplots()
        panel.plot(np.arange(n_scans + 1), pca_errors, lw=1.6, color=BLUE, label="PCA")
        for share, name in ((4, "T/4"), (2, "T/2")):
            place = n_scans // share
            panel.plot(place, pca_errors[place], "o", color=BLUE, ms=5)
            panel.annotate(
                name, (place, pca_errors[place]), textcoords="offset points", xytext=(-8, -12), fontsize=8, ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
        # A method that is far worse than no component at all would press the others together: it is named, not drawn.
        top = 1.6 * pca_errors[0]
        for (name, level), (colour, dashes) in zip(levels.items(), ((ORANGE, "-"), (GREEN, "--")), strict=False):
            if level <= top:
                panel.axhline(level, color=colour, ls=dashes, lw=1.6, label=name)
            else:
                panel.plot([], [], color=colour, ls=dashes, lw=1.6, label=f"{name}: {level:.3g}, above this chart")
        panel.set_xlabel("principal components")
        panel.set_ylabel(f"mean squared error ({unit})")
        panel.set_xlim(0, n_scans)
        panel.set_ylim(0, 1.08 * max([pca_errors[0], *(level for level in levels.values() if level <= top)]))
        panel.legend(fontsize=8)
        return _to_svg(figure)


def draw_distribution(values, label, reference=None):
    """Draw how values are distributed over rows.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
        Finite ones are drawn.
    label : str
        What they are, and their unit.
    reference : dict of str to float or None
        Vertical lines, by name.

    Returns
    -------
    svg : bytes
        The picture.
    """
    values = values[np.isfinite(values)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        panel = figure.subplots()
        panel.hist(values, bins=60, color=BLUE, alpha=0.85)
        for name, value in (reference or {}).items():
            panel.axvline(value, color=ORANGE, lw=1.4, label=f"{name}: {value:.3g}")
        if reference:
            panel.legend(fontsize=8)
        panel.set_xlabel(label)
        panel.set_ylabel("rows")
        return _to_svg(figure)


def _points(history, name):
    return zip(*[(row["epoch"], row[name]) for row in history if row.get(name) is not None], strict=True)


def _to_svg(figure):
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()
