import base64
import hashlib

import pytest
from urllib3 import HTTPHeaderDict

from sparkneuro.data.download.remote_content import RemoteContent, known_checksum, read_checksum, read_etag

MD5 = hashlib.md5(b"voxels").hexdigest()
S3 = {"x-amz-request-id": "1", "ETag": f'"{MD5}"'}


def in_base64(digest):
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("headers", "checksum"),
    [
        (S3, f"md5:{MD5}"),
        ({"ETag": f'"{MD5}"'}, None),
        ({**S3, "ETag": f'"{MD5}-2"'}, None),
        ({**S3, "x-amz-server-side-encryption": "aws:kms"}, None),
        ({**S3, "x-amz-server-side-encryption": "AES256"}, f"md5:{MD5}"),
        ({**S3, "x-amz-server-side-encryption-customer-algorithm": "AES256"}, None),
        ({"Content-MD5": in_base64(hashlib.md5(b"voxels").digest())}, f"md5:{MD5}"),
        ({"x-goog-hash": f"crc32c=AAAAAA==,md5={in_base64(hashlib.md5(b'voxels').digest())}"}, f"md5:{MD5}"),
        ({"x-amz-checksum-sha256": in_base64(hashlib.sha256(b"v").digest())}, f"sha256:{hashlib.sha256(b'v').hexdigest()}"),
        ({"x-amz-checksum-sha256": in_base64(hashlib.sha256(b"v").digest()) + "-3"}, None),
        ({"Content-MD5": "not base64!"}, None),
    ],
)
def test_a_checksum_is_found_where_a_server_gives_one_and_not_where_it_only_looks_so(headers, checksum):
    assert read_checksum(HTTPHeaderDict(headers)) == checksum


def test_a_weak_etag_names_no_bytes():
    assert read_etag(HTTPHeaderDict({"ETag": 'W/"a"'})) is None and read_etag(HTTPHeaderDict({"ETag": '"a"'})) == "a"


def test_the_rest_is_asked_for_only_where_the_version_can_be_told():
    assert RemoteContent("u/a.txt", 9).range_headers(5) is None
    assert RemoteContent("u/a.nii.gz", 9).range_headers(5) == {"Range": "bytes=5-"}
    assert RemoteContent("u", 9, checksum="md5:x").range_headers(5) == {"Range": "bytes=5-"}
    assert RemoteContent("u", 9, modified="Fri").range_headers(5) == {"Range": "bytes=5-", "If-Range": "Fri"}
    assert RemoteContent("u", 9, etag="e", modified="Fri").range_headers(5) == {"Range": "bytes=5-", "If-Range": '"e"'}


def test_the_etag_of_a_listed_object_is_its_md5_unless_it_came_in_parts():
    assert known_checksum({"url": "s3://b/k", "etag": MD5}) == f"md5:{MD5}"
    assert known_checksum({"url": "s3://b/k", "etag": f"{MD5}-2"}) is None
    assert known_checksum({"url": "https://b/k", "etag": MD5}) is None
