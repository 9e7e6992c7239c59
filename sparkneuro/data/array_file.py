"""Large arrays that every task of a machine shares: ``.npy`` files, mapped into memory and never copied.

A Spark broadcast would be unpickled once in each Python worker. A mapped file is in memory once a machine, as page cache, and
what is not used may leave it.
"""

import fcntl
import hashlib
import os
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError, StorageError

UNUSED_S = 24 * 3600
"""After this time a machine's copy of a remote array is deleted when another one is fetched."""
_CHUNK = 64 << 20


def create_array(path, shape, dtype):
    """Make a local array file of zeros, to be filled in parts.

    Parameters
    ----------
    path : str
        Plain path; its folder must exist.
    shape : tuple of int
        Of the array.
    dtype : dtype
        Of the array.

    Returns
    -------
    array : numpy.memmap
        Writable; `flush` before others read it.

    Raises
    ------
    StorageError
        When there is no room.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(int(n) for n in shape))
    try:
        # A page that cannot be allocated later would end the process by SIGBUS: the room is taken now.
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    except OSError as error:
        del array
        os.unlink(path)
        raise StorageError(f"{path}: there is no room for {np.prod(shape) * np.dtype(dtype).itemsize:,} bytes.") from error
    return array


def write_array(path, array):
    """Write an array, atomically, on any filesystem.

    Parameters
    ----------
    path : str
        Path or URI.
    array : ndarray
        What is written; in pieces, so that no second copy is made of it.
    """
    header = BytesIO()
    array = np.asarray(array)
    if not array.flags.c_contiguous and not array.flags.f_contiguous:
        array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with store.open_replacement(path) as stream:
        stream.write(header.getvalue())
        flat = array.reshape(-1, order="C" if array.flags.c_contiguous else "F")
        step = max(1, _CHUNK // array.itemsize)
        for start in range(0, flat.size, step):
            stream.write(flat[start : start + step].data.cast("B") if flat.ndim else flat.tobytes())


def open_array(path):
    """Map an array into memory, read-only; one that is not on a local filesystem is first fetched, once a machine.

    Parameters
    ----------
    path : str
        Path or URI.

    Returns
    -------
    array : numpy.memmap
        Read-only.

    Raises
    ------
    FormatError
        When it is missing, or is no whole array.
    """
    if not store.exists(path):
        raise FormatError(f"{path}: this array is missing; is the folder on a filesystem that all machines share?")
    local = store.locate(path)[1] if store.is_local(path) else _fetch(path)
    try:
        return np.load(local, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FormatError(f"{path}: this array is damaged ({error}); make it again.") from error


def _fetch(path):
    identity = " ".join(map(str, (path, *store.stat(path))))
    folder = Path(tempfile.gettempdir()) / f"sparkneuro-arrays-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / (hashlib.sha256(identity.encode()).hexdigest()[:24] + ".npy")
    with open(f"{target}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one worker of the machine fetches, the others wait for it
        if not target.exists():
            _delete_unused(folder)
            partial = target.with_suffix(".partial")
            _copy(path, partial)
            partial.rename(target)
        os.utime(target)
    return str(target)


def _copy(path, partial):
    with store.open_stream(path) as source:
        try:
            with open(partial, "wb") as sink:
                while piece := source.read(_CHUNK):
                    sink.write(piece)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, StorageError):
                raise
            remedy = "free some space, or set TMPDIR to a larger disk"
            raise StorageError(f"{path}: no room for a copy of it in {partial.parent}: {error.strerror}; {remedy}.") from error


def _delete_unused(folder):
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > UNUSED_S:
            file.unlink(missing_ok=True)
