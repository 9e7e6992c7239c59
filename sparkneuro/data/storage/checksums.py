"""Checksums of a folder's files, by which a copy of it is proved whole: ``checksums.sha256``, as `sha256sum -c` reads it.

Hidden files and folders (of a dot), and those of unfinished work, are no part of a folder; nor is this file itself. A single
file has its checksum beside it, in NAME.sha256.
"""

import hashlib
import os
import posixpath
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.data.storage.checksum_lines import format_lines, parse_lines
from sparkneuro.data.storage.listing import is_hidden, list_infos
from sparkneuro.errors import FormatError, StorageError

CHECKSUMS = "checksums.sha256"
_PIECE = 1 << 22
_IGNORED = ("_work", "_temporary", "__pycache__")  # what a fit goes on from, and what Spark's writers and Python leave
_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """A folder against its checksums.

    Parameters
    ----------
    path : str
        Path or URI of the folder, or of the single file.
    n_files, n_bytes : int
        What its checksums name, and the bytes that were read to compare them.
    missing, changed, extra : tuple of str
        Names of files that are not there, hold something else, or have no checksum.
    truncated : tuple of str
        Names of files that are too short, with both sizes.
    """

    path: str
    n_files: int
    n_bytes: int
    missing: tuple = ()
    truncated: tuple = ()
    changed: tuple = ()
    extra: tuple = ()

    @property
    def is_whole(self):
        """Whether every file is there as it was, and no other."""
        return not (self.missing or self.truncated or self.changed or self.extra)

    def describe(self):
        """Say in one sentence what was found.

        Returns
        -------
        sentence : str
            With the names of the first ten files that are not as they were.
        """
        if self.is_whole:
            return f"{self.path}: whole; {_count(self.n_files)} as {'its' if self.n_files == 1 else 'their'} checksums say."
        kinds = {kind: getattr(self, kind) for kind in ("missing", "truncated", "changed", "extra")}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items() if names)
        named = [f"{kind} {name}" for kind, names in kinds.items() for name in names]
        shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
        remedy = "copy these files again" + (", or remove the extra ones" if self.extra else "")
        remedy += "; after a change on purpose, write the checksums anew with --write"
        return f"{self.path}: not whole; of {_count(self.n_files)} that should be here: {counts} ({shown}); {remedy}."


def checksums_path(path):
    """Tell where the checksums of a folder or of a single file are.

    Parameters
    ----------
    path : str
        Path or URI of the folder or file.

    Returns
    -------
    checksums : str
        ``checksums.sha256`` in a folder, ``NAME.sha256`` beside a file.
    """
    return store.join(path, CHECKSUMS) if store.is_folder(path) else f"{path}.sha256"


def hash_file(path, report=None):
    """Hash a file, piece by piece.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    report : callable or None
        Called with the number of bytes of each piece.

    Returns
    -------
    sha256 : str
        Hexadecimal.

    Raises
    ------
    StorageError
        When it cannot be read.
    """
    sha256 = hashlib.sha256()
    with store.open_stream(path) as stream:
        try:
            while piece := stream.read(_PIECE):
                sha256.update(piece)
                if report:
                    report(len(piece))
        except OSError as error:
            raise StorageError(f"{path}: could not be read to its end: {str(error).splitlines()[0]}.") from error
    return sha256.hexdigest()


def list_sizes(path):
    """List the files of a folder that its checksums cover, or a single file.

    Parameters
    ----------
    path : str
        Path or URI of the folder or file.

    Returns
    -------
    sizes : dict of str to int
        Bytes by name relative to the folder, sorted by name.

    Raises
    ------
    StorageError
        When it is not there or cannot be listed.
    """
    if not store.is_folder(path):
        return {posixpath.basename(path): store.stat(path)[0]}
    return {name: size for name, (size, _) in list_infos(path).items() if _is_covered(name)}


