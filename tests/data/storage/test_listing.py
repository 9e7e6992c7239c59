import pytest

from sparkneuro.data import store
from sparkneuro.data.storage import listing
from sparkneuro.data.storage.listing import is_hidden, list_infos
from sparkneuro.errors import StorageError


def test_files_are_listed_with_their_sizes_and_times_as_stat_tells_them(tmp_path):
    for name in ("b/c.txt", "a", ".hidden/x", "b-1"):
        store.write_bytes(str(tmp_path / name), name.encode())
    infos = list_infos(f"{tmp_path}/")
    assert list(infos) == [".hidden/x", "a", "b-1", "b/c.txt"]
    assert infos == {name: store.stat(str(tmp_path / name)) for name in infos}
    assert [name for name in infos if is_hidden(name)] == [".hidden/x"]
    assert list_infos(str(tmp_path / "absent")) == {}


def test_a_folder_that_cannot_be_listed_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file: could not be listed: "):
        listing.list_infos(str(tmp_path / "file"))
