"""A store written by hand: two 3-D images and two runs, in shards of three volumes, so that runs cross them."""

import copy
import hashlib
import io
import json
import os
import zlib

import numpy as np
import pytest
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.data.volumes.volume_coding import Coding
from sparkneuro.data.volumes.volume_shards import make_header, shard_name
from sparkneuro.data.volumes.volume_store import METADATA, VolumeRecord, VolumeStore, write_metadata
from sparkneuro.errors import FormatError, SettingsError

SHAPE, N_SCANS, PER_SHARD = (3, 5, 4), (None, 7, None, 4), 3
SETTINGS = {"shape": list(SHAPE), "dtype": "int16"}


def make_record(number, n_scans, first):
    coding = Coding("int16", 100.0 + number, 2.0, 0.5, 1.0, -32768)
    return VolumeRecord(f"/raw/{number}.nii", "ab" * 32, {"sub": f"{number}"}, "bold", n_scans, 2.0, np.eye(4).tolist(),
                        [9, 9, 9], np.eye(4).tolist(), "int16", coding, 0, 1.0, first)


@pytest.fixture
def stored():
    """The stored numbers of all volumes."""
    stored = np.random.default_rng(0).integers(-900, 900, size=(13, *SHAPE)).astype(np.int16)
    stored[:, 0] = -32768
    return stored


@pytest.fixture
def path(tmp_path, stored):
    path = str(tmp_path / "x.volumes")
    for number, first in enumerate(range(0, len(stored), PER_SHARD)):
        volumes = stored[first : first + PER_SHARD]
        store.write_bytes(f"{path}/{shard_name(number)}", make_header(len(volumes), SHAPE, "int16") + volumes.tobytes())
    firsts = np.cumsum([0] + [n or 1 for n in N_SCANS])
    records = [make_record(number, n_scans, int(firsts[number])) for number, n_scans in enumerate(N_SCANS)]
    crc32 = np.array([zlib.crc32(volume.tobytes()) for volume in stored], np.uint32)
    write_metadata(path, SETTINGS, records, crc32, PER_SHARD)
    return path


@pytest.fixture(params=["local", "remote"])
def place(request, path, monkeypatch):
    """The store by its path, and on a filesystem that only pyarrow can read."""
    if request.param == "remote":
        elsewhere = fs.SubTreeFileSystem("/", fs.LocalFileSystem())
        monkeypatch.setattr(store, "locate", lambda path: (elsewhere, str(path).removeprefix("/")))
    return path


def decode(stored, original=False, number=0):
    values = np.where(stored == -32768, 0, stored * 0.5 + 1)
    return np.where(stored == -32768, 0, values * 2 + 100 + number) if original else values


def test_images_and_windows_are_those_that_were_stored(place, stored):
    volumes = VolumeStore.open(place)
    assert len(volumes) == 4 and volumes.shape == SHAPE and volumes.dtype == np.int16
    np.testing.assert_array_equal(volumes.read_volume(0), decode(stored[0]))
    np.testing.assert_array_equal(volumes.read_volume(1), decode(stored[1:8]))
    np.testing.assert_array_equal(volumes.read_volume(2, original=True), decode(stored[8], True, 2))
    assert volumes.read_volume(0).shape == SHAPE and volumes.read_volume(3).dtype == np.float32
    for start in range(8):
        for stop in range(start, 8):
            np.testing.assert_array_equal(volumes.read_window(1, start, stop), decode(stored[1 + start : 1 + stop]))
    for start, stop in ((-1, 2), (3, 8), (4, 3)):
        with pytest.raises(IndexError, match="image 1 has 7 scans; got a window from"):
            volumes.read_window(1, start, stop)
    volumes.close()
    assert volumes.records[1].coding.center == 101 and volumes.records[3].entities == {"sub": "3"}


def test_numpy_opens_a_shard(path, stored):
    np.testing.assert_array_equal(np.load(f"{path}/{shard_name(1)}", mmap_mode="r"), stored[3:6])
    np.testing.assert_array_equal(np.load(f"{path}/{shard_name(4)}"), stored[12:])


def test_only_the_bytes_of_a_window_are_read(path, monkeypatch):
    volumes = VolumeStore.open(path)
    read, reader = [], volumes._reader
    real = reader._read_at
    monkeypatch.setattr(reader, "_read_at", lambda *words: read.append(words[-1]) or real(*words))
    volumes.read_window(1, 4, 6)
    assert sum(read) == 2 * np.prod(SHAPE) * 2


