import errno
import json
import os
import pickle
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, asdict, replace

import h5py
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.feature_table import FeatureRun, FeatureTable, fingerprint, read_features, write_features
from sparkneuro.data.voxel_table import Run
from sparkneuro.errors import FormatError, SettingsError, SparkneuroError, StorageError

N_FEATURES = 5
LENGTHS = {"task-movie_run-1": 7, "task-movie_run-2": 9, "sub-02_ses-a_task-movie_run-1": 8}


@pytest.fixture
def matrices():
    """Features (n_scans, 5) of three runs of 7, 9 and 8 scans, exact in float32."""
    rng = np.random.default_rng(2)
    return {key: rng.normal(size=(n_scans, N_FEATURES)).astype(np.float32) for key, n_scans in LENGTHS.items()}


def save_hdf5(path, datasets):
    with h5py.File(path, "w") as file:
        for name, matrix in datasets.items():
            file.create_dataset(name, data=matrix, chunks=(2, matrix.shape[1]))


def save_lists(path, matrix, length=-1):
    lists = pa.array(list(matrix), pa.list_(pa.float32(), length))
    pq.write_table(pa.table({"scan": np.arange(len(matrix)), "features": lists}), path, row_group_size=3)


def save_columns(path, matrix):
    volumes = pandas.Index(range(len(matrix), 0, -1), name="volume").astype(str)
    frame = pandas.DataFrame(matrix, columns=[*"zyxwv"[:matrix.shape[1]]], index=volumes)
    frame.astype({"x": np.float64}).to_parquet(path)


# Format -> function (folder, matrices) that writes a table and returns its path.
def one_file_a_run(ending, save):
    def write(folder, matrices):
        for key, matrix in matrices.items():
            save(str(folder / f"{key}{ending}"), matrix)
        return str(folder)

    return write


def one_file(folder, matrices):
    save_hdf5(folder / "all.h5", {f"vgg/{key}": matrix for key, matrix in matrices.items()})
    return str(folder / "all.h5")


FORMATS = {
    "npy": one_file_a_run(".npy", np.save),
    "npy in Fortran order": one_file_a_run("_features.npy", lambda path, matrix: np.save(path, np.asfortranarray(matrix))),
    "npy of float64": one_file_a_run(".npy", lambda path, matrix: np.save(path, matrix.astype(np.float64))),
    "npy of other bytes": one_file_a_run(".npy", lambda path, matrix: np.save(path, matrix.astype(">f8"))),
    "hdf5": one_file_a_run(".hdf5", lambda path, matrix: save_hdf5(path, {"features": matrix, "means": matrix[:2]})),
    "hdf5 of one dataset": one_file_a_run(".h5", lambda path, matrix: save_hdf5(path, {"vgg": matrix})),
    "one hdf5 file": one_file,
    "parquet of lists": one_file_a_run("_features.parquet", save_lists),
    "parquet of fixed lists": one_file_a_run(".parquet", lambda path, matrix: save_lists(path, matrix, matrix.shape[1])),
    "parquet of columns": one_file_a_run(".parquet", save_columns),
}


@pytest.fixture(params=FORMATS)
def path(request, tmp_path, matrices):
    """A table of the three runs in every format."""
    return FORMATS[request.param](tmp_path, matrices)


@pytest.fixture(params=["local", "remote"])
def anywhere(request, monkeypatch):
    """Once as it is, and once with all files on a filesystem that only pyarrow can read."""
    if request.param == "remote":
        elsewhere = fs.SubTreeFileSystem("/", fs.LocalFileSystem())
        monkeypatch.setattr(store, "locate", lambda path: (elsewhere, str(path).removeprefix("/")))


# What every format holds to.


def test_a_table_lists_its_runs_by_key_with_their_shapes(path, anywhere):
    table = FeatureTable.open(path)
    assert {run.key: run.n_scans for run in table.runs} == LENGTHS and [run.key for run in table.runs] == sorted(LENGTHS)
    assert table.n_features == N_FEATURES == table.runs[0].n_features and table.runs[0].subject == "02"
    assert np.dtype(table.runs[0].dtype).kind == "f"


