"""Export and import together: what goes out comes back, bit by bit. Tests without Spark call the tasks in this process."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from pyarrow import fs

from sparkneuro.data import spark as data_spark
from sparkneuro.data import store
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.receipts import write_receipt, write_recipe
from sparkneuro.data.storage.checksums import compare_checksums
from sparkneuro.data.storage.listing import is_hidden, list_infos
from sparkneuro.data.voxel_table import METADATA, Run, VoxelTable, write_block
from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines import export_table, export_task, import_table
from sparkneuro.pipelines.export_plan import MANIFEST

SHAPE, BLOCK = (5, 7, 6), 16
AFFINE = np.array([[-3.0, 0.1, 0, 90], [0.1, 3.5, 0, -110], [0, 0, 4, -60], [0, 0, 0, 1.0]])
RUNS = [("01", "", "rest", "1", 11), ("01", "", "rest", "2", 13), ("02", "a", "rest", "", 12), ("03", "", "rest", "", 11)]


def make_table(path):
    """A table of four runs of three subjects, some voxels missing, among them a whole block, and files that no code knows."""
    rng = np.random.default_rng(4)
    mask = rng.random(SHAPE) < 0.5
    n_voxels = int(mask.sum())
    runs = []
    write_recipe(path, {"space": "native"})
    for number, (subject, session, task, name, n_scans) in enumerate(RUNS):
        kept = np.flatnonzero((rng.random(n_voxels) < 0.8) & ((np.arange(n_voxels) // BLOCK != 2) | (number != 1)))
        run = Run(subject, session, task, name, n_scans, 2.0, f"/raw/{number}.nii", "ab" * 32, len(kept), tsnr_median=60.125)
        for block in range(-(-n_voxels // BLOCK)):
            voxel = kept[kept // BLOCK == block].astype(np.int32)
            write_block(path, run, block, voxel, rng.normal(size=(len(voxel), n_scans)).astype(np.float32))
        write_receipt(path, run.key, {"constant": [[1, 2]], "seconds": 0.125})
        runs.append(run)
    write_volume(f"{path}/mask.nii.gz", mask.astype(np.uint8), AFFINE)
    for name in ("labels/parcels.tsv", "_masks/sub-02.nii.gz", "_runs/sub-01_extra.bin", "empty"):
        store.write_bytes(f"{path}/{name}", name.encode() if name != "empty" else b"")
    store.write_bytes(f"{path}/checksums.sha256", b"of the table as it was\n")
    VoxelTable(path, "native", AFFINE.tolist(), SHAPE, tuple(runs), BLOCK, n_voxels, ("z-score",), "z-score", {"a": 1}).save()
    content = json.loads(store.read_bytes(f"{path}/{METADATA}"))
    store.write_bytes(f"{path}/{METADATA}", json.dumps({**content, "later": "fïeld"}, indent=1).encode())  # a later field
    return path


@pytest.fixture
def table(tmp_path):
    return make_table(str(tmp_path / "t.voxels"))


@pytest.fixture
def jobs(call_here):
    """Calls the tasks in this process instead of Spark's; the list tells what they worked on."""
    return call_here(lambda name, job: os.path.basename(job["path"]))


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "export")


def read_all(folder):
    """Every visible file of a folder."""
    return {name: store.read_bytes(f"{folder}/{name}") for name in list_infos(folder) if not is_hidden(name)}


