"""What every storage promises: one battery for a disk, a file:// URI, two servers of S3, and HDFS."""

import hashlib
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sparkneuro.data import store
from sparkneuro.data.array_file import open_array, write_array
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.feature_file import read_file
from sparkneuro.data.nifti import read_volume, write_volume
from sparkneuro.data.target_block import read_columns, write_columns
from sparkneuro.errors import FormatError, StorageError

ODD_NAMES = ["subject=01", "with space", "100%25 é+#;&~@$", "a'b(1),[2]{3}", "why?", "%41"]


def test_what_is_written_is_read_back_and_its_size_and_time_are_told(place):
    path, before = store.join(place, "a", "b.bin"), time.time_ns()
    store.write_bytes(path, b"voxels")
    assert store.read_bytes(path) == b"voxels"
    size, modified = store.stat(path)
    assert size == 6 and abs(modified - before) < 60e9
    assert store.exists(path) and not store.is_folder(path) and store.is_folder(store.join(place, "a"))


def test_an_empty_file_is_a_file(place):
    path = store.join(place, "empty")
    store.write_bytes(path, b"")
    assert store.read_bytes(path) == b"" and store.stat(path)[0] == 0 and store.list_files(place) == ["empty"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_letter_of_a_name_stands_for_itself(place, name):
    path = store.join(place, name, f"{name}.bin")
    store.write_bytes(path, b"1")
    store.write_bytes(store.join(place, "other"), b"2")
    listed = store.list_files(place, recursive=True)
    assert sorted(listed) == sorted([f"{name}/{name}.bin", "other"])
    assert [store.read_bytes(store.join(place, name)) for name in sorted(listed)] == [
        b"1" if found != "other" else b"2" for found in sorted(listed)
    ]
    store.delete(store.join(place, name))
    assert store.list_files(place, recursive=True) == ["other"]


def test_files_are_listed_relative_to_their_folder_and_sorted(place):
    for name in ("z.txt", "a.txt", "below/c.txt", "below/deep/d.txt"):
        store.write_bytes(store.join(place, name), b"1")
    assert store.list_files(place) == ["a.txt", "z.txt"]
    assert store.list_files(f"{place}/", recursive=True) == ["a.txt", "below/c.txt", "below/deep/d.txt", "z.txt"]
    assert store.list_files(store.join(place, "absent"), recursive=True) == []


def test_a_folder_is_not_taken_for_one_whose_name_goes_on(place):
    store.write_bytes(store.join(place, "sub-1", "x"), b"1")
    store.write_bytes(store.join(place, "sub-10", "x"), b"10")
    store.delete(store.join(place, "sub-1"))
    assert store.list_files(place, recursive=True) == ["sub-10/x"]
    assert not store.exists(store.join(place, "sub"))


def test_deleting_takes_files_folders_and_what_is_absent(place):
    for name in ("a/b", "a/c/d", "kept"):
        store.write_bytes(store.join(place, name), b"1")
    for name in ("a/b", "a", "a"):
        store.delete(store.join(place, name))
        assert not store.exists(store.join(place, name))
    assert store.list_files(place, recursive=True) == ["kept"]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(place):
    path = store.join(place, "table.json")
    store.write_bytes(path, b"old")
    with store.open_replacement(path) as stream:
        stream.write(b"new, and ")
        assert store.read_bytes(path) == b"old"
        stream.write(b"longer")
    assert store.read_bytes(path) == b"new, and longer" and store.list_files(place) == ["table.json"]


@pytest.mark.parametrize("error", [FormatError("the data are bad"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_write_that_fails_in_its_midst_changes_nothing(place, old, error):
    path = store.join(place, "table.json")
    if old:
        store.write_bytes(path, old)
    with pytest.raises(error.__class__), store.open_replacement(path) as stream:
        stream.write(bytes(13 << 20))  # so much that a part of it has gone out
        raise error
    assert store.list_files(place, recursive=True) == (["table.json"] if old else [])
    assert not old or store.read_bytes(path) == old


def test_a_large_file_goes_out_in_parts_and_comes_back_in_pieces(place):
    content = np.random.default_rng(0).bytes((13 << 20) + 5)
    path = store.join(place, "large.bin")
    with store.open_replacement(path) as stream:
        for start in range(0, len(content), 3 << 20):
            stream.write(memoryview(content)[start : start + (3 << 20)])
    with ByteStream(path) as stream:
        digest = stream.finish()
    assert digest == hashlib.sha256(content).hexdigest() and store.stat(path)[0] == len(content)


def test_any_part_of_a_file_is_read_without_the_rest(place):
    content = np.random.default_rng(1).bytes(700_001)
    path = store.join(place, "file.bin")
    store.write_bytes(path, content)
    with store.open_file(path) as file:
        assert file.size() == len(content)
        for start, length in ((650_000, 20), (0, 3), (700_000, 50), (300_000, 300_000)):
            file.seek(start)
            assert file.read(length) == content[start : start + length]


def test_the_formats_are_read_from_everywhere(place):
    rng = np.random.default_rng(2)
    columns = {"voxel": np.arange(7, dtype=np.int32), "series": rng.normal(size=(7, 11)).astype(np.float32)}
    write_columns(store.join(place, "columns.parquet"), columns)
    found = read_columns(store.join(place, "columns.parquet"))
    np.testing.assert_array_equal(found["series"], columns["series"])
    write_array(store.join(place, "array.npy"), columns["series"])
    np.testing.assert_array_equal(open_array(store.join(place, "array.npy")), columns["series"])
    shape, rows = read_file(store.join(place, "array.npy"), 2, 5)
    np.testing.assert_array_equal(rows, columns["series"][2:5])
    write_volume(store.join(place, "mask.nii.gz"), np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    np.testing.assert_array_equal(read_volume(store.join(place, "mask.nii.gz"))[0].ravel(), np.arange(24))
    assert shape == (7, 11)


def test_hdf5_is_read_from_everywhere(place, tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the keras extra")
    from sparkneuro.data.hdf5 import list_datasets, read_rows

    values = np.random.default_rng(3).normal(size=(40, 9))
    with h5py.File(tmp_path / "local.h5", "w") as file:
        file.create_dataset("group/features", data=values, chunks=(7, 9))
    path = store.join(place, "features.h5")
    store.write_bytes(path, (tmp_path / "local.h5").read_bytes())
    assert list(list_datasets(path)) == ["group/features"]
    np.testing.assert_array_equal(read_rows(path, "group/features", 5, 33), values[5:33])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda place: store.read_bytes(store.join(place, "absent")), "absent: could not be read: No such file or directory"),
        (lambda place: store.stat(store.join(place, "absent")), "absent: there is no such file"),
        (lambda place: store.stat(store.join(place, "folder")), "folder: there is no such file"),
        (lambda place: store.read_bytes(store.join(place, "folder")), "folder: could not be read: "),
        (lambda place: store.open_file(store.join(place, "absent")).__enter__(), "absent: could not be read: No such file"),
    ],
)
def test_what_is_absent_is_told_in_one_sentence(place, call, message):
    store.write_bytes(store.join(place, "folder", "file"), b"1")
    with pytest.raises(StorageError, match=message) as caught:
        call(place)
    assert "\n" not in str(caught.value)


def test_damaged_bytes_are_not_taken_for_a_storage_that_fails(place):
    store.write_bytes(store.join(place, "x.parquet"), b"PAR1 and then nothing of the kind PAR1")
    with pytest.raises(FormatError, match="x.parquet: this file is damaged"):
        read_columns(store.join(place, "x.parquet"))


def test_what_an_interrupted_write_left_is_deleted(place):
    store.write_bytes(store.join(place, "a", "kept.parquet"), b"1")
    scheme = store.locate(place)[0].type_name
    if scheme != "s3":
        store.write_bytes(store.join(place, "a", f"{store.TEMPORARY}x.parquet.12"), b"1")
    store.delete_unfinished(place)
    assert store.list_files(place, recursive=True) == ["a/kept.parquet"]


def write_in_threads(place, contents):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write_bytes(store.join(place, name), contents[name]), contents))


def test_several_threads_write_at_once(place):
    contents = {f"{number}.bin": bytes([number]) * (number + 1) for number in range(12)}
    write_in_threads(place, contents)
    assert {name: store.read_bytes(store.join(place, name)) for name in store.list_files(place)} == contents


def test_the_filesystem_is_one_object_a_process_and_never_the_parents(place):
    path = store.join(place, "x")
    store.write_bytes(path, b"parent")
    assert store.locate(path)[0] is store.locate(place)[0]
    child = multiprocessing.get_context("fork").Process(target=replace_by_child, args=(path,))
    child.start()
    child.join(60)
    # The client of HDFS cannot live in a forked process at all: there it is refused, where it would hang.
    assert child.exitcode == (3 if place.startswith("hdfs") else 0)
    assert store.read_bytes(path) == (b"parent" if child.exitcode else b"child of parent")


def replace_by_child(path):
    try:
        store.write_bytes(path, b"child of " + store.read_bytes(path))
    except StorageError as error:
        os._exit(3 if "forked from one that has used HDFS" in str(error) else 4)
    os._exit(0)


@pytest.mark.storage
def test_more_files_are_listed_and_deleted_than_a_server_tells_at_once(place):
    names = [f"block={number:05d}/x" for number in range(1003)]
    write_in_threads(place, dict.fromkeys(names, b""))
    assert store.list_files(place, recursive=True) == names
    store.delete(place)
    assert store.list_files(place, recursive=True) == []
