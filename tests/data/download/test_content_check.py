import gzip
import hashlib
import json
import random
import tracemalloc
import zlib

import pytest

from sparkneuro.data.download.content_check import ContentCheck
from sparkneuro.errors import FormatError


def check(path, content, step=977, checksum=None):
    """The hash that the check tells, fed in pieces."""
    running = ContentCheck(path, checksum)
    for start in range(0, len(content), step):
        running.update(content[start : start + step])
    return running.finish()


@pytest.mark.parametrize("step", [1, 977, 1 << 20])
@pytest.mark.parametrize("rest", [b"", bytes(100), gzip.compress(b"another member" * 99)], ids=["one", "padded", "two members"])
def test_a_whole_gzip_file_is_right_however_it_comes(step, rest):
    content = gzip.compress(random.Random(0).randbytes(3000)) + rest
    assert check("a.nii.gz", content, step) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("place", [200, -6, -2])
def test_a_changed_byte_of_a_gzip_file_is_noticed(place):
    content = bytearray(gzip.compress(random.Random(0).randbytes(3000)))
    content[place] ^= 1
    with pytest.raises(FormatError, match="a.nii.gz: the compressed data are damaged"):
        check("a.nii.gz", bytes(content))


@pytest.mark.parametrize("n_lost", [1, 8, 9, 2000])
def test_a_gzip_file_that_ends_early_is_noticed(n_lost):
    content = gzip.compress(random.Random(0).randbytes(3000))
    with pytest.raises(FormatError, match="ends before its gzip checksum"):
        check("a.nii.gz", content[:-n_lost])


def test_a_second_member_that_ends_early_is_noticed():
    content = gzip.compress(b"one") + gzip.compress(random.Random(0).randbytes(3000))
    with pytest.raises(FormatError, match="ends before its gzip checksum"):
        check("a.nii.gz", content[:-5])


def test_what_inflates_a_thousandfold_takes_no_memory():
    content = gzip.compress(bytes(40_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        check("a.nii.gz", content, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_crc32_is_compared():
    check("a.bin", b"voxels", checksum=f"crc32:{zlib.crc32(b'voxels'):08x}")
    with pytest.raises(FormatError, match="its crc32 should be"):
        check("a.bin", b"voxels", checksum=f"crc32:{zlib.crc32(b'pixels'):08x}")


@pytest.mark.parametrize(
    "content", [b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}', b"[]", b' {"a": NaN}', b'{"message": "hello", "EchoTime": 1}']
)
def test_json_of_every_kind_is_right(content):
    check("a.json", content)


@pytest.mark.parametrize("content", [b'{"a": 1', b'{"a": 1}}', b"\xff\xfe{}", b"", b"Not Found"])
def test_json_that_cannot_be_read_is_refused(content):
    with pytest.raises(FormatError, match="a.json: (this is not|the file is empty)"):
        check("a.json", content)


def test_an_error_message_is_no_sidecar_unless_its_checksum_says_so():
    content = json.dumps({"message": "Rate limit exceeded", "code": 429}).encode()
    with pytest.raises(FormatError, match="the server sent an error message in its place"):
        check("a.json", content)
    check("a.json", content, checksum=f"md5:{hashlib.md5(content).hexdigest()}")
