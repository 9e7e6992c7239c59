"""NIfTI-1 and NIfTI-2 files, plain or gzipped: headers, and small volumes whole.

nibabel reads the header and nothing else, because it would hold a whole run in memory; `scans` reads the runs.
"""

import gzip
import io
from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from sparkneuro.data import store
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.download.file_kind import refuse_impostor
from sparkneuro.errors import FormatError

_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What the header of a NIfTI file promises.

    Parameters
    ----------
    path : str
        The file.
    shape : tuple of int
        Axes without trailing ones: (x, y, z) or (x, y, z, n_scans).
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    t_r : float or None
        Repetition time (s); None where the header has none.
    dtype : numpy.dtype
        Of a stored value, with its byte order.
    slope, inter : float or None
        A value is ``stored * slope + inter``; None where they are not to be applied.
    offset : int
        Where the stored values start, in bytes after decompression.
    """

    path: str
    shape: tuple
    affine: np.ndarray
    t_r: float | None
    dtype: np.dtype
    slope: float | None
    inter: float | None
    offset: int

    @property
    def n_bytes(self):
        """Bytes of stored values that the header promises."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def scale(self, stored):
        """Turn stored values into what they stand for.

        Parameters
        ----------
        stored : ndarray
            Stored values.

        Returns
        -------
        values : ndarray of the same shape
            The same array where there is nothing to apply; else float64, so that a caller who wants float32 rounds once.
        """
        if self.slope is None or (self.slope == 1 and not self.inter):
            return stored
        return stored.astype(np.float64) * self.slope + self.inter


def read_header(path):
    """Read the header of a NIfTI file and check what can be checked without reading the data.

    Parameters
    ----------
    path : str
        Path or URI of a .nii or .nii.gz file.

    Returns
    -------
    header : NiftiHeader
        What it promises.

    Raises
    ------
    FormatError
        When it is no NIfTI file; the message guesses what it is instead. Also when a plain .nii is shorter than promised.
    StorageError
        When it cannot be read.
    """
    with ByteStream(path) as stream:
        header = parse_header(stream)
        compressed = stream.compressed
    if not compressed and store.stat(path)[0] < header.offset + header.n_bytes:
        raise truncated(header, store.stat(path)[0] - header.offset)
    return header


def read_volume(path):
    """Read a small image whole, e.g. a mask.

    Parameters
    ----------
    path : str
        Path or URI of a NIfTI file.

    Returns
    -------
    volume : ndarray of shape (x, y, z) or (x, y, z, n)
        Its values; the stored dtype where the header says no scaling, else float64.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    """
    with ByteStream(path) as stream:
        header = parse_header(stream)
        stream.read(header.offset - stream.position)
        content = stream.read(header.n_bytes)
        if len(content) < header.n_bytes:
            raise truncated(header, len(content))
        stream.finish()
    stored = np.frombuffer(content, header.dtype).reshape(header.shape, order="F")
    return header.scale(stored.astype(header.dtype.newbyteorder("="), copy=False)), header.affine


def write_volume(path, volume, affine, t_r=None, slope=None):
    """Write an image as gzipped NIfTI-1, atomically; equal arguments give equal bytes.

    Parameters
    ----------
    path : str
        Path or URI, ending in .nii.gz.
    volume : ndarray of shape (x, y, z) or (x, y, z, n)
        Stored values, e.g. uint8, int16 or float32.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.
    t_r : float or None
        Repetition time (s) of a 4-D image.
    slope : float or None
        What a stored value is to be multiplied by, for `scl_slope`.
    """
    header = nibabel.Nifti1Header()
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape)
    header.set_sform(np.asarray(affine, np.float64), code="aligned")
    header.set_qform(np.asarray(affine, np.float64), code="aligned")  # after the shape: it also sets the voxel sizes
    header.set_xyzt_units("mm", "sec")
    if t_r is not None:
        header.set_zooms((*header.get_zooms()[:3], t_r))
    header.set_slope_inter(slope, None if slope is None else 0.0)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=2, mtime=0) as compressed:
        compressed.write(header.binaryblock + bytes(4))
        compressed.write(volume.tobytes(order="F"))
    store.write_bytes(path, content.getbuffer())


def make_image(volume, affine):
    """Wrap an array as the image object that nilearn takes.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z) or (x, y, z, n)
        Values; a bool array becomes uint8.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    image : nibabel.Nifti1Image
        The image; it shares the array's memory unless that was bool.
    """
    return nibabel.Nifti1Image(volume.astype(np.uint8) if volume.dtype == bool else volume, np.asarray(affine, np.float64))


