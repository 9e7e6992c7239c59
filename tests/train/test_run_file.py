"""The file by which a running training is found: it holds secrets, and lies where nobody else can read or plant it."""

import logging
import os
import stat
import tempfile

import numpy as np
import pytest

from sparkneuro.train.parameter_server.credentials import Credentials
from sparkneuro.train.run_file import private_folders, published, read_runs

CREDENTIALS = Credentials("a secret token", "a certificate", "a key")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Temporary files of this test alone, and no runtime folder unless the test makes one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """A private runtime folder of this user."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def own(temporary):
    """Where the files are when there is no runtime folder; not made yet."""
    return temporary / f"sparkneuro-{os.geteuid()}"


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def publish():
    return published("127.0.0.1:4711", CREDENTIALS, output="rest.model", n_workers=3)


def test_a_running_training_is_found_with_all_that_is_needed_to_ask_it():
    with publish():
        (run,) = read_runs()
    assert (run.directory, run.credentials) == ("127.0.0.1:4711", CREDENTIALS)
    assert (run.facts["output"], run.facts["n_workers"], run.facts["pid"]) == ("rest.model", 3, os.getpid())
    assert run.facts["cwd"] == os.getcwd()


def test_no_secret_is_shown_with_a_run():
    with publish():
        (run,) = read_runs()
    assert not any(secret in repr(run) for secret in (CREDENTIALS.token, CREDENTIALS.certificate, CREDENTIALS.key))


def test_folder_and_file_are_for_this_user_alone(own):
    before = os.umask(0)
    try:
        with publish():
            (file,) = files_below(own)
            assert (mode_of(own), mode_of(file)) == (0o700, 0o600)
    finally:
        os.umask(before)


def test_the_runtime_folder_is_taken_where_there_is_one(runtime, temporary):
    with publish():
        assert len(files_below(runtime / "sparkneuro")) == 1 and not files_below(temporary)


def test_a_training_is_found_from_a_session_without_its_runtime_folder(runtime, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("XDG_RUNTIME_DIR")
        training = publish()
        training.__enter__()
    try:
        assert len(read_runs()) == 1
    finally:
        training.__exit__(None, None, None)


@pytest.mark.parametrize("value", ["relative", "/absent/runtime"])
def test_a_runtime_folder_that_makes_no_sense_is_passed_over(value, own, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert private_folders() == [str(own)]


def test_a_runtime_folder_that_others_may_enter_is_passed_over(runtime, own):
    runtime.chmod(0o755)
    with publish():
        assert len(files_below(own)) == 1 and not files_below(runtime)


def test_the_file_is_gone_after_the_training(own):
    with publish():
        pass
    assert files_below(own) == [] and read_runs() == []


def test_the_file_is_gone_after_a_training_that_failed(own):
    with pytest.raises(RuntimeError, match="it failed"), publish():
        raise RuntimeError("it failed")
    assert files_below(own) == []


def test_a_file_that_was_deleted_meanwhile_is_fine():
    with publish():
        (run,) = read_runs()
        run.delete()
        run.delete()
        assert read_runs() == []


def test_several_trainings_are_listed_from_the_oldest():
    with published("h:1", CREDENTIALS, started=30.0), published("h:2", CREDENTIALS, started=10.0):
        assert [run.directory for run in read_runs()] == ["h:2", "h:1"]


def test_numbers_of_numpy_and_paths_are_fine(tmp_path):
    with published("h:1", CREDENTIALS, n_rows_total=np.int64(7), output=tmp_path):
        (run,) = read_runs()
    assert (run.facts["n_rows_total"], run.facts["output"]) == (7, str(tmp_path))


def is_refused(folder, caplog, sentence):
    """Whether a training writes nothing into a folder and goes on, and a reader finds nothing in it, both with a log line."""
    ended = False
    with caplog.at_level(logging.WARNING), publish():
        found = read_runs()
        ended = True
    lines = [record.getMessage() for record in caplog.records if sentence in record.getMessage()]
    return ended and found == [] and files_below(folder) == [] and len(lines) == 2


def test_a_folder_open_to_others_is_refused(own, caplog):
    own.mkdir()
    own.chmod(0o750)
    assert is_refused(own, caplog, "it belongs to user")


def test_a_folder_of_another_user_is_refused(temporary, monkeypatch, caplog):
    another = os.geteuid() + 1
    planted = temporary / f"sparkneuro-{another}"
    planted.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert is_refused(planted, caplog, f"must belong to user {another}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_really_belongs_to_another_user_is_refused(own, caplog):
    own.mkdir(mode=0o700)
    os.chown(own, 12345, 12345)
    assert is_refused(own, caplog, "it belongs to user 12345")


def test_a_link_in_the_place_of_the_folder_is_not_followed(own, tmp_path, caplog):
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    own.symlink_to(target)
    assert is_refused(target, caplog, "Not a directory")


def test_a_link_in_the_place_of_a_file_is_not_read(own, tmp_path):
    with publish():
        (file,) = files_below(own)
        (tmp_path / "elsewhere.json").write_bytes(file.read_bytes())
        (own / "1-planted.json").symlink_to(tmp_path / "elsewhere.json")
        assert len(read_runs()) == 1


def test_a_folder_that_cannot_be_made_stops_no_training(temporary, caplog, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "absent"))
    with caplog.at_level(logging.WARNING), publish():
        assert read_runs() == []
    assert "sparkneuro status will not find this training" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"directory": "h:1"}', '{"directory": "h:1", "credentials": {"x": 1}}'])
def test_a_damaged_file_is_left_aside(own, content):
    with publish():
        (own / "1-damaged.json").write_text(content)
        assert [run.directory for run in read_runs()] == ["127.0.0.1:4711"]
