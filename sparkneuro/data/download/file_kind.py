"""What a file is by its first bytes: what its name promises, or what came in its place.

A server that has lost a file, or wants a login, sends a page in its stead; a clone without its content holds pointers.
"""

import re
import struct

from sparkneuro.errors import FormatError

_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<error", b"<body")
_POINTERS = (b"version https://git-lfs", b"/annex/objects", b"../.git/annex", b".git/annex")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS = (0, 512, 1024, 2048, 4096)  # an HDF5 file may begin with bytes that are not HDF5's
_TEXTS = (".tsv", ".csv", ".txt", ".md", ".bval", ".bvec", ".json", ".jsonl", ".vhdr", ".vmrk")
_MARKUP = (".html", ".htm", ".xhtml", ".xml", ".svg", ".gii")
_PROGRAMS = (".py", ".sh", ".m", ".r", ".php", ".js")

POINTER = "this is a pointer to the file, not the file"
"""Said of what git-annex and Git LFS leave where a content is not."""

START_SIZE = 4608
"""Bytes from the beginning of a file that `refuse_wrong_kind` wants to see."""


def refuse_impostor(path, start, kind="a NIfTI file"):
    """Refuse a web page, and a pointer of git-annex or Git LFS, in the place of a file.

    Parameters
    ----------
    path : str
        The file, for the message.
    start : bytes
        Its first bytes.
    kind : str
        What it should be, for the message.

    Raises
    ------
    FormatError
        When it is one of these.

    Examples
    --------
    >>> refuse_impostor("a.nii", b"<!DOCTYPE html>")
    Traceback (most recent call last):
    sparkneuro.errors.FormatError: a.nii: this is a web page, not a NIfTI file; did the download need a login?
    """
    text = bytes(start[:1024]).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        raise FormatError(f"{path}: this is a web page, not {kind}; did the download need a login?")
    if any(word in text[:200] for word in _POINTERS) and b"\0" not in text[:200]:
        raise FormatError(f"{path}: {POINTER}; get it with 'datalad get' or 'git lfs pull'.")


def refuse_wrong_kind(path, start):
    """Refuse a file whose first bytes are not what its name promises.

    Parameters
    ----------
    path : str
        The file; its ending says what it should be: NIfTI, gzip, HDF5, text. Of any other ending only what is no page and no
        pointer is asked for, and programs and markup may be anything.
    start : bytes
        Its first `START_SIZE` bytes, or all of a shorter file.

    Raises
    ------
    FormatError
        When it is something else, or empty where an empty file cannot be right.
    """
    name = path.lower().rpartition("/")[2]
    if name.endswith(_PROGRAMS):
        return
    kind = _kind(name)
    if not name.endswith(_MARKUP):
        refuse_impostor(path, start, kind or "what its name says")
    if kind and not _looks_right(name, start):
        what = "the file is empty" if not start else f"this is not {kind}"
        raise FormatError(f"{path}: {what}; is it right at its source?")


def promised_size(path, start):
    """Tell how large the header of an uncompressed NIfTI file says that the file is.

    Parameters
    ----------
    path : str
        The file.
    start : bytes
        Its first bytes.

    Returns
    -------
    n_bytes : int
        At least so many; 0 where the name is not ``.nii`` or the header does not tell.
    """
    if not path.lower().endswith(".nii") or len(start) < 348:
        return 0
    for order in "<>":
        length = struct.unpack_from(f"{order}i", start)[0]
        if length == 348 and start[344:347] == b"n+1":
            shape, bits = struct.unpack_from(f"{order}8h", start, 40), struct.unpack_from(f"{order}h", start, 72)[0]
            offset = struct.unpack_from(f"{order}f", start, 108)[0]
        elif length == 540:
            shape, bits = struct.unpack_from(f"{order}8q", start, 16), struct.unpack_from(f"{order}h", start, 14)[0]
            offset = struct.unpack_from(f"{order}q", start, 168)[0]
        else:
            continue
        n_values = 1
        for n in shape[1 : 1 + min(max(shape[0], 0), 7)]:
            n_values *= max(n, 0)
        return int(offset) + n_values * bits // 8
    return 0


def _kind(name):
    if name.endswith((".nii", ".nii.gz")):
        return "a NIfTI file"
    if name.endswith((".gz", ".tgz")):
        return "a gzipped file"
    if name.endswith((".h5", ".hdf5")):
        return "an HDF5 file"
    if name.endswith(".json"):
        return "a JSON file"
    return "a text file" if name.endswith(_TEXTS) else None


def _looks_right(name, start):
    if name.endswith((".gz", ".tgz")):
        return start.startswith(b"\x1f\x8b")
    if name.endswith(".nii"):
        lengths = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
        return len(start) >= 348 and bool(lengths & {348, 540})
    if name.endswith((".h5", ".hdf5")):
        return any(start[offset : offset + len(_HDF5)] == _HDF5 for offset in _USER_BLOCKS)
    if name.endswith(".json"):
        return re.match(rb"(\xef\xbb\xbf)?\s*[\[{\"\dtfn-]", start) is not None
    return b"\0" not in start or start.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16 is text too
