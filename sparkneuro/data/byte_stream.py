"""The bytes of a file, gunzipped when they are compressed, read once and forward, and hashed as they lie on the disk."""

import hashlib
import zlib

from sparkneuro.data import store
from sparkneuro.errors import FormatError

try:  # decompresses twice as fast as the standard library
    from isal import isal_zlib as gzip_library
except ImportError:
    gzip_library = zlib

GZIP_MAGIC = b"\x1f\x8b"
_WITH_GZIP_HEADER = 31
_PIECE = 1 << 17


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
        self._stream = _Gunzip(self._file) if self.compressed else self._file

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
            except (zlib.error, gzip_library.error) as error:
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
        while self.read_into(rest):
            pass
        if self.compressed and not self._stream.complete:
            raise FormatError(f"{self.path}: the file ends before its gzip checksum; is the download complete?")
        while self._file.read(_PIECE):
            pass
        return self._file.sha256.hexdigest()

    def _damaged(self, error):
        return FormatError(f"{self.path}: the compressed data are damaged ({error}); copy or download the file again.")


class _Gunzip:
    """Decompress a file of one or more gzip members; a file that is cut off gives all that it still holds."""

    def __init__(self, file):
        self.complete = False
        self._file = file
        self._start_member(b"")

    def readinto(self, view):
        while not self.complete:
            waiting = self._waiting or self._file.read(_PIECE)
            content = self._member.decompress(waiting, len(view)) if waiting else b""
            self._waiting = self._member.unconsumed_tail
            if self._member.eof:  # its checksum was right
                following = self._member.unused_data
                if len(following) < len(GZIP_MAGIC):
                    following += self._file.read(_PIECE)
                self.complete = not following.startswith(GZIP_MAGIC)  # zeros and the like may follow the last member
                self._start_member(following)
            if content or not waiting:
                view[: len(content)] = content
                return len(content)
        return 0

    def _start_member(self, waiting):
        self._member = gzip_library.decompressobj(wbits=_WITH_GZIP_HEADER)
        self._waiting = waiting


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
