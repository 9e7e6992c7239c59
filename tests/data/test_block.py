import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkneuro.data import block
from sparkneuro.data.block import (
    BLOCK_SCHEMA,
    block_path,
    flatten_lists,
    open_block,
    read_block,
    read_voxels,
    write_block,
)
from sparkneuro.data.voxel_table import Run
from sparkneuro.errors import FormatError

RUN = Run("01", "", "rest", "2", 9, 2.0, "x.nii.gz", "", 5)


@pytest.fixture
def rows():
    """Voxel numbers and series of 5 voxels, 9 scans."""
    return np.array([1, 3, 4, 8, 9], np.int32), np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)


def test_a_block_is_read_back_exactly_as_a_view(tmp_path, rows):
    write_block(str(tmp_path), RUN, 3, *rows)
    voxel, series = read_block(block_path(str(tmp_path), RUN, 3), 9)
    np.testing.assert_array_equal(voxel, rows[0])
    np.testing.assert_array_equal(series, rows[1])
    assert voxel.dtype == np.int32 and series.dtype == np.float32 and not series.flags.owndata


def test_the_voxels_of_a_block_are_read_alone(tmp_path, rows):
    write_block(str(tmp_path), RUN, 3, *rows)
    np.testing.assert_array_equal(read_voxels(block_path(str(tmp_path), RUN, 3)), rows[0])
    with pytest.raises(FormatError, match="this file of the voxel table is missing"):
        read_voxels(block_path(str(tmp_path), RUN, 4))


def test_a_block_without_rows_is_a_file_too(tmp_path):
    write_block(str(tmp_path), RUN, 0, np.empty(0, np.int32), np.empty((0, 9), np.float32))
    voxel, series = read_block(block_path(str(tmp_path), RUN, 0), 9)
    assert voxel.shape == (0,) and series.shape == (0, 9)


@pytest.mark.parametrize(("n_rows", "n_scans"), [(5, 9), (1, 1), (700, 1000), (9000, 3)])
def test_a_framed_file_is_byte_for_byte_what_pyarrow_writes(tmp_path, monkeypatch, n_rows, n_scans):
    rng = np.random.default_rng(0)
    voxel = np.sort(rng.choice(100_000, n_rows, replace=False)).astype(np.int32)
    series = rng.normal(size=(n_rows, n_scans)).astype(np.float32)
    for name, frame in (("framed", block._make_frame), ("plain", lambda *shape: None)):
        monkeypatch.setattr(block, "_make_frame", frame)
        with open_block(str(tmp_path / name), RUN) as append:
            append(voxel, series)
    assert block.pq.ParquetFile(tmp_path / "framed").metadata.num_row_groups == {700: 3, 9000: 2}.get(n_rows, 1)
    assert (tmp_path / "framed").read_bytes() == (tmp_path / "plain").read_bytes()


def test_every_shape_has_a_frame_and_other_labels_have_another():
    assert all(block._make_frame(labels, 40, 30) for labels in (("", "rest", ""), ("a", "rest", "2")))


def test_parts_become_one_block(tmp_path, rows):
    with open_block(str(tmp_path / "x.parquet"), RUN) as append:
        append(rows[0][:2], rows[1][:2])
        append(rows[0][2:], rows[1][2:])
    voxel, series = read_block(str(tmp_path / "x.parquet"), 9)
    np.testing.assert_array_equal(voxel, rows[0])
    np.testing.assert_array_equal(series, rows[1])


def test_a_block_of_no_parts_or_of_parts_without_rows_is_a_file_too(tmp_path):
    with open_block(str(tmp_path / "none.parquet"), RUN):
        pass
    with open_block(str(tmp_path / "empty.parquet"), RUN) as append:
        append(np.empty(0, np.int32), np.empty((0, 9), np.float32))
    assert all(len(read_block(str(tmp_path / name), 9)[0]) == 0 for name in ("none.parquet", "empty.parquet"))


def test_a_block_that_fails_leaves_no_file(tmp_path, rows):
    with pytest.raises(ZeroDivisionError), open_block(str(tmp_path / "x.parquet"), RUN) as append:
        append(*rows)
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_file_is_named_by_the_run_and_read_by_pandas(tmp_path, rows):
    write_block(str(tmp_path), RUN, 3, *rows)
    frame = pandas.read_parquet(tmp_path / "subject=01" / "block=00003" / "none_rest_2.parquet")
    assert list(frame.columns) == BLOCK_SCHEMA.names + [name for name in ("subject", "block") if name in frame]
    assert set(frame["task"]) == {"rest"} and set(frame["session"]) == {""}
    np.testing.assert_array_equal(np.stack(frame["series"]), rows[1])


def test_floats_are_stored_plainly_so_that_every_reader_is_fast(tmp_path, rows):
    write_block(str(tmp_path), RUN, 3, *rows)
    series = pq.ParquetFile(block_path(str(tmp_path), RUN, 3)).metadata.row_group(0).column(4)
    assert series.path_in_schema == "series.list.element" and set(series.encodings) <= {"PLAIN", "RLE"}


@pytest.mark.parametrize(
    ("lists", "message"), [([[1.0, 2.0], [3.0]], "must have 2 values; there is one of 1"), ([[1.0, 2.0], None], "missing")]
)
def test_series_of_unequal_length_are_refused(lists, message):
    with pytest.raises(FormatError, match=message):
        flatten_lists(pa.array(lists, pa.list_(pa.float32())), 2, "here")


def test_a_sliced_list_array_is_flattened_to_its_own_rows():
    lists = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32())).slice(1)
    np.testing.assert_array_equal(flatten_lists(lists, 2, "here"), [[3, 4], [5, 6]])


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="none_rest_2.parquet: this file of the voxel table is missing"):
        read_block(block_path(str(tmp_path), RUN, 0), 9)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(FormatError, match="x.parquet: this file of the voxel table is damaged"):
        read_block(str(tmp_path / "x.parquet"), 9)
