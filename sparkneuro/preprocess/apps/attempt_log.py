"""A subject's log: what the app writes, and between it our own lines, which begin with ``===`` and the time."""

import os
from datetime import datetime

_MARK = "=== "


def note(log, sentence):
    """Append a sentence with the time to a log.

    Parameters
    ----------
    log : str
        The file; made, with its folder, when needed.
    sentence : str
        What happened.
    """
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{_MARK}{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z} {sentence}\n")


def read_tail(log, n_lines=6, start=0):
    """Read the last lines that an app has written to a log.

    Parameters
    ----------
    log : str
        The file; one that is absent is empty.
    n_lines : int
        How many.
    start : int
        Where in the file (bytes) to begin: what stands before is of an earlier attempt.

    Returns
    -------
    lines : list of str
        Those that are neither empty nor ours.
    """
    try:
        with open(log, "rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - (1 << 16)))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in lines if line.strip() and not line.startswith(_MARK)][-n_lines:]
