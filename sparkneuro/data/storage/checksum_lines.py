"""The lines of a file of checksums, as `sha256sum` writes and reads them, with the size of each file in a comment.

A line ``# 1234`` before a file's line is its size in bytes, so that a copy that was cut off is told from one that was changed;
`sha256sum` skips it.
"""

import posixpath
import re

from sparkneuro.errors import FormatError

_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_SIZE = re.compile(r"# (\d+)")
_TITLE = "# SHA-256 of each file, after its size in bytes; 'sparkneuro verify' or 'sha256sum -c' compares them"


def format_lines(checksums):
    """Write checksums as `sha256sum` does.

    Parameters
    ----------
    checksums : dict of str to (str, int)
        SHA-256 and size in bytes by name.

    Returns
    -------
    content : bytes
        In the order of the names as they come.

    Examples
    --------
    >>> format_lines({"a.txt": ("0f" * 32, 12)}).decode().splitlines()[1:]
    ['# 12', '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f  a.txt']
    """
    lines = [_TITLE]
    for name, (sha256, size) in checksums.items():
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "\\" if escaped != name else ""  # tells sha256sum that the name is escaped
        lines += [f"# {size}", f"{mark}{sha256}  {escaped}"]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def parse_lines(content, where):
    """Read checksums that `format_lines` or `sha256sum` wrote.

    Parameters
    ----------
    content : bytes
        The whole file.
    where : str
        Its path, for messages.

    Returns
    -------
    checksums : dict of str to (str, int or None)
        SHA-256 and size in bytes by name; None where there is only the hash.

    Raises
    ------
    FormatError
        When a line is no checksum of a file below this one, or there is none.
    """
    checksums, size = {}, None
    for number, line in enumerate(content.decode("utf-8", "surrogateescape").split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.startswith("#") or not line:
            size = int(match[1]) if (match := _SIZE.fullmatch(line)) else None
            continue
        match = _LINE.fullmatch(line)
        name = posixpath.normpath(_unescape(match[3]) if match[1] else match[3]) if match else ""
        if not name or name.startswith("/") or name.split("/")[0] == "..":
            raise FormatError(f"{where}: line {number} is no checksum of a file in this folder; write the checksums again.")
        checksums[name], size = (match[2].lower(), size), None
    if not checksums:
        raise FormatError(f"{where}: there is no checksum in this file; write the checksums again.")
    return checksums


def _unescape(name):
    return re.sub(r"\\([\\nr])", lambda match: {"\\": "\\", "n": "\n", "r": "\r"}[match[1]], name)
