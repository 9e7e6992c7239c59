"""Pictures of an encoding model: its penalties, its scores beside those of chance, and both on the brain."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkneuro.report.brain import draw_slices
from sparkneuro.report.figures import BLUE, GREY, ORANGE, STYLE, _to_svg

N_BINS = 200
"""Of the null's distribution, between -1 and 1."""
MERGED = (1, 2, 4, 5, 8, 10, 20)
"""How many of these bins may become one; each divides `N_BINS`."""
MOST_LABELS = 12


def draw_alphas(alphas, chosen, losses=None, label="loss"):
    """Draw how many targets took each penalty, or the losses from which one penalty was chosen for all.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, ascending, above 0.
    chosen : ndarray of shape (n_targets,) or float
        Penalty of each target; with `losses`, that of all.
    losses : array_like of shape (n_alphas,) or (n_weightings, n_alphas), or None
        The criterion; NaN or None where a penalty was not tried. The weighting with the smallest loss stands out.
    label : str
        Name and unit of the losses.

    Returns
    -------
    svg : bytes
        The picture.
    """
    alphas = np.asarray(alphas, np.float64)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        panel = figure.subplots()
        if losses is None:
            _draw_counts(panel, alphas, np.atleast_1d(chosen))
        else:
            _draw_losses(panel, alphas, float(chosen), np.atleast_2d(np.array(losses, np.float64)))
            panel.set_ylabel(label)
            figure.legend(fontsize=8, ncols=3, loc="outside upper right")
        panel.set_xlabel("penalty α")
        return _to_svg(figure)


def draw_score_histogram(r, null_counts=None, label="correlation r of measured and predicted series"):
    """Draw the distribution of scores over targets, before that of chance.

    Parameters
    ----------
    r : ndarray of shape (n_targets,)
        Correlations; finite ones are drawn.
    null_counts : array_like of shape (200,) or None
        Correlations under the null, counted in equal bins from -1 to 1; drawn with the area of the scores.
    label : str
        What the scores are, and their unit.

    Returns
    -------
    svg : bytes
        The picture.
    """
    r = np.asarray(r, np.float64)
    r = r[np.isfinite(r)]
    n_merged = _choose_merging(r)
    edges = np.linspace(-1, 1, N_BINS // n_merged + 1)
    counts = np.histogram(r, edges)[0]
    null = None if null_counts is None else np.asarray(null_counts, np.float64).reshape(-1, n_merged).sum(axis=1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3), layout="constrained")
        panel = figure.subplots()
        if null is not None and null.sum():
            null *= len(r) / null.sum()
            panel.stairs(null, edges, fill=True, color=GREY, alpha=0.45, label="chance (circular shifts), same area")
        panel.stairs(counts, edges, fill=True, color=BLUE, alpha=0.7, label=f"{len(r):,} targets")
        if not len(r):
            panel.text(0.5, 0.5, "no target has a finite score", ha="center", transform=panel.transAxes)
        else:
            panel.axvline(r.mean(), color=ORANGE, lw=1.4, label=f"mean: {r.mean():.3f}".replace("-", "−"))
        panel.set_xlim(*_find_window(edges, counts, null))
        panel.set_ylim(0, 1.05 * max(counts.max(), 1 if null is None else null.max(), 1))
        panel.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.set_xlabel(label)
        panel.set_ylabel("targets")
        figure.legend(fontsize=8, ncols=3, loc="outside upper right")
        return _to_svg(figure)


def draw_correlation_map(volume, mask, affine, label="correlation r"):
    """Draw correlations on axial slices; light grey is 0, and both signs have one scale.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        Correlations; what is NaN is dark grey.
    mask : ndarray of shape (x, y, z), bool
        Where they are drawn.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    label : str
        Name and unit of the values.

    Returns
    -------
    png : bytes
        The picture.
    """
    finite = volume[mask & np.isfinite(volume)]
    largest = float(np.abs(finite).max(initial=0)) or 1.0
    # Its middle is a grey that differs from the white outside the brain.
    return draw_slices(volume, mask, affine, label, colours="coolwarm", limits=(-largest, largest))


