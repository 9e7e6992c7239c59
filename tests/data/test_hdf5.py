import h5py
import numpy as np
import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.hdf5 import find_dataset, list_datasets, open_file, read_rows
from sparkneuro.errors import FormatError, StorageError


@pytest.fixture
def values():
    return np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path, values):
    """A file of a compressed dataset of 7 rows in chunks of 2, one in a group, and a scalar."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values, chunks=(2, 5), compression="gzip")
        file["group/counts"] = np.arange(3)
        file["version"] = 4
    return str(path)


@pytest.fixture(params=["path", "uri", "remote"])
def place(request, path, monkeypatch):
    """The file by path, by URI, and on a filesystem that only pyarrow can read."""
    if request.param == "remote":
        elsewhere = fs.SubTreeFileSystem("/", fs.LocalFileSystem())
        monkeypatch.setattr(store, "locate", lambda path: (elsewhere, str(path).removeprefix("/")))
    return f"file://{path}" if request.param == "uri" else path


def test_datasets_are_listed_by_name_with_shape_and_type(place):
    expected = {"features": ((7, 5), np.float32), "group/counts": ((3,), np.int64), "version": ((), np.int64)}
    assert list_datasets(place) == expected and list(list_datasets(place)) == sorted(expected)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (3, 5), (6, 9), (4, 4)])
def test_rows_are_read_as_numpy_slices_them(place, values, start, stop):
    np.testing.assert_array_equal(read_rows(place, "features", start, stop), values[start:stop])


def test_a_dataset_is_found_by_its_name_or_because_it_is_the_only_one(path, tmp_path):
    assert find_dataset(path, "features") == ("features", (7, 5), np.float32)
    with pytest.raises(FormatError, match="named vgg, or only one, was expected; there are features, group/counts, version"):
        find_dataset(path, "vgg")
    for name, content in (("one.h5", {"below/x": np.zeros((2, 3))}), ("none.h5", {})):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in content.items():
                file[key] = value
    assert find_dataset(str(tmp_path / "one.h5"), "vgg") == ("below/x", (2, 3), np.float64)
    with pytest.raises(FormatError, match="there are none"):
        find_dataset(str(tmp_path / "none.h5"), "vgg")


def test_links_to_other_places_are_not_followed(path):
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/features")
        file["external"] = h5py.ExternalLink("absent.h5", "/features")
    assert list(list_datasets(path)) == ["features", "group/counts", "version"]


def test_a_dataset_whose_values_lie_in_other_files_is_refused(path):
    layout = h5py.VirtualLayout(shape=(7, 5), dtype=np.float32)
    layout[:] = h5py.VirtualSource("absent.h5", "features", shape=(7, 5))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("features_of_all", layout)
    with pytest.raises(FormatError, match="dataset features_of_all keeps its values in other files"):
        list_datasets(path)


def damage(content, kind):
    """Bytes of an HDF5 file as a bad download leaves them."""
    return {"empty": b"", "truncated": content[:-50], "html": b"<!DOCTYPE html><html>404</html>" * 9, "short": content[:40]}[kind]


@pytest.mark.parametrize("kind", ["empty", "truncated", "html", "short"])
def test_a_damaged_file_is_named_in_one_sentence(place, path, kind):
    content = store.read_bytes(place)
    with open(path, "wb") as file:
        file.write(damage(content, kind))
    with pytest.raises(FormatError, match=r"a\.h5: this is no whole \.h5 file \(.*\); is the download complete\?$") as caught:
        list_datasets(place)
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_named_when_its_rows_are_read(place, path):
    with h5py.File(path) as file:
        chunk = file["features"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    assert read_rows(place, "features", 0, 4).shape == (4, 5)
    with pytest.raises(FormatError, match="this is no whole .h5 file"):
        read_rows(place, "features", 0, 7)


def test_an_absent_file_or_dataset_is_named(place, path):
    with pytest.raises(FormatError, match="there is no dataset vgg; was the file replaced"):
        read_rows(place, "vgg", 0, 1)
    with pytest.raises(StorageError, match="absent.h5: could not be read: No such file"):
        list_datasets(path.replace("a.h5", "absent.h5"))


def test_an_error_of_the_body_is_told_as_damage_and_ours_passes(place):
    with pytest.raises(FormatError, match=r"no whole \.h5 file \(odd\)"), open_file(place):
        raise ValueError("odd\nand long")
    with pytest.raises(StorageError, match="^ours$"), open_file(place):
        raise StorageError("ours")
