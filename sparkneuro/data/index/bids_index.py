"""The rows of an index of BIDS files: one a file, with a column for each entity of its name.

Names are read by bids2table, whose schema names the columns.
"""

from functools import cache

import pyarrow as pa

from sparkneuro.errors import FormatError, require

IMAGES = (".nii", ".nii.gz", ".gii", ".edf", ".bdf", ".set", ".vhdr", ".fif", ".ds", ".zarr", ".mefd")
"""Endings of the files whose sidecars are resolved: images and recordings."""

_LARGEST = 2**31 - 1


def is_image(extension):
    """Tell whether a file holds data that a sidecar describes.

    Parameters
    ----------
    extension : str or None
        Ending of its name.

    Returns
    -------
    image : bool
        Whether it is an image or a recording.

    Examples
    --------
    >>> is_image(".nii.gz"), is_image(".tsv")
    (True, False)
    """
    return extension is not None and extension.endswith(IMAGES)


@cache
def index_schema():
    """Return the columns of an index.

    Returns
    -------
    schema : pyarrow.Schema
        dataset, root and path; size (bytes) and modified (ns since 1970), null where a link leads nowhere; every entity by its
        key in file names; entities that BIDS does not know; datatype, suffix and extension; of images repetition_time (s),
        slice_timing (s) and sidecar (JSON with inheritance resolved); of JSON files their content.
    """
    strings = [(name, pa.string()) for name in ("dataset", "root", "path")]
    place = [*strings, ("size", pa.int64()), ("modified", pa.int64())]
    entities = [(name, kind) for name, kind in _entity_types().items()]
    words = [("extra_entities", pa.map_(pa.string(), pa.string()))]
    words += [(name, pa.string()) for name in ("datatype", "suffix", "extension")]
    said = [("repetition_time", pa.float64()), ("slice_timing", pa.list_(pa.float64()))]
    return pa.schema([*place, *entities, *words, *said, ("sidecar", pa.large_string()), ("content", pa.large_binary())])


@cache
def _entity_types():
    schema = require("bids2table", "bids").get_arrow_schema()
    special = ("datatype", "suffix", "ext")
    return {field.name: field.type for field in schema if b"entity" in (field.metadata or {}) and field.name not in special}


def parse_names(names):
    """Read the entities of BIDS names.

    Parameters
    ----------
    names : iterable of str
        Paths relative to their data set.

    Yields
    ------
    entities : dict of str to str
        Labels by key.
    words : dict of str to str
        datatype, suffix and ext, where the name has them.
    """
    parse = require("bids2table", "bids").parse_bids_entities
    for name in names:
        entities = parse(name)
        words = {key: entities.pop(key) for key in ("datatype", "suffix", "ext") if key in entities}
        yield entities, words


def make_rows(dataset, entries, parsed, described, contents):
    """Make the rows of some files of a data set.

    Parameters
    ----------
    dataset : Dataset
        Their data set.
    entries : list of Entry
        The files.
    parsed : list of (dict, dict)
        Entities and words of each, from `parse_names`.
    described : list of (float or None, list of float or None, str or None)
        Repetition time (s), slice timing (s) and JSON of each.
    contents : list of bytes or None
        What each JSON file holds.

    Returns
    -------
    rows : pyarrow.Table
        Their rows.

    Raises
    ------
    FormatError
        When a name is not valid UTF-8.
    """
    entities, words = [one for one, _ in parsed], [other for _, other in parsed]
    kinds = _entity_types()
    columns = {
        "dataset": [dataset.name] * len(entries),
        "root": [dataset.root] * len(entries),
        "path": [f"{dataset.root}/{entry.name}" for entry in entries],
        "size": [entry.size for entry in entries],
        "modified": [entry.modified for entry in entries],
        **{key: _read_column(key, kind, entities) for key, kind in kinds.items()},
        "extra_entities": [_list_extra(one, kinds) for one in entities],
        "datatype": [one.get("datatype") for one in words],
        "suffix": [one.get("suffix") for one in words],
        "extension": [one.get("ext") for one in words],
        "repetition_time": [t_r for t_r, _, _ in described],
        "slice_timing": [slice_timing for _, slice_timing, _ in described],
        "sidecar": [sidecar for _, _, sidecar in described],
        "content": contents,
    }
    try:
        return pa.Table.from_pydict(columns, schema=index_schema())
    except UnicodeEncodeError as error:
        raise FormatError(f"{dataset.root}: the name {error.object!r} below it is not valid UTF-8; rename the file.") from error


def _read_column(key, kind, entities):
    labels = [one.get(key) for one in entities]
    return [_as_number(label) for label in labels] if pa.types.is_integer(kind) else labels


def _as_number(label):
    """A run's number; None for a label that is none, which is kept with the extra entities."""
    if label is None or not (label.isascii() and label.isdigit()) or int(label) > _LARGEST:
        return None
    return int(label)


def _list_extra(entities, kinds):
    extra = [
        (key, label) for key, label in entities.items()
        if key not in kinds or (pa.types.is_integer(kinds[key]) and _as_number(label) is None)
    ]
    return extra or None
