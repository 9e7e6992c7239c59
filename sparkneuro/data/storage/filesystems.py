"""Which filesystem holds a path, and what an error of it means."""

import errno
import os
import re
from urllib.parse import unquote

from pyarrow import fs

from sparkneuro.data.storage import hdfs, s3
from sparkneuro.errors import StorageError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Of a device, a mount or a connection; anything else that a reader raises may be about what the bytes say.
_OF_STORAGE = {
    errno.EIO, errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.ENODEV, errno.ENXIO,
    errno.ETIMEDOUT, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EMFILE, errno.ENFILE,
}  # fmt: skip


def scheme_of(path):
    """Tell the scheme of a path.

    Parameters
    ----------
    path : str or os.PathLike
        Plain path or URI.

    Returns
    -------
    scheme : str
        In lower case, e.g. ``s3``; "" for a plain path.

    Examples
    --------
    >>> scheme_of("S3://bucket/key"), scheme_of("/tmp/a://b")
    ('s3', '')
    """
    found = _SCHEME.match(os.fspath(path))
    return found[1].lower() if found else ""


def locate(path):
    """Find the filesystem that holds a path.

    Parameters
    ----------
    path : str or os.PathLike
        Plain path or URI. In ``file://`` URIs ``%20`` and the like stand for other letters; in ``s3://`` and ``hdfs://`` every
        letter stands for itself, as in the tools of these.

    Returns
    -------
    filesystem : pyarrow.fs.FileSystem
        Where it is; the same object at every call of a process.
    inner : str
        The path within it.

    Raises
    ------
    StorageError
        When no filesystem knows the URI's scheme, or it cannot be reached.
    """
    text, scheme = os.fspath(path), scheme_of(path)
    if not scheme:
        return LOCAL, os.path.abspath(os.path.expanduser(text))
    if scheme == "file":
        host, slash, inner = text.partition("://")[2].partition("/")
        if host not in ("", "localhost") or not slash:
            raise StorageError(
                f"{text}: could not be opened: a file:// URI has three slashes and an absolute path, file:///PATH."
            )
        return LOCAL, os.path.abspath("/" + unquote(inner))
    if scheme in ("s3", "s3a"):
        return s3.locate_object(text)
    if scheme == "hdfs":
        return hdfs.locate_file(text)
    raise StorageError(f"{text}: could not be opened: paths are plain, file://, s3:// or hdfs://; {scheme}:// is not known.")


LOCAL = fs.LocalFileSystem()


def is_of_storage(error):
    """Tell whether an error is the storage's, and not one of what is stored.

    Parameters
    ----------
    error : BaseException
        What was raised while a file was read.

    Returns
    -------
    of_storage : bool
        False e.g. for what a Parquet reader finds wrong with the bytes.
    """
    known = isinstance(error, (StorageError, ConnectionError, hdfs.HdfsError)) or getattr(error, "errno", None) in _OF_STORAGE
    return known or (isinstance(error, OSError) and bool(s3.explain(error)))


def storage_error(path, verb, error):
    """Make the one sentence of an error of the storage.

    Parameters
    ----------
    path : str
        What was touched.
    verb : str
        What should have happened to it, e.g. ``"read"``.
    error : OSError
        What was raised.

    Returns
    -------
    error : StorageError
        To be raised.
    """
    if isinstance(error, StorageError):
        return error
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: could not be {verb}: the disk is full; free some space, or choose another folder.")
    reason = s3.explain(error) or (os.strerror(code) if code else (str(error).splitlines() or [repr(error)])[0].rstrip("."))
    return StorageError(f"{path}: could not be {verb}: {reason}.")
