"""Arrays as files that are mapped into memory: whole, read-only, fetched once a machine."""

import numpy as np
import pytest
from pyarrow import fs

from sparkneuro.data import array_file, store
from sparkneuro.data.array_file import create_array, open_array, write_array
from sparkneuro.errors import FormatError, StorageError


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_what_is_written_is_read(tmp_path, order, dtype):
    array = np.arange(35).reshape(7, 5).astype(dtype, order=order)
    write_array(str(tmp_path / "a.npy"), array)
    found = open_array(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == dtype and not found.flags.writeable


def test_an_array_that_lies_in_no_order_is_written_too(tmp_path):
    array = np.arange(60.0).reshape(6, 10)[::2, ::3]
    write_array(str(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(open_array(str(tmp_path / "a.npy")), array)


def test_an_array_of_several_pieces_is_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "_CHUNK", 64)
    array = np.random.default_rng(0).standard_normal((31, 9))
    write_array(str(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(open_array(str(tmp_path / "a.npy")), array)


def test_an_array_is_filled_in_parts(tmp_path):
    array = create_array(str(tmp_path / "a.npy"), (4, 3), np.float32)
    array[1:3] = 7
    array.flush()
    assert open_array(str(tmp_path / "a.npy")).sum() == 42


def test_no_room_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_file.os, "posix_fallocate", refuse)
    with pytest.raises(StorageError, match="there is no room for 96 bytes"):
        create_array(str(tmp_path / "a.npy"), (4, 3), np.float64)
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"<html>", None])
def test_a_damaged_or_missing_array_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(FormatError, match="this array is (damaged|missing)"):
        open_array(str(tmp_path / "a.npy"))


def test_a_truncated_array_is_refused(tmp_path):
    write_array(str(tmp_path / "a.npy"), np.zeros(1000))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-100])
    with pytest.raises(FormatError, match="this array is damaged"):
        open_array(str(tmp_path / "a.npy"))


def test_an_array_elsewhere_is_fetched_once_a_machine(tmp_path, monkeypatch):
    bucket = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    (tmp_path / "bucket").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(array_file.tempfile, "tempdir", None)
    monkeypatch.setattr(store, "locate", lambda path: (bucket, str(path).removeprefix("far://")))
    write_array("far://folder/a.npy", np.arange(6.0))
    first, second = open_array("far://folder/a.npy"), open_array("far://folder/a.npy")
    assert first.filename == second.filename and "sparkneuro-arrays" in str(first.filename)
    np.testing.assert_array_equal(second, np.arange(6.0))
    write_array("far://folder/a.npy", np.arange(8.0))
    np.testing.assert_array_equal(open_array("far://folder/a.npy"), np.arange(8.0))
