"""A filter of BIDS files as a JSON file, in the form that fMRIPrep's ``--bids-filter-file`` takes.

    {"bold": {"task": ["rest"], "session": "01", "space": "MNI152NLin2009cAsym", "run": [1]}, "t1w": {"acquisition": null}}

A modality names its conditions: an entity and one label, or a list of which any is right. null and "Query.NONE": the name must
not have the entity; "*" and "Query.ANY": it must have it; "Query.OPTIONAL": all is right.
"""

import difflib
import json
import posixpath

from sparkneuro.data import store
from sparkneuro.data.index.bids_condition import ANY, NONE, Condition
from sparkneuro.errors import FormatError, SettingsError

MODALITIES = {
    "bold": ("bold",),
    "sbref": ("sbref",),
    "t1w": ("T1w",),
    "t2w": ("T2w",),
    "flair": ("FLAIR",),
    "fmap": ("phasediff", "phase1", "phase2", "magnitude", "magnitude1", "magnitude2", "fieldmap", "epi"),
    "roi": ("roi",),
    "dwi": ("dwi",),
    "asl": ("asl",),
    "pet": ("pet",),
    "eeg": ("eeg",),
    "meg": ("meg",),
}
"""What a filter file may speak of, and the suffixes of its files."""

# Long names as BIDS and pybids have them, by the key in file names.
ENTITIES = {
    "sub": ("subject",), "ses": ("session",), "sample": (), "task": (), "tracksys": (), "acq": ("acquisition",),
    "nuc": ("nucleus",), "voi": ("volume",), "ce": ("ceagent",), "trc": ("tracer",), "stain": ("staining",),
    "rec": ("reconstruction",), "dir": ("direction",), "run": (), "mod": ("modality",), "echo": (), "flip": (),
    "inv": ("inversion",), "mt": ("mtransfer",), "part": (), "proc": ("processing",), "hemi": ("hemisphere",), "space": (),
    "split": (), "recording": (), "chunk": (), "atlas": (), "seg": ("segmentation",), "scale": (), "res": ("resolution",),
    "den": ("density",), "label": (), "desc": ("description",), "tpl": ("template",), "cohort": (),
    "suffix": (), "datatype": (), "extension": ("ext",),
}
KEYS = {name: key for key, others in ENTITIES.items() for name in (key, *others)}
"""Key in file names of each entity, by its short and its long names."""

_QUERIES = {"Query.NONE": NONE, "Query.ANY": ANY, "Query.OPTIONAL": "Query.OPTIONAL"}


def read_filter_file(path):
    """Read a filter file and check every word of it.

    Parameters
    ----------
    path : str
        Path or URI of the JSON file.

    Returns
    -------
    queries : tuple of (str, tuple of Condition)
        Conditions by modality.

    Raises
    ------
    FormatError
        When it is no JSON object of objects.
    SettingsError
        When a modality, an entity or a value makes no sense.
    """
    try:
        content = json.loads(store.read_bytes(path))
    except ValueError as error:
        raise FormatError(f"{path}: this filter file is not valid JSON ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(query, dict) for query in content.values()):
        example = '{"bold": {"task": "rest"}}'
        raise FormatError(f"{path}: a filter file is a JSON object of objects, such as {example}.")
    for modality in content.keys() - MODALITIES.keys():
        raise SettingsError(f"{path}: {modality!r} is no modality; expected one of {', '.join(MODALITIES)}.")
    return tuple((modality, tuple(_read_query(path, modality, query))) for modality, query in content.items())


def _read_query(path, modality, query):
    for entity, value in query.items():
        if entity not in KEYS:
            near = difflib.get_close_matches(entity, KEYS, 1)
            remedy = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(ENTITIES)}, or its long name."
            raise SettingsError(f"{path}: {modality} asks for {entity!r}, which is no BIDS entity; {remedy}")
        name = f"{modality}.{entity} in {posixpath.basename(str(path))}"
        labels = tuple(_read_label(path, f"{modality}.{entity}", KEYS[entity], word) for word in _as_list(value))
        if not labels:
            raise SettingsError(f"{path}: {modality}.{entity} is an empty list, which selects nothing; leave it out to take all.")
        if "Query.OPTIONAL" not in labels:
            yield Condition(name, KEYS[entity], labels)


def _as_list(value):
    return value if isinstance(value, list) else [value]


def _read_label(path, name, key, word):
    if word is None or (isinstance(word, int) and not isinstance(word, bool)):
        return NONE if word is None else str(word)
    if not isinstance(word, str) or not word:
        expected = "a label, a number, null, or a list of these"
        raise SettingsError(f"{path}: {name} must be {expected}; got {json.dumps(word)}.")
    if word.startswith("Query."):
        if word not in _QUERIES:
            raise SettingsError(f"{path}: {name} must be one of {', '.join(_QUERIES)}, or a label; got {word!r}.")
        return _QUERIES[word]
    return word.removeprefix(".") if key == "extension" else word.removeprefix(f"{key}-")
