"""A folder for one process at a time; the lock ends with its process, however that ends."""

import errno
import fcntl
import os
from contextlib import contextmanager
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.errors import SettingsError, StorageError


@contextmanager
def lock_folder(folder, name, work):
    """Keep every other process that does the same out of a folder.

    There is no lock on storage that is not local, nor on a file system that knows none.

    Parameters
    ----------
    folder : str
        Path or URI; made when needed.
    name : str
        Path of the lock's file in it.
    work : str
        What is done, for the message: "another WORK is at work".

    Yields
    ------
    nothing : None
        While the folder is ours.

    Raises
    ------
    SettingsError
        When another process has it.
    StorageError
        When the folder cannot be written.
    """
    filesystem, inner = store.locate(folder)
    if filesystem.type_name != "local":
        yield
        return
    lock = Path(inner, name)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(f"{folder}: could not be written: {error.strerror}.") from error
    try:
        _take(file, folder, work)
        yield
    finally:
        os.close(file)


def _take(file, folder, work):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            message = f"{folder}: another {work} is at work in this folder; wait for it, or choose another."
            raise SettingsError(message) from None
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise StorageError(f"{folder}: could not be locked: {error.strerror}.") from error
