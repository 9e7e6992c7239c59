"""Which files of a data set are wanted: by patterns and participants, always with what describes them."""

import posixpath
import re
from collections import defaultdict
from fnmatch import translate

from sparkneuro.data.bids import parse_name
from sparkneuro.errors import SettingsError

ALWAYS = ("dataset_description.json", "participants.tsv")
"""Files at the top without which the others cannot be understood."""
_SIDECARS = (".json", ".tsv", ".bval", ".bvec")
_COMPANIONS = {"events", "channels", "electrodes", "coordsystem"}
_LABEL = re.compile(r"(?:^|/)sub-([0-9A-Za-z+]+)(?=[/_])")


def select(entries, include=(), exclude=(), participants=()):
    """Choose files.

    In a pattern ``*`` stands for anything, ``/`` included; one that names a folder takes all it holds. What is chosen brings its
    sidecars, also those that it inherits from folders above, and each dataset_description.json above it. `ALWAYS` and, with
    participants, all files at the top that are no one's own come along. What `exclude` names stays out, but for `ALWAYS`.

    Parameters
    ----------
    entries : list of dict
        All files; ``path`` is the name.
    include : sequence of str
        Patterns; everything when empty.
    exclude : sequence of str
        Patterns.
    participants : sequence of str
        Labels, with or without ``sub-``; all when empty.

    Returns
    -------
    chosen : list of dict
        Those of `entries`, in their order.

    Raises
    ------
    SettingsError
        When a pattern of `include` or a participant has no file.
    """
    paths = [entry["path"] for entry in entries]
    wanted = set(paths)
    if participants:
        wanted = _of_participants(paths, [label.removeprefix("sub-") for label in participants])
    if include:
        wanted &= _included(paths, include)
        if not wanted:
            raise SettingsError("no file is both of the participants and of the patterns of --include; leave one of them out.")
    refused = [_compile(pattern) for pattern in exclude]
    kept = {path for path in wanted if not any(pattern.match(path) for pattern in refused)}
    if include or participants:
        kept |= {path for path in _sidecars(paths, kept) if not any(pattern.match(path) for pattern in refused)}
    kept |= set(ALWAYS) | {posixpath.join(folder, ALWAYS[0]) for folder in _folders_above(kept)}
    return [entry for entry in entries if entry["path"] in kept]


def _included(paths, patterns):
    found = set()
    for pattern in patterns:
        compiled = _compile(pattern)
        matches = [path for path in paths if compiled.match(path)]
        if not matches:
            some = ", ".join(sorted({path.partition("/")[0] for path in paths})[:8])
            raise SettingsError(f"no file matches {pattern!r}; at the top are {some}.")
        found.update(matches)
    return found


def _compile(pattern):
    pattern = pattern.removeprefix("./").rstrip("/")
    return re.compile(f"(?:{translate(pattern)})|(?:{translate(pattern + '/*')})")


def _of_participants(paths, labels):
    owners = {path: found[1] for path in paths if (found := _LABEL.search(path))}
    missing = [label for label in labels if label not in owners.values()]
    if missing:
        known = ", ".join(sorted(set(owners.values()))[:12]) or "none"
        raise SettingsError(f"there is no participant {', '.join(missing)}; labels here are {known}.")
    at_top = {path for path in paths if "/" not in path and path not in owners}
    return at_top | {path for path, owner in owners.items() if owner in labels}


def _sidecars(paths, chosen):
    """Metadata files beside and above the chosen ones that hold for them."""
    by_folder = defaultdict(list)
    for path in paths:
        if path.endswith(_SIDECARS):
            by_folder[posixpath.dirname(path)].append((path, *parse_name(path)))
    found, seen = set(), set()
    for path in chosen:
        entities, suffix = parse_name(path)
        folder = posixpath.dirname(path)
        key = (folder, suffix, *sorted(entities.items()))
        if key in seen:
            continue
        seen.add(key)
        for above in _folders_above([path]):
            for name, theirs, their_suffix in by_folder.get(above, ()):
                if their_suffix in {suffix, *_COMPANIONS} and theirs.items() <= entities.items():
                    found.add(name)
    return found


def _folders_above(paths):
    folders = set()
    for folder in {posixpath.dirname(path) for path in paths}:
        while folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return folders
