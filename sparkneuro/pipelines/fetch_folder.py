"""What a folder already holds of a data set: told by what was written down, or by the content itself."""

import os

from sparkneuro.data import store
from sparkneuro.data.download.content_check import ContentCheck
from sparkneuro.data.download.remote_content import address_of, known_checksum
from sparkneuro.errors import FormatError, StorageError

_PIECE = 1 << 20


def make_finder(folder, record):
    """Make a function that looks files up.

    Parameters
    ----------
    folder : str
        Path or URI of the folder; one that is not local is listed once, and its files are taken to be what was written down.
    record : FetchRecord
        Of the folder.

    Returns
    -------
    find : callable
        ``find(path) -> (size, mtime_ns)`` of a file in the folder, None where there is none.
    """
    filesystem, inner = store.locate(folder)
    if filesystem.type_name == "local":

        def find(path):
            try:
                found = os.stat(os.path.join(inner, path))
            except OSError:
                return None
            return found.st_size, found.st_mtime_ns

        return find
    names = set(store.list_files(folder, recursive=True))
    known = record.rows
    return lambda path: (known[path]["size"], known[path]["mtime_ns"]) if path in names and path in known else None


def is_there(entry, row, found):
    """Tell whether a file is there and what its source has.

    Parameters
    ----------
    entry : dict
        The file at its source.
    row : dict or None
        What was written down when it was fetched.
    found : tuple of int or None
        Its size and mtime_ns now.

    Returns
    -------
    there : bool
        Whether nothing has changed on either side, as far as this tells.
    """
    return row is not None and found == (row["size"], row["mtime_ns"]) and agrees(entry, row)


def agrees(entry, row):
    """Tell whether the source still has what was fetched; of another place only a checksum or an ETag tells.

    Parameters
    ----------
    entry : dict
        The file at its source.
    row : dict
        What was written down when it was fetched.

    Returns
    -------
    same : bool
        Whether a listing shows no difference.
    """
    same_place = row["source"] == address_of(entry["url"])
    if entry.get("size") not in (None, row["size"]):
        return False
    checksum = entry.get("checksum")
    if checksum:
        known = {row["checksum"], f"sha256:{row['sha256']}"}
        algorithm = checksum.partition(":")[0]
        comparable = any(value.partition(":")[0] == algorithm for value in known)
        return checksum in known if comparable else same_place
    for key in ("etag", "modified", "stamp"):
        if entry.get(key) and row[key]:
            return entry[key] == row[key] and (same_place or key == "etag")
    return same_place


def adopt_file(entry, row, target):
    """Tell whether a local file that nobody has written down is the right one.

    Parameters
    ----------
    entry : dict
        The file at its source.
    row : dict or None
        What was written down when it was fetched, where it has been touched since.
    target : str
        Local file.

    Returns
    -------
    sha256 : str or None
        Of the file; None where it is not there, not the right one, or nothing tells whether it is.
    """
    if not os.path.isfile(target) or os.path.getsize(target) != entry.get("size"):
        return None
    checksum = known_checksum(entry)
    if checksum is None and row is not None and row["source"] == address_of(entry["url"]) and agrees(entry, row):
        checksum = f"sha256:{row['sha256']}"
    if checksum is None and not target.endswith(".gz"):
        return None
    try:
        return hash_file(target, checksum)
    except (FormatError, OSError):
        return None


def hash_file(path, checksum=None):
    """Read a local file and check its content.

    Parameters
    ----------
    path : str
        The file.
    checksum : str or None
        What it should have, ``"md5:..."`` and the like.

    Returns
    -------
    sha256 : str
        Of the file.

    Raises
    ------
    FormatError
        When it is not what it should be.
    """
    check = ContentCheck(path, checksum)
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            check.update(piece)
    return check.finish()


def is_whole(folder, record, entry):
    """Tell whether the content of a file is still what was fetched.

    Parameters
    ----------
    folder : str
        Path or URI of the folder.
    record : FetchRecord
        Of the folder.
    entry : dict
        The file; it is written down.

    Returns
    -------
    whole : bool
        Whether its sha256 is the same.
    """
    check = ContentCheck(entry["path"], f"sha256:{record.rows[entry['path']]['sha256']}")
    try:
        with store.open_stream(store.join(folder, entry["path"])) as file:
            while piece := file.read(_PIECE):
                check.update(piece)
        check.finish()
    except (FormatError, StorageError):
        return False
    return True
