"""Maps of the brain on axial slices, drawn as PNG."""

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure

N_SLICES = 18
OUTSIDE, EMPTY = 0.95, 0.7  # grey of what is not in the mask, and of what is but has no value


def orient(volume, affine):
    """Turn a volume so that its axes run towards right, front and top.

    Axes are exchanged and flipped, never resampled: an oblique grid stays oblique.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        Any grid.
    affine : array_like of shape (4, 4)
        From voxel indices to mm (right, anterior, superior positive).

    Returns
    -------
    oriented : ndarray
        The same values; indices grow towards right, front and top.
    affine : ndarray of shape (4, 4)
        Of the oriented volume.

    Examples
    --------
    >>> oriented, affine = orient(np.arange(3).reshape(3, 1, 1), np.diag([-2.0, 2, 2, 1]))
    >>> oriented.ravel().tolist(), affine[0].tolist()
    ([2, 1, 0], [2.0, 0.0, 0.0, -4.0])
    """
    affine = np.asarray(affine, float)
    axes = _match_axes(affine[:3, :3])
    oriented = np.transpose(volume, axes)
    turned = affine[:, [*axes, 3]]
    for axis in range(3):
        if turned[axis, axis] < 0:
            turned[:, 3] += turned[:, axis] * (oriented.shape[axis] - 1)
            turned[:, axis] *= -1
            oriented = np.flip(oriented, axis)
    return oriented, turned


def draw_slices(volume, mask, affine, label, colours="viridis", limits=None, outline=None, n_slices=N_SLICES):
    """Draw a map inside a mask on axial slices, seen from above: the left of the brain is on the left.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z)
        The map.
    mask : ndarray of shape (x, y, z), bool
        Where it is drawn.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    label : str
        Name and unit of the values, for the colour bar.
    colours : str
        Name of a matplotlib colour map.
    limits : tuple of 2 float or None
        Values of the first and last colour; the 2nd and 98th percentile inside the mask when absent.
    outline : ndarray of shape (x, y, z), bool, or None
        What is dark grey where the map is not drawn; `mask` when absent.
    n_slices : int
        Slices at most, at one distance from each other.

    Returns
    -------
    png : bytes
        The picture.
    """
    values = np.where(mask & np.isfinite(volume), volume, np.nan)
    finite = values[np.isfinite(values)]
    low, high = limits if limits is not None else np.percentile(finite, (2, 98)) if finite.size else (0, 1)
    high = high if high > low else low + 1
    values, turned = orient(values, affine)
    inside, _ = orient(np.asarray(mask if outline is None else outline, bool), affine)
    chosen = _choose_slices(inside, n_slices)
    rows, columns = _crop(inside)
    sizes = np.linalg.norm(turned[:3, :3], axis=0)
    n_columns = min(6, len(chosen))
    n_rows = -(-len(chosen) // n_columns)
    height = (rows.stop - rows.start) * sizes[1] / ((columns.stop - columns.start) * sizes[0])
    figure = Figure(figsize=(9.6, 0.3 + n_rows * (8.6 / n_columns * height + 0.22)), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    decimals = 0 if np.allclose(sizes[2], round(sizes[2])) else 1
    for panel, place in zip(panels, chosen, strict=False):
        window = (columns, rows, place)
        aspect = sizes[1] / sizes[0]
        panel.imshow(np.where(inside[window], EMPTY, OUTSIDE).T, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
        image = panel.imshow(
            values[window].T, cmap=colours, vmin=low, vmax=high, origin="lower", aspect=aspect, interpolation="nearest"
        )
        panel.set_title(f"z = {_height(turned, inside, place):.{decimals}f} mm".replace("-", "−"), fontsize=8, pad=2)
    for x, side in ((0.02, "L"), (0.98, "R")):
        panels[0].text(x, 0.02, side, transform=panels[0].transAxes, fontsize=8, ha="left" if side == "L" else "right")
    bar = figure.colorbar(image, ax=list(panels), shrink=0.9, pad=0.01, aspect=30, extend="both" if limits is None else "neither")
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return _to_png(figure)


def _match_axes(rotation):
    """Voxel axis that runs most along each of right, front and top; each axis taken once."""
    cosines = np.abs(rotation) / np.linalg.norm(rotation, axis=0)
    axes = [-1, -1, -1]
    for _ in range(3):
        world, axis = np.unravel_index(np.argmax(cosines), cosines.shape)
        axes[world] = int(axis)
        cosines[world, :] = cosines[:, axis] = -1
    return axes


def _choose_slices(inside, n_slices):
    heights = np.flatnonzero(inside.any(axis=(0, 1)))
    if not heights.size:
        return np.array([inside.shape[2] // 2])
    step = -(-heights.size // n_slices)
    # Centred: the top and the bottom of a brain lose equally much.
    return heights[(heights.size - 1) % step // 2 :: step]


def _crop(inside):
    """Windows (front-back, left-right) that hold the mask and a margin of two voxels."""
    windows = []
    for axis in (1, 0):
        places = np.flatnonzero(inside.any(axis=tuple(set(range(3)) - {axis})))
        ends = (places[0], places[-1]) if places.size else (0, inside.shape[axis] - 1)
        windows.append(slice(max(ends[0] - 2, 0), min(ends[1] + 3, inside.shape[axis])))
    return windows


def _height(affine, inside, place):
    centre = [(n - 1) / 2 for n in inside.shape[:2]]
    return (affine @ [*centre, place, 1])[2]


def _to_png(figure):
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()
