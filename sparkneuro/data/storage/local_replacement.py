"""A file that a library insists on writing by its local name: written aside, then put in its place whole, on any filesystem."""

import os
import re
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.errors import SparkneuroError, StorageError

_PIECE = 8 << 20
_SPARE = 16 << 20


@contextmanager
def open_local_replacement(path, n_bytes):
    """Write a file by a local name, atomically; its folder is made when needed.

    A local file is written beside its place and renamed. One in a bucket or on HDFS is written in the system's folder for
    temporary files (TMPDIR) and uploaded when the body has ended well.

    Parameters
    ----------
    path : str
        Path or URI of the file; one that exists is replaced.
    n_bytes : int
        About how large it will be.

    Yields
    ------
    local : str
        Plain path to write to.

    Raises
    ------
    StorageError
        When there is no room for it, or it cannot be written; nothing is left behind then.
    """
    filesystem, inner = store.locate(path)
    is_local = filesystem.type_name == "local"
    folder = Path(inner).parent if is_local else Path(tempfile.gettempdir())
    local = folder / f"{store.TEMPORARY}{Path(inner).name}.{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_room(folder, n_bytes, "" if is_local else f" before {path} is uploaded")
        yield str(local)
        if is_local:
            os.replace(local, inner)
        else:
            _upload(local, path)
    except SparkneuroError:
        raise
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        local.unlink(missing_ok=True)


def check_room(folder, n_bytes, what=""):
    """Check that a local folder's disk has room.

    Parameters
    ----------
    folder : str or pathlib.Path
        Folder that is there.
    n_bytes : int
        What will be written.
    what : str
        When and why, for the message; where it is not empty the folder is one for temporary files.

    Raises
    ------
    StorageError
        When it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _SPARE:
        need = f"{(n_bytes + _SPARE) / 1e6:,.0f} MB are needed here{what} and {free / 1e6:,.0f} MB are free"
        remedy = "make room, or choose another folder" if not what else "make room, or set TMPDIR to a larger disk"
        raise StorageError(f"{folder}: {need}; {remedy}.")


def _upload(local, path):
    with open(local, "rb") as source, store.open_replacement(path) as target:
        while piece := source.read(_PIECE):
            target.write(piece)


def _storage_error(path, error):
    # HDF5 tells the system's number in its text only.
    told = re.search(r"errno = (\d+)", str(error))
    code = error.errno or (int(told[1]) if told else None)
    reason = os.strerror(code) if code else str(error).splitlines()[0]
    return StorageError(f"{path}: could not be written: {reason}.")
