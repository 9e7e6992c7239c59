"""What an export has to do: which runs and files of a voxel table go into which HDF5 file, and which of those are there."""

import hashlib
import json
import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from sparkneuro.data import store
from sparkneuro.data.storage.checksums import CHECKSUMS, hash_file
from sparkneuro.data.storage.listing import is_hidden, list_infos
from sparkneuro.data.voxel_table import METADATA, VoxelTable
from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_choice

COMPRESSIONS = ("none", "gzip")
MANIFEST = "export.json"
FORMAT = 1
_OURS = re.compile(rf"sub-[^/]+\.h5|{re.escape(MANIFEST)}|{re.escape(CHECKSUMS)}|\.[^/]*")
_SUBJECT = re.compile("sub-([0-9A-Za-z]+)")
_SINGLE_ENDINGS = (".h5", ".hdf5")


@dataclass(frozen=True)
class ExportFile:
    """One HDF5 file of an export.

    Parameters
    ----------
    path : str
        Path or URI.
    run_numbers : tuple of int
        Places of its runs in the table.
    files : tuple of str
        Other files of the table that it carries.
    fingerprint : str
        Of all that it is made of; another one means that it must be made again.
    n_bytes : int
        About how large it is before compression.
    """

    path: str
    run_numbers: tuple
    files: tuple
    fingerprint: str
    n_bytes: int

    @property
    def name(self):
        """The last part of its path."""
        return posixpath.basename(self.path)


@dataclass(frozen=True)
class Plan:
    """What an export has to do.

    Parameters
    ----------
    table : VoxelTable
        The table.
    output : str
        Path or URI of the folder, or of the single file.
    is_single : bool
        Whether all goes into one file.
    compression : str
        "gzip" or "none".
    files : tuple of ExportFile
        All files of the export.
    missing : tuple of ExportFile
        Those that are not there, or not as they should be.
    """

    table: VoxelTable
    output: str
    is_single: bool
    compression: str
    files: tuple
    missing: tuple


def make_plan(settings):
    """Check table and settings and find out what is missing.

    Parameters
    ----------
    settings : sparkneuro.pipelines.export_table.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done. Nothing has been written.

    Raises
    ------
    SparkneuroError
        When the table is none, or a setting is wrong.
    """
    check_choice("compression", settings.compression, COMPRESSIONS)
    if not settings.output:
        raise SettingsError("output is missing; name a folder with --output, or a file to make with --single-file.")
    output = store.make_absolute(settings.output).rstrip("/")
    table = VoxelTable.open(store.make_absolute(settings.table).rstrip("/"))
    _check_output(output, settings.single_file)
    files = tuple(_list_files(table, output, settings))
    missing = tuple(file for file in files if not is_done(file))
    return Plan(table, output, settings.single_file, settings.compression, files, missing)


def receipt_path(path):
    """Tell where the receipt of an exported file is, which says that it is whole and what it was made of.

    Parameters
    ----------
    path : str
        Path or URI of the HDF5 file.

    Returns
    -------
    receipt : str
        A hidden file beside it.
    """
    folder, name = posixpath.split(path)
    return posixpath.join(folder, f".{name}.receipt.json")


def read_receipt(path):
    """Read the receipt of an exported file.

    Parameters
    ----------
    path : str
        Path or URI of the HDF5 file.

    Returns
    -------
    receipt : dict
        `fingerprint`, `sha256`, `bytes` and `runs` (keys); empty where there is none.
    """
    place = receipt_path(path)
    return json.loads(store.read_bytes(place)) if store.exists(place) else {}


def is_done(file):
    """Tell whether a file of the export is there, made of the same, and whole by its hash.

    Parameters
    ----------
    file : ExportFile
        The file.

    Returns
    -------
    done : bool
        Whether it is.
    """
    receipt = read_receipt(file.path)
    if receipt.get("fingerprint") != file.fingerprint or not store.exists(file.path):
        return False
    size, modified = store.stat(file.path)
    return size == receipt["bytes"] and _hash_once(file.path, size, modified) == receipt["sha256"]


@cache
def _hash_once(path, size, modified):
    """A plan is made before Spark starts and again after; a file that has not changed in between is hashed once."""
    return hash_file(path)


def _check_output(output, is_single):
    looks_single = output.endswith(_SINGLE_ENDINGS)
    if is_single and not looks_single:
        raise SettingsError(f"{output}: the output of --single-file is a file; end its name in .h5.")
    if looks_single and not is_single:
        raise SettingsError(f"{output}: the output is a folder of one file a subject; for one file give --single-file.")
    if is_single:
        if store.is_folder(output):
            raise SettingsError(f"{output}: this is a folder; name a file to write.")
        return
    if not store.exists(output):
        return
    if not store.is_folder(output) or not all(_OURS.fullmatch(name) for name in store.list_files(output, recursive=True)):
        raise SettingsError(f"{output}: this is something else than an export; choose another --output.")


def _list_files(table, output, settings):
    infos = list_infos(table.path)
    metadata = json.loads(store.read_bytes(store.join(table.path, METADATA)))
    subjects = sorted({run.subject for run in table.runs})
    carried, blocks = _sort_files(infos, set(subjects))
    # What belongs to all is known by its content: an ingest of one more subject writes some of it anew, as it was.
    common = [[name, hash_file(store.join(table.path, name))] for name in carried[""]]
    groups = [(subjects, output)] if settings.single_file else [([s], store.join(output, f"sub-{s}.h5")) for s in subjects]
    for group, path in groups:
        numbers = tuple(number for number, run in enumerate(table.runs) if run.subject in group)
        own = [name for subject in group for name in carried[subject]]
        about = {**metadata, "runs": [metadata["runs"][number] for number in numbers]}
        made_of = [FORMAT, settings.compression, about, common]
        made_of += [[name, *infos[name]] for subject in group for name in (*carried[subject], *blocks[subject])]
        fingerprint = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        rows = sum(table.runs[number].n_voxels * (table.runs[number].n_scans + 1) * 4 for number in numbers)
        files = tuple(sorted([*carried[""], *own]))
        yield ExportFile(path, numbers, files, fingerprint, rows + sum(infos[name][0] for name in files))


def _sort_files(infos, subjects):
    """Names of carried files, and of files of rows, by the subject whose they are; "" for those of the whole table."""
    carried, blocks = defaultdict(list), defaultdict(list)
    for name in infos:
        if name.endswith(".parquet"):
            blocks[name.partition("/")[0].removeprefix("subject=")].append(name)
        elif name not in (METADATA, CHECKSUMS) and not is_hidden(name):  # known to us or not, it goes along
            labels = [match[1] for part in name.split("/") if (match := _SUBJECT.match(part))]
            carried[next((label for label in labels if label in subjects), "")].append(name)
    return carried, blocks
