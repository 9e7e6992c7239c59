import dataclasses
import json

import numpy as np
import pytest

from sparkneuro.data import receipts
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block
from sparkneuro.errors import FormatError


@pytest.fixture
def table(tmp_path, affine):
    """A table of 11 voxels in blocks of 4 and one run of 6 scans; voxel 5 has no row."""
    mask = np.zeros((3, 4, 5), np.uint8)
    mask.flat[5::5] = 1
    path = str(tmp_path / "t.voxels")
    run = Run("01", "a", "rest", "", 6, 2.0, "x.nii.gz", "ab", 10, n_constant=1, tsnr_median=50.5)
    write_volume(f"{path}/mask.nii.gz", mask, affine)
    steps = ("detrend", "z-score")
    table = VoxelTable(path, "native", affine.tolist(), (3, 4, 5), (run,), 4, 11, steps, "z-score", {"mask": "group"})
    for block in range(table.n_blocks):
        voxel = np.array([number for number in table.voxels_of(block) if number != 5], np.int32)
        write_block(path, run, block, voxel, np.repeat(voxel[:, None], 6, axis=1).astype(np.float32))
    table.save()
    return table


def test_a_saved_table_is_opened_again(table):
    assert VoxelTable.open(table.path) == table == VoxelTable.open(f"{table.path}")
    assert table.runs[0].key == "sub-01_ses-a_task-rest"
    assert table.find_run("sub-01_ses-a_task-rest") is table.runs[0]


def test_blocks_cover_the_mask_and_the_last_may_be_partial(table):
    assert table.n_blocks == 3
    assert [list(table.voxels_of(block)) for block in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert table.mask().sum() == table.n_voxels


def test_reading_all_blocks_gives_every_row_once(table):
    blocks = [table.read_block(table.runs[0], block) for block in range(table.n_blocks)]
    voxel = np.concatenate([voxel for voxel, _ in blocks])
    assert voxel.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    np.testing.assert_array_equal(np.concatenate([series for _, series in blocks]), np.repeat(voxel[:, None], 6, axis=1))


def test_a_tsnr_map_is_read_where_there_is_one(table, affine):
    assert table.tsnr_map(table.runs[0]) is None
    tsnr = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    write_volume(receipts.receipt_path(table.path, table.runs[0].key, "_tsnr.nii.gz"), tsnr, affine)
    np.testing.assert_array_equal(table.tsnr_map(table.runs[0]), tsnr)


def test_the_metadata_alone_make_a_folder_a_table(table, tmp_path):
    (tmp_path / "t.voxels" / "voxel_table.json").unlink()
    with pytest.raises(FormatError, match="this is not a voxel table: it has no voxel_table.json"):
        VoxelTable.open(table.path)
    receipts.write_recipe(table.path, {})
    with pytest.raises(FormatError, match="has not finished; run it again"):
        VoxelTable.open(table.path)
    with pytest.raises(FormatError, match="there is no such voxel table"):
        VoxelTable.open(str(tmp_path / "absent.voxels"))


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 99}, "format 99, and this sparkneuro reads up to 1"), ({"runs": [{}]}, "is damaged")]
)
def test_metadata_that_cannot_be_read_are_refused(table, tmp_path, change, message):
    path = tmp_path / "t.voxels" / "voxel_table.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError, match=message):
        VoxelTable.open(table.path)


def test_an_unknown_run_is_named_with_the_known_ones(table):
    with pytest.raises(FormatError, match="no run sub-09; it has sub-01_ses-a_task-rest"):
        table.find_run("sub-09")


def test_receipts_are_listed_without_the_recipe_and_maps(tmp_path):
    path = str(tmp_path)
    receipts.write_recipe(path, {"block_size": 4})
    for key in ("sub-02", "sub-01_task-x"):
        receipts.write_receipt(path, key, {"run": {"subject": key}})
    (tmp_path / "_runs" / "sub-01_task-x_tsnr.nii.gz").touch()
    assert receipts.list_receipts(path) == ["sub-01_task-x", "sub-02"]
    assert receipts.read_receipt(path, "sub-02") == {"run": {"subject": "sub-02"}}
    assert receipts.read_recipe(path) == {"block_size": 4} and receipts.read_recipe(path + "/absent") is None


def test_tables_are_immutable(table):
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.units = "feature"
