"""CIFTI-2 files: the header of a dense series, and dense maps in its grayordinates.

nibabel reads the header's XML; the values are read by `cifti_recording`.
"""

import io
from dataclasses import dataclass

import nibabel
import numpy as np
from nibabel.cifti2 import BrainModelAxis, ScalarAxis, SeriesAxis, cifti2_axes
from nibabel.nifti1 import Nifti1Extensions

from sparkneuro.data import store
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.errors import FormatError

_ECODE = 32
_SIZE = nibabel.Nifti2Header.sizeof_hdr
_UNITS = {"SECOND": 1.0}


@dataclass(frozen=True, eq=False)
class CiftiHeader:
    """What the header of a CIFTI-2 file promises.

    Parameters
    ----------
    path : str
        The file.
    series : nibabel.cifti2.SeriesAxis or nibabel.cifti2.ScalarAxis
        The first axis of the matrix.
    brain_models : nibabel.cifti2.BrainModelAxis
        Its second axis: which grayordinate is where.
    dtype : numpy.dtype
        Of a stored value, with its byte order.
    slope, inter : float or None
        A value is ``stored * slope + inter``; None where they are not to be applied.
    offset : int
        Where the stored values start, in bytes.
    """

    path: str
    series: object
    brain_models: BrainModelAxis
    dtype: np.dtype
    slope: float | None
    inter: float | None
    offset: int

    @property
    def n_bytes(self):
        """Bytes of stored values that the header promises."""
        return len(self.series) * len(self.brain_models) * self.dtype.itemsize


def parse_cifti(stream):
    """Read the header at the beginning of a stream.

    Parameters
    ----------
    stream : ByteStream
        A file, at its first byte; afterwards at its first value.

    Returns
    -------
    header : CiftiHeader
        What it promises.

    Raises
    ------
    FormatError
        When it is no CIFTI-2 file of scalars or a series over grayordinates.
    """
    start = bytes(stream.read(_SIZE))
    if len(start) < _SIZE or start[4:7] != b"n+2":
        raise FormatError(f"{stream.path}: this is not a CIFTI-2 file (.dtseries.nii); is the download complete?")
    header = nibabel.Nifti2Header(start, check=False)
    offset = int(header["vox_offset"])
    if not _SIZE < offset < 1 << 30:
        raise FormatError(f"{stream.path}: the header makes no sense (values start at byte {offset}); is the file damaged?")
    content = bytes(stream.read(offset - _SIZE))
    if len(content) < offset - _SIZE:
        raise FormatError(f"{stream.path}: the file ends within its header; is the download complete?")
    series, brain_models = _read_axes(stream.path, content[4:], header)
    return CiftiHeader(stream.path, series, brain_models, header.get_data_dtype(), *header.get_slope_inter(), offset)


def _read_axes(path, content, header):
    try:
        extensions = Nifti1Extensions.from_fileobj(io.BytesIO(content), len(content), header.endianness == ">")
        matrix = next(extension for extension in extensions if extension.get_code() == _ECODE).get_content().matrix
        axes = [cifti2_axes.from_index_mapping(matrix.get_index_map(number)) for number in (0, 1)]
    except StopIteration:
        plain = "this is a NIfTI-2 file without the CIFTI extension; name it .nii if it is a plain one"
        raise FormatError(f"{path}: {plain}.") from None
    except Exception as error:  # whatever the XML parser and nibabel raise over a damaged header
        raise FormatError(f"{path}: the header makes no sense ({error!r}); is the file damaged?") from error
    if not isinstance(axes[0], SeriesAxis | ScalarAxis) or not isinstance(axes[1], BrainModelAxis):
        kinds = " by ".join(type(axis).__name__.removesuffix("Axis") for axis in axes)
        raise FormatError(f"{path}: a series over grayordinates (.dtseries.nii) is expected; this file holds {kinds}.")
    if header.get_data_shape()[4:] != (len(axes[0]), len(axes[1])):
        promised = f"the header says shape {header.get_data_shape()[4:]}, its axes {len(axes[0])} by {len(axes[1])}"
        raise FormatError(f"{path}: {promised}; is the file damaged?")
    return axes


def write_maps(path, names, values, brain_models):
    """Write maps over grayordinates (.dscalar.nii), atomically; equal arguments give equal bytes.

    Parameters
    ----------
    path : str
        Path or URI, ending in .dscalar.nii.
    names : sequence of str
        Name of each map.
    values : ndarray of shape (n_maps, n_grayordinates)
        Their values; stored as float32.
    brain_models : nibabel.cifti2.BrainModelAxis
        Which grayordinate is where.
    """
    image = nibabel.Cifti2Image(np.asarray(values, np.float32), (ScalarAxis(list(names)), brain_models))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    image.update_headers()
    store.write_bytes(path, image.to_bytes())


def read_brain_models(path):
    """Read which grayordinate is where.

    Parameters
    ----------
    path : str
        Path or URI of a CIFTI-2 file.

    Returns
    -------
    brain_models : nibabel.cifti2.BrainModelAxis
        One element a grayordinate.

    Raises
    ------
    FormatError
        When it is no such file.
    """
    with ByteStream(path) as stream:
        return parse_cifti(stream).brain_models


def read_t_r(header):
    """Tell the repetition time of a dense series.

    Parameters
    ----------
    header : CiftiHeader
        Of the file.

    Returns
    -------
    t_r : float or None
        Repetition time (s); None where the axis has none, or another unit.
    """
    step = getattr(header.series, "step", 0) * _UNITS.get(getattr(header.series, "unit", ""), 0)
    return round(float(step), 6) if step > 0 else None
