"""Files on any filesystem by a few verbs: a plain path, ``file://``, ``s3://`` or ``hdfs://``.

Everything else in `data/` that reads or writes a voxel table goes through these functions, so that a table on a laptop's
disk and one in a bucket are written by the same code. A file appears whole or not at all: it is written under a hidden
temporary name and renamed (an object store shows an object only when its upload is complete).
"""

import errno
import os
import posixpath
import uuid
from contextlib import contextmanager

from pyarrow import fs

from sparkneuro.errors import StorageError

TEMPORARY = ".unfinished-"


def join(path, *names):
    """Join names to a path or URI with forward slashes.

    Parameters
    ----------
    path : str
        Folder, as a plain path or a URI.
    *names : str
        Names below it.

    Returns
    -------
    path : str
        The longer path.

    Examples
    --------
    >>> join("s3://bucket/rest.voxels/", "_runs", "sub-01.json")
    's3://bucket/rest.voxels/_runs/sub-01.json'
    """
    return posixpath.join(str(path).rstrip("/") or "/", *names)


def make_absolute(path):
    """Write a path so that it means the same in every process.

    Parameters
    ----------
    path : str or os.PathLike
        Plain path or URI.

    Returns
    -------
    path : str
        A plain path from the root on; a URI as it is. Executors and later commands have working directories of their own.
    """
    text = os.fspath(path)
    return text if "://" in text else locate(text)[1]


def locate(path):
    """Find the filesystem that holds a path.

    Parameters
    ----------
    path : str or os.PathLike
        Plain path or URI.

    Returns
    -------
    filesystem : pyarrow.fs.FileSystem
        Where it is.
    inner : str
        The path within it.

    Raises
    ------
    StorageError
        When no filesystem knows the URI's scheme, or it cannot be reached.
    """
    text = os.fspath(path)
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        return fs.FileSystem.from_uri(text)
    except (OSError, ValueError) as error:
        raise _storage_error(text, "opened", error) from error


def open_stream(path):
    """Open a file for one forward read.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    stream : pyarrow.NativeFile
        Readable binary stream; close it.

    Raises
    ------
    StorageError
        When it cannot be opened.
    """
    filesystem, inner = locate(path)
    try:
        return filesystem.open_input_stream(inner, compression=None)
    except OSError as error:
        raise _storage_error(path, "read", error) from error


def read_bytes(path):
    """Read a whole small file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    content : bytes
        What it holds.

    Raises
    ------
    StorageError
        When it cannot be read.
    """
    with open_stream(path) as stream:
        return stream.read()


@contextmanager
def open_replacement(path):
    """Write a file in parts, atomically; its folder is made when needed.

    Parameters
    ----------
    path : str
        The file; one that exists is replaced when the body has ended well.

    Yields
    ------
    stream : pyarrow.NativeFile
        Writable binary stream.

    Raises
    ------
    StorageError
        When it cannot be written, e.g. because the disk is full; nothing is left behind then.
    """
    filesystem, inner = locate(path)
    folder, name = posixpath.split(inner)
    renames = filesystem.type_name != "s3"
    target = posixpath.join(folder, f"{TEMPORARY}{name}.{uuid.uuid4().hex[:8]}") if renames else inner
    try:
        filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(target, compression=None) as stream:
            yield stream
        if renames:
            filesystem.move(target, inner)
    except BaseException as error:
        _delete_quietly(filesystem, target)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise _storage_error(path, "written", error) from error
        raise


def write_bytes(path, content):
    """Write a whole file, atomically; its folder is made when needed.

    Parameters
    ----------
    path : str
        The file; one that exists is replaced.
    content : bytes-like
        What it shall hold.

    Raises
    ------
    StorageError
        When it cannot be written, e.g. because the disk is full; nothing is left behind then.
    """
    with open_replacement(path) as stream:
        stream.write(content)


def exists(path):
    """Tell whether a file or folder is there.

    Parameters
    ----------
    path : str
        The file or folder.

    Returns
    -------
    there : bool
        Whether it is.
    """
    return _info(path).type != fs.FileType.NotFound


def is_folder(path):
    """Tell whether a path is a folder that is there.

    Parameters
    ----------
    path : str
        The path.

    Returns
    -------
    folder : bool
        Whether it is a folder.
    """
    return _info(path).type == fs.FileType.Directory


def stat(path):
    """Tell a file's size and the time of its last change.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    size : int
        Bytes.
    modified : int
        Nanoseconds since 1970.

    Raises
    ------
    StorageError
        When there is no such file.
    """
    info = _info(path)
    if info.type != fs.FileType.File:
        raise StorageError(f"{path}: there is no such file.")
    return info.size, info.mtime_ns or 0


def list_files(path, recursive=False):
    """List the files below a folder.

    Parameters
    ----------
    path : str
        The folder; one that is absent holds nothing.
    recursive : bool
        Whether folders below it are listed too.

    Returns
    -------
    names : list of str
        Paths relative to `path`, sorted.
    """
    filesystem, inner = locate(path)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True, recursive=recursive))
    except OSError as error:
        raise _storage_error(path, "listed", error) from error
    start = len(inner.rstrip("/")) + 1
    return sorted(info.path[start:] for info in infos if info.type == fs.FileType.File)


def delete(path):
    """Delete a file or a folder with all it holds; what is absent is fine.

    Parameters
    ----------
    path : str
        The file or folder.

    Raises
    ------
    StorageError
        When it cannot be deleted.
    """
    filesystem, inner = locate(path)
    kind = filesystem.get_file_info(inner).type
    try:
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(inner)
        elif kind != fs.FileType.NotFound:
            filesystem.delete_file(inner)
    except OSError as error:
        raise _storage_error(path, "deleted", error) from error


def delete_unfinished(path):
    """Delete what an interrupted `write_bytes` has left anywhere below a folder.

    Parameters
    ----------
    path : str
        The folder.
    """
    for name in list_files(path, recursive=True):
        if posixpath.basename(name).startswith(TEMPORARY):
            delete(join(path, name))


def _info(path):
    filesystem, inner = locate(path)
    try:
        return filesystem.get_file_info(inner)
    except OSError as error:
        raise _storage_error(path, "looked up", error) from error


def _delete_quietly(filesystem, path):
    try:
        filesystem.delete_file(path)
    except OSError:
        pass  # it was never made, or the filesystem is gone: the first error is the one to tell


def _storage_error(path, verb, error):
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: could not be {verb}: the disk is full; free some space, or choose another folder.")
    reason = os.strerror(code) if code else str(error).splitlines()[0]
    return StorageError(f"{path}: could not be {verb}: {reason}.")
