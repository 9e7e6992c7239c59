"""Settings: one dataclass is the Python interface and the command line."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from sparkneuro.pipelines.settings import argument, option, parse, remainder


@dataclass(frozen=True)
class Settings:
    """Settings of every kind."""

    table: str = argument("table to read")
    n_parts: int = option(3, "parts")
    rate: float = option(None, "rate in Hz", type=float)
    fast: bool = option(True, "whether to hurry")
    kind: str = option("a", "kind", choices=("a", "b"))
    subjects: tuple = option((), "subjects", many=True)


def read(*words):
    return parse(Settings, words, "program", "What it does.")


def test_absent_options_have_their_defaults():
    assert read("x.voxels") == Settings(table="x.voxels")


def test_words_become_values_of_their_types():
    settings = read("x", "--n-parts", "7", "--rate", "0.5", "--no-fast", "--kind", "b", "--subjects", "01", "02")
    assert settings == Settings("x", 7, 0.5, False, "b", ("01", "02"))


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        read("x").n_parts = 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: TABLE"),
        (["x", "--kind", "c"], "invalid choice: 'c'"),
        (["x", "--n-parts", "2.5"], "invalid int value: '2.5'"),
        (["x", "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_words_that_make_no_sense_are_named(words, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        read(*words)
    assert sentence in capsys.readouterr().err


def test_help_tells_the_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        read("--help")
    shown = capsys.readouterr().out
    assert "What it does." in shown and "parts (default: 3)" in shown


@dataclass(frozen=True)
class ManySources:
    """Settings of several positional words."""

    sources: tuple = argument("sources", many=True)
    output: str = option(None, "output")


def test_several_sources_are_a_tuple():
    assert parse(ManySources, ["a", "b", "--output", "c"], "p", "d") == ManySources(("a", "b"), "c")


@dataclass(frozen=True)
class WithRemainder:
    """Settings with a place for the words of another program."""

    folder: str = argument("folder")
    fast: bool = option(False, "whether to hurry")
    words: tuple = remainder("words for the program")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["f"], WithRemainder("f")),
        (["f", "--"], WithRemainder("f")),
        (["--fast", "f", "--", "--fast", "-x", "--", "y"], WithRemainder("f", True, ("--fast", "-x", "--", "y"))),
    ],
)
def test_words_after_two_dashes_are_taken_as_they_are(words, expected):
    assert parse(WithRemainder, words, "program", "d") == expected


def test_help_tells_of_the_words_after_two_dashes(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(WithRemainder, ["--help"], "program", "d")
    shown = capsys.readouterr().out
    assert "[-- WORDS ...]" in shown and "words for the program" in shown