def write_checksums(path, known=None, report=None, n_threads=None):
    """Write the checksums of a folder or file, atomically; equal content gives equal bytes.

    Parameters
    ----------
    path : str
        Path or URI of the folder or file.
    known : dict of str to str or None
        SHA-256 of files, by name, that need not be read for it.
    report : callable or None
        Called with the number of bytes of each piece that was read or need not be.
    n_threads : int or None
        Files that are read at once; as many as there are cores, at most 8, when absent.

    Returns
    -------
    sizes : dict of str to int
        Bytes by name of the files covered.

    Raises
    ------
    StorageError
        When a file cannot be read, or the checksums cannot be written.
    FormatError
        When there is no file.
    """
    sizes = list_sizes(path)
    if not sizes:
        raise FormatError(f"{path}: there is no file here whose checksum could be written.")
    known = {name: sha256 for name, sha256 in (known or {}).items() if name in sizes}
    if report and known:
        report(sum(sizes[name] for name in known))
    hashes = {**_hash_files(path, [name for name in sizes if name not in known], report, n_threads), **known}
    store.write_bytes(checksums_path(path), format_lines({name: (hashes[name], size) for name, size in sizes.items()}))
    return sizes


def read_checksums(path):
    """Read the checksums of a folder or file, whoever wrote them.

    Parameters
    ----------
    path : str
        Path or URI of the folder or file.

    Returns
    -------
    checksums : dict of str to (str, int or None)
        SHA-256 and size in bytes (None where only the hash was written) by name.

    Raises
    ------
    StorageError
        When there is no such folder or file.
    FormatError
        When it has no checksums, or they make no sense.
    """
    where = checksums_path(path)
    if not store.exists(where):
        if not store.exists(path):
            raise StorageError(f"{path}: there is no such folder or file.")
        remedy = f"where it is known to be whole, write them with 'sparkneuro verify {path} --write'"
        raise FormatError(f"{path}: there are no checksums to compare with ({posixpath.basename(where)}); {remedy}.")
    return parse_lines(store.read_bytes(where), where)


def compare_checksums(path, report=None, n_threads=None):
    """Compare a folder or file with its checksums; every byte that they cover is read.

    Parameters
    ----------
    path : str
        Path or URI of the folder or file.
    report : callable or None
        Called with the number of bytes of each piece that was read.
    n_threads : int or None
        Files that are read at once; as many as there are cores, at most 8, when absent.

    Returns
    -------
    comparison : Comparison
        What is missing, truncated, changed, or has no checksum.

    Raises
    ------
    StorageError
        When there is no such folder or file, or one cannot be read.
    FormatError
        When it has no checksums, or they make no sense.
    """
    checksums = read_checksums(path)
    sizes = list_sizes(path) if store.exists(path) else {}
    if store.is_folder(path):  # a file that is hidden but has a checksum, by whoever wrote it, is compared too
        hidden = [name for name in checksums if not _is_covered(name)]
        sizes.update((name, store.stat(store.join(path, name))[0]) for name in hidden if store.exists(store.join(path, name)))
    there = [name for name in checksums if name in sizes]
    short = [name for name in there if checksums[name][1] is not None and sizes[name] < checksums[name][1]]
    longer = {name for name in there if checksums[name][1] is not None and sizes[name] > checksums[name][1]}
    to_read = [name for name in there if name not in longer and name not in set(short)]
    hashes = _hash_files(path, to_read, report, n_threads)
    return Comparison(
        path, len(checksums), sum(sizes[name] for name in to_read),
        missing=tuple(sorted(name for name in checksums if name not in sizes)),
        truncated=tuple(f"{name} ({sizes[name]} of {checksums[name][1]} bytes)" for name in sorted(short)),
        changed=tuple(sorted(longer | {name for name in to_read if hashes[name] != checksums[name][0]})),
        extra=tuple(name for name in sizes if name not in checksums),
    )


def _hash_files(path, names, report, n_threads):
    lock, stopped, folder = threading.Lock(), threading.Event(), store.is_folder(path)

    def count(n_bytes):
        if stopped.is_set():  # else Ctrl-C would wait for the end of the largest file
            raise StorageError(f"{path}: reading was stopped.")
        if report:
            with lock:
                report(n_bytes)

    n_threads = n_threads or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as pool:  # hashing and reading let go of the interpreter's lock
        places = [store.join(path, name) if folder else path for name in names]
        futures = [pool.submit(hash_file, place, count) for place in places]
        try:
            return {name: future.result() for name, future in zip(names, futures, strict=True)}
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_covered(name):
    return name != CHECKSUMS and not is_hidden(name) and not any(part in _IGNORED for part in name.split("/"))


def _count(n_files):
    return f"{n_files} file{'' if n_files == 1 else 's'}"
