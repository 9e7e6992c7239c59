"""Files on any filesystem by a few verbs: a plain path, ``file://``, ``s3://`` or ``hdfs://``.

Everything else in `data/` that reads or writes a voxel table goes through these functions, so that a table on a laptop's
disk and one in a bucket are written by the same code. A file appears whole or not at all: it is written under a hidden
temporary name and renamed; to a bucket it is uploaded when all of it is there.
"""

import os
import posixpath
from contextlib import contextmanager

from pyarrow import fs

from sparkneuro.data.storage.filesystems import LOCAL, is_of_storage, locate, scheme_of, storage_error
from sparkneuro.data.storage.renamed_file import TEMPORARY, write_and_rename
from sparkneuro.data.storage.reported_stream import ReportedStream
from sparkneuro.data.storage.s3_upload import abort_uploads, upload_replacement
from sparkneuro.errors import StorageError

__all__ = [
    "TEMPORARY", "delete", "delete_unfinished", "exists", "is_folder", "is_local", "is_of_storage", "join",
    "list_files", "locate", "make_absolute", "open_file", "open_replacement", "open_stream", "read_bytes", "stat",
    "storage_error", "write_bytes",
]  # fmt: skip



def join(path, *names):
    """Join names to a path or URI with forward slashes.

    Parameters
    ----------
    path : str
        Folder, as a plain path or a URI.
    *names : str
        Names below it, as `list_files` tells them.

    Returns
    -------
    path : str
        The longer path.

    Examples
    --------
    >>> join("s3://bucket/rest.voxels/", "_runs", "sub-01.json")
    's3://bucket/rest.voxels/_runs/sub-01.json'
    """
    if scheme_of(path) == "file":  # where a percent sign announces another letter
        names = [name.replace("%", "%25") for name in names]
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
    return text if scheme_of(text) else locate(text)[1]


def is_local(path):
    """Tell whether a path is on this machine's own filesystem, or one that is mounted like it.

    Parameters
    ----------
    path : str or os.PathLike
        Plain path or URI.

    Returns
    -------
    local : bool
        Whether the system itself opens it.
    """
    return scheme_of(path) in ("", "file") and locate(path)[0].type_name == "local"


def open_stream(path):
    """Open a file for one forward read.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    stream : ReportedStream
        Readable binary stream; close it. It raises StorageError when the storage fails later on.

    Raises
    ------
    StorageError
        When it cannot be opened.
    """
    filesystem, inner = locate(path)
    try:
        return ReportedStream(filesystem.open_input_stream(inner, compression=None), path)
    except OSError as error:
        raise storage_error(path, "read", error) from error


@contextmanager
def open_file(path):
    """Open a file to read anywhere in it, memory-mapped when it is local.

    Parameters
    ----------
    path : str
        The file.

    Yields
    ------
    file : pyarrow.NativeFile
        Readable binary file. What the body raises goes on as it is, unless it is the storage's.

    Raises
    ------
    StorageError
        When it cannot be opened, or the storage fails while the body reads.
    """
    filesystem, inner = locate(path)
    filesystem = fs.LocalFileSystem(use_mmap=True) if filesystem is LOCAL else filesystem
    try:
        with filesystem.open_input_file(inner) as file:
            yield file
    except OSError as error:
        if is_of_storage(error):
            raise storage_error(path, "read", error) from error
        raise


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
    stream : binary file object
        Writable. What goes to a bucket lies in the local folder for temporary files until the body ends.

    Raises
    ------
    StorageError
        When it cannot be written, e.g. because the disk is full; nothing is left behind then.
    """
    filesystem, inner = locate(path)
    write = upload_replacement if filesystem.type_name == "s3" else write_and_rename
    try:
        with write(filesystem, inner) as stream:
            yield stream
    except OSError as error:
        raise storage_error(path, "written", error) from error


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
        raise storage_error(path, "listed", error) from error
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
    try:
        kind = filesystem.get_file_info(inner).type
        if kind == fs.FileType.Directory:
            filesystem.delete_dir(inner)
        elif kind != fs.FileType.NotFound:
            filesystem.delete_file(inner)
    except OSError as error:
        raise storage_error(path, "deleted", error) from error


def delete_unfinished(path):
    """Delete what an interrupted `write_bytes` has left anywhere below a folder.

    Parameters
    ----------
    path : str
        The folder.
    """
    filesystem, inner = locate(path)
    if filesystem.type_name == "s3":
        abort_uploads(inner)
        return
    for name in list_files(path, recursive=True):
        if posixpath.basename(name).startswith(TEMPORARY):
            delete(join(path, name))


def _info(path):
    filesystem, inner = locate(path)
    try:
        return filesystem.get_file_info(inner)
    except OSError as error:
        raise storage_error(path, "looked up", error) from error
