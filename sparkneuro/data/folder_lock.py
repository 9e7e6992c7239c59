"""A lock that ends with the process that holds it, however that ends: an `flock` on a small file."""

import fcntl
import os
import time
from contextlib import contextmanager

from sparkneuro.errors import SettingsError, StorageError

PERIOD = 0.2
"""Seconds between two tries."""


@contextmanager
def hold_lock(path, sentence, wait=0.0):
    """Hold a lock while the body runs.

    A child process that inherits the file holds the lock too, until it ends.

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
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PERIOD)
        except OSError as error:
            raise StorageError(f"{path}: could not be locked: {error.strerror}.") from error
