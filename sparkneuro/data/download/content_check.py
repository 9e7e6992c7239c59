"""Whether what arrives is the file that was meant, told while it arrives: kind, checksum, gzip checksum, JSON."""

import hashlib
import json
import zlib

from sparkneuro.data.byte_stream import GZIP_MAGIC, gzip_library
from sparkneuro.data.download.file_kind import START_SIZE, promised_size, refuse_wrong_kind
from sparkneuro.errors import FormatError

_WITH_GZIP_HEADER = 31
_LARGEST_JSON = 1 << 26  # a sidecar has kilobytes; what is larger is not parsed, for the sake of memory
_INFLATED = 1 << 18
_ERROR_KEYS = {"error", "errors", "message", "status", "code", "detail", "details", "statuscode", "status_code", "requestid"}


class ContentCheck:
    """Check a file's content piece by piece; memory stays small whatever its size.

    The gzip checksum is compared where no other is known: a checksum of the source says the same for a tenth of the work.

    Parameters
    ----------
    path : str
        The file, for its ending and for messages.
    checksum : str or None
        ``"md5:..."``, ``"sha1:..."``, ``"sha256:..."``, ``"sha512:..."`` (hexadecimal) or ``"crc32:..."``, if one is known.
    """

    def __init__(self, path, checksum=None):
        self.path = path
        self.n_bytes = 0
        self._algorithm, _, self._expected = (checksum or "").partition(":")
        self._sha256 = hashlib.sha256()
        self._other = _make_hash(self._algorithm)
        self._start, self._seen_start = b"", False
        self._gzip = _GzipCheck(path) if path.lower().endswith(".gz") and not checksum else None
        self._json = [] if path.lower().endswith(".json") else None

    def update(self, piece):
        """Take the next bytes.

        Parameters
        ----------
        piece : bytes-like
            They follow those of the call before.

        Raises
        ------
        FormatError
            When it can already be seen that the file is something else, or damaged.
        """
        self.n_bytes += len(piece)
        if not self._seen_start:
            self._start += bytes(piece[: START_SIZE - len(self._start)])
            if len(self._start) >= START_SIZE:
                self._look_at_start()
        self._sha256.update(piece)
        if self._other is not None:
            self._other.update(piece)
        if self._gzip is not None:
            self._gzip.update(piece)
        if self._json is not None:
            self._json.append(bytes(piece))
            self._json = self._json if self.n_bytes <= _LARGEST_JSON else None

    def finish(self):
        """Compare what can be compared at the end.

        Returns
        -------
        sha256 : str
            Of the whole file, hexadecimal.

        Raises
        ------
        FormatError
            When the file is not what its name, its header or its checksum says.
        """
        if not self._seen_start:
            self._look_at_start()
        sha256 = self._sha256.hexdigest()
        found = sha256 if self._other is None else self._other.hexdigest()
        if self._expected and found != self._expected.lower():
            expected = f"its {self._algorithm} should be {self._expected}"
            raise FormatError(f"{self.path}: {expected} and is {found}; it was damaged on its way, or has changed at its source.")
        if not self._expected and self.n_bytes < (promised := promised_size(self.path, self._start)):
            raise FormatError(f"{self.path}: the header promises {promised} bytes, and {self.n_bytes} came.")
        if self._gzip is not None:
            self._gzip.finish()
        if self._json is not None:
            self._parse(b"".join(self._json))
        return sha256

    def _look_at_start(self):
        self._seen_start = True
        refuse_wrong_kind(self.path, self._start)

    def _parse(self, content):
        try:
            parsed = json.loads(content.decode("utf-8-sig"))
        except ValueError as error:
            raise FormatError(f"{self.path}: this is not valid JSON ({error}); is it right at its source?") from error
        keys = {key.lower() for key in parsed} if isinstance(parsed, dict) else set()
        if keys & {"error", "errors", "message"} and keys <= _ERROR_KEYS and not self._expected:
            raise FormatError(f"{self.path}: the server sent an error message in its place: {str(parsed)[:200]}.")


def _make_hash(algorithm):
    if algorithm in ("", "sha256"):
        return None
    return _Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)


class _Crc32:
    def __init__(self):
        self._value = 0

    def update(self, piece):
        self._value = zlib.crc32(piece, self._value)

    def hexdigest(self):
        return f"{self._value:08x}"


class _GzipCheck:
    """Inflates one or more gzip members into nothing, for the sake of their checksums."""

    def __init__(self, path):
        self._path = path
        self._waiting = b""
        self._complete, self._padding = False, False
        self._member = None

    def update(self, piece):
        self._waiting += piece
        while self._waiting and not self._padding:
            if self._member is None:
                if len(self._waiting) < len(GZIP_MAGIC):
                    return
                if not self._waiting.startswith(GZIP_MAGIC):  # zeros and the like may follow the last member
                    self._padding = True
                    break
                self._member, self._complete = gzip_library.decompressobj(wbits=_WITH_GZIP_HEADER), False
            self._inflate()
        if self._padding:
            self._waiting = b""

    def _inflate(self):
        try:
            self._member.decompress(self._waiting, _INFLATED)
        except (zlib.error, gzip_library.error) as error:
            raise FormatError(f"{self._path}: the compressed data are damaged ({error}).") from error
        self._waiting = self._member.unconsumed_tail
        if self._member.eof:  # its checksum was right
            self._waiting, self._member, self._complete = self._member.unused_data, None, True

    def finish(self):
        if self._member is not None:  # the last output may still be held back
            self._inflate()
        if not self._complete:
            raise FormatError(f"{self._path}: the file ends before its gzip checksum; is it whole at its source?")
