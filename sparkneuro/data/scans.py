"""The scans of a BOLD run, read once and forward in blocks of bounded size: never the whole 4-D image, never as float64."""

import numpy as np

from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.nifti import check_bold, check_grid, parse_header, truncated

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


def read_masked_series(path, mask, prepare=None):
    """Read the BOLD series of a mask's voxels: one forward pass, in the memory of the result and one block of scans.

    ``bold = baseline + deviation``. A scanner's values have a large offset (35,000, say, around which they change by 200),
    where float32 is good to 1e-5 of the change only; as deviations from the first scan it is good to 1e-7.

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
    baseline : ndarray of shape (n_voxels,), float64
        BOLD signal of the first scan, scaled as the header says, in the unit of the file.
    deviation : ndarray of shape (n_scans, n_voxels), float32
        What each scan has above it.
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
        baseline, deviation = None, np.empty((header.shape[3], len(places)), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity stays infinite or becomes NaN, and is counted later
            for first, block in read_blocks(header, stream):
                if prepare is not None:
                    block = _prepare(prepare, header, block)
                for scan, stored in enumerate(block, start=first):
                    values = (stored[places] if prepare else header.scale(stored[places])).astype(np.float64, copy=False)
                    baseline = values if baseline is None else baseline
                    np.subtract(values, baseline, out=deviation[scan], casting="same_kind")
        return baseline, deviation, stream.finish()


def _prepare(prepare, header, block):
    """Do to whole scans what must be done before voxels are taken from them; scaled values, x running fastest again."""
    x, y, z = header.shape[:3]
    scans = header.scale(block).astype(np.float64, copy=False).reshape(-1, z, y, x).transpose(0, 3, 2, 1)
    return prepare(scans).transpose(0, 3, 2, 1).reshape(len(block), -1)


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
