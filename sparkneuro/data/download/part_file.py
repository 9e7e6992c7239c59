"""A file that is being downloaded: its bytes so far, what content they are of, and the step to its final name."""

import errno
import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path

from sparkneuro.data.download.content_check import ContentCheck
from sparkneuro.data.download.remote_content import RemoteContent
from sparkneuro.errors import StorageError

ENDING = ".part"
_WORTH_A_STATE = 1 << 20  # what is smaller is sooner transferred again than described
_PIECE = 1 << 20


class DiskFull(StorageError):
    """There is no space left for a file."""


class PartFile:
    """Bytes of a download beside the place where the whole file will appear.

    ``.NAME.part`` holds the bytes, and ``.NAME.part.json`` says of which content: another run continues where this one has ended,
    however it did. One process works on it at a time.

    Parameters
    ----------
    target : str
        Where the whole file will appear.
    name : str
        Its name for messages and, by its ending, for the checks of its content.
    on_bytes : callable
        Called with the number of bytes that have come (or, negative, that have been dropped).

    Attributes
    ----------
    size : int
        Bytes that are there.
    content : RemoteContent or None
        What they are of.

    Raises
    ------
    StorageError
        When it cannot be written, or another process works on it.
    """

    def __init__(self, target, name, on_bytes):
        self.target, self.name = Path(target), name
        self.path = self.target.with_name(f".{self.target.name}{ENDING}")
        self._state = self.path.with_name(f"{self.path.name}.json")
        self._on_bytes = on_bytes
        self.size, self.content, self._check = 0, None, None
        self._file = self._translated(self._open)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not self.size:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def restore(self, entry):
        """Take up what an earlier run has left, reading it once for the checksums.

        Parameters
        ----------
        entry : dict
            The file as it is listed now; what came from elsewhere, or of another version, is dropped.

        Raises
        ------
        FormatError
            When it can be seen that the bytes are damaged.
        """
        size = os.fstat(self._file).st_size
        content = self._read_state() if size else None
        if content is None or not content.may_be(entry) or (content.size is not None and size > content.size):
            return self.drop()
        content = replace(content, checksum=entry.get("checksum") or content.checksum)
        self.content, self._check = content, ContentCheck(self.name, content.checksum)
        with open(self._file, "rb", buffering=0, closefd=False) as file:
            while piece := file.read(_PIECE):
                self._check.update(piece)
        self.size = self._check.n_bytes
        self._on_bytes(self.size)

    def drop(self):
        """Drop the bytes that are there."""
        self._on_bytes(-self.size)
        self._state.unlink(missing_ok=True)
        self._translated(lambda: os.ftruncate(self._file, 0))
        self.size, self.content, self._check = 0, None, None

    def begin(self, content):
        """Begin anew with a content.

        Parameters
        ----------
        content : RemoteContent
            What the bytes will be of.
        """
        self.drop()
        self.content, self._check = content, ContentCheck(self.name, content.checksum)
        if content.size is None or content.size >= _WORTH_A_STATE:
            self._translated(self._write_state)

    def append(self, piece):
        """Write further bytes.

        Parameters
        ----------
        piece : bytes
            They follow those that are there.

        Raises
        ------
        FormatError
            When they show that the file is something else, or damaged.
        StorageError
            When the disk is full; what is there is kept.
        """
        self._check.update(piece)
        view = memoryview(piece)
        while view:
            n_written = self._translated(lambda view=view: os.write(self._file, view))
            view = view[n_written:]
            self.size += n_written
            self._on_bytes(n_written)

    def finish(self):
        """Check the whole file and give it its final name.

        Returns
        -------
        sha256 : str
            Of its content.

        Raises
        ------
        FormatError
            When it is not what it should be; nothing has its final name then.
        """
        sha256 = (self._check or ContentCheck(self.name)).finish()
        self._translated(self._publish)
        return sha256

    def _publish(self):
        if self.size >= _WORTH_A_STATE:
            os.fsync(self._file)  # a loss of power must not leave a hole under the final name
        os.replace(self.path, self.target)
        self._state.unlink(missing_ok=True)

    def _open(self):
        self.target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(file)
                    raise StorageError(f"{self.name}: another process is fetching this file; wait for it") from None
            # A process that has just finished has given the very file that we opened its final name.
            if self.path.exists() and os.path.samestat(os.fstat(file), os.stat(self.path)):
                return file
            os.close(file)

    def _write_state(self):
        temporary = self._state.with_name(f"{self._state.name}.new")
        try:
            temporary.write_text(json.dumps(self.content.to_dict()))
            os.replace(temporary, self._state)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _read_state(self):
        try:
            return RemoteContent(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _translated(self, action):
        try:
            return action()
        except StorageError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"{self.target}: the disk is full; free some space and give the command again") from error
            raise StorageError(f"{self.target}: could not be written: {error.strerror}") from error
