"""Pictures of quality: a run scan by scan before and after cleaning, a cohort run by run, and motion in connectivity."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkneuro.report.figures import BLUE, GREY, ORANGE, STYLE, _to_svg

CARPET_SD = 2.5
"""Beyond this z-score a carpet is white, or black."""
MOST_LABELS = 6
N_BINS = 12


def draw_run(carpets, traces, n_scans, t_r, limits):
    """Draw a run scan by scan: motion and change above, carpets before and after cleaning below, on one axis.

    Parameters
    ----------
    carpets : dict of str to ndarray of shape (n_rows, n_columns)
        By heading, z-scores; the first row is drawn at the bottom.
    traces : dict of str to dict
        By label of the axis, unit included: curves by name, each an ndarray of shape (n_scans,).
    n_scans : int
        Scans of the run.
    t_r : float
        Repetition time (s).
    limits : dict of str to float
        By label of the axis: above this a scan is a spike; marked on the first curve.

    Returns
    -------
    svg : bytes
        The picture.
    """
    heights = [0.9] * len(traces) + [2.0] * len(carpets)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.7 + sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, width_ratios=(60, 1))
        panels = [figure.add_subplot(grid[0, 0])]
        panels += [figure.add_subplot(grid[row, 0], sharex=panels[0]) for row in range(1, len(heights))]
        for panel, (label, curves) in zip(panels, traces.items(), strict=False):
            _draw_trace(panel, curves, label, limits.get(label))
        for row, (heading, z) in enumerate(carpets.items(), start=len(traces)):
            # Without interpolation the picture holds one pixel a cell, not one a pixel of the screen.
            image = panels[row].imshow(
                z,
                cmap="gray",
                vmin=-CARPET_SD,
                vmax=CARPET_SD,
                aspect="auto",
                origin="lower",
                interpolation="none",
                extent=(-0.5, n_scans - 0.5, 0, max(len(z), 1)),
            )
            panels[row].set_ylabel("voxels, inferior\nto superior", fontsize=8)
            panels[row].set_title(heading, loc="left", fontsize=9, pad=3)
            panels[row].set_yticks([])
            panels[row].grid(visible=False)
            figure.colorbar(image, cax=figure.add_subplot(grid[row, 1]), extend="both").set_label("z-score", fontsize=8)
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
        panels[-1].set_xlim(-0.5, n_scans - 0.5)
        panels[-1].xaxis.set_major_locator(MaxNLocator(10, integer=True))
        panels[-1].set_xlabel(f"scan, the first is 0 (one every {t_r:g} s)")
        return _to_svg(figure)


def draw_cohort(columns):
    """Draw how a few measures are distributed over runs, with their limits; runs beyond one stand out by name.

    Parameters
    ----------
    columns : list of dict
        label (name and unit), values (ndarray of shape (n_runs,), NaN where missing), names (of the runs), outlying (bool for
        each run), limits (dict of name to value).

    Returns
    -------
    svg : bytes
        The picture.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.2 + 1.55 * len(columns)), layout="constrained")
        for panel, column in zip(figure.subplots(len(columns), 1, squeeze=False)[:, 0], columns, strict=True):
            _draw_strip(panel, column)
        return _to_svg(figure)


def draw_qc_fc(r, distance):
    """Draw QC-FC before and after cleaning: its distribution over edges, and its course with the length of the edge.

    Parameters
    ----------
    r : dict of str to ndarray of shape (n_edges,)
        By stage (before, after): correlation of each edge with motion; NaN where unknown.
    distance : ndarray of shape (n_edges,) or None
        Length of each edge (mm); None where voxels have no place, and the course is not drawn.

    Returns
    -------
    svg : bytes
        The picture.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6 if distance is not None else 4.8, 3.0), layout="constrained")
        left, right = (*figure.subplots(1, 1 if distance is None else 2, squeeze=False)[0], None)[:2]
        edges = np.linspace(-1, 1, 61)
        for (stage, values), colour in zip(r.items(), (BLUE, ORANGE), strict=True):
            known = np.isfinite(values)
            left.stairs(np.histogram(values[known], edges)[0], edges, color=colour, lw=1.5, label=f"{stage} cleaning")
            if right is not None:
                _draw_course(right, values[known], distance[known], colour)
        left.axvline(0, color=GREY, lw=0.8)
        left.set_xlabel("QC-FC: correlation of an edge with mean FD")
        left.set_ylabel("edges")
        if right is not None:
            right.axhline(0, color=GREY, lw=0.8)
            right.set_xlabel("distance of the two voxels (mm)")
            right.set_ylabel("QC-FC")
        figure.legend(*left.get_legend_handles_labels(), fontsize=8, ncols=2, loc="outside upper right")
        return _to_svg(figure)


def _draw_trace(panel, curves, label, limit):
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE), strict=False):
        panel.plot(np.arange(len(values)), values, lw=1.0, color=colour, label=name)
    if limit is not None:
        first = next(iter(curves.values()))
        spikes = np.flatnonzero(np.nan_to_num(first) > limit)
        panel.plot(spikes, first[spikes], "v", ms=4.5, color="#b00000", label=f"above {limit:g}: {len(spikes)}")
        panel.axhline(limit, color=GREY, lw=0.8, ls="--")
    if len(curves) > 1 or limit is not None:
        panel.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.94), borderaxespad=0)
    panel.margins(y=0.12)
    panel.set_ylabel(label, fontsize=8)
    panel.tick_params(labelsize=7)
    panel.yaxis.set_major_locator(MaxNLocator(4))


def _draw_strip(panel, column):
    values, outlying = np.asarray(column["values"], float), np.asarray(column["outlying"], bool)
    # Spread over the height by the golden ratio: no two neighbours lie at one height, and nothing is random.
    heights = np.arange(len(values)) * 0.618034 % 1
    usual = ~outlying & np.isfinite(values)
    panel.plot(values[usual], heights[usual], "o", ms=3.5, color=BLUE, alpha=0.6, mew=0, rasterized=usual.sum() > 200)
    panel.plot(values[outlying], heights[outlying], "D", ms=5, color="#b00000", mew=0, label=f"beyond a limit: {outlying.sum()}")
    for (name, limit), dashes in zip(column["limits"].items(), ("--", ":", "-."), strict=False):
        panel.axvline(limit, color=GREY, lw=1, ls=dashes, label=f"{name}: {limit:.3g}")
    median = np.nanmedian(values)
    furthest = sorted(np.flatnonzero(outlying), key=lambda place: -abs(values[place] - median))[:MOST_LABELS]
    for place in furthest:
        left = values[place] > np.mean(panel.get_xlim())
        panel.annotate(
            column["names"][place],
            (values[place], heights[place]),
            fontsize=7,
            va="center",
            ha="right" if left else "left",
            textcoords="offset points",
            xytext=(-6 if left else 6, 0),
        )
    panel.set_ylim(-0.15, 1.15)
    panel.set_yticks([])
    panel.set_xlabel(column["label"], fontsize=8, labelpad=1)
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=7, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


def _draw_course(panel, values, distance, colour):
    """Median and quartiles of the edges of each length, as many edges a bin."""
    if len(values) < N_BINS:
        return
    order = np.argsort(distance, kind="stable")
    bins = np.array_split(order, N_BINS)
    middles = [np.median(distance[members]) for members in bins]
    low, median, high = np.array([np.percentile(values[members], (25, 50, 75)) for members in bins]).T
    panel.fill_between(middles, low, high, color=colour, alpha=0.15, lw=0)
    panel.plot(middles, median, "o-", ms=3, lw=1.4, color=colour)
