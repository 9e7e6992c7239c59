"""Fixtures of the whole suite: one Spark session, the shared real data, and a check that nothing of ours is left running."""

import importlib.util
import os
import time
from pathlib import Path

import pytest

from sparkneuro.session import prepare_environment

prepare_environment()
os.environ.setdefault("SPARK_DRIVER_MEMORY", "1g")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def spark():
    """A session on two local cores, started when the first engine test asks for it."""
    from sparkneuro.session import start_session, stop_session

    session = start_session(master="local[2]", app_name="sparkneuro-tests", config={"spark.sql.shuffle.partitions": "2"})
    yield session
    stop_session(session)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real recordings beside the project; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real recordings in {SHARED_DATA}, which only a development machine has")
    return SHARED_DATA


@pytest.fixture
def server():
    """A web server on loopback that fails when it is told to; see `faulty_server.FaultyServer`."""
    spec = importlib.util.spec_from_file_location("faulty_server", Path(__file__).with_name("faulty_server.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    running = module.FaultyServer()
    yield running
    running.close()


@pytest.fixture(scope="session")
def moto_s3():
    """Address of a server that speaks S3 on loopback, and a client with credentials to fill it."""
    moto_server = pytest.importorskip("moto.server", reason="needs the extra dev")
    boto3 = pytest.importorskip("boto3", reason="needs the extra cloud")
    running = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    yield url, client
    running.stop()


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    """An environment in which Amazon knows nobody."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def children_of(pid):
    """Processes that descend from `pid`, as a list of (pid, command line)."""
    psutil = pytest.importorskip("psutil")
    children = psutil.Process(pid).children(recursive=True)
    return [(child.pid, " ".join(child.cmdline())[:200]) for child in children if alive(child)]


def alive(process):
    """Whether a process still runs; a zombie does not."""
    psutil = pytest.importorskip("psutil")
    try:
        return process.status() != psutil.STATUS_ZOMBIE and bool(process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running():
    """After the last test no child process of the suite lives: no JVM, no worker, no parameter server."""
    yield
    deadline = time.monotonic() + 20
    while (left := children_of(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"processes are left after the tests: {left}"
