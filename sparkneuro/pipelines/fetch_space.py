"""Whether the disk has room for a fetch."""

import shutil
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.data.download.part_file import ENDING
from sparkneuro.errors import StorageError


def check_space(plan):
    """Refuse to begin what the disk cannot hold.

    Parameters
    ----------
    plan : FetchPlan
        What is to be done.

    Raises
    ------
    StorageError
        When the missing files need more than is free. Storage that is not local is not asked.
    """
    filesystem, inner = store.locate(plan.folder)
    if filesystem.type_name != "local":
        return
    folder = Path(inner)
    parts = [(folder / entry["path"]).with_name(f".{Path(entry['path']).name}{ENDING}") for entry in plan.missing]
    begun = sum(part.stat().st_size for part in parts if part.exists())
    while not folder.exists():
        folder = folder.parent
    needed, free = plan.n_bytes - begun, shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"{format_size(needed)} are missing, and {format_size(free)} are free"
        raise StorageError(f"{plan.folder}: {sizes}; free some space, or fetch less with --include.")


def format_size(n_bytes):
    """Write a size as people do.

    Parameters
    ----------
    n_bytes : float
        Bytes.

    Returns
    -------
    text : str
        With its unit.

    Examples
    --------
    >>> format_size(31127945)
    '31.13 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.4g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.4g} TB"
