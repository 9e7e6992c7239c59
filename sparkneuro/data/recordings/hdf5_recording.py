"""Signals in an HDF5 file: one dataset (n_scans, n_rows), e.g. the responses of a lab that has left NIfTI behind."""

import numpy as np

from sparkneuro.data import row_space
from sparkneuro.data.hdf5 import find_dataset, read_attributes, read_rows
from sparkneuro.data.recordings.masked_series import MaskedSeries
from sparkneuro.data.recordings.recording import Recording
from sparkneuro.data.storage.checksums import hash_file
from sparkneuro.errors import FormatError, SettingsError

DATASET = "bold"
"""Name of the dataset where a file holds several."""

_BLOCK_BYTES = 1 << 22


class Hdf5Recording(Recording):
    """An HDF5 file with one dataset of numbers of shape (n_scans, n_rows), or several of which one is named ``bold``.

    The dataset's attribute ``t_r`` gives the repetition time (s), when there is no sidecar beside the file.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    """

    rows = row_space.SERIES

    def __init__(self, path):
        super().__init__(path)
        self._dataset, shape, dtype = find_dataset(self.path, DATASET)
        if len(shape) != 2 or min(shape) < 1 or dtype.kind not in "iuf":
            expected = "numbers of shape (n_scans, n_rows)"
            raise FormatError(f"{self.path}: dataset {self._dataset} must hold {expected}; it holds {dtype} of shape {shape}.")
        self.n_scans, self.shape, self._dtype = shape[0], (shape[1],), dtype
        t_r = read_attributes(self.path, self._dataset).get("t_r")
        single = t_r is not None and np.size(t_r) == 1 and np.asarray(t_r).dtype.kind in "iuf"
        self.t_r = float(np.asarray(t_r).reshape(-1)[0]) if single else None

    def read_series(self, selected, prepare=None):
        """Read the series of some rows; see `Recording.read_series`.

        Parameters
        ----------
        selected : ndarray of shape (n_rows,), bool
            Which.
        prepare : None
            These rows have no place in a volume, so nothing can be done to whole scans.

        Returns
        -------
        series : MaskedSeries
            Their series.
        sha256 : str
            Of the file.
        """
        if prepare is not None:
            raise SettingsError(f"{self.path}: rows without a grid cannot be smoothed; leave --smoothing-fwhm away.")
        baseline, deviation = None, np.empty((self.n_scans, int(np.count_nonzero(selected))), np.float32)
        for first, block in self._read_blocks():
            chosen = block[:, selected].astype(np.float64)
            baseline = chosen[0] if baseline is None else baseline
            with np.errstate(over="ignore", invalid="ignore"):
                deviation[first : first + len(block)] = chosen - baseline
        return MaskedSeries(baseline, deviation), hash_file(self.path)

    def read_mean(self):
        """Average the recording over its scans.

        Returns
        -------
        mean : ndarray of shape (n_rows,), float64
            Mean signal.
        """
        return sum(block.sum(axis=0, dtype=np.float64) for _, block in self._read_blocks()) / self.n_scans

    def _read_blocks(self):
        """Yield the first scan of each block and its values, (n, n_rows)."""
        n_block = max(1, _BLOCK_BYTES // (self.shape[0] * self._dtype.itemsize))
        for first in range(0, self.n_scans, n_block):
            block = read_rows(self.path, self._dataset, first, min(first + n_block, self.n_scans))
            if len(block) < min(n_block, self.n_scans - first):
                raise FormatError(f"{self.path}: dataset {self._dataset} ends early; was the file replaced?")
            yield first, block
