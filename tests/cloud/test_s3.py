"""Buckets of a server that speaks S3: listing, requests for bytes, and what is said of mistakes."""

import hashlib

import pytest

from sparkneuro.cloud.s3 import list_objects, make_access, object_request, split_uri
from sparkneuro.errors import FormatError, StorageError

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def bucket(moto_s3):
    """A bucket of 1,103 small objects below one prefix, and some beside it."""
    from moto.s3.models import s3_backends

    url, client = moto_s3
    client.create_bucket(Bucket="openneuro.org")
    backend = s3_backends["123456789012"]["aws"]
    for number in range(1100):
        backend.put_object("openneuro.org", f"ds000114/sub-{number:04}/a.json", b"{}")
    client.put_object(Bucket="openneuro.org", Key="ds000114/participants.tsv", Body=b"participant_id\n", ACL="public-read")
    client.put_object(Bucket="openneuro.org", Key="ds000114/a b+c é#%.txt", Body=b"odd name", ACL="public-read")
    client.put_object(Bucket="openneuro.org", Key="ds000114/folder/", Body=b"")
    client.put_object(Bucket="openneuro.org", Key="ds0001145/other.txt", Body=b"of another data set")
    parts = [b"a" * (5 << 20), b"b" * 1000]
    upload = client.create_multipart_upload(Bucket="openneuro.org", Key="ds000114/large.bin")["UploadId"]
    where = {"Bucket": "openneuro.org", "Key": "ds000114/large.bin", "UploadId": upload}
    etags = [client.upload_part(**where, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, start=1)]
    done = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, start=1)]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
    return url


def test_every_object_of_every_page_is_listed_without_credentials(bucket, no_credentials):
    entries = list_objects("s3://openneuro.org/ds000114", make_access(endpoint_url=bucket))
    by_path = {entry["path"]: entry for entry in entries}
    assert len(entries) == len(by_path) == 1103
    assert by_path["participants.tsv"]["size"] == 15
    assert by_path["participants.tsv"]["etag"] == hashlib.md5(b"participant_id\n").hexdigest()
    assert by_path["large.bin"]["etag"].endswith("-2") and by_path["large.bin"]["size"] == (5 << 20) + 1000
    assert by_path["sub-0007/a.json"]["url"] == "s3://openneuro.org/ds000114/sub-0007/a.json"


def test_the_endpoint_of_the_environment_is_used(bucket, no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    assert make_access()["endpoint_url"] == bucket
    assert len(list_objects("s3://openneuro.org/ds0001145/", make_access())) == 1


def test_one_object_is_listed_by_its_name(bucket, no_credentials):
    entries = list_objects("s3://openneuro.org/ds000114/participants.tsv", make_access(endpoint_url=bucket))
    assert [entry["path"] for entry in entries] == ["participants.tsv"]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("path", ["participants.tsv", "a b+c é#%.txt"])
def test_a_request_brings_the_object_and_a_range_of_it(bucket, monkeypatch, signed, path):
    from sparkneuro.data.download.http_request import ask

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    access = {**make_access(signed=signed, requester_pays=signed, endpoint_url=bucket), "region": "us-east-1"}
    url, headers = object_request(f"s3://openneuro.org/ds000114/{path}", access)
    assert ("Signature" in url) == signed
    with ask(url, headers) as answer:
        whole = answer.read_text()
    with ask(url, {**headers, "Range": "bytes=5-"}) as answer:
        assert answer.status == 206 and answer.read_text() == whole[5:]
    assert whole == {"participants.tsv": "participant_id\n"}.get(path, "odd name")


def test_mistakes_are_sentences(bucket, no_credentials):
    access = make_access(endpoint_url=bucket)
    with pytest.raises(StorageError, match="s3://nobody/x: there is no such bucket"):
        list_objects("s3://nobody/x", access)
    with pytest.raises(FormatError, match="nothing is there"):
        list_objects("s3://openneuro.org/ds000113", access)
    with pytest.raises(StorageError, match="no credentials were found"):
        list_objects("s3://openneuro.org/ds000114", make_access(signed=True, endpoint_url=bucket))
    with pytest.raises(FormatError, match="an address like s3://bucket/folder is expected"):
        split_uri("s3:///key")


def test_a_refused_stranger_uses_the_credentials_that_there_are(bucket, no_credentials, monkeypatch):
    from sparkneuro.cloud import s3

    asked = []

    def refuse_strangers(bucket, key, access):
        asked.append(access["signed"])
        if not access["signed"]:
            raise s3.AccessDenied("refused")
        return ["listed"]

    monkeypatch.setattr(s3, "_list", refuse_strangers)
    with pytest.raises(StorageError, match="refused"):
        list_objects("s3://openneuro.org/x", make_access(endpoint_url=bucket))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert list_objects("s3://openneuro.org/x", make_access(endpoint_url=bucket)) == ["listed"]
    assert asked == [False, False, True]
