import errno
import shutil

import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.storage.local_replacement import check_room, open_local_replacement
from sparkneuro.errors import FormatError, StorageError


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path, monkeypatch):
    """Path of a file to make, on this disk, and on a filesystem that only pyarrow can write."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if request.param == "local":
        return str(tmp_path / "f/x.h5")
    elsewhere = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(store, "locate", lambda path: (elsewhere, str(path).removeprefix("far://")))
    return "far://f/x.h5"


def write(path, content, error=None):
    with open_local_replacement(path, len(content)) as local:
        with open(local, "wb") as file:
            file.write(content)
        if error:
            raise error


def everything(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def test_a_file_appears_whole_and_replaces_another(place, tmp_path):
    for content in (b"first", bytes(20 << 20)):
        write(place, content)
        assert store.read_bytes(place) == content and everything(tmp_path) == ["f/x.h5"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OSError(errno.ENOSPC, "full"), StorageError, "x.h5: could not be written: No space left on device"),
        (OSError("write failed: errno = 28, error message"), StorageError, "x.h5: could not be written: No space left on device"),
        (OSError("odd\nand long"), StorageError, "x.h5: could not be written: odd.$"),
        (FormatError("ours"), FormatError, "^ours$"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_when_the_body_fails_the_old_file_stays_and_nothing_else(place, tmp_path, error, kind, message):
    write(place, b"old")
    with pytest.raises(kind, match=message):
        write(place, b"new", error)
    assert store.read_bytes(place) == b"old" and everything(tmp_path) == ["f/x.h5"]


def test_without_room_nothing_is_begun(place, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=30_000_000))
    with pytest.raises(StorageError, match="37 MB are needed here.* and 30 MB are free; make room, or"):
        with open_local_replacement(place, 20_000_000):
            raise AssertionError
    check_room(tmp_path, 10_000_000)
    assert everything(tmp_path) == []
