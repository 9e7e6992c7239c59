"""What is special about buckets: who is asked, what it costs, what stays behind, and how failures are told."""

import errno
import os
import socket
import tempfile

import pytest
import servers

from sparkneuro.data import store
from sparkneuro.data.storage import s3, s3_settings, s3_upload
from sparkneuro.errors import SettingsError, StorageError

pytestmark = pytest.mark.processes
LARGE = bytes(12 << 20)  # goes out in two parts


@pytest.fixture
def folder(moto, ask):
    """A folder in a bucket; afterwards S3 answers everything again."""
    yield ask(moto)
    moto.refuse = None


@pytest.fixture
def impatient(monkeypatch):
    """What waits for a server waits a second."""
    for module in (s3, s3_upload):
        monkeypatch.setattr(module, "CONNECT_S", 1)
        monkeypatch.setattr(module, "SILENCE_S", 1)
    monkeypatch.setattr(s3, "TRIES", 1)
    s3._open_bucket.cache_clear()
    yield
    s3._open_bucket.cache_clear()


def count(moto, action):
    """Requests that an action costs."""
    moto.requests.clear()
    action()
    return list(moto.requests)


def test_a_small_file_costs_one_request_to_write(moto, folder):
    store.write_bytes(f"{folder}/first", b"")  # the bucket itself is looked up once a process
    asked = count(moto, lambda: store.write_bytes(f"{folder}/a/b/c.json", b"{}"))
    assert [line.partition("?")[0] for line in asked] == [f"PUT /{folder.partition('://')[2]}/a/b/c.json"]


def test_a_bucket_is_looked_up_once_a_process(moto, folder):
    s3._open_bucket.cache_clear()
    store.exists(f"{folder}/x")
    asked = count(moto, lambda: [store.exists(f"{folder}/{number}") for number in range(3)])
    assert f"HEAD /{servers.BUCKET}" not in asked and len(asked) <= 6


def test_writing_makes_no_markers_of_folders(moto, folder):
    store.write_bytes(f"{folder}/a/b", b"1")
    prefix = folder.partition(f"{servers.BUCKET}/")[2]
    found = moto.client().list_objects_v2(Bucket=servers.BUCKET, Prefix=prefix)["Contents"]
    assert [item["Key"] for item in found] == [f"{prefix}/a/b"]


def test_markers_that_others_made_are_folders(moto, folder):
    prefix = folder.partition(f"{servers.BUCKET}/")[2]
    for key in ("bids/", "bids/sub-01/"):
        moto.client().put_object(Bucket=servers.BUCKET, Key=f"{prefix}/{key}", Body=b"")
    store.write_bytes(f"{folder}/bids/sub-01/x", b"1")
    assert store.list_files(folder, recursive=True) == ["bids/sub-01/x"] and store.is_folder(f"{folder}/bids")


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_bucket_that_is_not_there_is_neither_made_nor_taken_for_an_empty_one(moto, folder, scheme):
    before = moto.client().list_buckets()["Buckets"]
    for action in (store.exists, store.list_files, store.read_bytes, lambda path: store.write_bytes(path, b"1")):
        with pytest.raises(StorageError, match="s3://no-such-bucket: there is no such bucket at http://127.0.0.1:"):
            action(f"{scheme}://no-such-bucket/x")
    assert moto.client().list_buckets()["Buckets"] == before


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_refusal_says_what_to_set(moto, folder, code):
    moto.refuse = lambda request: ("403 Forbidden", code)
    for action in (store.exists, store.read_bytes, lambda path: store.write_bytes(path, b"1")):
        with pytest.raises(StorageError, match="access was denied at http.*AWS_ACCESS_KEY_ID.*SPARKNEURO_S3_ANONYMOUS=1"):
            action(f"{folder}/x")


def test_who_may_read_a_folder_need_not_see_the_bucket(moto, folder):
    store.write_bytes(f"{folder}/x", b"1")
    s3._open_bucket.cache_clear()
    moto.refuse = lambda request: ("403 Forbidden", "AccessDenied") if request["PATH_INFO"].strip("/") == servers.BUCKET else None
    assert store.read_bytes(f"{folder}/x") == b"1"


def test_public_buckets_are_read_without_credentials(moto, folder, monkeypatch):
    key = f"{folder}/x".partition(f"{servers.BUCKET}/")[2]
    moto.client().put_object(Bucket=servers.BUCKET, Key=key, Body=b"1", ACL="public-read")
    signed = []
    moto.refuse = lambda request: signed.append("HTTP_AUTHORIZATION" in request)
    assert store.read_bytes(f"{folder}/x") == b"1" and all(signed)
    signed.clear()
    monkeypatch.setenv("SPARKNEURO_S3_ANONYMOUS", "1")
    assert store.read_bytes(f"{folder}/x") == b"1" and signed and not any(signed)
    moto.refuse = lambda request: ("403 Forbidden", "AccessDenied")
    with pytest.raises(StorageError, match="denied at http.* to a request without credentials .SPARKNEURO_S3_ANONYMOUS is set"):
        store.read_bytes(f"{folder}/x")


