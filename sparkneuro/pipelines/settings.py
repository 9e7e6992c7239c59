"""A job's settings, declared once: a frozen dataclass is the Python interface and the command line.

A module in `pipelines/` holds ``class Settings`` (frozen dataclass whose fields are made by `argument` and `option`) and
``run(settings, spark)``. `parse` turns command-line words into the dataclass; nothing else reads the command line.
"""

import argparse
import dataclasses


def argument(help, many=False):
    """Declare a required positional setting.

    Parameters
    ----------
    help : str
        One line for ``--help``.
    many : bool
        Whether one or more values are taken, as a tuple.

    Returns
    -------
    field : dataclasses.Field
        Field of a frozen dataclass.
    """
    return dataclasses.field(metadata={"help": help, "positional": True, "many": many})


def option(default, help, type=None, choices=None, many=False):
    """Declare an optional setting, ``--its-name`` on the command line.

    Parameters
    ----------
    default : object
        Value when the option is absent. A bool makes a flag (``--x`` and ``--no-x``).
    help : str
        One line for ``--help``.
    type : callable or None
        Converts the word; the type of `default` when absent.
    choices : tuple or None
        Words that are right.
    many : bool
        Whether one or more values are taken, as a tuple.

    Returns
    -------
    field : dataclasses.Field
        Field of a frozen dataclass.
    """
    kind = type if type is not None else (str if default is None or many else default.__class__)
    return dataclasses.field(
        default=default, metadata={"help": help, "type": kind, "choices": choices, "many": many}
    )


def remainder(help):
    """Declare a setting that takes all words after ``--``, as they are.

    Parameters
    ----------
    help : str
        One line for ``--help``.

    Returns
    -------
    field : dataclasses.Field
        Field of a frozen dataclass, at most one of its fields; a tuple of str.
    """
    return dataclasses.field(default=(), metadata={"help": help, "remainder": True})


def split_remainder(settings_class, words):
    """Take the words after ``--`` away, when the settings have a place for them.

    Parameters
    ----------
    settings_class : type
        Frozen dataclass of settings.
    words : sequence of str
        Words of the command line.

    Returns
    -------
    words : list of str
        Those that `argparse` shall read.
    values : dict of str to tuple
        The setting that takes the others, by name; empty when there is none.
    """
    name = next((field.name for field in dataclasses.fields(settings_class) if field.metadata.get("remainder")), None)
    words = list(words)
    if name is None:
        return words, {}
    place = words.index("--") if "--" in words else len(words)
    return words[:place], {name: tuple(words[place + 1:])}


def add_arguments(parser, settings_class):
    """Add every field of a settings dataclass to an `argparse` parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Parser of the command; changed in place.
    settings_class : type
        Frozen dataclass whose fields come from `argument` and `option`.
    """
    for field in dataclasses.fields(settings_class):
        meta = dict(field.metadata)
        if meta.get("remainder"):
            parser.usage = f"{parser.format_usage().removeprefix('usage: ').rstrip()} [-- {field.name.upper()} ...]"
            parser.epilog = f"-- {field.name.upper()} ...: {meta['help']}"
            continue
        many = {"nargs": "+"} if meta["many"] else {}
        if meta.get("positional"):
            parser.add_argument(field.name, help=meta["help"], metavar=field.name.upper(), **many)
            continue
        flag = "--" + field.name.replace("_", "-")
        if meta["type"] is bool:
            shown = f"{meta['help']} (default: {'yes' if field.default else 'no'})"
            parser.add_argument(flag, dest=field.name, help=shown, default=field.default, action=argparse.BooleanOptionalAction)
            continue
        words = field.default if isinstance(field.default, tuple) else (field.default,)
        as_typed = " ".join(f"{word:g}" if isinstance(word, float) else str(word) for word in words)
        shown = "" if field.default in (None, ()) else f" (default: {as_typed})"
        parser.add_argument(
            flag, dest=field.name, help=meta["help"] + shown, default=field.default,
            type=meta["type"], choices=meta["choices"], **many,
        )


def parse(settings_class, words, program, description):
    """Read command-line words into a settings dataclass.

    Parameters
    ----------
    settings_class : type
        Frozen dataclass whose fields come from `argument` and `option`.
    words : sequence of str
        The words after the program's name.
    program : str
        Name shown in usage.
    description : str
        First paragraph of ``--help``.

    Returns
    -------
    settings : settings_class
        The settings.

    Raises
    ------
    SystemExit
        With status 2, after printing usage, when the words make no sense.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    add_arguments(parser, settings_class)
    words, remaining = split_remainder(settings_class, words)
    return from_namespace(settings_class, parser.parse_args(words, argparse.Namespace(**remaining)))


def from_namespace(settings_class, namespace):
    """Turn what `argparse` read into the settings dataclass.

    Parameters
    ----------
    settings_class : type
        Frozen dataclass whose fields come from `argument` and `option`.
    namespace : argparse.Namespace
        Holds at least the dataclass's fields; others are ignored.

    Returns
    -------
    settings : settings_class
        The settings; lists have become tuples.
    """
    values = {field.name: getattr(namespace, field.name) for field in dataclasses.fields(settings_class)}
    return settings_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
