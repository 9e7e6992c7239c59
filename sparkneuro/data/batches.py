"""Voxel series as one memory-mapped matrix on local disk, and its batches in a reproducible order.

Spark delivers a partition's rows once; they are spooled to a file of float32 without a name, so that later epochs and
shuffling cost no Spark work, and the file is gone when the process is, however it ends.
"""

import errno
import tempfile

import numpy as np

from sparkneuro.errors import FormatError, StorageError


def fit_length(series, series_length):
    """Crop series, or pad them with zeros, at their end.

    Parameters
    ----------
    series : ndarray of shape (n_series, n_scans), float32
        Equally long series.
    series_length : int
        Wanted number of scans.

    Returns
    -------
    fitted : ndarray of shape (n_series, series_length), float32
        A view when nothing has to be padded.

    Examples
    --------
    >>> fit_length(np.float32([[1, 2, 3]]), 2).tolist(), fit_length(np.float32([[1, 2, 3]]), 4).tolist()
    ([[1.0, 2.0]], [[1.0, 2.0, 3.0, 0.0]])
    """
    missing = series_length - series.shape[1]
    return series[:, :series_length] if missing <= 0 else np.pad(series, ((0, 0), (0, missing)))


def read_series(column, series_length, fit=True):
    """Read an Arrow list column as a matrix.

    Parameters
    ----------
    column : pyarrow.ListArray or pyarrow.ChunkedArray of length n_series
        Lists of float32, which may differ in length.
    series_length : int
        Number of scans that each is cropped or padded to.
    fit : bool
        Whether they are, or refused.

    Returns
    -------
    series : ndarray of shape (n_series, series_length), float32
        A view on the Arrow buffer when all lists have that length.

    Raises
    ------
    FormatError
        When a list or a value is missing, or lengths differ and must not.
    """
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    values = column.flatten()
    if column.null_count or values.null_count:
        raise FormatError("series must have no missing values; got nulls.")
    flat = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths == series_length).all():
        return flat.reshape(-1, series_length)
    if not fit:
        came = ", ".join(map(str, np.unique(lengths)))
        raise FormatError(f"series must have {series_length} scans; got {came}; give the series length to crop or pad them.")
    ends = np.cumsum(lengths)
    series = np.zeros((len(column), series_length), np.float32)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        kept = min(length, series_length)
        series[rows, :kept] = flat[(ends[rows] - length)[:, None] + np.arange(kept)]
    return series


class SeriesSpool:
    """Series on their way from Spark to a memory-mapped matrix.

    Parameters
    ----------
    series_length : int
        Number of scans of each series.
    folder : str or None
        Local folder with room for all of them; the system's choice when absent.
    """

    def __init__(self, series_length, folder=None):
        self.series_length = series_length
        self.n_series = 0
        self._folder = folder or tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=self._folder, prefix="sparkneuro-")

    def append(self, series):
        """Write more series behind those that are there.

        Parameters
        ----------
        series : ndarray of shape (n_series, series_length), float32
            Series.

        Raises
        ------
        StorageError
            When the disk is full.
        """
        try:
            self._file.write(np.ascontiguousarray(series, np.float32).data)
        except OSError as error:
            self._file.close()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StorageError(
                f"the disk of {self._folder} is full after {self.n_series} series; make room,"
                " or set spark.local.dir to a larger disk."
            ) from error
        self.n_series += len(series)

    def matrix(self):
        """Return the spooled series.

        Returns
        -------
        series : ndarray of shape (n_series, series_length), float32
            Memory-mapped, read-only; the file goes with the last reference to it.
        """
        if self.n_series == 0:
            return np.empty((0, self.series_length), np.float32)
        self._file.flush()
        shape = (self.n_series, self.series_length)
        return np.memmap(self._file, np.float32, "r", shape=shape)


def hash_rows(series, piece=8192):
    """Hash each series by its bits, the same in every process.

    Parameters
    ----------
    series : ndarray of shape (n_series, series_length), float32
        Series.
    piece : int
        Series handled at a time, which bounds the memory.

    Returns
    -------
    hashes : ndarray of shape (n_series,), uint64
        Equal for equal series.

    Examples
    --------
    >>> len(set(hash_rows(np.eye(3, dtype=np.float32)).tolist()))
    3
    """
    factors = np.random.default_rng(0).integers(1, 2**63, series.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(series), np.uint64)
    for start in range(0, len(series), piece):
        bits = np.ascontiguousarray(series[start : start + piece], np.float32).view(np.uint32)
        hashes[start : start + piece] = bits.astype(np.uint64) @ factors
    return hashes


class BatchSequence:
    """Batches of one partition over all epochs, numbered by a clock from 1.

    Which rows make a batch depends on the rows, the seed, the partition and the epoch, and not on the order in which the
    rows came: Spark may deliver them in another order to a task that it retries, and whoever continues a partition must
    see the batches that the one before would have seen.

    Parameters
    ----------
    series : ndarray of shape (n_series, series_length), float32
        All rows of the partition.
    batch_size : int
        Rows in a batch; the last of an epoch holds what is left.
    epochs : int
        Passes over the rows.
    seed, partition : int
        What the order depends on.

    Attributes
    ----------
    fingerprint : int
        Hash of all rows, whatever their order.
    """

    def __init__(self, series, batch_size, epochs, seed=0, partition=0):
        self.series = series
        self.batch_size = batch_size
        self.n_batches = -(-len(series) // batch_size)
        self.last_clock = self.n_batches * epochs
        self._key = (seed, partition)
        hashes = hash_rows(series)
        self.fingerprint = int(hashes.sum() >> np.uint64(1))
        self._rows = np.argsort(hashes, kind="stable")
        self._order = (None, None)

    def row_counts(self):
        """Return the sizes of batches: of a whole one, and of an epoch's last.

        Returns
        -------
        row_counts : list of int
            One or two numbers.
        """
        whole = self.batch_size if len(self.series) >= self.batch_size else 0
        return [n for n in (whole, len(self.series) % self.batch_size) if n]

    def batch(self, clock):
        """Return one batch.

        Parameters
        ----------
        clock : int
            Its number, from 1 to `last_clock`.

        Returns
        -------
        x : ndarray of shape (n_rows, series_length), float32
            A copy; `n_rows` is `batch_size`, or less in an epoch's last batch.
        """
        epoch, index = divmod(clock - 1, self.n_batches)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([*self._key, epoch]).permutation(self._rows))
        rows = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        return np.ascontiguousarray(self.series[rows])

    def ends_window(self, clock, n_push):
        """Say whether a worker pushes after this batch: every `n_push` batches of an epoch, and at its end.

        Parameters
        ----------
        clock : int
            The batch's number.
        n_push : int
            Batches between two pushes.

        Returns
        -------
        ends : bool
            The same for whoever trains the partition.
        """
        index = (clock - 1) % self.n_batches + 1
        return index % n_push == 0 or index == self.n_batches
