"""Checkpoints that are cut off, damaged, of another training, or were being written when the server died or the disk was full."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import numpy as np
import pytest

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.train.parameter_server.checkpoint import (
    CheckpointSettings,
    ShardCheckpoints,
    check_run,
    clear,
    read_run,
    write_run,
)
from sparkneuro.train.parameter_server.ledger import APPLY
from sparkneuro.train.parameter_server.push import Push, ServerSettings
from sparkneuro.train.parameter_server.server import ParameterServer

ADAGRAD = {"name": "Adagrad", "learning_rate": 0.1}
RECORD = {"ledger": {"0": {"clock": 3}}, "warmup_done": 2}


def make_arrays(seed):
    rng = np.random.default_rng(seed)
    return {"values": rng.normal(0, 1, 11).astype(np.float32), "slot_a": rng.random(7), "slot_iterations": np.int64(seed)}


@pytest.fixture
def files(tmp_path):
    return ShardCheckpoints(CheckpointSettings(str(tmp_path / "checkpoints"), keep=3), 0, 2)


def save(files, *versions):
    for version in versions:
        files.save(version, make_arrays(version), RECORD)


def path_of(files, version):
    return os.path.join(files.settings.folder, f"shard-000-of-002.{version:012d}.npz")


def check_version(files, version):
    arrays, record = files.load()
    assert record["version"] == version
    expected = make_arrays(version)
    assert arrays.keys() == expected.keys()
    assert all(arrays[name].tobytes() == np.asarray(expected[name]).tobytes() for name in expected)


def test_what_was_saved_is_loaded(files):
    assert files.load() == (None, None)
    save(files, 7)
    check_version(files, 7)
    assert files.load()[1].items() >= RECORD.items()


def test_the_newest_are_kept_and_those_of_other_shards_stay(files, tmp_path):
    other = ShardCheckpoints(files.settings, 1, 2)
    other.save(1, make_arrays(1), RECORD)
    save(files, 9, 10, 99, 100, 1000)
    kept = [name.partition(".")[2] for name in store.list_files(files.settings.folder) if name.startswith("shard-000")]
    assert kept == [f"{version:012d}.npz" for version in (99, 100, 1000)]
    check_version(files, 1000)
    assert other.load()[1]["version"] == 1


@pytest.mark.processes
def test_a_bit_that_has_turned_over_leads_to_the_checkpoint_before(files, monkeypatch):
    """Of every byte one bit; a few bits mean nothing, such as those of the time of day."""
    save(files, 3, 4)
    whole = store.read_bytes(path_of(files, 4))
    damaged, rng, seen = bytearray(whole), random.Random(0), set()
    read = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path: bytes(damaged) if path == path_of(files, 4) else read(path))
    for place in range(len(whole)):
        damaged[place] ^= 1 << rng.randrange(8)
        version = files.load()[1]["version"]
        check_version(files, version)
        seen.add(version)
        damaged[place] = whole[place]
    assert seen == {3, 4}


def test_a_file_that_is_cut_off_leads_to_the_checkpoint_before(files, caplog):
    save(files, 3, 4)
    whole = store.read_bytes(path_of(files, 4))
    for length in [0, 1, 3, 100, len(whole) // 2, len(whole) - 23, len(whole) - 1]:
        store.write_bytes(path_of(files, 4), whole[:length])
        check_version(files, 3)
    assert f"{path_of(files, 4)} is damaged and left aside" in caplog.text


def test_when_none_is_whole_that_is_said(files):
    save(files, 3, 4)
    for version in (3, 4):
        store.write_bytes(path_of(files, version), b"PK")
    with pytest.raises(FormatError, match="holds no whole checkpoint of shard-000-of-002; train anew"):
        files.load()


def test_a_checkpoint_of_another_format_is_refused(files):
    save(files, 3)
    text = json.dumps({"format": 2, "version": 4}).encode()
    np.savez(path_of(files, 4), record=np.frombuffer(text, np.uint8))
    with pytest.raises(FormatError, match="must be a checkpoint of format 1; got format 2"):
        files.load()


def make_settings(folder, rule=ADAGRAD, n_trainable=5, n_state=2, every=2, **options):
    return ServerSettings(rule, n_trainable, n_state, 0, 2, 10, checkpoints=CheckpointSettings(str(folder), every), **options)


@pytest.mark.parametrize(
    "other, found",
    [
        ({"rule": {"name": "SGD", "learning_rate": 0.1}}, "must have rule .*SGD.*; got .*Adagrad"),
        ({"rule": {**ADAGRAD, "learning_rate": 0.2}}, "must have rule .*0.2.*; got .*0.1"),
        ({"n_trainable": 6}, "must have n_trainable 6; got 5"),
        ({"n_state": 3}, "must have n_state 3; got 2"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other, found):
    ParameterServer(make_settings(tmp_path)).initialise(np.zeros(7, np.float32))
    with pytest.raises(FormatError, match=f"{found}.*: it is of another model"):
        ParameterServer(make_settings(tmp_path, **other))


def test_every_difference_to_the_training_that_was_interrupted_is_named(tmp_path):
    run = {"rule": ADAGRAD, "n_workers": 2, "batch_size": 20, "layers": (3, 4)}
    write_run(str(tmp_path), run)
    check_run(str(tmp_path), run)
    assert read_run(str(tmp_path))["layers"] == [3, 4]
    with pytest.raises(SettingsError) as found:
        check_run(str(tmp_path), {**run, "n_workers": 3, "batch_size": 21})
    assert "it has n workers 2, not 3; batch size 20, not 21." in str(found.value) and "rule" not in str(found.value)


@pytest.mark.parametrize(
    "content, found",
    [
        (b'{"format": 9}', "must have format 1; got 9"),
        (b"[]", "must have format 1; got None"),
        (b'{"form', "must be JSON; it is not"),
        (None, "must hold checkpoints to resume from; it holds none"),
    ],
)
def test_a_folder_that_does_not_say_what_it_holds_is_refused(tmp_path, content, found):
    if content is not None:
        store.write_bytes(str(tmp_path / "run.json"), content)
    with pytest.raises(FormatError, match=found):
        read_run(str(tmp_path))


def test_only_checkpoints_are_cleared(files, tmp_path):
    folder = files.settings.folder
    clear(folder)  # absent
    save(files, 1, 2)
    write_run(folder, {})
    for name in ("history.json", "best.npy", ".unfinished-shard-000-of-002.000000000003.npz.1a2b3c4d"):
        store.write_bytes(store.join(folder, name), b"ours")
    foreign = ["notes.txt", "shard-list.txt", "shard-000-of-002.npz", "runs.json", "sub/shard-000-of-002.000000000001.npz"]
    for name in foreign:
        store.write_bytes(store.join(folder, name), b"theirs")
    clear(folder)
    assert store.list_files(folder, recursive=True) == sorted(foreign)
    for name in foreign:
        store.delete(store.join(folder, name))
    store.delete(store.join(folder, "sub"))
    save(files, 1)
    clear(folder)
    assert not store.exists(folder)


SAVE_FOR_EVER = """
    import sys
    import numpy as np
    from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings, ShardCheckpoints
    files = ShardCheckpoints(CheckpointSettings(sys.argv[1]), 0, 1)
    first = int(sys.argv[2])
    for version in range(first, first + 10_000):
        files.save(version, {"values": np.full(1_000_000, version, np.float32)}, {})
        print(version, flush=True)
