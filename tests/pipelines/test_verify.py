import os

import pytest

from sparkneuro import cli
from sparkneuro.pipelines import verify


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b/c"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_bytes(name.encode() * 1000)
    return str(tmp_path / "f")


def test_a_folder_is_whole_after_its_checksums_are_written_and_no_session_is_needed(folder, capsys):
    assert not verify.needs_spark(verify.Settings(folder))
    assert cli.main(["verify", folder + "/", "--write"]) == 0
    assert capsys.readouterr().out == f"{folder}/checksums.sha256: checksums of 2 files written (0.0 MB).\n"
    assert cli.main(["verify", folder]) == 0
    assert capsys.readouterr().out == f"{folder}: whole; 2 files as their checksums say.\n"


def test_a_folder_that_is_not_whole_fails_with_a_sentence(folder, capsys):
    cli.main(["verify", folder, "--write"])
    os.truncate(f"{folder}/b/c", 10)
    assert cli.main(["verify", folder]) == 1
    assert "1 truncated (truncated b/c (10 of 3000 bytes)); copy these files again; after a change" in capsys.readouterr().err


def test_what_is_not_there_or_has_no_checksums_is_one_sentence(folder, capsys):
    assert cli.main(["verify", folder]) == 1 and cli.main(["verify", f"{folder}/absent"]) == 1
    shown = capsys.readouterr().err
    assert "there are no checksums to compare with" in shown and "f/absent: there is no such file" in shown
