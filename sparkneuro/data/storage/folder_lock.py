"""A lock that ends with the process that holds it, however that ends: an `flock` on a small file."""

import errno
import fcntl
import os
import time
from contextlib import contextmanager

from sparkneuro.data import store
from sparkneuro.errors import SettingsError, StorageError

PERIOD = 0.2
"""Seconds between two tries."""

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def lock_folder(folder, name, work):
    """Keep every other process that does the same out of a folder.

    There is no lock on storage that is not local.

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
    sentence = f"{folder}: another {work} is at work in this folder; wait for it, or choose another."
    with hold_lock(os.path.join(inner, name), sentence):
        yield


@contextmanager
def hold_lock(path, sentence, wait=0.0):
    """Hold a lock while the body runs.

    A child process that inherits the file holds the lock too, until it ends. On a file system that knows no locks there is none.

    Parameters
    ----------
    path : str
        Plain path of the lock's file, which stays; its folder is made when needed.
    sentence : str
        What is said when another process holds it.
    wait : float
        Seconds to wait for that process.

    Yields
    ------
    descriptor : int
        Of the locked file.

    Raises
    ------
    SettingsError
        With `sentence`, when another process holds it.
    StorageError
        When the file cannot be made.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(f"{path}: could not be written: {error.strerror}.") from error
    try:
        if not _lock(descriptor, path, time.monotonic() + wait):
            raise SettingsError(sentence)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor, path, deadline):
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return True
            if error.errno not in _HELD:
                raise StorageError(f"{path}: could not be locked: {error.strerror}.") from error
            if time.monotonic() >= deadline:
                return False
            time.sleep(PERIOD)
