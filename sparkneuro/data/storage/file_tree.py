"""A whole folder at once, on any filesystem: all names with size and time by one listing, and many small files in one go."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.errors import StorageError

N_REQUESTS = 32
"""Reads that are on their way at a time, where each is a request over the network."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file below a folder.

    Parameters
    ----------
    name : str
        Path relative to the folder.
    size : int or None
        Bytes; None for a link whose target is absent.
    modified : int or None
        Time of its last change (ns since 1970); likewise.
    """

    name: str
    size: int | None
    modified: int | None


def list_tree(path, skipped=frozenset()):
    """List all files below a folder with size and time, by one listing.

    On a local disk folders that are skipped are not entered, and links to folders are followed. An object store is asked for
    pages of names, not for each file.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    skipped : set of str
        Names of folders that are left out, at any depth. Hidden files and folders always are.

    Returns
    -------
    entries : list of Entry
        Sorted by name.

    Raises
    ------
    StorageError
        When the folder, or one below it, cannot be listed.
    """
    filesystem, inner = store.locate(path)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            entries = list(_walk(inner, "", skipped, (os.path.realpath(inner),)))
        else:
            infos = filesystem.get_file_info(fs.FileSelector(inner, recursive=True))
            entries = list(_keep(infos, len(inner.rstrip("/")) + 1, skipped))
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StorageError(f"{error.filename or path}: could not be listed: {reason}.") from error
    return sorted(entries, key=lambda entry: entry.name)


def _walk(folder, prefix, skipped, above):
    """Entries of a local folder; `above` are the real paths of the folders that lead here, so that a link to one of them ends."""
    for found in os.scandir(folder):
        name = found.name
        if name.startswith("."):
            continue
        if not found.is_dir():
            yield _describe(found, prefix + name)
        elif name not in skipped:
            real = os.path.realpath(found.path) if found.is_symlink() else f"{above[-1]}/{name}"
            if real not in above:
                yield from _walk(found.path, f"{prefix}{name}/", skipped, (*above, real))


def _describe(found, name):
    try:
        status = found.stat()
    except FileNotFoundError:
        return Entry(name, None, None)
    return Entry(name, status.st_size, status.st_mtime_ns)


def _keep(infos, start, skipped):
    for info in infos:
        name = info.path[start:]
        *folders, last = name.split("/")
        hidden = last.startswith(".") or any(folder.startswith(".") for folder in folders)
        if info.type == fs.FileType.File and not hidden and skipped.isdisjoint(folders):
            yield Entry(name, info.size, info.mtime_ns or 0)


def list_folders(path):
    """List the folders right below a folder.

    Parameters
    ----------
    path : str
        Path or URI of the folder.

    Returns
    -------
    names : list of str
        Names, sorted; hidden ones are left out.

    Raises
    ------
    StorageError
        When it cannot be listed.
    """
    filesystem, inner = store.locate(path)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(inner))
    except OSError as error:
        raise StorageError(f"{path}: could not be listed: {str(error).splitlines()[0]}.") from error
    names = [info.base_name for info in infos if info.type == fs.FileType.Directory]
    return sorted(name for name in names if not name.startswith("."))


def read_many(path, names):
    """Read many small files of a folder; over a network many at a time.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    names : sequence of str
        Paths relative to it.

    Yields
    ------
    content : bytes
        What each holds, in the order of `names`.

    Raises
    ------
    StorageError
        When one cannot be read.
    """
    filesystem, inner = store.locate(path)

    def read(name):
        try:
            with filesystem.open_input_stream(store.join(inner, name), compression=None) as stream:
                return stream.read()
        except OSError as error:
            raise StorageError(f"{store.join(path, name)}: could not be read: {str(error).splitlines()[0]}.") from error

    if isinstance(filesystem, fs.LocalFileSystem):
        yield from map(read, names)
        return
    with ThreadPoolExecutor(N_REQUESTS) as pool:
        yield from pool.map(read, names)
