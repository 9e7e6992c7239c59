"""HDFS as a filesystem of pyarrow: by hdfs-native, which needs neither Java nor Hadoop, else by Hadoop's own libhdfs.

hdfs-native comes first also where both are: it replaces a file in one step, which libhdfs cannot, and starts no JVM in every
Python worker.
"""

import errno
import io
import os
import queue
import re
import threading
from datetime import UTC, datetime
from functools import lru_cache

import pyarrow as pa
from pyarrow import fs

from sparkneuro.errors import StorageError

_STREAM_BUFFER, _FILE_BUFFER, _WRITE_BUFFER = 4 << 20, 256 << 10, 1 << 20
# A NameNode that is down is reported after seconds; by default it would be asked for three minutes.
_PATIENCE = {"dfs.client.failover.max.attempts": "6", "dfs.client.failover.sleep.max.millis": "4000"}
_SILENCE = 120.0
"""Seconds without an answer after which a call is given up."""
_USERS = {}  # library -> process that first used it
_REMOTE = re.compile(r'RPCError\("(?P<kind>[^"]*)", "(?P<text>.*)"\)', re.DOTALL)


class HdfsError(OSError):
    """What HDFS refuses or fails at, in one line that a user understands."""


def locate_file(uri):
    """Find the filesystem of an ``hdfs://host:port/path``; a path is taken letter by letter, as Hadoop does.

    Parameters
    ----------
    uri : str
        With host and port, with the name of a name service, or with neither (``hdfs:///path``): then Hadoop's configuration
        (``HADOOP_CONF_DIR``) names it.

    Returns
    -------
    filesystem : pyarrow.fs.FileSystem
        One a process and name service. Who asks is the user of ``HADOOP_USER_NAME``, else that of the process.
    inner : str
        The path, from the root on.

    Raises
    ------
    StorageError
        When nothing is installed that reads HDFS, its address makes no sense, or the process was forked from one that used HDFS.
    """
    authority, _, path = uri.partition("://")[2].partition("/")
    user, folder = os.environ.get("HADOOP_USER_NAME", ""), os.environ.get("HADOOP_CONF_DIR", "")
    return _connect(os.getpid(), authority, user, folder), "/" + path.rstrip("/")


@lru_cache(maxsize=16)
def _connect(pid, authority, user, folder):
    try:
        from hdfs_native import Client
    except ImportError:
        return _connect_by_java(authority, user)
    if _USERS.setdefault("hdfs_native", pid) != pid:
        # Its threads stay behind in the parent, for good: every call would wait for them.
        forked = f"hdfs://{authority}/: could not be opened: this process was forked from one that has used HDFS"
        raise StorageError(f"{forked}; start it by spawn (multiprocessing.get_context('spawn')).")
    try:
        return fs.PyFileSystem(HdfsHandler(Client(f"hdfs://{authority}", _PATIENCE)))
    except (RuntimeError, OSError, ValueError) as error:
        remedy = "write hdfs://HOST:PORT/PATH, or set HADOOP_CONF_DIR"
        raise StorageError(f"hdfs://{authority}/: could not be opened: {_translate(error)}; {remedy}.") from error


def _connect_by_java(authority, user):
    host, _, port = authority.rpartition("@")[2].partition(":")
    try:
        return fs.HadoopFileSystem(host or "default", int(port or 0), user=user or None)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise StorageError(
            f"hdfs://{authority}/ could not be opened: hdfs-native is not installed, and Hadoop's libhdfs does not work"
            f" ({reason}); install the first with: pip install 'sparkneuro[hdfs]'."
        ) from error


