import errno

import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.errors import StorageError


def test_what_is_written_is_read_back_by_path_and_by_uri(tmp_path):
    path = str(tmp_path / "a" / "b.bin")
    store.write_bytes(path, b"voxels")
    assert store.read_bytes(path) == store.read_bytes(f"file://{path}") == b"voxels"
    assert store.stat(path)[0] == 6


def test_files_are_listed_relative_to_their_folder_and_sorted(tmp_path):
    for name in ("z.txt", "a.txt", "below/c.txt"):
        store.write_bytes(str(tmp_path / name), b"1")
    assert store.list_files(str(tmp_path)) == ["a.txt", "z.txt"]
    assert store.list_files(f"{tmp_path}/", recursive=True) == ["a.txt", "below/c.txt", "z.txt"]
    assert store.list_files(str(tmp_path / "absent")) == []


def test_deleting_takes_files_folders_and_what_is_absent(tmp_path):
    store.write_bytes(str(tmp_path / "a" / "b"), b"1")
    for name in ("a/b", "a", "a"):
        store.delete(str(tmp_path / name))
    assert not store.exists(str(tmp_path / "a"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = str(tmp_path / "table.json")
    store.write_bytes(path, b"old")

    class FullDisk:
        """A filesystem on which a file can be opened, but not filled."""

        type_name = "local"
        local = fs.LocalFileSystem()

        def __getattr__(self, name):
            return getattr(self.local, name)

        def open_output_stream(self, path, **options):
            self.local.open_output_stream(path).close()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "locate", lambda path: (FullDisk(), str(path)))
    with pytest.raises(StorageError, match="the disk is full; free some space"):
        store.write_bytes(path, b"new")
    monkeypatch.undo()
    assert store.list_files(str(tmp_path)) == ["table.json"] and store.read_bytes(path) == b"old"


def test_what_an_interrupted_write_left_is_deleted(tmp_path):
    store.write_bytes(str(tmp_path / "a" / "kept.parquet"), b"1")
    store.write_bytes(str(tmp_path / "a" / f"{store.TEMPORARY}x.parquet.12"), b"1")
    store.delete_unfinished(str(tmp_path))
    assert store.list_files(str(tmp_path), recursive=True) == ["a/kept.parquet"]


def test_a_file_uri_writes_other_letters_by_percent_signs_and_ours_are_kept(tmp_path):
    folder = (tmp_path / "with space").as_uri()
    store.write_bytes(store.join(folder, "subject=01", "100%25 of it"), b"1")
    assert (tmp_path / "with space" / "subject=01" / "100%25 of it").is_file()
    assert [store.read_bytes(store.join(folder, name)) for name in store.list_files(folder, recursive=True)] == [b"1"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: store.read_bytes(f"{folder}/absent"), "absent: could not be read: No such file or directory"),
        (lambda folder: store.stat(f"{folder}/absent"), "absent: there is no such file"),
        (lambda folder: store.locate("gopher://x/y"), "gopher://x/y: could not be opened: paths are plain, file://, s3:// or hdfs://"),
        (lambda folder: store.locate("file://other/x"), "file://other/x: could not be opened: a file:// URI has three slashes"),
    ],
)
def test_an_error_of_the_filesystem_is_one_sentence(tmp_path, call, message):
    with pytest.raises(StorageError, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)
