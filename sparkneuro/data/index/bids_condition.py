"""One condition on a BIDS name: an entity, and the labels that it may have."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

NONE = None
"""In place of a label: the name must not have the entity."""

ANY = "*"
"""In place of a label: the name must have the entity, with whatever label."""

NATIVE = "native"
"""The space of a file whose name has none."""

_NUMBERS = ("run", "echo", "flip", "inv", "split", "chunk", "res")
_PLACES = ("datatype", "extension")


@dataclass(frozen=True)
class Condition:
    """An entity of a BIDS name, and what it may be.

    Parameters
    ----------
    name : str
        What the user calls it, e.g. ``--task-id`` or ``bold.task in filter.json``.
    key : str
        Key of the entity in file names, e.g. ``task``; or ``suffix``, ``datatype`` or ``extension``.
    labels : tuple of str or None
        Labels that are right, any one of them; `NONE` and `ANY` among them. Those of a space may be ``native`` and may name
        further entities: ``MNI152NLin2009cAsym:res-2``.

    Examples
    --------
    >>> Condition("--run", "run", ("1",)).holds({"sub": "02", "run": "01"})
    True
    """

    name: str
    key: str
    labels: tuple

    def holds(self, entities):
        """Tell whether a name is as it should be.

        Parameters
        ----------
        entities : dict of str to str
            Labels by key.

        Returns
        -------
        right : bool
            Whether one of the labels fits. A datatype or extension that `entities` does not tell is right.
        """
        return entities.get(self.key) in self._plain or any(self.fits(label, entities) for label in self._others)

    def fits(self, label, entities):
        """Tell whether a name has one certain label.

        Parameters
        ----------
        label : str or None
            One of `labels`.
        entities : dict of str to str
            Labels by key.

        Returns
        -------
        right : bool
            Whether it has.
        """
        if self.key == "space" and label not in (NONE, ANY):
            return all(_is_same(key, wanted, entities.get(key)) for key, wanted in parse_space(label))
        value = entities.get(self.key)
        return (value is None and self.key in _PLACES) or _is_same(self.key, label, value)

    @cached_property
    def _plain(self):
        # A list of a thousand participants is looked up in one step.
        return frozenset(() if self.key == "space" else self.labels)

    @cached_property
    def _others(self):
        special = self.key in (*_NUMBERS, *_PLACES, "space")
        return self.labels if special else tuple(label for label in self.labels if label == ANY)


@lru_cache
def parse_space(label):
    """Read what a space asks of a name.

    Parameters
    ----------
    label : str
        E.g. ``T1w``, ``native``, or ``MNI152NLin2009cAsym:res-2``.

    Returns
    -------
    wanted : tuple of (str, str or None)
        Labels by key; None where the name must not have the entity.

    Examples
    --------
    >>> parse_space("MNI152NLin2009cAsym:res-native")
    (('space', 'MNI152NLin2009cAsym'), ('res', None))
    """
    space, *others = label.removeprefix("space-").split(":")
    wanted = [("space", space), *((key, value) for key, _, value in (word.partition("-") for word in others))]
    return tuple((key, NONE if value == NATIVE else value) for key, value in wanted)


def _is_same(key, wanted, value):
    if wanted is NONE or value is None:
        return wanted is value
    if wanted == ANY or wanted == value:
        return True
    return key in _NUMBERS and wanted.isdigit() and value.isdigit() and int(wanted) == int(value)
