"""The bytes of a file, gunzipped when they are compressed, read once and forward, and hashed as they lie on the disk."""

import gzip
import hashlib
import zlib

from sparkneuro.data import store
from sparkneuro.errors import FormatError

try:  # decompresses twice as fast as the standard library
    from isal import igzip, isal_zlib

    _open_gzip, _DAMAGED = igzip.IGzipFile, (OSError, zlib.error, isal_zlib.error)
except ImportError:
    _open_gzip, _DAMAGED = gzip.GzipFile, (OSError, zlib.error)

GZIP_MAGIC = b"\x1f\x8b"


class ByteStream:
    """Read a file forward.

    Whether it is compressed is decided by its first bytes, never by its name. The gzip checksum is compared by `finish`.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Attributes
    ----------
    position : int
        Bytes read so far, after decompression.
    compressed : bool
        Whether the file is gzipped.

    Raises
    ------
    StorageError
        When the file cannot be opened.
    FormatError
        When it is empty.
    """

    def __init__(self, path):
        self.path = str(path)
        self.position = 0
        self._file = _HashingFile(store.open_stream(path))
        start = self._file.peek(2)
        if not start:
            self.close()
            raise FormatError(f"{path}: the file is empty; is the download complete?")
        self.compressed = start == GZIP_MAGIC
        self._stream = _open_gzip(fileobj=self._file, mode="rb") if self.compressed else self._file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the file."""
        self._file.close()

    def read(self, n_bytes):
        """Read so many bytes, or fewer where the file ends.

        Parameters
        ----------
        n_bytes : int
            How many.

        Returns
        -------
        content : bytearray
            As many as there were.

        Raises
        ------
        FormatError
            When the compressed data are damaged.
        """
        content = bytearray(n_bytes)
        del content[self.read_into(content):]
        return content

    def read_into(self, buffer):
        """Fill a buffer, or as much of it as the file still holds.

        Parameters
        ----------
        buffer : bytearray or memoryview
            Where the bytes go.

        Returns
        -------
        n_bytes : int
            How many were read. Fewer than the buffer takes only at the end of the file, also where a download was cut off.

        Raises
        ------
        FormatError
            When the compressed data are damaged.
        """
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view):
            try:
                n_read = self._stream.readinto(view[filled:])
            except EOFError:
                n_read = 0
            except _DAMAGED as error:
                raise self._damaged(error) from error
            if not n_read:
                break
            filled += n_read
        self.position += filled
        return filled

    def finish(self):
        """Read to the end, compare the gzip checksum, and tell the hash of the file.

        Returns
        -------
        sha256 : str
            Of the file as it is stored (compressed), hexadecimal.

        Raises
        ------
        FormatError
            When the checksum differs, or the file ends before it.
        """
        rest = bytearray(1 << 16)
        try:
            while self._stream.readinto(rest):
                pass
        except EOFError as error:
            raise FormatError(f"{self.path}: the file ends before its gzip checksum; is the download complete?") from error
        except _DAMAGED as error:
            raise self._damaged(error) from error
        while self._file.read(1 << 20):
            pass
        return self._file.sha256.hexdigest()

    def _damaged(self, error):
        return FormatError(f"{self.path}: the compressed data are damaged ({error}); copy or download the file again.")


class _HashingFile:
    """What `gzip` needs of a file, hashing all that is read and letting the first bytes be looked at."""

    def __init__(self, file):
        self.sha256 = hashlib.sha256()
        self._file = file
        self._start = b""

    def peek(self, n_bytes):
        self._start = self.read(n_bytes)
        return self._start

    def read(self, n_bytes=-1):
        if self._start:
            start, self._start = self._start, b""
            return start
        content = self._file.read(n_bytes)
        self.sha256.update(content)
        return content

    def readinto(self, view):
        content = self.read(len(view))
        if len(content) > len(view):
            self._start, content = content[len(view):], content[: len(view)]
        view[: len(content)] = content
        return len(content)

    def close(self):
        self._file.close()
