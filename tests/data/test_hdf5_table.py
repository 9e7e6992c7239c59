"""One file, written from a table and read back; the commands around it are tested in tests/pipelines/test_export_table.py."""

import numpy as np
import pytest

from sparkneuro.data.hdf5_table import TableContents, open_run, read_contents, write_table
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block
from sparkneuro.errors import FormatError

N_SCANS, N_VOXELS, BLOCK = 5, 23, 6


@pytest.fixture(params=[[0, 1, 5, 6, 11, 18, 22], [7], list(range(N_VOXELS)), []], ids=["some", "one", "all", "none"])
def table(request, tmp_path):
    """A table of one run that has rows of some voxels, without a mask file, as one of parcels might be."""
    path, kept = str(tmp_path / "t.voxels"), np.array(request.param, np.int32)
    run = Run("01", "", "rest", "", N_SCANS, 2.0, "", "", len(kept))
    for block in range(-(-N_VOXELS // BLOCK)):
        voxel = kept[kept // BLOCK == block]
        write_block(path, run, block, voxel, (voxel[:, None] + np.arange(N_SCANS) / 10).astype(np.float32))
    return VoxelTable(path, "native", np.eye(4).tolist(), (23, 1, 1), (run,), BLOCK, N_VOXELS, (), "z-score")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_blocks_and_files_come_back(table, tmp_path, compression):
    contents, path = TableContents({"runs": [{}], "ü": 0.1}, {"a/b": b"\0\xff", "c": b""}), str(tmp_path / "x.h5")
    write_table(path, table, table.runs, contents, compression)
    assert read_contents(path) == contents and read_contents(path, with_files=False).files == {"a/b": b"", "c": b""}
    with open_run(path, table.runs[0].key, N_SCANS, N_VOXELS, BLOCK) as blocks:
        blocks = list(blocks)
    assert len(blocks) == table.n_blocks
    for block, pair in enumerate(blocks):
        for ours, theirs in zip(pair, table.read_block(table.runs[0], block), strict=True):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()


def test_a_run_that_is_not_as_its_metadata_say_is_refused(table, tmp_path):
    path, contents, key = str(tmp_path / "x.h5"), TableContents({}), table.runs[0].key
    write_table(path, table, table.runs, contents)
    for n_scans, n_voxels in ((N_SCANS + 1, N_VOXELS), (N_SCANS, 5)):
        if table.runs[0].n_voxels or n_scans != N_SCANS:
            with pytest.raises(FormatError, match=f"run {key} is not {n_scans} scans of ascending voxels"):
                with open_run(path, key, n_scans, n_voxels, BLOCK):
                    pass
    with pytest.raises(FormatError, match="no whole .h5 file"):
        with open_run(path, "sub-09", N_SCANS, N_VOXELS, BLOCK):
            pass


@pytest.mark.parametrize("change", [1, -1])
def test_more_or_fewer_rows_than_the_table_says_are_refused(table, tmp_path, change):
    run = table.runs[0]
    if run.n_voxels + change < 0:
        pytest.skip("there are no fewer rows than none")
    odd = Run(run.subject, "", run.task, "", N_SCANS, 2.0, "", "", run.n_voxels + change)
    with pytest.raises(FormatError, match=f"there are {'fewer' if change > 0 else 'more'} rows than the metadata say"):
        write_table(str(tmp_path / "x.h5"), table, [odd], TableContents({}))