class HdfsHandler(fs.FileSystemHandler):
    """What pyarrow asks of a filesystem, by a client of hdfs-native.

    Parameters
    ----------
    client : hdfs_native.Client
        Of one name service.
    """

    def __init__(self, client):
        self.client = client

    def __eq__(self, other):
        return isinstance(other, HdfsHandler) and self.client is other.client

    def get_type_name(self):
        """Return the name of this kind of filesystem."""
        return "hdfs"

    def normalize_path(self, path):
        """Return a path as it is."""
        return path

    def get_file_info(self, paths):
        """Look paths up."""
        return [self._look_up(path) for path in paths]

    def get_file_info_selector(self, selector):
        """List a folder; with all below it in one go."""
        kind = self._look_up(selector.base_dir).type
        if kind == fs.FileType.NotFound and selector.allow_not_found:
            return []
        if kind != fs.FileType.Directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return list(map(_describe, _call(lambda: list(self.client.list_status(selector.base_dir, selector.recursive)))))

    def create_dir(self, path, recursive):
        """Make a folder; one that is there is fine."""
        _call(self.client.mkdirs, path, 0o755, recursive)

    def delete_dir(self, path):
        """Delete a folder with all it holds."""
        if not _call(self.client.delete, path, True):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def delete_dir_contents(self, path, missing_dir_ok=False):
        """Delete what a folder holds."""
        for info in self.get_file_info_selector(fs.FileSelector(path, allow_not_found=missing_dir_ok)):
            _call(self.client.delete, info.path, True)

    def delete_root_dir_contents(self):
        """Delete everything."""
        self.delete_dir_contents("/")

    def delete_file(self, path):
        """Delete a file."""
        if not _call(self.client.delete, path, False):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def move(self, src, dest):
        """Rename, over a file that is there too: in one step of the NameNode."""
        _call(self.client.rename, src, dest, True)

    def copy_file(self, src, dest):
        """Refuse: nothing here copies on HDFS."""
        raise NotImplementedError("copy_file")

    def open_input_stream(self, path):
        """Open a file to read it forward."""
        return pa.PythonFile(io.BufferedReader(_Reader(_call(self.client.read, path)), _STREAM_BUFFER), mode="r")

    def open_input_file(self, path):
        """Open a file to read anywhere in it."""
        return pa.PythonFile(io.BufferedReader(_Reader(_call(self.client.read, path)), _FILE_BUFFER), mode="r")

    def open_output_stream(self, path, metadata):
        """Make a file, or empty it, and open it to write."""
        from hdfs_native import WriteOptions

        writer = _call(self.client.create, path, WriteOptions(overwrite=True))
        return pa.PythonFile(io.BufferedWriter(_Writer(writer), _WRITE_BUFFER), mode="w")

    def open_append_stream(self, path, metadata):
        """Open a file to write at its end."""
        return pa.PythonFile(io.BufferedWriter(_Writer(_call(self.client.append, path)), _WRITE_BUFFER), mode="w")

    def _look_up(self, path):
        try:
            return _describe(_call(self.client.get_file_info, path or "/"))
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)


class _Reader(io.RawIOBase):
    """A file to read; the client itself panics behind the end of one."""

    def __init__(self, file):
        self._file, self._size, self._place = file, len(file), 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._place

    def seek(self, offset, whence=io.SEEK_SET):
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, view):
        n_bytes = max(0, min(len(view), self._size - self._place))
        if n_bytes:
            view[:n_bytes] = _call(self._file.read_range, self._place, n_bytes)
            self._place += n_bytes
        return n_bytes


class _Writer(io.RawIOBase):
    def __init__(self, file):
        self._file, self._failed = file, False

    def writable(self):
        return True

    def write(self, content):
        try:
            _call(self._file.write, bytes(content))
        except OSError:
            self._failed = True
            raise
        return len(content)

    def close(self):
        if not self.closed:
            try:
                if not self._failed:  # what is left of it is deleted
                    _call(self._file.close)
            finally:
                super().close()


def _describe(status):
    kind = fs.FileType.Directory if status.isdir else fs.FileType.File
    modified = datetime.fromtimestamp(status.modification_time / 1000, UTC)
    return fs.FileInfo(status.path, kind, size=None if status.isdir else status.length, mtime=modified)


def _call(function, *arguments):
    """Call the client, but not for ever: its calls have no time-out, and one to a DataNode that died may never come back."""
    answers = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(answers, function, arguments), daemon=True).start()
    try:
        result, error = answers.get(timeout=_SILENCE)
    except queue.Empty:
        raise HdfsError(f"HDFS has not answered for {_SILENCE:g} s") from None
    if isinstance(error, (RuntimeError, OSError)):
        raise _translate(error) from error
    if error is not None:
        raise error
    return result


def _answer(answers, function, arguments):
    try:
        answers.put((function(*arguments), None))
    except BaseException as error:  # the caller's thread raises it
        answers.put((None, error))


def _translate(error):
    """FileNotFoundError and FileExistsError stay what they are."""
    if isinstance(error, (FileNotFoundError, FileExistsError)):
        code = errno.EEXIST if isinstance(error, FileExistsError) else errno.ENOENT
        return error.__class__(code, os.strerror(code))
    if isinstance(error, OSError):
        return HdfsError(f"the NameNode could not be reached ({_first_line(str(error))})")
    remote = _REMOTE.search(str(error))
    if not remote:
        return HdfsError(f"HDFS says {_first_line(str(error))}")
    kind, text = remote["kind"].rpartition(".")[2], _first_line(remote["text"].replace("\\n", "\n").replace('\\"', '"'))
    if kind == "AccessControlException":
        return HdfsError(f"access was denied ({text}); HADOOP_USER_NAME says who asks")
    if "could only be replicated to 0 nodes" in text or "could only be written to 0 of" in text:
        return HdfsError(f"no DataNode has room for it, or none runs ({text})")
    if "QuotaExceeded" in kind:
        return HdfsError(f"the quota is used up ({text}); free some space, or choose another folder")
    if kind == "SafeModeException":
        return HdfsError("the NameNode is in safe mode and takes no changes yet")
    return HdfsError(f"HDFS says {kind} ({text})")


def _first_line(text):
    return (text.splitlines() or ["nothing"])[0].strip().rstrip(".")