def test_what_was_saved_is_read_in_c_order(path, anywhere, matrices):
    for run in FeatureTable.open(path).runs:
        features = read_features(run)
        np.testing.assert_array_equal(features, matrices[run.key])
        assert features.dtype == np.float32 and features.flags.c_contiguous and features.flags.writeable
        assert read_features(run, dtype=np.float64).dtype == np.float64


def test_some_scans_are_read_as_numpy_slices_them(path, anywhere, matrices):
    for run in FeatureTable.open(path).runs:
        for start, stop in [(0, 2), (3, 6), (5, None), (4, 4)]:
            np.testing.assert_array_equal(read_features(run, start, stop), matrices[run.key][start:stop])


def test_a_uri_gives_what_the_path_gives(path, matrices):
    run = FeatureTable.open(f"file://{path}").find(Run("", "", "movie", "2", 9, 2.0, "", "", 1))
    assert run.path.startswith("file://")
    np.testing.assert_array_equal(read_features(run), matrices["task-movie_run-2"])


def test_a_fingerprint_tells_runs_apart_and_changes_with_a_value(path, anywhere, tmp_path, matrices, request):
    runs = FeatureTable.open(path).runs
    before = [fingerprint(run) for run in runs]
    assert len(set(before)) == 3 and all(len(name) == 16 for name in before) and before == [fingerprint(run) for run in runs]
    matrices[runs[1].key][3, 2] += 1
    FORMATS[request.node.callspec.params["path"]](tmp_path, matrices)
    assert [old == fingerprint(run) for old, run in zip(before, runs, strict=True)] == [True, False, True]


def test_a_run_survives_json(path):
    run = FeatureTable.open(path).runs[0]
    assert FeatureRun(**json.loads(json.dumps(asdict(run)))) == run
    with pytest.raises(FrozenInstanceError):
        run.n_scans = 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_place(tmp_path, anywhere, matrices, request, odd):
    matrices["task-movie_run-2"][6, 3] = odd
    for number, write in enumerate(FORMATS.values()):
        (tmp_path / f"{number}").mkdir()
        run = FeatureTable.open(write(tmp_path / f"{number}", matrices)).find(Run("", "", "movie", "2", 9, 2.0, "", "", 1))
        with pytest.raises(FormatError, match="run task-movie_run-2 has NaN, infinity .* at scan 6, feature 3"):
            read_features(run, 4)
        assert np.isfinite(read_features(run, 0, 6)).all()


def test_a_truncated_file_is_refused_in_one_sentence(path, anywhere, tmp_path):
    for file in tmp_path.iterdir():
        os.truncate(file, file.stat().st_size - 9)
    with pytest.raises(FormatError, match="is the download complete") as caught:
        FeatureTable.open(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_something_else_is_refused(path, anywhere, tmp_path):
    for content in (b"", b"\x93NUM", b"<!DOCTYPE html><html>404 Not Found</html>" * 9):
        for file in tmp_path.iterdir():
            file.write_bytes(content)
        with pytest.raises(FormatError, match=r"this is no whole \.\w+ file"):
            FeatureTable.open(path)


def test_a_file_that_was_replaced_by_one_of_another_shape_is_refused(path, anywhere, tmp_path, matrices, request):
    runs, write = FeatureTable.open(path).runs, FORMATS[request.node.callspec.params["path"]]
    for part in (np.s_[:4], np.s_[:, :4]):
        write(tmp_path, {key: matrix[part] for key, matrix in matrices.items()})
        for start in (0, 2, 5):
            with pytest.raises(FormatError, match="were expected, got .*; was the file replaced"):
                read_features(runs[0], start)


# Which features are a run's.


@pytest.fixture
def labelled(tmp_path):
    """A table whose matrices tell by their value whose they are."""
    names = ["task-movie_run-1", "ses-a_task-movie_run-1", "sub-02_ses-a_task-movie_run-1", "task-rest"]
    for value, name in enumerate(names):
        np.save(tmp_path / f"{name}.npy", np.full((6, 2), value, np.float32))
    return FeatureTable.open(str(tmp_path))


def bold_run(subject="01", session="", task="movie", run="1", n_scans=6):
    return Run(subject, session, task, run, n_scans, 2.0, "x.nii.gz", "ab", 10)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (bold_run("02", "a"), "sub-02_ses-a_task-movie_run-1"),
        (bold_run("01", "a"), "ses-a_task-movie_run-1"),
        (bold_run("02", "b"), "task-movie_run-1"),
        (bold_run("02"), "task-movie_run-1"),
        (bold_run("01", "b", "rest", ""), "task-rest"),
    ],
)
def test_the_nearest_features_are_a_runs_own(labelled, run, name):
    assert labelled.find(run).key == name


