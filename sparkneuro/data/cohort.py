"""The names of a cohort: which data set a subject came from, what it is called among all, and what is known of it.

A data set has a label (`ds01`), in the order in which data sets joined, and a subject the label of its data set and its own
one: subject 01 of the second data set is `ds02sub01`, so that subjects of the same name stay apart.
"""

import csv
import io
import json
import posixpath
import re
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.errors import FormatError

PARTICIPANTS = "participants.tsv"
DESCRIPTION = "dataset_description.json"
UNKNOWN = "n/a"
_FIRST = ("participant_id", "dataset", "dataset_name", "source_participant_id")


@dataclass(frozen=True)
class Dataset:
    """A data set of a cohort.

    Parameters
    ----------
    label : str
        E.g. ``ds01``.
    name : str
        For people, unique in the cohort.
    source : str
        Path or URI of the folder.
    kind : str
        ``voxels`` for a voxel table, ``bids`` for a BIDS folder.
    """

    label: str
    name: str
    source: str
    kind: str

    def subject(self, label):
        """Name a subject among all of the cohort.

        Parameters
        ----------
        label : str
            Its label in the data set.

        Returns
        -------
        label : str
            Its label in the cohort, of letters and digits.

        Examples
        --------
        >>> Dataset("ds02", "rest", "/data/rest", "bids").subject("01")
        'ds02sub01'
        """
        return f"{self.label}sub{re.sub('[^0-9A-Za-z]', '', label)}"


def name_datasets(sources, kinds, earlier=()):
    """Give each source a label and a name; those of data sets that have joined before stay.

    Parameters
    ----------
    sources : sequence of str
        Paths or URIs of folders.
    kinds : sequence of str
        ``voxels`` or ``bids``, for each.
    earlier : sequence of Dataset
        Data sets of the cohort.

    Returns
    -------
    datasets : list of Dataset
        In the order of the sources.
    """
    known = {dataset.source: dataset for dataset in earlier}
    names = {dataset.name for dataset in earlier}
    number, datasets = len(known), []
    for source, kind in zip(sources, kinds, strict=True):
        if source not in known:
            number += 1
            name = _make_unique(_read_name(source, kind), names)
            names.add(name)
            known[source] = Dataset(f"ds{number:02d}", name, source, kind)
        datasets.append(known[source])
    return datasets


def _read_name(source, kind):
    folder = posixpath.basename(source.rstrip("/")).removesuffix(".voxels") or "data set"
    path = store.join(source, DESCRIPTION)
    if kind != "bids" or not store.exists(path):
        return folder
    try:
        name = json.loads(store.read_bytes(path)).get("Name")
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path}: this is no JSON object ({error}).") from error
    return " ".join(name.split()) if isinstance(name, str) and name.strip() else folder


def _make_unique(name, taken):
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    return unique


def find_participants(source, first_run=""):
    """Find what a data set says of its subjects.

    Parameters
    ----------
    source : str
        Folder of the data set: a voxel table or a BIDS folder; for derivatives within a data set that of the data set holds too.
    first_run : str
        File of one of its runs: a voxel table finds the BIDS folder by it that it was made from.

    Returns
    -------
    participants : dict of str to dict of str to str
        Columns by name, by label without ``sub-``; empty where no ``participants.tsv`` is found.
    """
    folders = [source]
    if "/sub-" in first_run:
        folders.append(first_run[: first_run.index("/sub-")])
    folders += [folder.partition("/derivatives")[0] for folder in folders if "/derivatives" in folder]
    for folder in folders:
        path = store.join(folder, PARTICIPANTS)
        if store.exists(path):
            return read_participants(path)
    return {}


def read_participants(path):
    """Read a ``participants.tsv``.

    Parameters
    ----------
    path : str
        Path or URI.

    Returns
    -------
    participants : dict of str to dict of str to str
        The other columns by name, by label without ``sub-``.

    Raises
    ------
    FormatError
        When it has no column `participant_id`.
    """
    text = store.read_bytes(path).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", restval=UNKNOWN))
    if rows and "participant_id" not in rows[0]:
        raise FormatError(f"{path}: the column participant_id is missing; it has {', '.join(rows[0])}.")
    participants = {}
    for row in rows:
        label = row.pop("participant_id").removeprefix("sub-")
        participants[label] = {name: value for name, value in row.items() if name}
    return participants


def join_participants(members, participants):
    """Put the subjects of all data sets into one table.

    Parameters
    ----------
    members : iterable of tuple of (Dataset, str)
        Each subject's data set, and its label there.
    participants : dict of str to dict
        What `find_participants` returned, by the data set's label.

    Returns
    -------
    rows : dict of str to dict of str to str
        A row a subject, by its label in the cohort, sorted; every row has all columns.
    """
    rows = {}
    for dataset, label in members:
        known = participants.get(dataset.label, {}).get(label, {})
        own = {"participant_id": f"sub-{dataset.subject(label)}", "dataset": dataset.label, "dataset_name": dataset.name,
               "source_participant_id": f"sub-{label}"}
        rows[dataset.subject(label)] = {**{name: value for name, value in known.items() if name not in own}, **own}
    columns = [*_FIRST, *sorted({name for row in rows.values() for name in row} - set(_FIRST))]
    return {label: {name: rows[label].get(name, UNKNOWN) for name in columns} for label in sorted(rows)}


def write_participants(path, rows):
    """Write a ``participants.tsv``.

    Parameters
    ----------
    path : str
        Path or URI.
    rows : dict of str to dict of str to str
        What `join_participants` returned.
    """
    text = io.StringIO()
    columns = list(next(iter(rows.values()), dict.fromkeys(_FIRST)))
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    store.write_bytes(path, text.getvalue().encode())
