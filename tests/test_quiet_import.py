"""The quiet import: silence while a library loads, and every word of it when it fails."""

import os

import pytest

from sparkneuro.quiet_import import held_standard_error


def test_nothing_is_shown_when_all_goes_well(capfd):
    with held_standard_error():
        os.write(2, b"chatter\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_what_was_held_is_shown_when_it_fails(capfd):
    with pytest.raises(ImportError, match="no such symbol"), held_standard_error():
        os.write(2, b"the reason\n")
        raise ImportError("no such symbol")
    assert capfd.readouterr().err == "the reason\n"