def test_features_that_are_missing_are_named_with_those_that_exist(labelled):
    wanted = "features of sub-01_ses-b_task-movie_run-3 or ses-b_task-movie_run-3 or task-movie_run-3 are needed"
    with pytest.raises(FormatError, match=rf"{wanted}; there are ses-a_task-movie_run-1, .*, task-rest\.$"):
        labelled.find(bold_run(session="b", run="3"))


def test_runs_are_matched_in_their_order_when_their_scans_agree(labelled):
    runs = [bold_run("02", "a"), bold_run("01", task="rest", run=""), bold_run("01", "a")]
    assert [run.key for run in labelled.match(runs)] == [
        "sub-02_ses-a_task-movie_run-1", "task-rest", "ses-a_task-movie_run-1"
    ]
    assert labelled.match([]) == ()
    message = r"task-rest\.npy: run sub-01_task-rest has 11 scans, its features 6; give the file one row a scan"
    with pytest.raises(FormatError, match=message):
        labelled.match([*runs, bold_run("01", task="rest", run="", n_scans=11)])


def test_a_run_with_gaps_is_refused(labelled):
    run = replace(bold_run("01", task="rest", run=""), n_scans=4, sample_mask=[[0, 1], [4, 5]], n_source_scans=6)
    with pytest.raises(FormatError, match="of run sub-01_task-rest, 4 of 6 scans are left, with gaps between them"):
        labelled.match([run])


def test_a_run_that_lacks_its_first_scans_has_the_features_of_the_others(tmp_path, matrices):
    write_features(str(tmp_path / "f"), Run("", "", "rest", "", 9, 2.0, "", "", 1), matrices["task-movie_run-2"])
    run = replace(bold_run("01", task="rest", run=""), n_scans=6, sample_mask=[[2, 7]], n_source_scans=9)
    (found,) = FeatureTable.open(str(tmp_path / "f")).match([run])
    np.testing.assert_array_equal(read_features(found), matrices["task-movie_run-2"][2:8])
    np.testing.assert_array_equal(read_features(found, 1, 3), matrices["task-movie_run-2"][3:5])
    whole = FeatureTable.open(str(tmp_path / "f")).runs[0]
    assert fingerprint(found) != fingerprint(whole)


def test_labels_are_those_of_a_bold_file_of_the_same_entities(tmp_path):
    np.save(tmp_path / "task-motor_dir-LR_run-1_desc-vgg16_features.npy", np.ones((3, 2)))
    (run,) = FeatureTable.open(str(tmp_path)).runs
    assert (run.subject, run.session, run.task, run.run) == ("", "", "motor", "1dirLR")


# What is no table.


def test_hidden_unfinished_and_unlabelled_files_are_ignored(tmp_path, matrices):
    np.save(tmp_path / "task-movie_run-1.npy", matrices["task-movie_run-1"])
    for name in ("_task-movie_run-2.npy", f"{store.TEMPORARY}task-movie_run-3.npy", ".task-x.h5", "means.npy", "task-x.json"):
        (tmp_path / name).write_bytes(b"nothing to read")
    (tmp_path / "task-folder.npy").mkdir()
    assert [run.key for run in FeatureTable.open(str(tmp_path)).runs] == ["task-movie_run-1"]