"""


@pytest.mark.processes
def test_whenever_a_server_is_killed_a_whole_checkpoint_is_left(tmp_path):
    files, rng, version, unfinished = ShardCheckpoints(CheckpointSettings(str(tmp_path)), 0, 1), random.Random(1), 0, 0
    for _ in range(8):
        saver = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVE_FOR_EVER), str(tmp_path), str(version + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2):
            version = int(saver.stdout.readline())
        threading.Event().wait(rng.uniform(0, 0.01))  # somewhere within the next
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        unfinished += any(name.startswith(store.TEMPORARY) for name in store.list_files(str(tmp_path)))
        arrays, record = files.load()
        assert record["version"] >= version
        assert (arrays["values"] == record["version"]).all() and arrays["values"].size == 1_000_000
        assert not any(name.startswith(store.TEMPORARY) for name in store.list_files(str(tmp_path)))
        version = record["version"]
    assert unfinished  # at least once the kill came within
    store.write_bytes(str(tmp_path / f"{store.TEMPORARY}shard-000-of-001.1.npz.aa"), b"half")
    clear(str(tmp_path))
    assert not tmp_path.exists()


PUSH = Push(partition=0, attempt=1, clock=1, n_batches=1, rows=3, loss=6.0, version=0)


def train(server, clocks, seed=0):
    for clock in clocks:
        gradient = np.random.default_rng([seed, clock]).normal(0, 1, 7).astype(np.float32)
        push = replace(PUSH, clock=clock, version=server.pull()[1], loss=float(clock))
        assert server.push(push, gradient) == APPLY


def state_of(server):
    """Everything a server knows, but for what depends on the time of day."""
    log = server.log.to_dict()
    epochs = [{key: value for key, value in epoch.items() if key not in ("seconds", "series_per_s")} for epoch in log["epochs"]]
    slots = {name: array.tobytes() for name, array in server._rule.read_slots(server._slots).items()}
    return server.version, server.pull()[0].tobytes(), slots, server.ledger.to_dict(), log["rows"], log["epoch"], epochs


def rules():
    keras = pytest.importorskip("keras", reason="needs the keras extra")
    from sparkneuro.train.parameter_server.update_rules import describe_rule

    momentum = {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}
    return {"adagrad": ADAGRAD, "momentum": momentum, "adam": describe_rule(keras.optimizers.Adam(0.1))}


@pytest.mark.parametrize("name", ["adagrad", "momentum", "adam"])
def test_a_server_that_comes_back_goes_on_as_if_it_had_not_been_away(tmp_path, name):
    settings = make_settings(tmp_path / "died", json.loads(json.dumps(rules()[name])))
    died, never = ParameterServer(settings), ParameterServer(replace(settings, checkpoints=None))
    for server in (died, never):
        server.initialise(np.linspace(-1, 1, 7).astype(np.float32))
        server.register(0, 1, 9)
        train(server, range(1, 6))
    back = ParameterServer(settings)  # from update 4: the fifth is lost
    assert (back.version, back.register(0, 1, 9)) == (4, 4)
    train(back, range(5, 8))
    train(never, range(6, 8))
    assert state_of(back) == state_of(never)


def test_a_last_push_is_written_down_before_its_worker_is_told(tmp_path):
    server = ParameterServer(make_settings(tmp_path, every=100))
    server.initialise(np.zeros(7, np.float32))
    server.register(0, 1, 3)
    train(server, range(1, 4))
    assert ParameterServer(make_settings(tmp_path, every=100)).version == 3


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, 1, 4096, 100_000])
def test_a_full_disk_costs_the_checkpoint_and_not_the_training(small_disk, free, caplog):
    settings = make_settings(small_disk / "checkpoints", n_trainable=50_000, n_state=0, every=1)
    server = ParameterServer(settings)
    server.initialise(np.zeros(50_000, np.float32))
    server.register(0, 1, 9)
    before = state_of(server)
    room = os.statvfs(small_disk)
    with open(small_disk / "ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, max(room.f_bavail * room.f_frsize - free, 1))
    caplog.set_level(logging.WARNING)
    assert server.push(PUSH, np.ones(50_000, np.float32)) == APPLY
    status = server.status()
    assert status["version"] == 1 and status["checkpoint_version"] == 0
    assert "the disk is full; free some space" in status["checkpoint_error"]
    assert "no checkpoint at update 1" in caplog.text
    assert store.list_files(str(small_disk / "checkpoints")) == ["shard-000-of-001.000000000000.npz"]
    back = ParameterServer(settings)
    assert (back.version, back.pull()[0].tobytes()) == (0, before[1])
    os.unlink(small_disk / "ballast")
    assert server.push(replace(PUSH, clock=2, version=1), np.ones(50_000, np.float32)) == APPLY
    assert server.status()["checkpoint_error"] is None and server.status()["checkpoint_version"] == 2


@pytest.mark.parametrize("mode, max_staleness", [("asynchronous", None), ("asynchronous", 2), ("synchronous", None)])
def test_who_has_ended_is_not_waited_for_by_a_server_that_comes_back(tmp_path, mode, max_staleness):
    settings = make_settings(tmp_path, every=1, mode=mode, max_staleness=max_staleness)
    server = ParameterServer(settings)
    server.initialise(np.zeros(7, np.float32))
    server.register(0, 1, 9)
    server.register(1, 1, 0)  # no rows: nothing to do, and nothing to come back for
    train(server, [1])
    back = ParameterServer(settings)
    assert back.register(0, 1, 9) == 1
    train(back, [2])


def test_a_damaged_checkpoint_and_a_kill_do_not_make_an_update_count_twice(tmp_path):
    settings = make_settings(tmp_path, every=2)
    server = ParameterServer(settings)
    server.initialise(np.zeros(7, np.float32))
    server.register(0, 1, 9)
    train(server, range(1, 5))
    before = state_of(server)
    newest = str(tmp_path / "shard-000-of-001.000000000004.npz")
    store.write_bytes(newest, store.read_bytes(newest)[:-9])
    back = ParameterServer(settings)
    assert (back.version, back.register(0, 1, 9)) == (2, 2)
    train(back, range(3, 5))
    assert state_of(back) == before
    assert ParameterServer(settings).version == 4  # the damaged file is replaced
