"""Lists of files with checksums: what `sha256sum` and `md5sum` write, with or without sizes, and names of git-annex keys."""

import re

from sparkneuro.errors import FormatError

NAMES = ("SHA256SUMS", "SHA256SUMS.txt", "sha256sums.txt", "SHA512SUMS", "SHA1SUMS", "MD5SUMS", "MD5SUMS.txt", "md5sums.txt")
"""Names under which such a list lies beside its files."""
_BY_LENGTH = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
_LINE = re.compile(r"\\?([0-9A-Fa-f]{32,128})(?: [ *]|[ \t]+)(\S.*)")
_BSD = re.compile(r"(MD5|SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9A-Fa-f]+)")
_SIZE = re.compile(r"(.*\S)\s+(\d+)")
_KEY = re.compile(r"(MD5|SHA1|SHA256|SHA512)E?-s(\d+)--([0-9a-f]+)(?:\..*)?")


def parse_list(text, source, with_sizes=False):
    """Read a list of files.

    Parameters
    ----------
    text : str
        Lines ``checksum  path``, or ``SHA256 (path) = checksum``; empty lines and those that begin with # say nothing.
    source : str
        Where it comes from, for the message.
    with_sizes : bool
        Whether a number after the path is the size in bytes; in the files of ``sha256sum`` it would be part of the name.

    Returns
    -------
    entries : list of dict
        path, checksum (``"sha256:..."``), size (int or None).

    Raises
    ------
    FormatError
        When a line is none of these.

    Examples
    --------
    >>> parse_list("d41d8cd98f00b204e9800998ecf8427e  sub-01/a b.tsv 0", "m.txt", with_sizes=True)
    [{'path': 'sub-01/a b.tsv', 'checksum': 'md5:d41d8cd98f00b204e9800998ecf8427e', 'size': 0}]
    """
    entries = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found, size = _read_line(line.rstrip()), None
        if found is None:
            said = f"line {number} is {line.strip()[:60]!r}"
            raise FormatError(f"{source}: lines like 'sha256  path [size]' are expected; {said}.")
        path, checksum = found
        if with_sizes and (sized := _SIZE.fullmatch(path)):
            path, size = sized[1], int(sized[2])
        path = path.removeprefix("./")
        entries[path] = {"path": path, "checksum": checksum, "size": size}
    return list(entries.values())


def _read_line(line):
    if bsd := _BSD.fullmatch(line):
        return bsd[2], f"{bsd[1].lower()}:{bsd[3].lower()}"
    found = _LINE.fullmatch(line)
    algorithm = _BY_LENGTH.get(len(found[1])) if found else None
    return (found[2], f"{algorithm}:{found[1].lower()}") if algorithm else None


def read_key(name):
    """Read what a name of a git-annex key says of the content.

    Parameters
    ----------
    name : str
        Name of a file.

    Returns
    -------
    known : dict
        checksum and size; empty where the name is no key.

    Examples
    --------
    >>> read_key("MD5E-s12--d41d8cd98f00b204e9800998ecf8427e.nii.gz")
    {'checksum': 'md5:d41d8cd98f00b204e9800998ecf8427e', 'size': 12}
    """
    key = _KEY.fullmatch(name)
    if not key or _BY_LENGTH.get(len(key[3])) != key[1].lower():
        return {}
    return {"checksum": f"{key[1].lower()}:{key[3]}", "size": int(key[2])}
