"""The quality of one run before and after cleaning, gathered while its voxels pass by in strips.

All voxels go into DVARS and the global signal; of masks above 65,536 voxels, at least 32,768 spread evenly. What needs whole
series twice (carpets, correlations, edges) is measured on at most 300 voxels spread evenly over the mask, the same ones in every
run of a table.
"""

import numpy as np

from sparkneuro.preprocess.carpet import choose_step, pack_carpet, standardise_rows
from sparkneuro.preprocess.dvars import DvarsSums

FD_SPIKE = 0.5
"""Framewise displacement (mm) above which a scan counts as a spike (Power 2012)."""
DVARS_SPIKE = 1.5
"""Standardised DVARS above which a scan counts as a spike."""
ROWS_PER_NODE = 3
"""Of this many rows of the carpet one is a node of the connectivity."""
MEASURED = 32_768
"""Voxels that are enough for DVARS and the global signal: their mean square is then good to about 1 %."""
STAGES = ("before", "after")


class RunQuality:
    """Sums and samples of one run; its size does not grow with the voxels (some 3 MB for 1,200 scans).

    Parameters
    ----------
    n_scans : int
        Scans of the run.
    n_voxels : int
        Voxels of the table's mask.

    Attributes
    ----------
    n_rows : int
        The same.
    """

    def __init__(self, n_scans, n_voxels):
        self.n_rows = n_voxels
        self._n_scans = n_scans
        self._thinning = max(1, n_voxels // MEASURED)
        self._spacing = choose_step(n_voxels, 1)
        self._step = choose_step(n_voxels, n_scans)
        self._n_nodes = -(-n_voxels // (self._spacing * ROWS_PER_NODE))
        self._sums = {stage: DvarsSums(n_scans, n_voxels // self._thinning) for stage in STAGES}
        self._rows = {stage: [] for stage in STAGES}
        self._voxels = []

    def choose(self, voxels):
        """Choose the voxels that are measured.

        Parameters
        ----------
        voxels : ndarray of shape (n,), int
            Numbers of voxels in the table's mask.

        Returns
        -------
        places : ndarray of shape (m,), int
            Where those stand that `add` is to be given.
        """
        return np.flatnonzero((voxels % self._thinning == 0) | (voxels % self._step == 0))

    def add(self, voxels, before, after):
        """Take the next usable voxels, of those that `choose` has chosen.

        Parameters
        ----------
        voxels : ndarray of shape (n,), int
            Their numbers in the table's mask.
        before, after : ndarray of shape (n_scans, n)
            Their series before and after cleaning, finite. Not modified.
        """
        chosen = np.flatnonzero(voxels % self._step == 0)
        self._voxels.append(voxels[chosen])
        for stage, series in zip(STAGES, (before, after), strict=True):
            self._sums[stage].add(series)
            self._rows[stage].append(series[:, chosen].T.astype(np.float32))

    def finish(self, fd=None):
        """Measure what has come; nothing can be added afterwards.

        Parameters
        ----------
        fd : ndarray of shape (n_scans,) or None
            Framewise displacement (mm), NaN for the first scan; None where the motion is not known.

        Returns
        -------
        numbers : dict of str to float or None
            Described by `sparkneuro.report.quality_terms`; None where there is nothing to measure it on.
        arrays : dict of str to ndarray
            Traces of shape (n_scans,) named fd (when given), dvars (percent of the grand mean) and global (percent of it),
            dvars_std_before, dvars_std_after and global_after; voxel (n_rows,), carpet_before and carpet_after
            (n_rows, n_columns), packed; edges_before and edges_after, correlations of n_nodes voxels, their upper triangle row
            by row, NaN where this run lacks a voxel; nodes (n_nodes,), their numbers.
        """
        voxels = np.concatenate([np.zeros(0, np.int32), *self._voxels]).astype(np.int32)
        nodes = np.arange(self._n_nodes, dtype=np.int32) * (self._spacing * ROWS_PER_NODE)
        arrays, rows, sd = {"voxel": voxels, "nodes": nodes}, {}, {}
        raw = {stage: self._sums[stage].finish() for stage in STAGES}
        for stage in STAGES:
            pieces = [np.zeros((0, self._n_scans), np.float32), *self._rows.pop(stage)]
            rows[stage], sd[stage] = standardise_rows(np.concatenate(pieces))
        spread = np.median(sd["before"]) if len(voxels) else np.nan
        percent = self._scale(spread)
        numbers = _describe_signal(percent, spread, rows)
        signals = {stage: self._sums[stage].total / max(self._sums[stage].n_voxels, 1) for stage in STAGES}
        numbers["global_sd"] = _number(signals["before"].std() * percent)
        numbers["dvars_mean"] = _number(_mean(raw["before"][0]) * percent)
        arrays["dvars"] = (raw["before"][0] * percent).astype(np.float32)
        arrays["global"] = ((signals["before"] - signals["before"].mean()) * percent).astype(np.float32)
        arrays["global_after"] = signals["after"].astype(np.float32)
        for stage in STAGES:
            z, standardised = rows.pop(stage), raw[stage][1]
            numbers |= {f"{name}_{stage}": value for name, value in _describe_stage(z, standardised, signals[stage], fd).items()}
            arrays[f"dvars_std_{stage}"] = standardised.astype(np.float32)
            arrays[f"carpet_{stage}"] = pack_carpet(z)
            arrays[f"edges_{stage}"] = _correlate_nodes(z, voxels, nodes)
        if fd is not None:
            numbers |= _describe_motion(fd)
            arrays["fd"] = np.asarray(fd, np.float32)
        return numbers, arrays

    def _scale(self, spread):
        """What turns source units into percent of the grand mean; NaN where the series are centred."""
        sums = self._sums["before"]
        grand_mean = sums.total.mean() / max(sums.n_voxels, 1)
        return 100 / grand_mean if grand_mean > spread else np.nan


def _describe_signal(percent, spread, rows):
    """SD before and after. A projection leaves the share r**2 of a series' variance, r its correlation with what is left."""
    if not len(rows["before"]):
        return {"sd_before": None, "sd_after": None, "variance_kept": None}
    before, after = (rows[stage] for stage in STAGES)
    kept = float(np.median(np.square(np.einsum("vt,vt->v", before, after, dtype=np.float64) / before.shape[1])))
    return {
        "sd_before": _number(spread * percent), "sd_after": _number(spread * percent * np.sqrt(kept)),
        "variance_kept": _number(kept),
    }


def _describe_stage(z, standardised, signal, fd):
    moved = None if fd is None else np.isfinite(fd) & np.isfinite(standardised)
    return {
        "dvars_std_mean": _number(_mean(standardised)),
        "dvars_std_max": _number(np.max(standardised, initial=-np.inf, where=np.isfinite(standardised))),
        "n_dvars_spikes": int((standardised > DVARS_SPIKE).sum()) if np.isfinite(standardised).any() else None,
        "r_global": _number(_median_correlation(z, signal, np.ones(len(signal), bool))),
        "r_fd": None if fd is None else _number(_median_correlation(z, fd, np.isfinite(fd))),
        "r_dvars_fd": None if fd is None else _number(_correlate(standardised[moved][None], fd[moved])[0]),
    }


def _describe_motion(fd):
    return {
        "fd_mean": _number(_mean(fd)), "fd_max": _number(np.max(fd, initial=-np.inf, where=np.isfinite(fd))),
        "n_fd_spikes": int((fd > FD_SPIKE).sum()),
    }


def _median_correlation(rows, trace, where):
    correlation = np.abs(_correlate(rows[:, where], trace[where]))
    return np.median(correlation[np.isfinite(correlation)]) if np.isfinite(correlation).any() else np.nan


def _correlate(rows, trace):
    """Pearson r of each row with a trace; NaN where either never changes."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    trace = trace - trace.mean() if len(trace) else trace
    length = np.sqrt(np.einsum("vt,vt->v", rows, rows, dtype=np.float64) * (trace @ trace))
    return np.where(length > 0, rows @ trace / np.where(length > 0, length, 1), np.nan)


def _correlate_nodes(z, voxels, nodes):
    """Correlations of the nodes, row by row of the upper triangle; half precision is good to 0.0005 of them."""
    matrix = np.full((len(nodes), len(nodes)), np.nan, np.float32)
    _, here, there = np.intersect1d(nodes, voxels, assume_unique=True, return_indices=True)
    matrix[np.ix_(here, here)] = z[there] @ z[there].T / z.shape[1]
    return matrix[np.triu_indices(len(nodes), 1)].astype(np.float16)


def _mean(trace):
    finite = trace[np.isfinite(trace)]
    return finite.mean() if len(finite) else np.nan


def _number(value):
    """Six digits, as JSON can hold them: None where there is no value."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
