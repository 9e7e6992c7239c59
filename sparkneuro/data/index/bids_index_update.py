"""An index of BIDS files brought up to date with its folders, reading what is new and changed.

The files of a subject are taken as they stand in the old index when neither they nor the JSON files at the top of the data set
have changed. Of the others the names are read again, but only those JSON files that are new or changed.
"""

from dataclasses import dataclass, field
from itertools import chain, groupby

import pyarrow as pa
from tqdm import tqdm

from sparkneuro.data.index.bids_index import index_schema, is_image, make_rows, parse_names
from sparkneuro.data.index.bids_sidecars import Sidecars

OF_TABLES = (
    "description", "participants", "samples", "sessions", "scans", "events", "timeseries", "regressors", "physio", "physioevents",
    "stim", "channels", "electrodes", "optodes", "coordsystem", "aslcontext", "blood", "beh", "motion", "xfm",
)
"""Suffixes of JSON files that describe tables or data sets, never images; these are not read."""


@dataclass
class Update:
    """What became of an index.

    Parameters
    ----------
    table : pyarrow.Table
        The rows, sorted by data set, then by folder and name.
    n_new, n_changed, n_unchanged, n_removed : int
        Files, compared with the old index.
    n_read : int
        JSON files that were read.
    n_absent : int
        Links that lead nowhere.
    disputes : list of str
        What JSON files of one level disagree on, a sentence each.
    """

    table: pa.Table
    n_new: int = 0
    n_changed: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_read: int = 0
    n_absent: int = 0
    disputes: list = field(default_factory=list)


def update_index(datasets, old=None, progress=None):
    """Make the index of data sets, from an older one where there is one.

    Parameters
    ----------
    datasets : list of Dataset
        The data sets.
    old : pyarrow.Table or None
        The index as it was.
    progress : bool or None
        Whether a bar is shown; on a terminal only when None.

    Returns
    -------
    update : Update
        The new index, and what has changed.

    Raises
    ------
    FormatError
        When a JSON file that holds for an image is no JSON object.
    StorageError
        When a JSON file cannot be read.
    """
    before, update = _OldIndex(old), Update(None)
    total = sum(len(dataset.entries) for dataset in datasets)
    hidden = None if progress is None else not progress
    with tqdm(total=total, desc="index", unit=" files", disable=hidden, delay=1) as bar:
        parts = [part for dataset in datasets for part in _index_dataset(dataset, before, update, bar)]
    update.table = pa.concat_tables(parts or [index_schema().empty_table()]).combine_chunks()
    update.n_removed = len(before.stats) - update.n_changed - update.n_unchanged
    return update


class _OldIndex:
    """What the old index knows of each file, and where the rows of each top folder of a data set are."""

    def __init__(self, table):
        self.table = table if table is not None and table.schema.equals(index_schema()) else index_schema().empty_table()
        columns = [self.table[name].to_pylist() for name in ("path", "root", "size", "modified")]
        self.stats, self.groups = {}, {}
        for row, (path, root, size, modified) in enumerate(zip(*columns, strict=True)):
            self.stats[path] = size, modified, row
            folder = path[len(root) + 1 :].rpartition("/")[0].partition("/")[0]
            self.groups.setdefault((root, folder), []).append(path)

    def knows(self, path, entry):
        """Whether the file is as it was."""
        return self.stats.get(path, (-1,))[:2] == (entry.size, entry.modified)

    def content_of(self, path):
        """What a JSON file holds; None where it was not read."""
        return self.table["content"][self.stats[path][2]].as_py()

    def paths_in(self, root, folder):
        """Files of a top folder."""
        return self.groups.get((root, folder), [])

    def rows_of(self, root, folder):
        """Rows of a top folder, which follow each other."""
        paths = self.groups[root, folder]
        return self.table.slice(self.stats[paths[0]][2], len(paths))


def _index_dataset(dataset, before, update, bar):
    """Yield the rows of a data set in parts: those of some top folders are made anew, those of the others are kept."""
    groups = {"": []}
    for entry in dataset.entries:
        groups.setdefault(entry.name.rpartition("/")[0].partition("/")[0], []).append(entry)
    _count(dataset, before, update)
    fresh, place = _find_fresh(dataset, groups, before), 0
    entries = [entry for folder in sorted(fresh) for entry in groups[folder]]
    above = [] if "" in fresh else groups[""]
    rows = _index_files(dataset, entries, above, before, update, bar) if entries else None
    for is_fresh, folders in groupby(sorted(groups), key=fresh.__contains__):
        if not is_fresh:
            yield from (_rename(before.rows_of(dataset.root, folder), dataset.name) for folder in folders if groups[folder])
        elif entries:
            n_files = sum(len(groups[folder]) for folder in folders)
            yield rows.slice(place, n_files)
            place += n_files
    bar.update(len(dataset.entries) - len(entries))


def _rename(rows, dataset_name):
    # Making an Arrow array of Python values loads pandas, which takes longer than all else when nothing has changed.
    if rows["dataset"][0].as_py() == dataset_name:
        return rows
    return rows.set_column(0, "dataset", pa.array([dataset_name] * rows.num_rows, pa.string()))


def _count(dataset, before, update):
    for entry in dataset.entries:
        path = f"{dataset.root}/{entry.name}"
        update.n_absent += entry.size is None
        if path not in before.stats:
            update.n_new += 1
        elif before.knows(path, entry):
            update.n_unchanged += 1
        else:
            update.n_changed += 1


def _find_fresh(dataset, groups, before):
    """Top folders whose rows have to be made anew."""

    def is_known(folder):
        same_number = len(groups[folder]) == len(before.paths_in(dataset.root, folder))
        return same_number and all(before.knows(f"{dataset.root}/{entry.name}", entry) for entry in groups[folder])

    fresh = {folder for folder in groups if not is_known(folder)}
    paths = {f"{dataset.root}/{entry.name}": entry for entry in groups[""] if entry.name.endswith(".json")}
    were = {path for path in before.paths_in(dataset.root, "") if path.endswith(".json")}
    same = were == paths.keys() and all(before.knows(path, entry) for path, entry in paths.items())
    return fresh if same else set(groups)


def _index_files(dataset, entries, above, before, update, bar):
    """Rows of some files; `above` are those of the data set's own folder that are not among them."""
    parsed = list(parse_names(entry.name for entry in entries))
    sidecars = Sidecars(dataset.root)
    for entry, (entities, words) in chain(zip(entries, parsed, strict=True), _parse_entries(above)):
        if words.get("ext") == ".json" and words.get("suffix") not in (None, *OF_TABLES) and entry.size is not None:
            path = f"{dataset.root}/{entry.name}"
            content = before.content_of(path) if before.knows(path, entry) else None
            sidecars.add(entry.name, entities, words["suffix"], content)
    bar.unpause()  # reading the names, which is not counted, would make the first guess of the time left far too long
    bar.total += sidecars.n_unread
    update.n_read += sidecars.n_unread
    sidecars.read(bar.update)
    described = []
    for entry, (entities, words) in zip(entries, parsed, strict=True):
        has_sidecar = is_image(words.get("ext")) and "suffix" in words
        described.append(sidecars.describe(entry.name, entities, words["suffix"]) if has_sidecar else (None, None, None))
        bar.update()
    update.disputes += sidecars.disputes
    return make_rows(dataset, entries, parsed, described, [sidecars.contents.get(entry.name) for entry in entries])


def _parse_entries(entries):
    return zip(entries, parse_names(entry.name for entry in entries), strict=True)
