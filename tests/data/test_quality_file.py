"""Arrays of a run go into a file and come back; equal arrays are equal bytes."""

import zipfile

import numpy as np
import pytest

from sparkneuro.data.quality_file import read_numbers, read_quality, write_quality
from sparkneuro.data.receipts import list_receipts, receipt_path, write_receipt
from sparkneuro.errors import FormatError

ARRAYS = {"fd": np.linspace(0, 1, 17, dtype=np.float32), "carpet": np.arange(6, dtype=np.int8).reshape(2, 3)}


def test_arrays_come_back_as_they_were(tmp_path):
    write_quality(str(tmp_path), "sub-01", ARRAYS)
    found = read_quality(str(tmp_path), "sub-01")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert read_quality(str(tmp_path), "sub-02") is None
    assert list_receipts(str(tmp_path)) == []  # it is not taken for a receipt


def test_equal_arrays_are_equal_bytes_on_any_day(tmp_path):
    for key, arrays in (("a", ARRAYS), ("b", dict(reversed(ARRAYS.items())))):
        write_quality(str(tmp_path), key, arrays)
    first, second = (receipt_path(str(tmp_path), key, "_quality.npz") for key in "ab")
    assert open(first, "rb").read() == open(second, "rb").read()
    assert {entry.date_time[0] for entry in zipfile.ZipFile(first).infolist()} == {1980}


def test_a_damaged_file_is_named(tmp_path):
    write_quality(str(tmp_path), "sub-01", ARRAYS)
    path = receipt_path(str(tmp_path), "sub-01", "_quality.npz")
    content = open(path, "rb").read()
    open(path, "wb").write(content[: len(content) // 2])
    with pytest.raises(FormatError, match="sub-01_quality.npz: this file is damaged"):
        read_quality(str(tmp_path), "sub-01")


def test_numbers_are_those_of_the_receipts(tmp_path):
    write_receipt(str(tmp_path), "sub-01", {"quality": {"fd_mean": 0.2}})
    write_receipt(str(tmp_path), "sub-02", {"seconds": 1})
    assert read_numbers(str(tmp_path), ["sub-01", "sub-02", "sub-03"]) == {"sub-01": {"fd_mean": 0.2}, "sub-02": {}, "sub-03": {}}