@pytest.mark.parametrize("name", ["", "features.npy", "all.h5"])
def test_a_table_without_a_run_says_what_names_are_expected(tmp_path, name):
    path = tmp_path / name
    if name:
        save_hdf5(path, {"means": np.ones((2, 3))})
    for table in {str(tmp_path), str(path) if name.endswith("h5") else str(tmp_path)}:
        with pytest.raises(FormatError, match=r"no run has features here; name a file .*task-movie_run-1\.npy"):
            FeatureTable.open(table)


def test_a_path_that_is_absent_or_neither_folder_nor_hdf5_is_refused(tmp_path):
    np.save(tmp_path / "task-movie.npy", np.ones((2, 3)))
    for name in ("absent", "task-movie.npy"):
        with pytest.raises(FormatError, match=f"{name}: there is no such folder, nor is it an HDF5 file; make a folder"):
            FeatureTable.open(str(tmp_path / name))
    with pytest.raises(StorageError, match="absent.h5: could not be read: No such file"):
        FeatureTable.open(str(tmp_path / "absent.h5"))


def test_two_files_or_datasets_of_one_run_are_refused(tmp_path):
    np.save(tmp_path / "task-movie_run-1_features.npy", np.ones((6, 2)))
    save_hdf5(tmp_path / "task-movie_run-1.h5", {"task-movie_run-1": np.ones((6, 2)), "b/task-movie_run-1": np.ones((6, 2))})
    with pytest.raises(FormatError, match="named features, or only one, was expected"):
        FeatureTable.open(str(tmp_path))
    with pytest.raises(FormatError, match="features twice, in .*h5:b/task-movie_run-1 and .*h5:task-movie_run-1; keep one"):
        FeatureTable.open(str(tmp_path / "task-movie_run-1.h5"))
    save_hdf5(tmp_path / "task-movie_run-1.h5", {"vgg": np.ones((6, 2))})
    with pytest.raises(FormatError, match=r"features twice, in .*1\.h5:vgg and .*1_features\.npy; keep one"):
        FeatureTable.open(str(tmp_path))


def test_runs_of_different_feature_counts_are_refused_by_the_names_of_two(tmp_path):
    for run, n_features in enumerate((4, 4, 3)):
        np.save(tmp_path / f"run-{run}.npy", np.ones((6, n_features)))
    with pytest.raises(FormatError, match=r"equally many features; .*run-0\.npy has 4 and .*run-2\.npy has 3"):
        FeatureTable.open(str(tmp_path))


@pytest.mark.parametrize("dtype", [np.float64, complex, "U1"])
@pytest.mark.parametrize("shape", [(), (6,), (6, 2, 3), (0, 3), (6, 0), (6, 2)], ids=str)
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path, shape, dtype):
    array = np.ones(shape, dtype if shape != (6, 2) or dtype != np.float64 else "V4")
    np.save(tmp_path / "task-movie.npy", array)
    with pytest.raises(FormatError, match=r"task-movie\.npy: numbers of shape \(n_scans, n_features\) are expected; got"):
        FeatureTable.open(str(tmp_path))
    (tmp_path / "task-movie.npy").unlink()
    with h5py.File(tmp_path / "task-movie.h5", "w") as file:
        file["features"] = array.astype("S1") if dtype == "U1" else array
    with pytest.raises(FormatError, match=r"h5:features: numbers of shape \(n_scans, n_features\) are expected"):
        FeatureTable.open(str(tmp_path))


