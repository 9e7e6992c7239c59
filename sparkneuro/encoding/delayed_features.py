"""Features at several delays, without ever holding them: rows are put together when they are asked for."""

import numpy as np


class DelayedFeatures:
    """The matrix that `delay_features` would make, of some scans and in some order, one part at a time.

    It has a shape and can be indexed by slices, which is all that a decomposition needs of its features.

    Parameters
    ----------
    X : ndarray of shape (n_scans, n_features)
        Features as they are, e.g. mapped into memory.
    delays : sequence of int
        In scans.
    runs : list of slice
        Scans of each run of `X`.
    scans : ndarray of int or None
        Which scans of `X`, in which order; all in order when absent.
    scale : ndarray of shape (n_features * n_delays,) or None
        What each column is multiplied with.
    """

    def __init__(self, X, delays, runs, scans=None, scale=None):
        self._X, self._delays, self._scale = X, tuple(delays), scale
        first = np.concatenate([np.full(run.stop - run.start, run.start) for run in runs])
        last = np.concatenate([np.full(run.stop - run.start, run.stop - 1) for run in runs])
        scans = np.arange(len(X)) if scans is None else np.asarray(scans)
        self._sources = [np.where(_within(scans - delay, first[scans], last[scans]), scans - delay, -1) for delay in self._delays]
        self.shape = len(scans), X.shape[1] * len(self._delays)
        self.dtype = X.dtype

    def __len__(self):
        """Scans."""
        return self.shape[0]

    def __getitem__(self, index):
        """Put a part together, as an array: ``features[rows]`` or ``features[:, columns]`` with slices."""
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        n_each = self._X.shape[1]
        wanted = np.arange(*columns.indices(self.shape[1]))
        sources = [source[rows] for source in self._sources]
        part = np.zeros((len(sources[0]), len(wanted)), self.dtype)
        for place, source in enumerate(sources):
            mine = np.flatnonzero(wanted // n_each == place)
            if len(mine):
                there = source >= 0
                start = wanted[mine[0]] - place * n_each
                values = self._X[source[there], start : start + len(mine)]
                part[there, mine[0] : mine[0] + len(mine)] = values
        if self._scale is not None:
            part *= self._scale[wanted].astype(self.dtype)
        return part


def _within(scans, first, last):
    return (scans >= first) & (scans <= last)
