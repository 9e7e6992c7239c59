import os

import numpy as np
import pytest
from pyspark.sql import functions

from sparkneuro.data.nifti import write_volume
from sparkneuro.data.spark import read_voxel_table, run_jobs, write_voxel_table
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block
from sparkneuro.errors import FormatError, SettingsError

pytestmark = pytest.mark.engine


@pytest.fixture
def table(tmp_path, affine):
    """Two subjects, three runs of 5 or 6 scans, 11 voxels in blocks of 4; sub-02 lacks the whole second block."""
    path, mask = str(tmp_path / "t.voxels"), np.zeros((3, 4, 5), np.uint8)
    mask.flat[5::5] = 1
    rng, runs = np.random.default_rng(0), []
    for subject, task, n_scans, dropped in (("01", "a", 6, [5]), ("01", "b", 5, []), ("02", "a", 6, [4, 5, 6, 7])):
        run = Run(subject, "", task, "", n_scans, 2.0, "x", "y", 11 - len(dropped))
        for block in range(3):
            voxel = np.array([v for v in range(block * 4, min(11, block * 4 + 4)) if v not in dropped], np.int32)
            write_block(path, run, block, voxel, rng.normal(size=(len(voxel), n_scans)).astype(np.float32))
        runs.append(run)
    write_volume(f"{path}/mask.nii.gz", mask, affine)
    table = VoxelTable(path, "native", affine.tolist(), (3, 4, 5), tuple(runs), 4, 11, ("z-score",), "z-score")
    table.save()
    return table


def collect(table):
    """Every row of a table by run and voxel, read file by file."""
    rows = {}
    for run in table.runs:
        for block in range(table.n_blocks):
            for voxel, series in zip(*table.read_block(run, block), strict=True):
                rows[run.key, int(voxel)] = series
    return rows


def double(batches):
    """Add a column of features: the first four values of the series, twice."""
    import pyarrow as pa

    for batch in batches:
        values = [[2 * value for value in series[:4]] for series in batch.column("series").to_pylist()]
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, pa.array(values, pa.list_(pa.float32()))], names=[*batch.schema.names, "features"]
        )


def with_features(frame):
    """The frame of `read_voxel_table` with the column of `double`."""
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in frame.schema) + ", features array<float>"
    return frame.mapInArrow(double, schema)


def test_spark_reads_what_was_written(spark, table):
    rows = read_voxel_table(spark, table.path).collect()
    expected = collect(table)
    assert len(rows) == len(expected) == sum(run.n_voxels for run in table.runs)
    for row in rows:
        assert row.block == row.voxel // 4 and row.session == "" and row.run == ""
        np.testing.assert_array_equal(np.float32(row.series), expected[f"sub-{row.subject}_task-{row.task}", row.voxel])


def test_labels_with_leading_zeros_stay_strings(spark, table):
    types = dict(read_voxel_table(spark, table.path).dtypes)
    assert types == {
        "subject": "string", "block": "int", "session": "string", "task": "string", "run": "string", "voxel": "int",
        "series": "array<float>",
    }


def test_each_file_is_one_partition(spark, table):
    frame = read_voxel_table(spark, table.path).withColumn("partition", functions.spark_partition_id())
    by_partition = frame.groupBy("partition").agg(functions.countDistinct("subject", "block", "task").alias("files")).collect()
    assert len(by_partition) == 8 and {row.files for row in by_partition} == {1}  # the ninth file has no rows


def test_the_column_is_read_by_sparks_vectorised_reader(spark, table):
    plan = read_voxel_table(spark, table.path)._jdf.queryExecution().executedPlan().toString()
    assert "Batched: true" in plan or "ColumnarToRow" in plan


def test_features_become_a_table_of_the_same_form(spark, table, tmp_path):
    path = str(tmp_path / "f.voxels")
    made = write_voxel_table(with_features(read_voxel_table(spark, table.path)), path, table, "features", "feature", "double")
    again = VoxelTable.open(path)
    assert again == made and again.steps == ("z-score", "double") and again.units == "feature"
    assert [run.n_scans for run in again.runs] == [4, 4, 4]
    rows, expected = collect(again), collect(table)
    assert rows.keys() == expected.keys()
    for key, features in rows.items():
        np.testing.assert_array_equal(features, 2 * expected[key][:4])
    np.testing.assert_array_equal(again.mask(), table.mask())
    assert os.path.exists(again.block_path(again.runs[2], 1))


def test_blocks_that_share_a_partition_are_told_apart(spark, table, tmp_path):
    frame = with_features(read_voxel_table(spark, table.path)).coalesce(1)
    made = write_voxel_table(frame, str(tmp_path / "f.voxels"), table, "features", "feature", "double")
    assert collect(made).keys() == collect(table).keys()


def test_lost_or_scattered_rows_leave_nothing(spark, table, tmp_path):
    path, frame = str(tmp_path / "f.voxels"), with_features(read_voxel_table(spark, table.path))
    with pytest.raises(FormatError, match="run sub-01_task-a has 10 rows, but 9 rows came"):
        write_voxel_table(frame.where("voxel != 2"), path, table, "features", "feature", "double")
    assert not os.path.exists(path)
    with pytest.raises(FormatError, match="blocks came in pieces"):
        write_voxel_table(frame.repartition(7, "voxel"), path, table, "features", "feature", "double")
    assert not os.path.exists(path)


def test_a_table_is_replaced_but_neither_itself_nor_other_folders(spark, table, tmp_path):
    frame = with_features(read_voxel_table(spark, table.path))
    path = str(tmp_path / "f.voxels")
    for _ in range(2):
        write_voxel_table(frame, path, table, "features", "feature", "double")
    with pytest.raises(SettingsError, match="cannot replace the one it is made from"):
        write_voxel_table(frame, table.path, table, "features", "feature", "double")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").touch()
    with pytest.raises(SettingsError, match="something else than a voxel table"):
        write_voxel_table(frame, str(tmp_path / "thesis"), table, "features", "feature", "double")
    assert VoxelTable.open(table.path) == table


def test_an_unfinished_table_is_not_read(spark, table):
    os.remove(f"{table.path}/voxel_table.json")
    with pytest.raises(FormatError, match="not a voxel table"):
        read_voxel_table(spark, table.path)


def halve(job):
    """A job for the test below: refuses odd numbers."""
    if job["number"] % 2:
        raise FormatError(f"{job['number']} is odd.")
    return {"half": job["number"] // 2, "process": os.getpid()}


def test_every_job_has_a_result_or_its_error(spark):
    results, failures = run_jobs(spark, halve, [{"number": number} for number in (8, 3, 4, 5, 0)])
    assert [result["half"] for result in results] == [4, 2, 0]
    assert all(result["process"] != os.getpid() for result in results)
    assert [(error.__class__, str(error)) for error in failures] == [(FormatError, "3 is odd."), (FormatError, "5 is odd.")]


def test_a_defect_of_a_job_is_not_hidden(spark):
    with pytest.raises(Exception, match="KeyError"):
        run_jobs(spark, halve, [{"wrong": 1}])