def assert_same_table(ours, theirs):
    """Rows bit by bit, and every other file byte by byte."""
    for run in VoxelTable.open(theirs).runs:
        for block in range(VoxelTable.open(theirs).n_blocks):
            pairs = zip(VoxelTable.open(ours).read_block(run, block), VoxelTable.open(theirs).read_block(run, block), strict=True)
            assert all(our.dtype == their.dtype and our.tobytes() == their.tobytes() for our, their in pairs)
    left, right = ({k: v for k, v in read_all(path).items() if k != "checksums.sha256"} for path in (ours, theirs))
    assert list(left) == list(right)
    assert all(left[name] == right[name] for name in left if not name.endswith(".parquet"))


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"single_file": True}], ids=["plain", "gzip", "single"])
def test_an_export_that_is_imported_gives_the_table_and_its_export_the_same_bytes(table, output, tmp_path, jobs, options):
    output += ".h5" if "single_file" in options else ""
    again, back = str(tmp_path / ("again.h5" if "single_file" in options else "again")), str(tmp_path / "back.voxels")
    sentence = export_table.run(export_table.Settings(table, output=output, **options), None)
    assert f"the export has 4 runs in {1 if 'single_file' in options else 3} file" in sentence
    assert "4 runs on" in import_table.run(import_table.Settings((output,), output=back), None)
    assert_same_table(back, table)
    export_table.run(export_table.Settings(back, output=again, **options), None)
    if "single_file" in options:
        assert store.read_bytes(again) == store.read_bytes(output)
        return
    assert read_all(again) == read_all(output)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_plain_h5py_reads_it_as_the_help_says(table, output, jobs, compression):
    export_table.run(export_table.Settings(table, output=output, compression=compression), None)
    opened = VoxelTable.open(table)
    file = h5py.File(f"{output}/sub-01.h5")
    run, mask = file["runs/sub-01_task-rest_run-2"], file["mask"][:] != 0
    series, voxel = run["series"][:], run["voxel"][:]
    blocks = [opened.read_block(opened.runs[1], block) for block in range(opened.n_blocks)]
    np.testing.assert_array_equal(series, np.concatenate([series for _, series in blocks]))
    np.testing.assert_array_equal(voxel, np.concatenate([voxel for voxel, _ in blocks]))
    np.testing.assert_array_equal(mask, opened.mask())
    np.testing.assert_array_equal(file["affine"], AFFINE)
    assert run["series"].chunks == (BLOCK, 13) and run["series"].compression == (None if compression == "none" else "gzip")
    assert (run.attrs["t_r"], run.attrs["units"], run.attrs["subject"]) == (2.0, "z-score", "01")
    assert sorted(file["runs"]) == ["sub-01_task-rest_run-1", "sub-01_task-rest_run-2"]
    assert "_masks" not in file["files"] and "labels/parcels.tsv" in file["files"] and "_runs/sub-01_extra.bin" in file["files"]


def test_a_finished_export_is_whole_and_nothing_is_done_again(table, output, jobs):
    settings = export_table.Settings(table, output=output)
    assert export_table.needs_spark(settings)
    export_table.run(settings, None)
    assert compare_checksums(output).is_whole and jobs == ["sub-01.h5", "sub-02.h5", "sub-03.h5"]
    before = list_infos(output)
    assert not export_table.needs_spark(settings)
    assert export_table.run(settings, None) == f"{output}: nothing is missing; 3 files there already."
    assert list_infos(output) == before and len(jobs) == 3