def check_bold(header):
    """Return a header when it is that of a BOLD run.

    Parameters
    ----------
    header : NiftiHeader
        Of any image.

    Returns
    -------
    header : NiftiHeader
        The same.

    Raises
    ------
    FormatError
        When the image is not 4-D.
    """
    if len(header.shape) != 4:
        guess = "; is it a mask or a mean image?" if len(header.shape) == 3 else "."
        raise FormatError(f"{header.path}: a BOLD run is a 4-D image, and this one has shape {header.shape}{guess}")
    return header


def check_grid(header, shape, affine=None, other="the mask", remedy="resample one to the other"):
    """Check that a file has a given grid.

    Parameters
    ----------
    header : NiftiHeader
        Of the file.
    shape : tuple of int
        The right (x, y, z).
    affine : array_like of shape (4, 4) or None
        The right affine (mm), to a thousandth; None compares the shape only.
    other : str
        What has this grid, for the message.
    remedy : str
        What to do, for the message.

    Raises
    ------
    FormatError
        When they differ.
    """
    if tuple(header.shape[:3]) != tuple(shape):
        grids = f"the grid is {header.shape[:3]}, that of {other} is {tuple(shape)}"
        raise FormatError(f"{header.path}: {grids}; {remedy}.")
    if affine is not None and not np.allclose(header.affine, affine, rtol=0, atol=1e-3):
        off = float(np.abs(header.affine - np.asarray(affine)).max())
        raise FormatError(f"{header.path}: the affine is off by up to {off:.4g} from that of {other}; {remedy}.")


def parse_header(stream):
    """Read the header at the beginning of a stream.

    Parameters
    ----------
    stream : ByteStream
        A file, at its first byte; afterwards behind its header.

    Returns
    -------
    header : NiftiHeader
        What it promises.

    Raises
    ------
    FormatError
        When it is no NIfTI file; the message guesses what it is instead.
    """
    start = bytes(stream.read(348))
    refuse_impostor(stream.path, start)
    lengths = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    if not lengths & {348, 540}:
        raise FormatError(f"{stream.path}: this is not a NIfTI file (.nii or .nii.gz).")
    kind = nibabel.Nifti1Header if 348 in lengths else nibabel.Nifti2Header
    start += bytes(stream.read(kind.sizeof_hdr - len(start)))
    if len(start) < kind.sizeof_hdr:
        raise FormatError(f"{stream.path}: the file ends within its header; is the download complete?")
    magic = start[344:347] if 348 in lengths else start[4:7]
    if magic in (b"ni1", b"ni2"):
        raise FormatError(f"{stream.path}: this is the header of a .hdr/.img pair; convert the pair to one .nii.gz file.")
    if magic not in (b"n+1", b"n+2"):
        raise FormatError(f"{stream.path}: this is not a NIfTI file but perhaps an Analyze one; convert it to .nii.gz.")
    return _read_fields(stream.path, kind(start, check=False))


def _read_fields(path, header):
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype, affine = header.get_data_dtype(), header.get_best_affine()
        slope, inter = header.get_slope_inter()
        time_unit = header.get_xyzt_units()[1]
    except (HeaderDataError, KeyError, ValueError) as error:
        raise FormatError(f"{path}: the header makes no sense ({error}); is the file damaged?") from error
    if dtype.kind not in "iuf":
        raise FormatError(f"{path}: a voxel must be one real number; this file holds {dtype}.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3 or min(shape) < 1 or not np.isfinite(affine).all():
        raise FormatError(f"{path}: an image of 3 or 4 axes is needed; the header says shape {shape}.")
    zooms = header["pixdim"]
    t_r = float(zooms[4]) * _SECONDS.get(time_unit, np.nan) if len(shape) == 4 else np.nan
    offset = max(int(header.get_data_offset()), header.single_vox_offset)
    return NiftiHeader(path, shape, affine, round(t_r, 6) if t_r > 0 else None, dtype, slope, inter, offset)


def truncated(header, n_bytes):
    """Make the error of a file that ends too early.

    Parameters
    ----------
    header : NiftiHeader
        Of the file.
    n_bytes : int
        Bytes of stored values that it does hold.

    Returns
    -------
    error : FormatError
        To be raised.
    """
    promise = f"the header promises {header.n_bytes} bytes of data, the file holds {max(0, n_bytes)}"
    return FormatError(f"{header.path}: {promise}; is the download complete?")
