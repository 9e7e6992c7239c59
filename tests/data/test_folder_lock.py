import pytest

from sparkneuro.data.folder_lock import lock_folder
from sparkneuro.errors import SettingsError, StorageError


def test_a_folder_is_one_process_at_a_time(tmp_path):
    folder = str(tmp_path / "new")
    with lock_folder(folder, ".work/lock", "fetch"):
        with pytest.raises(SettingsError, match="another fetch is at work in this folder; wait for it, or choose another"):
            with lock_folder(folder, ".work/lock", "fetch"):
                pass
    with lock_folder(folder, ".work/lock", "fetch"):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        with lock_folder(str(tmp_path / "file" / "below"), "lock", "fetch"):
            pass
