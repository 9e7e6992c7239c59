"""The BIDS data sets of folders: which there are, what they are called, and the files of each."""

from dataclasses import dataclass, replace

from tqdm import tqdm

from sparkneuro.data import store
from sparkneuro.data.bids import SKIPPED_FOLDERS
from sparkneuro.data.storage.file_tree import list_folders, list_tree
from sparkneuro.errors import FormatError

DESCRIPTION = "dataset_description.json"
DERIVATIVES = "derivatives"
_FOLDER_FILES = (".ds", ".zarr", ".mefd")
"""Endings of folders that BIDS calls files: recordings in many parts."""


@dataclass(frozen=True)
class Dataset:
    """One BIDS data set, raw or derived.

    Parameters
    ----------
    name : str
        Its folder's name; below a raw data set the way to it, e.g. ``ds001/derivatives/fmriprep``.
    root : str
        Absolute path or URI.
    entries : list of Entry
        Its files, without hidden ones and those of `sourcedata`, `code`, `stimuli` and other data sets below it.
    """

    name: str
    root: str
    entries: list

    @property
    def is_described(self):
        """Whether it has a ``dataset_description.json``."""
        return any(entry.name == DESCRIPTION for entry in self.entries)


def find_datasets(folders, derivatives=False):
    """Find the BIDS data sets of folders.

    Parameters
    ----------
    folders : sequence of str
        Paths or URIs of data sets, or of folders that hold data sets.
    derivatives : bool
        Whether the data sets below their `derivatives` folders are taken too.

    Returns
    -------
    datasets : list of Dataset
        Sorted by name; names differ.

    Raises
    ------
    FormatError
        When a folder is missing, or is no BIDS data set and holds none.
    """
    skipped = frozenset(SKIPPED_FOLDERS) - ({DERIVATIVES} if derivatives else set())
    found = {}
    bases = dict.fromkeys(base for folder in folders for base in _find_bases(store.make_absolute(folder)))
    for base in tqdm(bases, desc="list", unit=" data sets", disable=None, delay=1):
        entries = _join_folder_files(list_tree(base, skipped))
        for dataset in _split(base, entries) if derivatives else [Dataset("", base, entries)]:
            found.setdefault(dataset.root, dataset)
    names = _name_apart(list(found))
    return sorted((replace(one, name=names[one.root]) for one in found.values()), key=lambda one: one.name)


def _find_bases(folder):
    """The folder itself when it is a data set, else the data sets right below it."""
    folder = folder.rstrip("/") or "/"
    if not store.is_folder(folder):
        raise FormatError(f"{folder}: there is no such folder.")
    if store.exists(store.join(folder, DESCRIPTION)):
        return [folder]
    below = list_folders(folder)
    if any(name.startswith("sub-") for name in below):
        return [folder]
    bases = [store.join(folder, name) for name in below if store.exists(store.join(folder, name, DESCRIPTION))]
    if not bases:
        expected = f"it has neither {DESCRIPTION} nor a folder sub-*, and no folder in it has a {DESCRIPTION}"
        raise FormatError(f"{folder}: this is no BIDS data set: {expected}.")
    return bases


def _split(base, entries):
    """A data set and those below its derivatives folders, each file with the innermost that holds it."""
    roots = {"", *(root for entry in entries for root in _roots_named_by(entry.name))}
    parts = {root: [] for root in sorted(roots)}
    for entry in entries:
        folder = entry.name.rpartition("/")[0]
        while folder not in roots:
            folder = folder.rpartition("/")[0]
        rest = entry.name[len(folder) + 1 :] if folder else entry.name
        if DERIVATIVES not in rest.split("/")[:-1]:
            parts[folder].append(replace(entry, name=rest))
    return [Dataset("", store.join(base, root) if root else base, part) for root, part in parts.items()]


def _roots_named_by(name):
    """Folders that a file shows to be data sets: it describes one, or lies in a folder sub-* below derivatives."""
    *folders, last = name.split("/")
    if last == DESCRIPTION and DERIVATIVES in folders:
        yield "/".join(folders)
    for place, folder in enumerate(folders):
        if folder.startswith("sub-") and DERIVATIVES in folders[max(0, place - 2) : place]:
            yield "/".join(folders[:place])


def _join_folder_files(entries):
    """Make one entry of each folder that is a recording in many parts."""
    whole, joined = [], {}
    for entry in entries:
        folders = entry.name.split("/")[:-1]
        ends = [place for place, folder in enumerate(folders) if folder.startswith("sub-") and folder.endswith(_FOLDER_FILES)]
        if ends:
            joined.setdefault("/".join(folders[: ends[0] + 1]), []).append(entry)
        else:
            whole.append(entry)
    for name, parts in joined.items():
        size, modified = sum(part.size or 0 for part in parts), max(part.modified or 0 for part in parts)
        whole.append(replace(parts[0], name=name, size=size, modified=modified))
    return sorted(whole, key=lambda entry: entry.name) if joined else whole


def _name_apart(roots):
    """Name each data set by the end of its path, as long as it takes to tell them apart."""
    parts = {root: root.split("/") for root in roots}
    lengths = {root: _length_of_name(parts[root]) for root in roots}
    while True:
        names = {root: "/".join(parts[root][-lengths[root] :]) for root in roots}
        twice = [root for root in roots if list(names.values()).count(names[root]) > 1]
        if not twice:
            return names
        lengths.update({root: lengths[root] + 1 for root in twice})


def _length_of_name(parts):
    places = [place for place, part in enumerate(parts) if part == DERIVATIVES and place > 0 and parts[place - 1]]
    return len(parts) - places[0] + 1 if places and places[0] < len(parts) - 1 else 1
