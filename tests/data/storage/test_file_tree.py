import os

import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.storage.file_tree import list_folders, list_tree, read_many
from sparkneuro.errors import StorageError

SEEN = {"b/c/d.txt": b"four", "b/e.json": b"e", "a.txt": b"aa"}
FILES = {**SEEN, "code/x.py": b"", "b/code/y": b"", ".git/z": b"", "b/.hidden": b""}


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path, monkeypatch):
    """A folder on a disk, and the same one as an object store lists it."""
    for name, content in FILES.items():
        store.write_bytes(str(tmp_path / "top" / name), content)
    if request.param == "disk":
        return str(tmp_path / "top")
    bucket = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(store, "locate", lambda path: (bucket, str(path).removeprefix("s3://")))
    return "s3://top"


def test_a_tree_is_listed_with_size_and_time_without_what_is_hidden_or_skipped(folder, tmp_path):
    entries = list_tree(folder, frozenset({"code"}))
    assert [(entry.name, entry.size) for entry in entries] == [("a.txt", 2), ("b/c/d.txt", 4), ("b/e.json", 1)]
    assert [entry.modified for entry in entries] == [os.stat(tmp_path / "top" / entry.name).st_mtime_ns for entry in entries]


def test_folders_are_listed_without_files_and_hidden_ones(folder):
    assert list_folders(folder) == ["b", "code"]


def test_many_files_are_read_in_the_order_asked_for(folder):
    names = ["b/e.json", "a.txt", "b/c/d.txt"] * 9
    assert list(read_many(folder, names)) == [FILES[name] for name in names]
    with pytest.raises(StorageError, match="top/b/absent: could not be read"):
        list(read_many(folder, ["a.txt", "b/absent"]))


def test_links_are_followed_and_those_that_lead_nowhere_have_no_size(tmp_path):
    for name in ("data/x", "store/far/y"):
        store.write_bytes(str(tmp_path / name), b"123")
    (tmp_path / "data" / "absent").symlink_to(tmp_path / "nowhere")
    (tmp_path / "data" / "near").symlink_to(tmp_path / "data" / "x")
    (tmp_path / "data" / "folder").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "far" / "circle").symlink_to(tmp_path / "store")
    (tmp_path / "data" / "up").symlink_to(tmp_path / "data")
    found = {entry.name: entry.size for entry in list_tree(str(tmp_path / "data"))}
    assert found == {"x": 3, "near": 3, "absent": None, "folder/far/y": 3}


def test_a_folder_that_is_absent_is_an_error(tmp_path):
    for function in (list_tree, list_folders):
        with pytest.raises(StorageError, match="absent: could not be listed"):
            function(str(tmp_path / "absent"))
