"""What JSON files say about a data file, by BIDS' rule of inheritance.

A JSON holds for every data file in its folder and below that has its suffix and all its entities. From the data set's folder
downwards each level adds its fields and overrides those above. BIDS allows one such JSON a level; where there are several, one
that has all entities of another overrides it. Fields on which two others disagree are left out, and the two are named.
"""

import json

from sparkneuro.data.storage.file_tree import read_many
from sparkneuro.errors import FormatError


class Sidecars:
    """The JSON files of one data set, and what they say of its images.

    Parameters
    ----------
    root : str
        Path or URI of the data set.
    """

    def __init__(self, root):
        self.root = root
        self.contents = {}
        self.disputes = []
        self._unread, self._by_place, self._chains = [], {}, {}
        self._parsed, self._described = {}, {}

    def add(self, name, entities, suffix, content=None):
        """Add a JSON file.

        Parameters
        ----------
        name : str
            Path relative to the data set.
        entities : dict of str to str
            Labels by key.
        suffix : str
            The last word of its name.
        content : bytes or None
            What it holds; None when it has yet to be read.
        """
        keys = tuple(sorted(entities))
        level = self._by_place.setdefault((name.rpartition("/")[0], suffix), {})
        level.setdefault(keys, {}).setdefault(tuple(map(entities.get, keys)), []).append(name)
        if content is None:
            self._unread.append(name)
        else:
            self.contents[name] = content

    @property
    def n_unread(self):
        """JSON files that `read` will read."""
        return len(self._unread)

    def read(self, count=None):
        """Read the JSON files that were added without their content.

        Parameters
        ----------
        count : callable or None
            Called after each.

        Raises
        ------
        StorageError
            When one cannot be read.
        """
        for name, content in zip(self._unread, read_many(self.root, self._unread), strict=True):
            self.contents[name] = content
            if count:
                count()
        self._unread = []

    def describe(self, name, entities, suffix):
        """Tell what the JSON files say of an image; call it when all are added and read.

        Parameters
        ----------
        name : str
            Path relative to the data set.
        entities : dict of str to str
            Labels by key.
        suffix : str
            The last word of its name.

        Returns
        -------
        repetition_time : float or None
            In seconds.
        slice_timing : list of float or None
            In seconds.
        sidecar : str or None
            All fields, as JSON; None when no JSON holds for it.

        Raises
        ------
        FormatError
            When one of them is no JSON object.
        """
        levels = self._find(name, entities, suffix)
        names = tuple(name for level in levels for _, name in level)
        if names not in self._described:
            sidecar, disputes = merge_sidecars(levels, {name: self._parse(name) for name in names})
            self._described[names] = (*_read_timing(sidecar), json.dumps(sidecar) if names else None)
            self.disputes += [
                f"{self.root}: {one} and {other} disagree on {field} of the same files; it is left out."
                for field, (one, other) in disputes.items()
            ]
        return self._described[names]

    def _find(self, name, entities, suffix):
        """Keys of entities and name of each JSON that holds for a file: a tuple a level, those of few entities first."""
        place, levels = (name.rpartition("/")[0], suffix), []
        if place not in self._chains:
            self._chains[place] = [self._by_place[level] for level in _list_levels(*place) if level in self._by_place]
        for level in self._chains[place]:
            found = [
                (len(keys), other, keys)
                for keys, by_labels in level.items() for other in by_labels.get(tuple(map(entities.get, keys)), ())
            ]
            if found:
                levels.append(tuple((keys, other) for _, other, keys in sorted(found)))
        return tuple(levels)

    def _parse(self, name):
        if name not in self._parsed:
            self._parsed[name] = parse_sidecar(f"{self.root}/{name}", self.contents[name])
        return self._parsed[name]


def _list_levels(folder, suffix):
    parts = folder.split("/") if folder else []
    return [("/".join(parts[:n_parts]), suffix) for n_parts in range(len(parts) + 1)]


def merge_sidecars(levels, contents):
    """Merge the JSON files that hold for a data file.

    Parameters
    ----------
    levels : tuple of tuple of (tuple of str, str)
        A tuple a level, from the top downwards; in it keys of entities and name of each JSON, those of few entities first.
    contents : dict of str to dict
        What each JSON holds, by its name.

    Returns
    -------
    sidecar : dict
        All fields.
    disputes : dict of str to (str, str)
        Fields that are left out, and the names of the two JSONs of one level that disagree on each, neither overriding the other.
    """
    merged, disputes = {}, {}
    for level in levels:
        own = {}
        for place, (keys, name) in enumerate(level):
            for field, value in contents[name].items():
                rivals = [
                    other for theirs, other in level[:place]
                    if contents[other].get(field, value) != value and not set(theirs) < set(keys)
                ]
                own[field] = (rivals[0], name) if rivals else None
            merged.update(contents[name])
        disputes.update(own)
    disputes = {field: names for field, names in disputes.items() if names}
    return {field: value for field, value in merged.items() if field not in disputes}, disputes


def parse_sidecar(path, content):
    """Read the text of a JSON file.

    Parameters
    ----------
    path : str
        Where it is, for the error.
    content : bytes or str
        What it holds.

    Returns
    -------
    sidecar : dict
        Its fields.

    Raises
    ------
    FormatError
        When it is no JSON object.
    """
    try:
        sidecar = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: this is not valid JSON ({error}).") from error
    if not isinstance(sidecar, dict):
        raise FormatError(f"{path}: a sidecar is a JSON object; this one is a {sidecar.__class__.__name__}.")
    return sidecar


def _read_timing(sidecar):
    t_r, slices = sidecar.get("RepetitionTime"), sidecar.get("SliceTiming")
    timed = isinstance(slices, list) and all(map(_is_time, slices))
    return float(t_r) if _is_time(t_r) else None, list(map(float, slices)) if timed else None


def _is_time(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
