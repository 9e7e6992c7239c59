"""Runs that differ from the others of their cohort, or from what is sound in any: limits by median and MAD, and fixed ones."""

from dataclasses import dataclass

import numpy as np

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""
FEWEST_RUNS = 5
"""With fewer runs there is no telling what is usual among them; only fixed limits hold then."""


@dataclass(frozen=True)
class Measure:
    """One number of a run by which it may be found wanting.

    Parameters
    ----------
    name : str
        Key in the rows.
    bad : str
        "high" or "low": the side on which a run is an outlier.
    floor : float
        Least spread, in the measure's unit, that is taken for one standard deviation: among runs that are all alike a difference
        of no consequence is none.
    limit : float or None
        Beyond this a run is an outlier whatever the others are; None where only the others count.
    """

    name: str
    bad: str
    floor: float
    limit: float | None = None


MEASURES = (
    Measure("fd_mean", "high", 0.01, 0.5),
    Measure("tsnr_median", "low", 1.0),
    Measure("coverage", "low", 0.005, 0.8),
    Measure("dvars_spikes", "high", 0.01),
)
"""Mean framewise displacement (mm), median tSNR, share of the mask with a series, share of scans that are DVARS spikes."""


def find_robust_limit(values, measure, n_mads=3.0):
    """Tell where the usual ends among runs.

    ``median + n_mads * 1.4826 * MAD`` on the high side, ``median - ...`` on the low one; MAD is the median absolute deviation
    from the median, which half of the runs would have to share before an outlier could move it far.

    Parameters
    ----------
    values : array_like of shape (n_runs,)
        One number a run; NaN is left out.
    measure : Measure
        Which side is bad, and the least spread.
    n_mads : float
        Scaled MADs from the median.

    Returns
    -------
    limit : float
        NaN with fewer than five runs.
    median, spread : float
        Of the finite values; the spread is the scaled MAD, or the floor where that is larger.

    Examples
    --------
    >>> find_robust_limit([1, 2, 3, 4, 50], Measure("x", "high", 0.0))[:2]
    (7.4478, 3.0)
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    median = float(np.median(values))
    mad = float(np.median(np.abs(values - median)))
    spread = max(NORMAL_MAD * mad, measure.floor)
    if len(values) < FEWEST_RUNS:
        return np.nan, median, spread
    return median + (n_mads if measure.bad == "high" else -n_mads) * spread, median, spread


def find_outliers(rows, measures=MEASURES, n_mads=3.0):
    """Find the runs beyond a limit, and how far out each run is.

    Parameters
    ----------
    rows : list of dict
        One a run; None or absent where a measure is missing.
    measures : sequence of Measure
        What is looked at.
    n_mads : float
        Scaled MADs from the median at which the usual ends.

    Returns
    -------
    outliers : list of dict
        One for each run and measure beyond a limit: row (its place in `rows`), measure, value, limit and reason ("fixed limit"
        or "unlike the other runs"; the stricter one where both are passed). In the order of the rows.
    scores : ndarray of shape (n_rows,)
        Distance from the median to the bad side, in spreads: the largest over measures, 0 at least.
    """
    outliers, scores = [], np.zeros(len(rows))
    for measure in measures:
        sign = 1 if measure.bad == "high" else -1
        values = np.array([np.nan if row.get(measure.name) is None else row[measure.name] for row in rows], np.float64)
        robust, median, spread = find_robust_limit(values, measure, n_mads)
        if spread and spread > 0:
            scores = np.fmax(scores, sign * (values - median) / spread)
        limits = [(robust, "unlike the other runs"), (np.nan if measure.limit is None else measure.limit, "fixed limit")]
        limits = sorted((pair for pair in limits if np.isfinite(pair[0])), key=lambda pair: sign * pair[0])
        for place in np.flatnonzero(np.isfinite(values)):
            passed = [pair for pair in limits if sign * (values[place] - pair[0]) > 0]
            if passed:
                found = {"row": int(place), "measure": measure.name, "value": float(values[place])}
                outliers.append({**found, "limit": float(passed[0][0]), "reason": passed[0][1]})
    return sorted(outliers, key=lambda found: found["row"]), np.maximum(scores, 0)
