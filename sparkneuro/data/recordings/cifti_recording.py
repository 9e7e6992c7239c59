"""BOLD in a CIFTI-2 dense series: grayordinates of cortex and subcortex, stored one series after the other."""

import numpy as np

from sparkneuro.data import row_space, store
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.cifti import parse_cifti, read_t_r
from sparkneuro.data.recordings.masked_series import MaskedSeries
from sparkneuro.data.recordings.recording import Recording
from sparkneuro.errors import FormatError, SettingsError

_BLOCK_BYTES = 1 << 20


class CiftiRecording(Recording):
    """A ``.dtseries.nii`` file, as fMRIPrep and the HCP pipelines write it.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Attributes
    ----------
    brain_models : nibabel.cifti2.BrainModelAxis
        Which grayordinate is where.
    """

    rows = row_space.GRAYORDINATES

    def __init__(self, path):
        super().__init__(path)
        with ByteStream(self.path) as stream:
            header, compressed = parse_cifti(stream), stream.compressed
        self._header, self.brain_models = header, header.brain_models
        self.shape, self.n_scans, self.t_r = (len(header.brain_models),), len(header.series), read_t_r(header)
        if not compressed and (size := store.stat(self.path)[0]) < header.offset + header.n_bytes:
            raise self._truncated(size - header.offset)

    def read_series(self, selected, prepare=None):
        """Read the series of some grayordinates; see `Recording.read_series`.

        Parameters
        ----------
        selected : ndarray of shape (n_grayordinates,), bool
            Which.
        prepare : None
            A grayordinate has no place in a volume, so nothing can be done to whole scans.

        Returns
        -------
        series : MaskedSeries
            Their series.
        sha256 : str
            Of the file.
        """
        if prepare is not None:
            raise SettingsError(f"{self.path}: grayordinates cannot be smoothed in a volume; smooth them on the surface before.")
        columns = np.cumsum(selected) - 1
        n_rows = int(np.count_nonzero(selected))
        baseline, deviation = np.empty(n_rows), np.empty((self.n_scans, n_rows), np.float32)
        with ByteStream(self.path) as stream:
            for start, block in self._read_blocks(stream):
                stop = start + len(block)
                chosen = block[selected[start:stop]].astype(np.float64)
                if len(chosen):
                    chosen = self._scale(chosen)
                    place = slice(columns[start:stop][selected[start:stop]][0], columns[stop - 1] + 1)
                    baseline[place] = chosen[:, 0]
                    with np.errstate(over="ignore", invalid="ignore"):
                        deviation[:, place] = (chosen - chosen[:, :1]).T
            return MaskedSeries(baseline, deviation), stream.finish()

    def read_mean(self):
        """Average the recording over its scans.

        Returns
        -------
        mean : ndarray of shape (n_grayordinates,), float64
            Mean signal.
        """
        mean = np.empty(self.shape[0])
        with ByteStream(self.path) as stream:
            for start, block in self._read_blocks(stream):
                mean[start : start + len(block)] = self._scale(block.mean(axis=1, dtype=np.float64))
            stream.finish()
        return mean

    def _read_blocks(self, stream):
        """Yield the first grayordinate of each block and its stored series, (n, n_scans)."""
        header = parse_cifti(stream)
        series_bytes, n_rows = self.n_scans * header.dtype.itemsize, self.shape[0]
        n_block = max(1, _BLOCK_BYTES // series_bytes)
        for start in range(0, n_rows, n_block):
            content = stream.read(min(n_block, n_rows - start) * series_bytes)
            if len(content) < min(n_block, n_rows - start) * series_bytes:
                raise self._truncated(start * series_bytes + len(content))
            yield start, np.frombuffer(content, header.dtype).reshape(-1, self.n_scans)

    def _scale(self, stored):
        header = self._header
        return stored if header.slope is None else stored * header.slope + header.inter

    def _truncated(self, n_bytes):
        promise = f"the header promises {self._header.n_bytes} bytes of data, the file holds {max(0, n_bytes)}"
        return FormatError(f"{self.path}: {promise}; is the download complete?")
