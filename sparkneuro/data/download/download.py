"""Download one file over a network that fails: resumed where it stopped, checked, and whole or not there at all."""

import logging
import threading
import time
from dataclasses import replace

from sparkneuro.data.download.file_kind import POINTER, START_SIZE
from sparkneuro.data.download.part_file import PartFile
from sparkneuro.data.download.patience import Faltered, Patience, Stopped, Throttle, Tries
from sparkneuro.data.download.remote_content import address_of, describe_content
from sparkneuro.errors import FormatError, StorageError

LOG = logging.getLogger(__name__)
_MOST_DAMAGED = 2


def download(entry, target, connect, patience=None, throttle=None, on_bytes=None, stop=None):
    """Download a file, or what an earlier call has left to do.

    Each byte is transferred once as long as server and network allow: after a drop the transfer goes on at its offset, if the
    content there is still the same.

    Parameters
    ----------
    entry : dict
        ``path`` (name for messages and checks), ``url``, and where they are known ``size``, ``etag``, ``modified``, ``checksum``.
    target : str
        Local file to make; its folder is made too.
    connect : callable
        ``connect(url, headers, timeout) -> Answer``.
    patience : Patience or None
        How long it is tried again.
    throttle : Throttle or None
        Shared with other downloads from this server.
    on_bytes : callable or None
        Called with each number of bytes that has come (negative: dropped); what an earlier call has left counts too.
    stop : threading.Event or None
        Set it to stop soon.

    Returns
    -------
    record : dict
        path, url, size, sha256, etag, modified, checksum and time (s since 1970) of what has come.

    Raises
    ------
    StorageError
        When the server has no such file, patience is at its end, or the file cannot be written.
    FormatError
        When what comes is not what it should be, each time.
    Stopped
        When `stop` was set.
    """
    patience, stop = patience or Patience(), stop or threading.Event()
    tries = Tries(patience, throttle or Throttle(), stop)
    with PartFile(target, entry["path"], on_bytes or (lambda n_bytes: None)) as part:
        try:
            return _download(part, entry, connect, patience.timeout, tries, stop)
        except (StorageError, FormatError) as error:
            raise _named(entry["path"], error) from error


def _download(part, entry, connect, timeout, tries, stop):
    try:
        part.restore(entry)
    except FormatError:
        part.drop()
    longest, n_damaged = part.size, 0
    while True:
        tries.wait()
        try:
            if part.content is None or part.size != part.content.size:
                _receive(part, entry, connect, timeout, stop)
            return _finish(part, entry)
        except Faltered as fault:
            LOG.info("%s: %s", entry["path"], fault)
            progressed, longest = part.size > longest, max(longest, part.size)
            tries.pause(fault, progressed)
        except FormatError as error:
            # A gateway's page may be gone the next time; of a file that came whole, two more copies are enough.
            LOG.info("%s", error)
            n_damaged += part.size > START_SIZE
            longest = max(longest, part.size)
            part.drop()
            if POINTER in str(error) or n_damaged > _MOST_DAMAGED:
                raise
            _pause_or_raise(tries, error)


def _pause_or_raise(tries, error):
    try:
        tries.pause(Faltered(str(error)), progressed=False)
    except StorageError:
        raise error from None


def _receive(part, entry, connect, timeout, stop):
    """Ask for the file, or its rest, and append what comes."""
    headers = part.content.range_headers(part.size) if part.size else {}
    if headers is None:
        part.drop()
        headers = {}
    with connect(entry["url"], headers, timeout) as answer:
        if answer.status == 416:
            part.drop()
            raise Faltered("the server has less of the file than was there before")
        answer.check()
        if answer.status == 206:
            if not headers or not part.content.is_continued_by(answer, part.size):
                part.drop()
                raise Faltered("the server sent another part of the file than was asked for")
        else:
            part.begin(_agreed(entry, describe_content(entry, answer)))
        for piece in answer.pieces():
            if stop.is_set():
                raise Stopped
            part.append(piece)
            _refuse_excess(part)
    if part.content.size is None:
        part.content = replace(part.content, size=part.size)
    if part.size < part.content.size:
        raise Faltered(f"the connection ended after {part.size} of {part.content.size} bytes")


def _agreed(entry, content):
    """What the server sends now, unless it contradicts the listing of the same version."""
    changed = entry.get("etag") and content.etag and entry["etag"] != content.etag
    changed = changed or (entry.get("modified") and content.modified and entry["modified"] != content.modified)
    listed = entry.get("size")
    if listed is not None and content.size != listed and not changed:
        raise Faltered(f"the server announces {content.size} bytes where {listed} are listed")
    return content


def _refuse_excess(part):
    if part.content.size is not None and part.size > part.content.size:
        expected = part.content.size
        part.drop()
        raise Faltered(f"the server sent more than {expected} bytes")


def _finish(part, entry):
    sha256, content = part.finish(), part.content
    return {
        "path": entry["path"], "url": address_of(entry["url"]), "size": part.size, "sha256": sha256, "checksum": content.checksum,
        "etag": content.etag or entry.get("etag"), "modified": content.modified or entry.get("modified"), "time": time.time(),
    }


def _named(path, error):
    text = str(error).rstrip(".")
    return type(error)(f"{text}." if path in text else f"{path}: {text}.")
