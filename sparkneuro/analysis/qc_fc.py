"""QC-FC: how much of functional connectivity is motion, across subjects or within one run; small is good.

A head that moves makes distant voxels change together, so edges (correlations of two regions) differ between those who move
much and those who do not. What denoising leaves of that is the benchmark of Ciric et al. (2017).
"""

import numpy as np
from scipy import stats

from sparkneuro.errors import SettingsError

FEWEST = 10
"""Subjects or runs below which a correlation across them says nothing."""


def connect_regions(series):
    """Correlate every two regions.

    Parameters
    ----------
    series : ndarray of shape (n_scans, n_regions)
        One series a region.

    Returns
    -------
    edges : ndarray of shape (n_edges,), float64
        Pearson r of regions i < j, row by row of the upper triangle; NaN where one of them never changes.

    Examples
    --------
    >>> connect_regions(np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 0.0], [3.0, 6.0, 1.0]])).round(3).tolist()
    [1.0, 0.0, 0.0]
    """
    z = _standardise(series)
    return (z.T @ z / len(z))[np.triu_indices(z.shape[1], 1)]


def correlate_with_motion(edges, fd):
    """QC-FC: correlate each edge, across subjects, with the subjects' motion.

    ``r[e] = corr over s of (arctanh(edges[s, e]), fd[s])``, on the subjects that have the edge.

    Parameters
    ----------
    edges : ndarray of shape (n_subjects, n_edges)
        Connectivity (Pearson r) of each subject; NaN where an edge is missing.
    fd : ndarray of shape (n_subjects,)
        Mean framewise displacement (mm) of each subject, finite.

    Returns
    -------
    r : ndarray of shape (n_edges,), float64
        QC-FC of each edge; NaN where fewer than ten subjects have it, or it never changes.
    p : ndarray of shape (n_edges,), float64
        Two-sided p of r being 0, by Student's t.

    Raises
    ------
    SettingsError
        With fewer than ten subjects.

    References
    ----------
    Ciric et al. (2017), Benchmarking of participant-level confound regression strategies for the control of motion artifact
    in studies of functional connectivity, NeuroImage 154, 174-187.
    """
    if len(fd) < FEWEST:
        raise SettingsError(f"QC-FC needs at least {FEWEST} subjects or runs whose motion is known; got {len(fd)}.")
    z = np.arctanh(np.clip(np.asarray(edges, np.float64), -0.999999, 0.999999))
    there = np.isfinite(z)
    n = there.sum(axis=0)
    motion = np.where(there, np.asarray(fd, np.float64)[:, None], 0)
    motion = np.where(there, motion - motion.sum(axis=0) / np.maximum(n, 1), 0)
    z = np.where(there, z, 0)
    z = np.where(there, z - z.sum(axis=0) / np.maximum(n, 1), 0)
    length = np.sqrt((z**2).sum(axis=0) * (motion**2).sum(axis=0))
    known = (n >= FEWEST) & (length > 1e-12)
    r = np.where(known, (z * motion).sum(axis=0) / np.where(known, length, 1), np.nan)
    freedom = np.maximum(n - 2, 1)
    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt(freedom / np.maximum(1 - r**2, 0))
    return r, 2 * stats.t.sf(t, freedom)


def expect_by_chance(n_subjects):
    """Tell the median absolute QC-FC of edges that have nothing to do with motion.

    Parameters
    ----------
    n_subjects : int
        Over how many the correlation runs, 3 at least.

    Returns
    -------
    median_abs_r : float
        Median of ``abs(r)`` of independent normal variables.

    Examples
    --------
    >>> round(expect_by_chance(12), 3), round(expect_by_chance(400), 3)
    (0.216, 0.034)
    """
    t = stats.t.ppf(0.75, n_subjects - 2)
    return float(t / np.sqrt(n_subjects - 2 + t**2))


def summarise_qc_fc(r, p, distance=None, level=0.05):
    """Say in four numbers how much connectivity depends on motion.

    Parameters
    ----------
    r, p : ndarray of shape (n_edges,)
        From `correlate_with_motion`; NaN is left out.
    distance : ndarray of shape (n_edges,) or None
        Between the two regions of an edge (mm).
    level : float
        Of significance.

    Returns
    -------
    summary : dict
        n_edges; median_abs_r; significant, the share of edges with p below the level; significant_fdr, that share when the false
        discovery rate is held at the level (Benjamini and Hochberg); distance_dependence, Spearman's rank correlation of r with
        the distance (None without one): motion strengthens short edges more than long ones.
    """
    known = np.isfinite(r) & np.isfinite(p)
    r, p = r[known], p[known]
    if not len(r):
        return {"n_edges": 0, "median_abs_r": None, "significant": None, "significant_fdr": None, "distance_dependence": None}
    dependence = None
    if distance is not None and len(r) > 2:
        dependence = float(stats.spearmanr(distance[known], r).statistic)
    return {
        "n_edges": len(r), "median_abs_r": float(np.median(np.abs(r))), "significant": float((p < level).mean()),
        "significant_fdr": float((stats.false_discovery_control(p) <= level).mean()), "distance_dependence": dependence,
    }


def correlate_cofluctuation(series, fd):
    """QC-FC within one run: correlate the scan-by-scan strength of each edge with the motion of the scan.

    With z the standardised series, ``z[t, i] * z[t, j]`` is what scan t contributes to the correlation of i and j: its mean over
    scans is Pearson's r (edge time series). ``r[i, j] = corr over t of (z[t, i] * z[t, j], fd[t])`` is 0 in the mean when
    regions do not change together more, nor less, in scans in which the head moves. One run is enough for it; its values have
    no p, since scans are not independent.

    Parameters
    ----------
    series : ndarray of shape (n_scans, n_regions)
        One series a region.
    fd : ndarray of shape (n_scans,)
        Framewise displacement (mm); scans where it is NaN (the first) are left out of the correlation.

    Returns
    -------
    r : ndarray of shape (n_edges,), float64
        Of regions i < j, row by row of the upper triangle; NaN where a region or the motion never changes.

    References
    ----------
    Faskowitz et al. (2020), Edge-centric functional network representations of human cerebral cortex reveal overlapping
    system-level architecture, Nature Neuroscience 23, 1644-1654 (edge time series). Ciric et al. (2017), NeuroImage 154,
    174-187 (QC-FC).
    """
    fd = np.asarray(fd, np.float64)
    moved = np.isfinite(fd)
    z = _standardise(series)[moved]
    fd = fd[moved] - fd[moved].mean()
    # corr(e, f) = sum(e f) / (|e - mean e| |f|), and both sums over scans are matrix products over regions.
    product, mean, square = (z * fd[:, None]).T @ z, z.T @ z / len(z), (z**2).T @ z**2
    length = np.sqrt(np.maximum(square - len(z) * mean**2, 0) * (fd @ fd))
    upper = np.triu_indices(z.shape[1], 1)
    return np.where(length[upper] > 0, product[upper] / np.where(length[upper] > 0, length[upper], 1), np.nan)


def _standardise(series):
    series = np.asarray(series, np.float64)
    centred = series - series.mean(axis=0)
    sd = centred.std(axis=0)
    return centred / np.where(sd > 0, sd, np.nan)