def test_an_export_that_was_interrupted_is_finished_with_the_same_bytes(table, output, tmp_path, jobs, monkeypatch):
    settings, other = (export_table.Settings(table, output=path) for path in (output, str(tmp_path / "other")))
    export_table.run(other, None)
    write_table = export_task.write_table

    def die(local, opened, runs, *rest):
        write_table(local, opened, runs[:1], *rest)
        if runs[0].subject == "02":
            raise KeyboardInterrupt

    monkeypatch.setattr(export_task, "write_table", die)
    with pytest.raises(KeyboardInterrupt):
        export_table.run(settings, None)
    monkeypatch.setattr(export_task, "write_table", write_table)
    assert not store.exists(f"{output}/{MANIFEST}") and not [name for name in list_infos(output) if store.TEMPORARY in name]
    with pytest.raises(FormatError, match="no finished export"):
        import_table.needs_spark(import_table.Settings((output,), output=str(tmp_path / "x.voxels")))
    # What a process that was killed leaves; and a file that has been damaged since, which only its hash tells.
    store.write_bytes(f"{output}/{store.TEMPORARY}sub-02.h5.1", b"half")
    with open(f"{output}/sub-01.h5", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    del jobs[:]
    assert "3 files written" in export_table.run(settings, None) and len(jobs) == 3
    assert read_all(output) == read_all(other.output) and not [name for name in list_infos(output) if store.TEMPORARY in name]


def test_only_what_has_changed_is_exported_again(table, output, jobs):
    settings = export_table.Settings(table, output=output)
    export_table.run(settings, None)
    opened = VoxelTable.open(table)
    voxel, series = opened.read_block(opened.runs[3], 1)
    write_block(table, opened.runs[3], 1, voxel, series + np.float32(1))
    write_recipe(table, {"space": "native"})  # as another ingest does, with the same content
    del jobs[:]
    assert "1 file written" in export_table.run(settings, None) and jobs == ["sub-03.h5"]
    content = json.loads(store.read_bytes(f"{table}/{METADATA}"))
    content["runs"] = content["runs"][:3]
    store.write_bytes(f"{table}/{METADATA}", json.dumps(content).encode())
    os.remove(f"{table}/_runs/sub-03_task-rest.json")
    os.remove(f"{output}/sub-02.h5")
    del jobs[:]
    assert "1 file written" in export_table.run(settings, None) and jobs == ["sub-02.h5"]
    assert not store.exists(f"{output}/sub-03.h5") and compare_checksums(output).is_whole


def test_some_files_make_a_table_of_their_subjects(table, output, tmp_path, jobs):
    export_table.run(export_table.Settings(table, output=output), None)
    back = str(tmp_path / "back.voxels")
    import_table.run(import_table.Settings((f"{output}/sub-03.h5", f"{output}/sub-01.h5"), output=back), None)
    assert VoxelTable.open(back).runs == tuple(run for run in VoxelTable.open(table).runs if run.subject != "02")
    assert not store.exists(f"{back}/_masks/sub-02.nii.gz") and not store.exists(f"{back}/subject=02")


def test_where_only_pyarrow_writes_the_file_is_made_aside_and_uploaded(table, output, jobs, monkeypatch, tmp_path):
    export_table.run(export_table.Settings(table, output=output), None)
    elsewhere, locate = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), store.locate
    far = lambda path: (elsewhere, str(path).removeprefix("far://")) if str(path).startswith("far://") else locate(path)  # noqa: E731
    monkeypatch.setattr(store, "locate", far)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    export_table.run(export_table.Settings("far://t.voxels", output="far://remote"), None)
    assert read_all("far://remote") == read_all(output)
    import_table.run(import_table.Settings(("far://remote",), output="far://back.voxels"), None)
    assert_same_table(str(tmp_path / "back.voxels"), table)


def cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


def spoil(path):
    """Change one byte of a run's series, as a bad disk does."""
    with h5py.File(path) as file:
        place = file["runs/sub-02_ses-a_task-rest/series"].id.get_chunk_info(1).byte_offset
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def change(**attributes):
    def edit(path):
        with h5py.File(path, "a") as file:
            file.attrs.update(attributes)

    return edit


def replace_by_foreign(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)


def lose_rows(path):
    with h5py.File(path, "a") as file:
        group = file["runs/sub-02_ses-a_task-rest"]
        for name in ("series", "voxel"):
            values = group[name][1:]
            del group[name]
            group[name] = values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"sub-02.h5: this is no whole .h5 file \(.*\); is the download complete"),
        (spoil, r"sub-02.h5: this is no whole .h5 file \(.*\); is the download complete"),
        (replace_by_foreign, "sub-02.h5: this HDF5 file is no exported voxel table; make one with 'sparkneuro export'"),
        (change(version=2), "sub-02.h5: this export has format 2, and this sparkneuro reads up to 1; update sparkneuro"),
        (change(voxel_table='{"format": 9, "runs": [], "n_voxels": 1, "block_size": 1}'), "holds a voxel table of format 9"),
        (change(voxel_table="{}"), "its metadata have no format"),
        (lose_rows, r"run sub-02_ses-a_task-rest has \d+ rows, its metadata say \d+"),
        (lambda path: shutil.copy(path.replace("02", "01"), path), "both hold run sub-01_task-rest_run-1; give one"),
        (lambda path: open(path, "w").write("<html>"), "sub-02.h5: this is no whole .h5 file"),
    ],
    ids=["cut", "bit", "foreign", "newer", "newer table", "metadata", "rows", "twice", "page"],
)
def test_a_bad_file_is_one_sentence_and_leaves_no_table(table, output, tmp_path, jobs, damage, message):
    export_table.run(export_table.Settings(table, output=output), None)
    damage(f"{output}/sub-02.h5")
    back = str(tmp_path / "back.voxels")
    with pytest.raises(FormatError, match=message) as caught:
        import_table.run(import_table.Settings((f"{output}/sub-01.h5", f"{output}/sub-02.h5"), output=back), None)
    assert "\n" not in str(caught.value) and not store.exists(back)


