"""A block of targets over several runs is one matrix of the voxels that all runs have."""

from dataclasses import replace

import numpy as np
import pytest

from sparkneuro.data.target_block import read_columns, read_targets, write_columns
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block
from sparkneuro.errors import FormatError

LENGTHS = (11, 7, 9)


@pytest.fixture
def table(tmp_path):
    """Three runs of 20 voxels in blocks of 12; run 2 lacks voxel 4, run 3 voxels 4 and 13. A value tells run, voxel and scan."""
    path, runs = str(tmp_path / "t.voxels"), []
    for number, n_scans in enumerate(LENGTHS, start=1):
        kept = [voxel for voxel in range(20) if not (voxel == 4 and number > 1) and not (voxel == 13 and number == 3)]
        run = Run("01", "", "movie", str(number), n_scans, 2.0, "made", "", len(kept))
        runs.append(run)
        for block in range(2):
            voxel = np.array([v for v in kept if v // 12 == block], np.int32)
            series = 1000 * number + voxel[:, None] * 20 + np.arange(n_scans)
            write_block(path, run, block, voxel, series.astype(np.float32))
    return VoxelTable(path, "native", np.eye(4).tolist(), (20, 1, 1), tuple(runs), 12, 20, (), "z-score")


def test_runs_follow_each_other_and_voxels_that_a_run_lacks_are_left_out(table):
    voxel, Y, n_missing = read_targets(table, table.runs, 0)
    assert voxel.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11] and n_missing == 1
    assert Y.shape == (27, 11) and Y.T.flags.c_contiguous and Y.flags.writeable
    expected = np.concatenate([1000 * (place + 1) + 9 * 20 + np.arange(n) for place, n in enumerate(LENGTHS)])
    np.testing.assert_array_equal(Y[:, 8], expected)


def test_the_order_of_runs_is_that_which_was_asked_for(table):
    _, Y, _ = read_targets(table, table.runs[::-1], 1)
    assert Y[0, 0] == 3000 + 12 * 20 and Y[9, 0] == 2000 + 12 * 20


def test_scans_come_in_the_order_that_was_asked_for(table):
    order = np.random.default_rng(0).permutation(27)
    _, Y, _ = read_targets(table, table.runs, 0)
    _, shuffled, _ = read_targets(table, table.runs, 0, order)
    np.testing.assert_array_equal(shuffled, Y[order])


def test_a_value_that_is_not_finite_is_named(table):
    voxel, series = table.read_block(table.runs[1], 0)
    series = series.copy()
    series[6, 3] = np.inf
    write_block(table.path, table.runs[1], 0, voxel, series)
    with pytest.raises(FormatError, match=f"voxel {voxel[6]}, scan 3 of run sub-01_task-movie_run-2 is not finite"):
        read_targets(table, table.runs, 0)


def test_large_but_finite_values_are_let_through(table):
    voxel, series = table.read_block(table.runs[1], 0)
    write_block(table.path, table.runs[1], 0, voxel, np.full_like(series, 3e38))
    assert np.isfinite(read_targets(table, table.runs, 0)[1]).all()


def test_a_missing_file_is_one_sentence(table):
    with pytest.raises(FormatError, match="missing"):
        read_targets(replace(table, path=table.path + "x"), table.runs, 0)


def test_columns_come_back_as_they_were_written(tmp_path):
    columns = {"voxel": np.arange(5, dtype=np.int32), "r": np.linspace(0, 1, 5), "coefficients": np.eye(5, 3, dtype=np.float32)}
    write_columns(str(tmp_path / "b.parquet"), columns)
    found = read_columns(str(tmp_path / "b.parquet"))
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert list(read_columns(str(tmp_path / "b.parquet"), ["r"])) == ["r"]


def test_no_rows_come_back_as_no_rows(tmp_path):
    columns = {"voxel": np.empty(0, np.int32), "coefficients": np.empty((0, 3), np.float32)}
    write_columns(str(tmp_path / "b.parquet"), columns)
    assert len(read_columns(str(tmp_path / "b.parquet"))["voxel"]) == 0


def test_a_damaged_file_of_columns_is_one_sentence(tmp_path):
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FormatError, match="is damaged"):
        read_columns(str(tmp_path / "b.parquet"))
