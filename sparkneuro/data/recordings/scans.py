"""The scans of a BOLD run, read once and forward in blocks of bounded size: never the whole 4-D image, never as float64."""

from dataclasses import replace

import numpy as np

from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.nifti import check_bold, check_grid, parse_header, truncated
from sparkneuro.data.recordings.masked_series import MaskedSeries

BLOCK_BYTES = 1 << 20
"""Bytes of scans that are read at a time (one scan at least)."""


def read_blocks(header, stream, n_bytes=BLOCK_BYTES):
    """Read the stored values of a file in blocks of scans.

    Parameters
    ----------
    header : NiftiHeader
        Of the file; its last axis is cut.
    stream : ByteStream
        The file, anywhere before its values.
    n_bytes : int
        Most bytes of a block, but one scan at least.

    Yields
    ------
    first : int
        Number of the block's first scan.
    block : ndarray of shape (n, x * y * z), the stored dtype
        Stored values, x running fastest. The next block takes the same memory.

    Raises
    ------
    FormatError
        When the file ends early or is damaged.
    """
    stream.read(header.offset - stream.position)
    n_scans, scan_bytes = header.shape[-1], header.n_bytes // header.shape[-1]
    buffer = memoryview(bytearray(min(n_scans, max(1, n_bytes // scan_bytes)) * scan_bytes))
    for first in range(0, n_scans, len(buffer) // scan_bytes):
        part = buffer[: (n_scans - first) * scan_bytes]
        n_read = stream.read_into(part)
        if n_read < len(part):
            raise truncated(header, first * scan_bytes + n_read)
        yield first, np.frombuffer(part, header.dtype).reshape(-1, scan_bytes // header.dtype.itemsize)


def read_series(path, mask, prepare=None):
    """Read the BOLD series of a mask's voxels: one forward pass, in the memory of the result and one block of scans.

    Parameters
    ----------
    path : str
        Path or URI of a 4-D NIfTI file.
    mask : ndarray of shape (x, y, z), bool
        Which voxels; their order is that of ``bold[mask]``.
    prepare : callable or None
        ``prepare(scans) -> scans``, of shape (n, x, y, z), float64: what is done to whole scans first, e.g. smoothing.

    Returns
    -------
    series : MaskedSeries
        2 bytes a value for the integers that scanners write, 4 for other types and for what was prepared.
    sha256 : str
        Of the file as it is stored.

    Raises
    ------
    FormatError
        When the file is not a BOLD run on the mask's grid, ends early or is damaged.
    """
    with ByteStream(path) as stream:
        header = check_bold(parse_header(stream))
        check_grid(header, mask.shape)
        places = np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
        small = header.dtype.kind in "iu" and header.dtype.itemsize <= 2 and prepare is None
        stored = np.empty((header.shape[3], len(places)), header.dtype.newbyteorder("=") if small else np.float32)
        gather, blocks = _gather_integers if small else _gather_deviations, read_blocks(header, stream)
        if prepare is not None:
            blocks = _prepare_blocks(prepare, header, blocks)
            header = replace(header, slope=None, inter=None, dtype=np.dtype(np.float64))  # they come scaled
        first = gather(header, blocks, places, stored)
        sha256 = stream.finish()
    if small and header.slope in (None, 1):
        return MaskedSeries(np.full(len(places), header.inter or 0.0), stored), sha256
    baseline = header.scale(first).astype(np.float64, copy=False)
    return (MaskedSeries(baseline, stored, first, header.slope) if small else MaskedSeries(baseline, stored)), sha256


def _gather_integers(header, blocks, places, stored):
    """Fill the stored values of the voxels; return those of the first scan."""
    for start, block in blocks:
        for scan, values in enumerate(block, start=start):
            if header.dtype.isnative:
                np.take(values, places, out=stored[scan], mode="clip")  # another mode would go through a copy
            else:
                stored[scan] = values[places]
    return stored[0].copy()


def _gather_deviations(header, blocks, places, stored):
    """Fill the deviations of the voxels; return the stored values of the first scan."""
    first = baseline = None
    as_stored = header.slope is None or (header.slope == 1 and not header.inter)
    exact = np.float32 if as_stored and header.dtype.newbyteorder("=") == np.float32 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # infinity stays infinite or becomes NaN, and is counted later
        for start, block in blocks:
            for scan, values in enumerate(block, start=start):
                values = values.take(places)
                first = values if first is None else first
                values = header.scale(values).astype(exact, copy=False)
                baseline = values if baseline is None else baseline
                np.subtract(values, baseline, out=stored[scan], casting="same_kind")
    return first


def _prepare_blocks(prepare, header, blocks):
    """Do to whole scans what must be done before voxels are taken from them; scaled values, x running fastest again."""
    x, y, z = header.shape[:3]
    for start, block in blocks:
        scans = header.scale(block).astype(np.float64, copy=False).reshape(-1, z, y, x).transpose(0, 3, 2, 1)
        yield start, prepare(scans).transpose(0, 3, 2, 1).reshape(len(block), -1)


def read_mean_image(path):
    """Average a BOLD run over its scans: one forward pass, in the memory of one block of scans.

    Parameters
    ----------
    path : str
        Path or URI of a 4-D NIfTI file.

    Returns
    -------
    mean : ndarray of shape (x, y, z), float64
        Mean BOLD signal, in the unit of the file.
    affine : ndarray of shape (4, 4)
        From voxel indices to mm.
    """
    with ByteStream(path) as stream:
        header = check_bold(parse_header(stream))
        total = np.zeros(int(np.prod(header.shape[:3])), np.float64)
        for _, block in read_blocks(header, stream):
            total += block.sum(axis=0, dtype=np.float64)
        stream.finish()
    return header.scale(total / header.shape[3]).reshape(header.shape[:3], order="F"), header.affine
