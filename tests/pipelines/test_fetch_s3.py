"""The command from and to buckets of a server that speaks S3."""

import gzip
import random

import pytest

from sparkneuro.cli import main
from sparkneuro.errors import StorageError
from sparkneuro.pipelines import fetch, fetch_source
from sparkneuro.pipelines.fetch import Settings

pytestmark = pytest.mark.processes
LARGE = "sub-01/func/sub-01_task-rest_bold.nii.gz"


@pytest.fixture
def data_set(moto_s3, monkeypatch, request):
    """A data set in a bucket of its own: address, content by path."""
    url, client = moto_s3
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    bucket = "fetch-" + "".join(letter for letter in request.node.name if letter.isalnum())[-40:].lower()
    client.create_bucket(Bucket=bucket)
    content = {
        "dataset_description.json": b'{"Name": "small"}',
        "participants.tsv": b"participant_id\nsub-01\n",
        "sub-01/odd name+é.txt": b"text",
        LARGE: gzip.compress(random.Random(0).randbytes((5 << 20) + 1000), 1),
    }
    for path, body in content.items():
        if path != LARGE:
            client.put_object(Bucket=bucket, Key=f"ds/{path}", Body=body, ACL="public-read")
    where = {"Bucket": bucket, "Key": f"ds/{LARGE}"}
    upload = client.create_multipart_upload(**where, ACL="public-read")["UploadId"]
    pieces = (content[LARGE][: 5 << 20], content[LARGE][5 << 20 :])
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**where, UploadId=upload, PartNumber=n, Body=piece)["ETag"]}
        for n, piece in enumerate(pieces, start=1)
    ]
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    client.put_object_acl(**where, ACL="public-read")
    return f"s3://{bucket}/ds", content, client


@pytest.fixture
def asked(monkeypatch):
    """Addresses of the files that were asked for."""
    addresses, ask = [], fetch_source.ask

    def note(url, headers, timeout):
        addresses.append(url)
        return ask(url, headers, timeout)

    monkeypatch.setattr(fetch_source, "ask", note)
    return addresses


def test_a_public_data_set_is_fetched_without_credentials_and_once(data_set, asked, no_credentials, tmp_path):
    uri, content, client = data_set
    settings = Settings(uri, output=str(tmp_path / "out"))
    assert "4 files fetched" in fetch.run(settings) and len(asked) == 4
    assert {path: (tmp_path / "out" / path).read_bytes() for path in content} == content
    assert "0 files fetched, 4 there already" in fetch.run(settings) and len(asked) == 4
    client.put_object(Bucket=uri.split("/")[2], Key="ds/participants.tsv", Body=b"participant_id\nsub-02\n", ACL="public-read")
    assert "1 file fetched" in fetch.run(settings) and len(asked) == 5
    assert (tmp_path / "out" / "participants.tsv").read_bytes().endswith(b"sub-02\n")


def test_a_refused_object_is_named_with_what_may_help(data_set, no_credentials, tmp_path):
    uri, _, client = data_set
    client.put_object(Bucket=uri.split("/")[2], Key="ds/secret.txt", Body=b"text")
    with pytest.raises(StorageError, match="4 files fetched.*1 failed: secret.txt: the server refuses it .403.*--signed"):
        fetch.run(Settings(uri, output=str(tmp_path / "out")))


def test_with_credentials_private_objects_are_read(data_set, monkeypatch, tmp_path, capsys):
    uri, _, client = data_set
    client.put_object(Bucket=uri.split("/")[2], Key="ds/secret.txt", Body=b"text")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert main(["fetch", uri, "--output", str(tmp_path / "out"), "--signed"]) == 0
    assert "5 files fetched" in capsys.readouterr().out
    assert (tmp_path / "out" / "secret.txt").read_bytes() == b"text"


def test_a_bucket_may_be_the_output_and_gets_whole_files_once(data_set, asked, monkeypatch, tmp_path):
    uri, content, client = data_set
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    bucket = uri.split("/")[2]
    output, content = f"s3://{bucket}/copy", {path: body for path, body in content.items() if "odd" not in path}
    odd = {"exclude": ("*odd*",)}
    assert "3 files fetched" in fetch.run(Settings(uri, output=output, **odd))
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket, Prefix="copy/")["Contents"]]
    assert {key for key in keys if ".sparkneuro" not in key and not key.endswith("/")} == {f"copy/{path}" for path in content}
    for path, body in content.items():
        assert client.get_object(Bucket=bucket, Key=f"copy/{path}")["Body"].read() == body
    assert "3 there already" in fetch.run(Settings(uri, output=output, **odd)) and len(asked) == 3
    client.put_object(Bucket=bucket, Key=f"copy/{LARGE}", Body=b"damaged")
    assert "1 file fetched" in fetch.run(Settings(uri, output=output, verify=True, **odd))
    assert client.get_object(Bucket=bucket, Key=f"copy/{LARGE}")["Body"].read() == content[LARGE]