def draw_alpha_map(volume, mask, affine, alphas):
    """Draw penalties on axial slices, by their logarithm.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        Penalty of each voxel; what is NaN is dark grey.
    mask : ndarray of shape (x, y, z), bool
        Where they are drawn.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    alphas : sequence of float
        Penalties to choose from, above 0: the ends of the scale.

    Returns
    -------
    png : bytes
        The picture.
    """
    limits = tuple(np.log10([min(alphas), max(alphas)]))
    return draw_slices(np.log10(volume), mask, affine, r"$\log_{10}$ of the penalty α", limits=limits)


def _draw_counts(panel, alphas, chosen):
    chosen = chosen[np.isfinite(chosen)]
    counts = np.array([np.count_nonzero(chosen == alpha) for alpha in alphas])
    bars = panel.bar(np.arange(len(alphas)), counts, width=0.8, color=BLUE, alpha=0.85)
    if len(alphas) <= MOST_LABELS:
        shares = [_write_share(count / max(len(chosen), 1)) for count in counts]
        panel.bar_label(bars, shares, fontsize=7, padding=1.5, color=GREY)
    step = -(-len(alphas) // MOST_LABELS)
    panel.set_xticks(np.arange(len(alphas))[::step], [_write_alpha(alpha) for alpha in alphas[::step]])
    panel.grid(axis="x", visible=False)
    panel.set_ylabel(f"targets (of {len(chosen):,})")


def _draw_losses(panel, alphas, chosen, losses):
    least = np.where(np.isnan(losses), np.inf, losses).min(axis=1)
    best = int(np.argmin(least))
    for place in sorted(range(len(losses)), key=lambda place: place == best):  # the best is drawn last, above the others
        tried = np.isfinite(losses[place])
        style = {"color": BLUE, "lw": 1.6, "ms": 4} if place == best else {"color": GREY, "lw": 0.6, "ms": 1.5, "alpha": 0.4}
        panel.plot(alphas[tried], losses[place, tried], "o-", **style)
    name = f"chosen: {_write_alpha(chosen)}"
    panel.plot(chosen, least[best], "o", ms=9, mfc="none", mec=ORANGE, mew=1.8, label=name, zorder=5)
    if len(losses) > 1:
        panel.plot([], [], color=BLUE, lw=1.6, label="best weighting of the feature spaces")
        panel.plot([], [], color=GREY, lw=0.6, label=f"{len(losses) - 1} other weightings")
        _leave_out_the_worst(panel, losses, best)
    panel.set_xscale("log")


def _leave_out_the_worst(panel, losses, best):
    """Keep the best weighting's curve legible beside others that are far worse."""
    curve = losses[best][np.isfinite(losses[best])]
    if height := np.ptp(curve):
        panel.set_ylim(curve.min() - 0.15 * height, curve.min() + 1.6 * height)


def _write_share(share):
    return f"{share:.0%}" if share >= 0.005 else "<1%" if share else ""


def _write_alpha(alpha):
    """Three digits, or two and a power of ten where that would be long."""
    if 0.01 <= alpha < 1e4:
        return f"{float(f'{alpha:.3g}'):g}"
    digits, exponent = f"{alpha:.1e}".split("e")
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if digits == "1.0" else rf"${digits}\times{power}$"


def _choose_merging(r):
    """Bins by the rule of Freedman and Diaconis, out of the 200 of the null."""
    if len(r) < 2:
        return MERGED[-1]
    width = 2 * np.subtract(*np.percentile(r, (75, 25))) / len(r) ** (1 / 3)
    return next((merged for merged in MERGED if merged * 2 / N_BINS >= width), MERGED[-1])


def _find_window(edges, counts, null):
    """Every score, and the null but for its last thousandth of height."""
    shown = counts > 0
    if null is not None:
        shown |= null > 1e-3 * max(null.max(), 1)
    places = np.flatnonzero(shown) if shown.any() else np.array([0, len(counts) - 1])
    margin = 2 * (edges[1] - edges[0])
    return edges[places[0]] - margin, edges[places[-1] + 1] + margin
