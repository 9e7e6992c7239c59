"""What is special about HDFS: who asks, and how its failures are told."""

import sys
import threading

import pytest
import servers

from sparkneuro.data import store
from sparkneuro.data.storage import hdfs as hdfs_door
from sparkneuro.errors import StorageError

pytest.importorskip("hdfs_native", reason="needs the hdfs extra")


def test_without_any_client_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    monkeypatch.delenv("HADOOP_HOME", raising=False)
    hdfs_door._connect.cache_clear()
    with pytest.raises(StorageError, match="hdfs-native is not installed, and .*libhdfs.*sparkneuro.hdfs") as caught:
        store.exists("hdfs://nowhere:9000/x")
    assert "\n" not in str(caught.value)


def test_an_address_that_hadoop_does_not_know_is_told(monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    with pytest.raises(StorageError, match="hdfs:///: could not be opened: .*write hdfs://HOST:PORT/PATH, or set HADOOP_CONF"):
        store.exists("hdfs:///user/brain")


@pytest.mark.processes
def test_a_namenode_that_does_not_run_is_told(monkeypatch):
    monkeypatch.setitem(hdfs_door._PATIENCE, "dfs.client.failover.max.attempts", "1")
    port = servers.free_ports(1)[0]
    with pytest.raises(StorageError, match=f":{port}/x: could not be looked up: the NameNode could not be reached"):
        store.exists(f"hdfs://127.0.0.1:{port}/x")


def test_a_call_that_never_comes_back_is_given_up(monkeypatch):
    monkeypatch.setattr(hdfs_door, "_SILENCE", 0.05)
    never = threading.Event()
    with pytest.raises(hdfs_door.HdfsError, match="HDFS has not answered for 0.05 s"):
        hdfs_door._call(never.wait)
    never.set()
    with pytest.raises(ZeroDivisionError):
        hdfs_door._call(lambda: 1 / 0)


@pytest.mark.storage
def test_who_may_not_write_is_told_who_asked(hdfs, ask, monkeypatch):
    folder = ask(hdfs)
    store.write_bytes(f"{folder}/x", b"1")
    monkeypatch.setenv("HADOOP_USER_NAME", "stranger")
    assert store.read_bytes(f"{folder}/x") == b"1"
    with pytest.raises(StorageError, match="/x: could not be written: access was denied .*user=stranger.*HADOOP_USER_NAME"):
        store.write_bytes(f"{folder}/x", b"2")


@pytest.mark.storage
def test_hdfs_that_goes_away_is_told_and_serves_again(hdfs, ask, monkeypatch):
    monkeypatch.setitem(hdfs_door._PATIENCE, "dfs.client.failover.max.attempts", "1")
    monkeypatch.setattr(hdfs_door, "_SILENCE", 10.0)
    hdfs_door._connect.cache_clear()
    folder = ask(hdfs)
    store.write_bytes(f"{folder}/x", b"old")
    with pytest.raises(StorageError, match="/x: could not be written: "), store.open_replacement(f"{folder}/x") as stream:
        stream.write(bytes(3 << 20))
        hdfs.kill()
        for _ in range(40):
            stream.write(bytes(1 << 20))
    try:
        with pytest.raises(StorageError, match="/x: could not be read: the NameNode could not be reached"):
            store.read_bytes(f"{folder}/x")
    finally:
        hdfs.start()
    assert store.read_bytes(f"{folder}/x") == b"old"
    store.delete_unfinished(folder)
    assert store.list_files(folder) == ["x"]
