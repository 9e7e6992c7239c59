"""Places of every kind of storage, on servers that are started when the first test asks for them."""

import sys
import uuid
from pathlib import Path
from urllib.error import URLError

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "encoding")]

import servers  # noqa: E402

STORAGES = [
    "local",
    "file",
    pytest.param("moto", marks=pytest.mark.processes),
    pytest.param("seaweed", marks=pytest.mark.storage),
    pytest.param("hdfs", marks=pytest.mark.storage),
]


@pytest.fixture(scope="session")
def moto():
    """An S3 in this process."""
    pytest.importorskip("moto.server", reason="needs the dev extra")
    server = servers.Moto().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory):
    """An S3 of other people's making, on disk."""
    yield from serve(servers.SeaweedFS, tmp_path_factory.mktemp("seaweed"))


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory):
    """A NameNode and a DataNode."""
    pytest.importorskip("hdfs_native", reason="needs the hdfs extra")
    yield from serve(servers.HDFS, tmp_path_factory.mktemp("hdfs"))


def serve(kind, folder):
    """Start a server, or skip where it cannot be had."""
    try:
        server = kind(folder)
        server.start()
    except (servers.ServerError, URLError, OSError) as error:
        pytest.skip(f"{kind.__name__} cannot be had here: {error}")
    yield server
    server.stop()


@pytest.fixture
def ask(monkeypatch):
    """A function that sets what a user sets to reach a server, and returns the URI of a new folder there."""

    def set_environment(server):
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "SPARKNEURO_S3_ANONYMOUS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return f"{server.uri}/{uuid.uuid4().hex[:12]}"

    return set_environment


@pytest.fixture(params=STORAGES)
def place(request, tmp_path, ask):
    """A folder that is not there yet, on each kind of storage."""
    if request.param in ("local", "file"):
        return str(tmp_path / "place") if request.param == "local" else (tmp_path / "place").as_uri()
    return ask(request.getfixturevalue(request.param))
