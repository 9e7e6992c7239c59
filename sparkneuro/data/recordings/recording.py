"""A recording: signals over time in one file. The contract that the reader of each format keeps, and which reader a file has.

A reader is a class with the attributes and the two methods of `Recording`. Opening reads the header only. One battery of tests
(``tests/data/recordings/test_recordings.py``) holds for all of them.
"""

from importlib import import_module

from sparkneuro.data import row_space

READERS = {
    (".dtseries.nii", ".ptseries.nii", ".dscalar.nii"): ("cifti_recording", "CiftiRecording"),
    (".nii", ".nii.gz"): ("nifti_recording", "NiftiRecording"),
    (".h5", ".hdf5", ".hf5"): ("hdf5_recording", "Hdf5Recording"),
}
"""Endings of names -> module of this folder and class; the first that fits."""


class Recording:
    """Signals over time in one file, known by its header.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Attributes
    ----------
    rows : str
        What a row is: "voxels", "grayordinates" or "series".
    shape : tuple of int
        (x, y, z) of voxels; (n_rows,) of the others.
    affine : ndarray of shape (4, 4) or None
        From voxel indices to mm; None for rows without a grid.
    n_scans : int
        Scans.
    t_r : float or None
        Repetition time (s) by the header; None where it has none.

    Raises
    ------
    FormatError
        When the file is not what its name says; the message guesses what it is instead.
    StorageError
        When it cannot be read.
    """

    rows = row_space.VOXELS
    affine = None

    def __init__(self, path):
        self.path = str(path)

    def read_series(self, selected, prepare=None):
        """Read the series of some rows: one forward pass, in the memory of the result and one block of scans.

        Parameters
        ----------
        selected : ndarray of `shape`, bool
            Which rows; their order is that of ``values[selected]``.
        prepare : callable or None
            ``prepare(volumes) -> volumes``, of shape (n, x, y, z), float64: what is done to whole scans first, e.g. smoothing.

        Returns
        -------
        series : MaskedSeries
            Their series, in the unit of the file.
        sha256 : str
            Of the file as it is stored.

        Raises
        ------
        FormatError
            When the file ends early or is damaged.
        """
        raise NotImplementedError

    def read_mean(self):
        """Average the recording over its scans: one forward pass.

        Returns
        -------
        mean : ndarray of `shape`, float64
            Mean signal, in the unit of the file.
        """
        raise NotImplementedError


def open_recording(path):
    """Open a recording by the reader of its format.

    Parameters
    ----------
    path : str
        Path or URI of a file; one with an ending that no reader has is taken for NIfTI.

    Returns
    -------
    recording : Recording
        Its header, and how to read it.

    Raises
    ------
    FormatError
        When the file is not what its name says.
    StorageError
        When it cannot be read.
    """
    fitting = [reader for endings, reader in READERS.items() if str(path).endswith(endings)]
    module, name = fitting[0] if fitting else READERS[".nii", ".nii.gz"]
    return getattr(import_module(f"sparkneuro.data.recordings.{module}"), name)(path)
