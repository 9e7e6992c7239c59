"""Which BIDS files are wanted, in fMRIPrep's words: labels of participants, sessions, tasks and runs, spaces, a filter file."""

import re
from dataclasses import dataclass

from sparkneuro.data.index.bids_condition import ANY, NATIVE, NONE, Condition, parse_space
from sparkneuro.data.index.bids_filter_file import ENTITIES, MODALITIES, read_filter_file
from sparkneuro.errors import SettingsError

N_SHOWN = 10
"""Labels that a sentence lists before it ends in dots."""


@dataclass(frozen=True)
class BidsFilter:
    """Conditions on the names of BIDS files; made by `make_filter`.

    Parameters
    ----------
    conditions : tuple of Condition
        Those that every file must meet.
    queries : tuple of (str, tuple of Condition)
        Those of a filter file, by modality: a file of another modality need not meet them.
    """

    conditions: tuple = ()
    queries: tuple = ()

    def matches(self, entities, suffix):
        """Tell whether a file is wanted.

        Parameters
        ----------
        entities : dict of str to str
            Labels by key, as `bids.parse_name` gives them; ``datatype`` and ``extension`` too, where they are known.
        suffix : str
            The last word of its name.

        Returns
        -------
        wanted : bool
            Whether it meets every condition.
        """
        known = {**entities, "suffix": suffix}
        return all(condition.holds(known) for condition in self.conditions_on(suffix))

    def conditions_on(self, suffix):
        """List what is asked of files of one suffix.

        Parameters
        ----------
        suffix : str
            E.g. ``bold``.

        Returns
        -------
        conditions : tuple of Condition
            Of the options, then of the filter file.
        """
        mine = [conditions for modality, conditions in self.queries if suffix in _suffixes(modality, conditions)]
        return sum(mine, self.conditions)


def _suffixes(modality, conditions):
    """Suffixes of the files that a query of the filter file speaks of; it may name others itself."""
    named = [label for condition in conditions if condition.key == "suffix" for label in condition.labels if label]
    return (*MODALITIES[modality], *named)


def make_filter(participant_label=(), session_id=(), task_id=(), run=(), space=None, bids_filter_file=None):
    """Make a filter, and check every word of it.

    Parameters
    ----------
    participant_label, session_id, task_id, run : sequence of str
        Labels to keep, with or without their prefix (``sub-01`` or ``01``); empty keeps all. Run 1 is also run-01.
    space : str or sequence of str or None
        Spaces to keep: ``native`` (names without a space), ``T1w``, ``MNI152NLin2009cAsym``, or with a resolution,
        ``MNI152NLin2009cAsym:res-2``; None keeps all.
    bids_filter_file : str or None
        Path of a JSON file in fMRIPrep's form.

    Returns
    -------
    bids_filter : BidsFilter
        The filter.

    Raises
    ------
    SettingsError
        When a label is none.
    FormatError
        When the file is no JSON object.

    Examples
    --------
    >>> make_filter(participant_label=["sub-01"], run=[1]).matches({"sub": "01", "run": "01"}, "bold")
    True
    """
    labels = [
        _make_condition("--participant-label", "sub", participant_label), _make_condition("--session-id", "ses", session_id),
        _make_condition("--task-id", "task", task_id), _make_condition("--run", "run", run),
    ]
    spaces = (space,) if isinstance(space, str) else tuple(space or ())
    labels.append(Condition("--space", "space", tuple(_check_space(str(word)) for word in spaces)))
    queries = read_filter_file(bids_filter_file) if bids_filter_file else ()
    return BidsFilter(tuple(condition for condition in labels if condition.labels), queries)


def _make_condition(name, key, labels):
    plain = []
    for label in map(str, (labels,) if isinstance(labels, (str, int)) else labels):
        plain.append(label.removeprefix(f"{key}-"))
        if not re.fullmatch("[0-9A-Za-z+]+", plain[-1]):
            raise SettingsError(f"{name} takes labels of letters and digits, such as 01 or {key}-01; got {label!r}.")
    return Condition(name, key, tuple(dict.fromkeys(plain)))


def _check_space(label):
    wanted = parse_space(label)
    pairs = all(re.fullmatch("[0-9A-Za-z+]+", NATIVE if value is None else value) for _, value in wanted)
    if not pairs or any(key not in ENTITIES for key, _ in wanted) or (wanted[0][1] is NONE and len(wanted) > 1):
        expected = "native, T1w, MNI152NLin2009cAsym or MNI152NLin2009cAsym:res-2"
        raise SettingsError(f"--space takes spaces such as {expected}; got {label!r}.")
    return label.removeprefix("space-")


def find_unmatched(bids_filter, files, suffix="bold"):
    """Find the labels of a filter that select no file.

    Parameters
    ----------
    bids_filter : BidsFilter
        The filter.
    files : iterable of dict of str to str
        Entities of every file of this suffix that there is.
    suffix : str
        Their suffix.

    Returns
    -------
    unmatched : list of (Condition, str or None)
        Each label that no file has which meets all the other conditions, with its condition.
    """
    conditions, files = bids_filter.conditions_on(suffix), [{**entities, "suffix": suffix} for entities in files]
    wanted = [entities for entities in files if all(condition.holds(entities) for condition in conditions)]
    return [(condition, label) for condition in conditions for label in _find_idle(condition, wanted)]


def _find_idle(condition, files):
    """Labels of a condition that none of the files has."""
    seen = {entities.get(condition.key) for entities in files}
    idle = [label for label in condition.labels if label not in (NONE, ANY) and label not in seen]
    return [label for label in idle if not any(condition.fits(label, entities) for entities in files)]


def describe_unmatched(bids_filter, files, suffix="bold"):
    """Say in one sentence which labels select no file, and which labels there are.

    Parameters
    ----------
    bids_filter : BidsFilter
        The filter.
    files : iterable of dict of str to str
        Entities of every file of this suffix that there is.
    suffix : str
        Their suffix.

    Returns
    -------
    sentence : str
        Without a place or a full stop; "" when every label selects a file.
    """
    files = [{**entities, "suffix": suffix} for entities in files]
    absent = [(condition, _find_idle(condition, files)) for condition in bids_filter.conditions_on(suffix)]
    parts = [
        f"{condition.name} {' '.join(labels)} selects no {suffix} file: {_list_existing(condition.key, files)}"
        for condition, labels in absent if labels
    ]
    return "; ".join(parts) or _describe_combination(find_unmatched(bids_filter, files, suffix), suffix)


def _describe_combination(unmatched, suffix):
    names = dict.fromkeys(condition.name for condition, _ in unmatched)
    each = [f"{name} {' '.join(label for one, label in unmatched if one.name == name)}" for name in names]
    verb = "select" if len(unmatched) > 1 else "selects"
    return f"{', '.join(each)} {verb} no {suffix} file that meets the other filters too" if each else ""


def _list_existing(key, files):
    known = sorted({_label_of(key, entities) for entities in files} - {""})
    some = ", ".join(known[:N_SHOWN]) + (", ..." if len(known) > N_SHOWN else "")
    return f"there {'are' if len(known) > 1 else 'is'} {some}" if known else f"no name has the entity {key}"


def _label_of(key, entities):
    if key != "space":
        return entities.get(key, "")
    others = [f"{other}-{entities[other]}" for other in ("cohort", "res", "den") if other in entities]
    return ":".join([entities.get("space", NATIVE), *others])
