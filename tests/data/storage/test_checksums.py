"""Checksums against the ordinary `sha256sum`, and every way in which a copy can differ."""

import hashlib
import os
import shutil
import subprocess

import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.storage import checksums
from sparkneuro.data.storage.checksums import CHECKSUMS, compare_checksums, hash_file, list_sizes, read_checksums, write_checksums
from sparkneuro.errors import FormatError, StorageError

CONTENT = {"a.json": b"{}", "b/one two.bin": bytes(range(256)) * 40, "b/c/d": b"", "b\\n.txt": b"odd", "ü": b"x", "z\nz": b"y"}


@pytest.fixture
def folder(tmp_path):
    """A folder of files with odd names, and hidden ones."""
    folder = tmp_path / "f"
    ignored = {".hidden": b"h", ".parts/x": b"p", "_work/lock": b"", f"b/{store.TEMPORARY}x": b"half"}
    for name, content in {**CONTENT, **ignored}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def sha256sum(folder, *words):
    return subprocess.run(["sha256sum", *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_the_ordinary_tool_checks_what_we_write_and_we_what_it_writes(folder):
    assert list(write_checksums(str(folder))) == sorted(CONTENT)
    assert sha256sum(folder, "-c", "--strict", CHECKSUMS).returncode == 0
    (folder / "a.json").write_bytes(b"[]")
    answer = sha256sum(folder, "-c", CHECKSUMS)
    assert answer.returncode == 1 and "a.json: FAILED" in answer.stdout
    theirs = sha256sum(folder, "./a.json", *list(CONTENT)[1:]).stdout
    (folder / CHECKSUMS).write_text(theirs)
    assert compare_checksums(str(folder)).is_whole
    (folder / "b/one two.bin").write_bytes(b"short")
    assert compare_checksums(str(folder)).changed == ("b/one two.bin",)  # without a size it cannot be told from a change


def test_hashes_and_sizes_are_those_of_the_files_and_equal_content_gives_equal_bytes(folder):
    assert write_checksums(str(folder)) == {name: len(CONTENT[name]) for name in sorted(CONTENT)} == list_sizes(str(folder))
    first = (folder / CHECKSUMS).read_bytes()
    expected = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in CONTENT.items()}
    assert read_checksums(str(folder)) == expected
    write_checksums(str(folder), known={"a.json": expected["a.json"][0], "gone": "0" * 64}, n_threads=1)
    assert (folder / CHECKSUMS).read_bytes() == first


def test_a_whole_folder_is_whole_and_every_byte_of_it_is_read(folder):
    write_checksums(str(folder))
    n_read = []
    comparison = compare_checksums(str(folder), report=n_read.append)
    assert comparison.is_whole and sum(n_read) == comparison.n_bytes == sum(map(len, CONTENT.values()))
    assert comparison.describe() == f"{folder}: whole; 6 files as their checksums say."


def test_what_is_missing_truncated_changed_or_extra_is_named(folder):
    write_checksums(str(folder))
    os.remove(folder / "ü")
    (folder / "b/one two.bin").write_bytes(CONTENT["b/one two.bin"][:77])
    (folder / "a.json").write_bytes(b"[]")
    (folder / "b/c/d").write_bytes(b"longer")
    (folder / "new").write_bytes(b"")
    comparison = compare_checksums(str(folder))
    assert (comparison.missing, comparison.extra) == (("ü",), ("new",))
    assert comparison.truncated == ("b/one two.bin (77 of 10240 bytes)",) and comparison.changed == ("a.json", "b/c/d")
    assert "of 6 files that should be here: 1 missing, 1 truncated, 2 changed, 1 extra (missing ü, " in comparison.describe()


def test_only_the_first_ten_names_are_told(tmp_path):
    for number in range(13):
        (tmp_path / f"{number:02d}").write_bytes(b"x")
    write_checksums(str(tmp_path))
    for number in range(12):
        os.remove(tmp_path / f"{number:02d}")
    sentence = compare_checksums(str(tmp_path)).describe()
    assert "12 missing (missing 00, " in sentence and "missing 09, ...)" in sentence and "missing 10" not in sentence


def test_a_single_file_has_its_checksum_beside_it(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"abc")
    write_checksums(str(path))
    assert sha256sum(tmp_path, "-c", "x.h5.sha256").returncode == 0 and compare_checksums(str(path)).is_whole
    path.write_bytes(b"ab")
    assert compare_checksums(str(path)).truncated == ("x.h5 (2 of 3 bytes)",)


def test_another_filesystem_is_hashed_and_compared_alike(folder, monkeypatch):
    elsewhere = fs.SubTreeFileSystem(str(folder.parent), fs.LocalFileSystem())
    monkeypatch.setattr(store, "locate", lambda path: (elsewhere, str(path).removeprefix("mem://")))
    write_checksums("mem://f")
    assert compare_checksums("mem://f").is_whole and list(list_sizes("mem://f")) == sorted(CONTENT)
    (folder / "a.json").unlink()
    assert compare_checksums("mem://f").missing == ("a.json",)


@pytest.mark.parametrize(
    "line", ["<html>", "0" * 63 + "  a.json", "0" * 64 + "  /etc/passwd", "0" * 64 + "  ../a.json", "0" * 64 + "  b/../../a.json"]
)
def test_lines_that_are_no_checksums_of_this_folder_are_refused(folder, line):
    (folder / CHECKSUMS).write_text(f"# 2\n{line}\n")
    with pytest.raises(FormatError, match="checksums.sha256: line 2 is no checksum of a file in this folder"):
        compare_checksums(str(folder))


def test_without_checksums_or_files_there_is_one_sentence(folder, tmp_path):
    with pytest.raises(FormatError, match="no checksums to compare with .checksums.sha256.; .*'sparkneuro verify .* --write'"):
        compare_checksums(str(folder))
    (folder / CHECKSUMS).write_text("# nothing\n\n")
    with pytest.raises(FormatError, match="there is no checksum in this file"):
        compare_checksums(str(folder))
    with pytest.raises(StorageError, match="absent: there is no such folder or file"):
        compare_checksums(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no file here whose checksum"):
        write_checksums(str(tmp_path / "empty"))


def test_a_file_that_cannot_be_read_stops_the_rest(folder, monkeypatch):
    write_checksums(str(folder))

    def fail(path, report=None):
        raise StorageError(f"{path}: could not be read: Input/output error.")

    monkeypatch.setattr(checksums, "hash_file", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        compare_checksums(str(folder))
    with pytest.raises(StorageError, match="No such file"):
        hash_file(str(folder / "absent"))