def test_an_endpoint_for_s3_alone_goes_before_one_for_all_of_amazon(moto, folder, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.endpoint + "/")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    store.write_bytes(f"{folder}/x", b"1")
    assert s3_settings.read_endpoint() == moto.endpoint


@pytest.mark.parametrize("uri", ["s3:///x", "s3://key:secret@bucket/x", "s3://bucket?region=eu-west-1/x"])
def test_a_uri_is_a_bucket_and_a_key_and_nothing_else(folder, uri):
    with pytest.raises(SettingsError, match="s3://BUCKET/KEY") as caught:
        store.exists(uri)
    assert "secret" not in str(caught.value)


def test_an_endpoint_without_a_scheme_is_refused(folder, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    with pytest.raises(SettingsError, match="must be an http:// or https:// address.*got 127.0.0.1:9000"):
        store.exists(f"{folder}/x")


def test_a_region_that_nobody_knows_is_told(folder, monkeypatch):
    def resolve(bucket):
        raise OSError("When resolving region: AWS Error NETWORK_CONNECTION during HeadBucket operation: curlCode: 6, no host")

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setattr(s3.fs, "resolve_s3_region", resolve)
    with pytest.raises(StorageError, match="its region could not be found out: S3 could not be reached .*; set AWS_REGION"):
        store.exists("s3://bucket/x")


def test_a_server_that_does_not_run_is_told(impatient, folder, monkeypatch):
    port = servers.free_ports(1)[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError, match=f"brains: could not be opened: S3 at http://127.0.0.1:{port} could not be reached"):
        store.exists(f"{folder}/x")


def test_a_server_that_says_nothing_is_told_after_a_while(impatient, folder, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageError, match="could not be reached .*too slow"):
            store.exists(f"{folder}/x")


def test_a_server_that_goes_away_while_a_file_is_read_is_told(impatient, moto, folder):
    store.write_bytes(f"{folder}/x", LARGE)
    stream = store.open_stream(f"{folder}/x")
    stream.read(1 << 20)
    moto.kill()
    try:
        with pytest.raises(StorageError, match="/x: could not be read: S3 at http://127.0.0.1:.* could not be reached"):
            while stream.read(1 << 20):
                pass
    finally:
        moto.start()
    assert len(store.read_bytes(f"{folder}/x")) == len(LARGE)


def test_an_upload_that_fails_leaves_the_old_object_and_no_parts(moto, folder):
    store.write_bytes(f"{folder}/x", b"old")
    moto.refuse = lambda request: ("403 Forbidden", "AccessDenied") if "partNumber=2" in request["QUERY_STRING"] else None
    with pytest.raises(StorageError, match="/x: could not be written: access was denied"):
        store.write_bytes(f"{folder}/x", LARGE)
    assert store.read_bytes(f"{folder}/x") == b"old"
    assert "Uploads" not in moto.client().list_multipart_uploads(Bucket=servers.BUCKET)


def test_parts_that_a_killed_process_left_are_thrown_away_below_a_folder_only(moto, folder):
    client, prefix = moto.client(), folder.partition(f"{servers.BUCKET}/")[2]
    for key in (f"{prefix}/a/b", f"{prefix}-other/a"):
        begun = client.create_multipart_upload(Bucket=servers.BUCKET, Key=key)
        client.upload_part(Bucket=servers.BUCKET, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=LARGE)
    store.delete_unfinished(folder)
    left = client.list_multipart_uploads(Bucket=servers.BUCKET)["Uploads"]
    assert [item["Key"] for item in left] == [f"{prefix}-other/a"]
    store.delete_unfinished(f"{folder}-other")


def test_a_full_local_disk_is_not_taken_for_a_full_bucket(folder, monkeypatch):
    class FullDisk:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(s3_upload.tempfile, "TemporaryFile", lambda **options: FullDisk())
    with pytest.raises(StorageError, match=f"the disk of {tempfile.gettempdir()} is full, where s3://.*set TMPDIR"):
        store.write_bytes(f"{folder}/x", b"1")
    assert not store.exists(f"{folder}/x")


def test_s3a_is_told_what_we_are_told(moto, folder, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert s3_settings.hadoop_options() == {
        "fs.s3a.endpoint": moto.endpoint, "fs.s3a.endpoint.region": "eu-west-1", "fs.s3a.path.style.access": "true",
        "fs.s3a.connection.ssl.enabled": "false",
    }  # fmt: skip
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert s3_settings.hadoop_options() == {}