def test_an_incomplete_folder_or_files_of_two_tables_are_refused(table, output, tmp_path, jobs):
    export_table.run(export_table.Settings(table, output=output), None)
    settings = import_table.Settings((output,), output=str(tmp_path / "back.voxels"))
    cut(f"{output}/sub-03.h5")
    with pytest.raises(FormatError, match=r"of this export sub-03.h5 has \d+ of \d+ bytes; copy it again"):
        import_table.needs_spark(settings)
    os.remove(f"{output}/sub-03.h5")
    with pytest.raises(FormatError, match="of this export sub-03.h5 is missing; copy it again"):
        import_table.needs_spark(settings)
    write_volume(f"{table}/mask.nii.gz", np.ones(SHAPE, np.uint8), AFFINE)
    export_table.run(export_table.Settings(table, output=f"{output}2"), None)
    both = (f"{output}/sub-01.h5", f"{output}2/sub-02.h5")
    with pytest.raises(FormatError, match="sub-02.h5: this is of another table than .*sub-01.h5: their mask.nii.gz differs"):
        import_table.needs_spark(import_table.Settings(both, output=settings.output))


def test_an_import_that_was_interrupted_begins_again_and_nothing_else_is_replaced(table, output, tmp_path, jobs, monkeypatch):
    export_table.run(export_table.Settings(table, output=output), None)
    settings = import_table.Settings((output,), output=str(tmp_path / "back.voxels"))
    with monkeypatch.context() as patch:
        patch.setattr(import_table, "_import_files", lambda plan, spark: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_table.run(settings, None)
    with pytest.raises(FormatError):
        VoxelTable.open(settings.output)
    import_table.run(settings, None)
    assert_same_table(settings.output, table)
    for path in (table, f"{output}/sub-01.h5"):
        with pytest.raises(SettingsError, match="there is something here already; choose another --output"):
            import_table.needs_spark(import_table.Settings((output,), output=path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": None}, "output is missing"),
        ({"output": "x.h5"}, "the output is a folder of one file a subject; for one file give --single-file"),
        ({"output": "x", "single_file": True}, "the output of --single-file is a file; end its name in .h5"),
        ({"compression": "zip"}, "compression must be one of none, gzip; got 'zip'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_spark_starts(table, options, message):
    with pytest.raises(SettingsError, match=message):
        export_table.needs_spark(export_table.Settings(table, **{"output": "x", **options}))


def test_a_folder_of_something_else_is_left_alone(table, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.txt").touch()
    for output in (tmp_path / "thesis", table):
        with pytest.raises(SettingsError, match="something else than an export; choose another --output"):
            export_table.needs_spark(export_table.Settings(table, output=str(output)))


def test_a_damaged_table_or_a_full_disk_is_one_sentence(table, output, jobs, monkeypatch):
    cut(f"{table}/subject=02/block=00001/a_rest_none.parquet")
    with pytest.raises(FormatError, match="block=00001/a_rest_none.parquet: this file of the voxel table is damaged"):
        export_table.run(export_table.Settings(table, output=output), None)
    assert "sub-01.h5" in list_infos(output) and MANIFEST not in list_infos(output)
    usage = shutil.disk_usage(table)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"17 MB are needed here and 0 MB are free; make room.*\(2 more files failed.\)"):
        export_table.run(export_table.Settings(table, output=output + "2"), None)


@pytest.mark.engine
def test_spark_exports_and_imports_what_the_tasks_do_here(table, output, spark, tmp_path):
    here = str(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_spark, "run_jobs", lambda spark, function, jobs: ([function(job) for job in jobs], []))
        export_table.run(export_table.Settings(table, output=here), None)
    export_table.run(export_table.Settings(table, output=output), spark)
    assert read_all(output) == read_all(here)
    import_table.run(import_table.Settings((output,), output=f"{output}.voxels"), spark)
    assert_same_table(f"{output}.voxels", table)
