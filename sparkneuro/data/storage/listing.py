"""What lies below a folder, in one request: names, sizes and times of change of all its files."""

from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.errors import StorageError


def list_infos(path):
    """List all files below a folder with their sizes and times.

    Parameters
    ----------
    path : str
        Path or URI of the folder; one that is absent holds nothing.

    Returns
    -------
    infos : dict of str to (int, int)
        Bytes, and nanoseconds since 1970 of the last change, by name relative to the folder, sorted by name.

    Raises
    ------
    StorageError
        When it cannot be listed.
    """
    filesystem, inner = store.locate(path)
    try:
        infos = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True, recursive=True))
    except OSError as error:
        raise StorageError(f"{path}: could not be listed: {str(error).splitlines()[0]}.") from error
    start = len(inner.rstrip("/")) + 1
    files = {info.path[start:]: (info.size, info.mtime_ns or 0) for info in infos if info.type == fs.FileType.File}
    return dict(sorted(files.items()))


def is_hidden(name):
    """Tell whether a file is hidden: its name, or that of a folder above it, begins with a dot.

    Parameters
    ----------
    name : str
        Relative to the folder that is looked at.

    Returns
    -------
    hidden : bool
        Whether it is.

    Examples
    --------
    >>> is_hidden("sub-01/.DS_Store"), is_hidden(".parts/0.raw"), is_hidden("a.b/c")
    (True, True, False)
    """
    return any(part.startswith(".") for part in name.split("/"))