class Bomb:
    """What must never be unpickled."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_pickle_is_refused_and_never_loaded(tmp_path):
    np.save(tmp_path / "task-movie.npy", np.full((2, 3), Bomb(), object), allow_pickle=True)
    with pytest.raises(FormatError, match="got object of shape"):
        FeatureTable.open(str(tmp_path))
    with pytest.raises(FormatError, match="got object of shape"):
        read_features(FeatureRun("", "", "movie", "", str(tmp_path / "task-movie.npy"), "", 2, 3, "float32"))
    (tmp_path / "task-movie.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FormatError, match=r"this is no whole \.npy file"):
        FeatureTable.open(str(tmp_path))


def test_a_header_that_is_nonsense_is_refused(tmp_path, matrices):
    path, rng = tmp_path / "task-movie.npy", np.random.default_rng(3)
    np.save(path, matrices["task-movie_run-1"])
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, 90, size=rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_features(FeatureTable.open(str(tmp_path)).runs[0])
        except SparkneuroError:
            pass  # anything else is a defect; some damages leave a valid header


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2, 3], [4, 5], [6]], "every row must list equally many features; 3 rows list 6"),
        ([[1, 2, 3], [4, 5, 6, 7]], "every row must list equally many features; 2 rows list 7"),
        ([[1, 2], None, [3, 4, 5]], "every row must list equally many features; 3 rows list 6"),
        ([[1, 2], [3, None]], "has NaN, infinity .* at scan 1, feature 1"),
        ([], r"numbers of shape \(n_scans, n_features\) are expected; got float32 of shape \(0, 0\)"),
    ],
)
def test_lists_that_make_no_matrix_are_refused(tmp_path, rows, message):
    pq.write_table(pa.table({"features": pa.array(rows, pa.list_(pa.float32()))}), tmp_path / "run-1.parquet")
    with pytest.raises(FormatError, match=message):
        read_features(FeatureTable.open(str(tmp_path)).runs[0])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", "b"], "b is string"), ([[1], [2]], "b is list"), ([pandas.Timestamp(0)] * 2, "b is timestamp"),
        ([{"c": 1}] * 2, "b is struct"), ([None, None], "b is null"), ([], "b is null"),
    ],
)
def test_columns_that_are_no_numbers_are_refused_by_name(tmp_path, column, message):
    table = pa.table({"a": pa.array([1, 2][:len(column)], pa.int64()), "b": column})
    pq.write_table(table, tmp_path / "run-1.parquet")
    with pytest.raises(FormatError, match=f"a list column `features` or numbers alone are expected; {message}"):
        FeatureTable.open(str(tmp_path))
    pq.write_table(table.rename_columns(["a", "features"]), tmp_path / "run-1.parquet")
    with pytest.raises(FormatError) if message != "b is list" else nullcontext():
        FeatureTable.open(str(tmp_path))


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.uint8, bool])
def test_numbers_of_every_type_are_read_as_floats(tmp_path, dtype):
    values = np.random.default_rng(4).integers(0, 2, size=(6, 3)).astype(dtype)
    np.save(tmp_path / "run-1.npy", values)
    save_hdf5(tmp_path / "run-2.h5", {"x": values})
    pq.write_table(pa.table({name: column for name, column in zip("abc", values.T, strict=True)}), tmp_path / "run-3.parquet")
    for run in FeatureTable.open(str(tmp_path)).runs:
        assert run.dtype == np.dtype(dtype).name
        np.testing.assert_array_equal(read_features(run), values.astype(np.float32))


def test_a_number_beyond_the_asked_type_is_refused(tmp_path):
    np.save(tmp_path / "run-1.npy", np.array([[1.0, 2, 3], [4, 5, 1e39]]))
    (run,) = FeatureTable.open(str(tmp_path)).runs
    with pytest.raises(FormatError, match="too large a number at scan 1, feature 2"):
        read_features(run)
    assert read_features(run, dtype=np.float64)[1, 2] == 1e39


@pytest.mark.parametrize(("start", "stop", "dtype"), [(-1, 3, "f4"), (0, 8, "f4"), (4, 3, "f4"), (0, 3, "i4")])
def test_scans_that_do_not_exist_and_types_without_nan_are_refused(tmp_path, matrices, start, stop, dtype):
    run = FeatureTable.open(FORMATS["npy"](tmp_path, matrices)).runs[1]
    with pytest.raises(SettingsError, match=f"scans in 0 to 7 as floats are expected; got {start} to {stop}"):
        read_features(run, start, stop, dtype)


class CountingFile:
    """A file that counts the bytes read from it."""

    def __init__(self, file, counts):
        self.file, self.counts = file, counts

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, n_bytes):
        self.counts.append(n_bytes)
        return self.file.read(n_bytes)

    def read_buffer(self, n_bytes):
        self.counts.append(n_bytes)
        return self.file.read_buffer(n_bytes)


class CountingBucket:
    """A remote filesystem that counts the bytes read from its files."""

    type_name = "bucket"
    local = fs.LocalFileSystem()

    def __init__(self):
        self.counts = []

    def __getattr__(self, name):
        return getattr(self.local, name)

    def open_input_file(self, path):
        return CountingFile(self.local.open_input_file(path), self.counts)


@pytest.mark.parametrize("order", ["C", "F"])
def test_opening_reads_a_header_and_remote_scans_are_read_alone(tmp_path, monkeypatch, order):
    values = np.asarray(np.random.default_rng(5).normal(size=(400, 30)), order=order)
    np.save(tmp_path / "run-1.npy", values)
    bucket = CountingBucket()
    monkeypatch.setattr(store, "locate", lambda path: (bucket, str(path)))
    (run,) = FeatureTable.open(str(tmp_path)).runs
    header = sum(bucket.counts)
    assert header == 128
    np.testing.assert_array_equal(read_features(run, 350, 360, np.float64), values[350:360])
    assert sum(bucket.counts) == 2 * header + (10 if order == "C" else 400) * 30 * 8


# Writing.


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_what_is_written_is_read_back_under_its_labels(tmp_path, anywhere, order):
    values = np.random.default_rng(6).normal(size=(14, 3))
    values = values[::2] if order == "strided" else np.asarray(values, order=order)
    folder = str(tmp_path / "new" / "features")
    names = ["sub-01_ses-a_task-movie_run-1", "task-rest"]
    runs = [bold_run("01", "a"), bold_run("", "", "rest", "")]
    assert [write_features(folder, run, values) for run in runs] == [f"{folder}/{name}.npy" for name in names]
    table = FeatureTable.open(folder)
    assert [run.key for run in table.runs] == names and table.runs[0].dtype == "float64"
    for run in runs:
        np.testing.assert_array_equal(read_features(table.find(run), dtype=np.float64), values)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [(np.ones(3), "numbers of shape"), (np.ones((0, 3)), "numbers of shape"), (np.full((2, 3), "a"), "numbers of shape"),
     ([[1, 2], [3, np.nan]], "task-movie_run-1 has NaN, infinity .* at scan 1, feature 1")],
)
def test_what_is_no_finite_matrix_is_not_written(tmp_path, matrix, message):
    with pytest.raises(FormatError, match=message):
        write_features(str(tmp_path), bold_run(), matrix)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("labels", [{"task": "../x"}, {"task": "a_run-2"}, {"task": "", "run": ""}, {"subject": "a.b"}])
def test_labels_that_make_no_name_are_refused(tmp_path, labels):
    with pytest.raises(SettingsError, match="labels must be letters and digits, at least one of them not empty"):
        write_features(str(tmp_path), replace(bold_run(""), **labels), np.ones((2, 3)))
    assert not [*tmp_path.iterdir()]


def test_a_write_that_fails_leaves_the_old_features_and_nothing_else(tmp_path, monkeypatch):
    path = write_features(str(tmp_path), bold_run(), np.ones((6, 2)))

    def fill_the_disk(stream, matrix, allow_pickle):
        stream.write(b"\x93NUMPY")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fill_the_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_features(str(tmp_path), bold_run(), np.zeros((6, 2)))
    assert [str(file) for file in tmp_path.iterdir()] == [path]
    assert (read_features(FeatureTable.open(str(tmp_path)).runs[0]) == 1).all()