@pytest.mark.parametrize("window", [None, 1, 2, 3])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_workers_together_see_each_sample_once_in_an_order_that_the_seed_decides(place, stored, window, n_workers):
    volumes, seen = VolumeStore.open(place), []
    for worker in range(n_workers):
        batches = list(volumes.batches(2, seed=5, window=window, worker=worker, n_workers=n_workers))
        again = list(volumes.batches(2, seed=5, window=window, worker=worker, n_workers=n_workers))
        assert all(len(batch.values) == 2 for batch in batches[:-1]) and len(batches[-1].values) in (1, 2)
        for batch, same in zip(batches, again, strict=True):
            np.testing.assert_array_equal(batch.values, same.values)
            for values, image, start in zip(batch.values, batch.image, batch.start, strict=True):
                first = volumes.records[image].first + start
                expected = decode(stored[first : first + (window or 1)])
                np.testing.assert_array_equal(values, expected if window else expected[0])
                seen.append((int(image), int(start)))
    expected = {None: [(0, 0), *((1, s) for s in range(7)), (2, 0), *((3, s) for s in range(4))],
                1: [*((1, s) for s in range(7)), *((3, s) for s in range(4))],
                2: [(1, 0), (1, 2), (1, 4), (3, 0), (3, 2)], 3: [(1, 0), (1, 3), (3, 0)]}[window]
    assert sorted(seen) == expected


def test_the_order_changes_with_seed_and_epoch_only(path):
    volumes = VolumeStore.open(path)
    orders = {
        name: np.concatenate([10 * batch.image + batch.start for batch in volumes.batches(4, **options)]).tolist()
        for name, options in {"0": {}, "again": {"seed": 0}, "seed": {"seed": 1}, "epoch": {"epoch": 1}}.items()
    }
    assert orders["0"] == orders["again"] and orders["0"] != orders["seed"] != orders["epoch"] != orders["0"]
    larger = [10 * batch.image + batch.start for batch in volumes.batches(100)]
    assert np.concatenate(larger).tolist() == orders["0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be"), ({"batch_size": 1, "worker": 2, "n_workers": 2}, "worker must be"),
        ({"batch_size": 1, "window": 8}, "no run here has 8 scans; give a smaller window"),
        ({"batch_size": 1, "window": 0}, "window must be"),
    ],
)
def test_batches_that_make_no_sense_are_refused(path, options, message):
    with pytest.raises(SettingsError, match=message):
        next(VolumeStore.open(path).batches(**options))


def test_a_copy_opens_its_shards_itself(path, stored):
    volumes = VolumeStore.open(path)
    volumes.read_volume(0)
    other = copy.deepcopy(volumes)
    volumes.close()
    np.testing.assert_array_equal(other.read_volume(1), decode(stored[1:8]))


def flip(path, place):
    with open(path, "r+b") as file:
        file.seek(place, os.SEEK_END)
        byte = file.read(1)
        file.seek(place, os.SEEK_END)
        file.write(bytes([byte[0] ^ 4]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path, 200), "shard-00001.npy: .*not the whole shard.*it has 200 of 488 bytes; copy it again"),
        (os.remove, "shard-00001.npy: this shard of the volume store is missing"),
        (lambda path: flip(path, -1), "shard-00001.npy: volume 2 of this shard is damaged; copy or make it again"),
        (lambda path: flip(path, -480), "shard-00001.npy: this is not the whole shard of this volume store, it begins otherwise"),
    ],
    ids=["cut", "gone", "bit", "header"],
)
def test_a_damaged_shard_is_named_in_one_sentence(place, path, damage, message):
    damage(f"{path}/{shard_name(1)}")
    volumes = VolumeStore.open(place)
    assert volumes.read_volume(0).shape == SHAPE
    with pytest.raises(FormatError, match=message) as caught:
        volumes.read_volume(1)
    assert "\n" not in str(caught.value)


def edit(**fields):
    def change(path):
        content = json.loads(store.read_bytes(f"{path}/{METADATA}"))
        store.write_bytes(f"{path}/{METADATA}", json.dumps({**content, **fields}).encode())

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(format=2), "format 2, and this sparkneuro reads up to 1; update sparkneuro"),
        (edit(images=[{}]), "volumes.json or crc32.npy is damaged"),
        (edit(n_volumes=12), "do not name 12 volumes"),
        (lambda path: store.write_bytes(f"{path}/crc32.npy", b"?"), "volumes.json or crc32.npy is damaged"),
        (lambda path: store.write_bytes(f"{path}/{METADATA}", b"{"), "volumes.json or crc32.npy is damaged"),
        (lambda path: os.remove(f"{path}/{METADATA}"), "this is not a volume store: it has no volumes.json"),
        (store.delete, "there is no such volume store"),
    ],
)
def test_a_folder_that_is_no_store_is_named_in_one_sentence(path, change, message):
    change(path)
    with pytest.raises(FormatError, match=message):
        VolumeStore.open(path)


def test_later_fields_of_a_record_are_left_out(path):
    content = json.loads(store.read_bytes(f"{path}/{METADATA}"))
    edit(images=[{**image, "later": 1} for image in content["images"]])(path)
    assert len(VolumeStore.open(path)) == 4


def test_equal_stores_have_equal_bytes(path, tmp_path):
    before = {name: hashlib.sha256(store.read_bytes(f"{path}/{name}")).hexdigest() for name in store.list_files(path)}
    volumes = VolumeStore.open(path)
    crc32 = np.load(io.BytesIO(store.read_bytes(f"{path}/crc32.npy")))
    write_metadata(path, SETTINGS, volumes.records, crc32, PER_SHARD)
    assert before == {name: hashlib.sha256(store.read_bytes(f"{path}/{name}")).hexdigest() for name in store.list_files(path)}
