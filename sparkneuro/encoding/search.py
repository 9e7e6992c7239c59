"""The penalty with the smallest loss: try all, or climb down from a good start.

The loss over ascending penalties nearly always has one valley, so a climb from near its bottom needs three or four tries
whatever the number of penalties.
"""

import numpy as np

SEARCHES = ("climb", "exhaustive")


def search_alphas(evaluate, n_alphas, start, search="climb"):
    """Find each target's best penalty.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(index, columns) -> losses``: losses (n,) of one penalty for the targets `columns` (ndarray of int, ascending).
        It is called with many targets at once, so that its products stay dense.
    n_alphas : int
        Penalties.
    start : ndarray of shape (n_targets,), int
        Where each target's climb begins.
    search : {"climb", "exhaustive"}
        Whether only neighbours are tried, until both are worse, or all.

    Returns
    -------
    best : ndarray of shape (n_targets,), int
        Place of the best penalty; the smallest of equally good ones.
    losses : ndarray of shape (n_alphas, n_targets), float64
        NaN where a penalty was not tried.

    Examples
    --------
    >>> valley = np.abs(np.arange(9)[:, None] - [3, 7])
    >>> best, losses = search_alphas(lambda index, columns: valley[index, columns], 9, np.array([4, 8]))
    >>> best.tolist(), int(np.isfinite(losses).sum())
    ([3, 7], 7)
    """
    losses = np.full((n_alphas, len(start)), np.nan)
    everyone = np.arange(len(start))
    if search == "exhaustive":
        for index in range(n_alphas):
            losses[index] = evaluate(index, everyone)
        return _argmin(losses), losses
    best = np.asarray(start).copy()
    _fill(losses, best, everyone, evaluate)
    moving = everyone
    while len(moving):
        for step in (-1, 1):
            neighbour = np.clip(best[moving] + step, 0, n_alphas - 1)
            _fill(losses, neighbour, moving, evaluate)
        found = _argmin(losses[:, moving])
        moved = found != best[moving]
        best[moving] = found
        moving = moving[moved]
    return best, losses


def _fill(losses, wanted, columns, evaluate):
    """Evaluate the wanted penalty of each of these targets, where it is not known."""
    unknown = np.isnan(losses[wanted, columns])
    wanted, columns = wanted[unknown], columns[unknown]
    for index in np.unique(wanted):
        chosen = columns[wanted == index]
        values = np.asarray(evaluate(int(index), chosen), np.float64)
        # Not a number would be asked for again and again.
        losses[index, chosen] = np.where(np.isnan(values), np.inf, values)


def _argmin(losses):
    return np.where(np.isnan(losses), np.inf, losses).argmin(axis=0)
