"""Prove that a folder (or one file) is whole: compare it with its checksums, or write them.

A copy between sites is one folder with its checksums.sha256, in the format of sha256sum, so 'sha256sum -c checksums.sha256' in
the folder compares it too. Without --write every file is read and compared; the command fails, and names the first ten files,
when one is missing, truncated, changed or extra. Hidden files are no part of a folder. A single file NAME has its checksum in
NAME.sha256 beside it. Any folder will do: voxel tables, volume stores, HDF5 exports, models, on a disk, in a bucket, on HDFS.
"""

from dataclasses import dataclass

from sparkneuro.errors import FormatError
from sparkneuro.pipelines.settings import argument, option


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro verify``."""

    folder: str = argument("folder or file to compare with its checksums")
    write: bool = option(False, "write the checksums instead; where the folder is known to be whole")


def needs_spark(settings):
    """Tell whether the job needs a Spark session: never.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        False.
    """
    return False


def run(settings, spark=None):
    """Compare a folder with its checksums, or write them.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : None
        Not used.

    Returns
    -------
    sentence : str
        What was found or done.

    Raises
    ------
    FormatError
        When the folder is not whole, or has no checksums.
    StorageError
        When it is not there, or a file cannot be read.
    """
    from tqdm import tqdm

    from sparkneuro.data.storage import checksums

    folder = settings.folder.rstrip("/") or "/"
    total = sum(checksums.list_sizes(folder).values())
    with tqdm(total=total, desc="write" if settings.write else "verify", unit="B", unit_scale=True, disable=None) as bar:
        if settings.write:
            sizes = checksums.write_checksums(folder, report=bar.update)
            n_bytes = sum(sizes.values())
            return f"{checksums.checksums_path(folder)}: checksums of {len(sizes)} files written ({n_bytes / 1e6:.1f} MB)."
        comparison = checksums.compare_checksums(folder, report=bar.update)
    if not comparison.is_whole:
        raise FormatError(comparison.describe())
    return comparison.describe()
