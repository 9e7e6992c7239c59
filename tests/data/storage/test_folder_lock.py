"""A lock ends with those who hold it."""

import os
import subprocess
import sys

import pytest

from sparkneuro.data.storage.folder_lock import hold_lock, lock_folder
from sparkneuro.errors import SettingsError, StorageError


def test_one_holds_a_lock_at_a_time(tmp_path):
    path = str(tmp_path / "folder" / "lock")
    with hold_lock(path, "one"):
        with pytest.raises(SettingsError, match="somebody is at work"):
            with hold_lock(path, "somebody is at work."):
                pass
    with hold_lock(path, "three"):
        pass


def test_a_lock_is_free_when_the_body_raised(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with hold_lock(str(tmp_path / "lock"), "one"):
            raise ZeroDivisionError
    with hold_lock(str(tmp_path / "lock"), "two"):
        pass


@pytest.mark.processes
def test_a_child_that_inherits_a_lock_holds_it_until_it_ends(tmp_path):
    path = str(tmp_path / "lock")
    with hold_lock(path, "one") as descriptor:
        program = "import sys; sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    try:
        with pytest.raises(SettingsError, match="held"):
            with hold_lock(path, "held"):
                pass
        child.stdin.close()  # which lets it end
        with hold_lock(path, "still held", wait=30.0):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="could not be written: Permission denied"):
        with hold_lock(str(tmp_path / "folder" / "lock"), "one"):
            pass


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(StorageError, match="could not be written"):
        with hold_lock(str(tmp_path / "folder" / "lock"), "one"):
            pass


def test_a_folder_is_one_process_at_a_time(tmp_path):
    folder = str(tmp_path / "new")
    with lock_folder(folder, ".work/lock", "fetch"):
        with pytest.raises(SettingsError, match="another fetch is at work in this folder; wait for it, or choose another"):
            with lock_folder(folder, ".work/lock", "fetch"):
                pass
    with lock_folder(folder, ".work/lock", "fetch"):
        pass
