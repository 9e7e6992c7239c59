"""The files of an index that a filter takes, with what is known of each."""

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sparkneuro.data.bids import parse_name

NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class IndexedFile:
    """One file of an index.

    Parameters
    ----------
    path : str
        Absolute path or URI.
    dataset : str
        Name of its data set.
    entities : dict of str to str
        Labels by key, as `bids.parse_name` reads them.
    datatype : str or None
        E.g. ``func``.
    extension : str or None
        E.g. ``.nii.gz``.
    repetition_time : float or None
        In seconds, from its sidecar.
    slice_timing : list of float or None
        In seconds, from its sidecar.
    sidecar : dict
        All that JSON files say about it, inheritance resolved.
    size, modified : int or None
        Bytes, and time of the last change (ns since 1970), when it was indexed; None for a link that leads nowhere.
    """

    path: str
    dataset: str
    entities: dict
    datatype: str | None
    extension: str | None
    repetition_time: float | None
    slice_timing: list | None
    sidecar: dict
    size: int | None
    modified: int | None

    @property
    def is_absent(self):
        """Whether it is a link whose content has not been fetched."""
        return self.size is None


def select_files(index, bids_filter, suffix="bold", extensions=NIFTI):
    """Choose files of an index.

    Parameters
    ----------
    index : pyarrow.Table
        From `bids_index_file.read_index`.
    bids_filter : BidsFilter
        What is wanted; an empty one takes all.
    suffix : str
        Suffix of the files.
    extensions : sequence of str
        Endings of the files.

    Returns
    -------
    files : list of IndexedFile
        In the order of the index.
    """
    right = pc.and_(pc.equal(index["suffix"], suffix), pc.is_in(index["extension"], pa.array(extensions)))
    columns = ["path", "dataset", "datatype", "extension", "repetition_time", "slice_timing", "sidecar", "size", "modified"]
    files = []
    for row in index.select(columns).filter(right).to_pylist():
        entities = parse_name(row["path"])[0]
        known = {key: row[key].lstrip(".") for key in ("datatype", "extension") if row[key]}
        if bids_filter.matches({**entities, **known}, suffix):
            row["sidecar"] = json.loads(row["sidecar"]) if row["sidecar"] else {}
            files.append(IndexedFile(entities=entities, **row))
    return files
