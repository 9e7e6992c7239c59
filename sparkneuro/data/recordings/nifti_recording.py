"""BOLD in a NIfTI file: a grid of voxels, stored scan after scan."""

from sparkneuro.data.nifti import check_bold, read_header
from sparkneuro.data.recordings.recording import Recording
from sparkneuro.data.recordings.scans import read_mean_image, read_series


class NiftiRecording(Recording):
    """A 4-D NIfTI-1 or NIfTI-2 file, plain or gzipped.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    """

    def __init__(self, path):
        super().__init__(path)
        header = check_bold(read_header(self.path))
        self.shape, self.affine, self.n_scans, self.t_r = header.shape[:3], header.affine, header.shape[3], header.t_r

    def read_series(self, selected, prepare=None):
        """Read the series of a mask's voxels; see `Recording.read_series`.

        Parameters
        ----------
        selected : ndarray of shape (x, y, z), bool
            Which voxels.
        prepare : callable or None
            What is done to whole scans first.

        Returns
        -------
        series : MaskedSeries
            Their series.
        sha256 : str
            Of the file.
        """
        return read_series(self.path, selected, prepare)

    def read_mean(self):
        """Average the run over its scans.

        Returns
        -------
        mean : ndarray of shape (x, y, z), float64
            Mean signal.
        """
        return read_mean_image(self.path)[0]
