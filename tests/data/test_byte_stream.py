import gzip
import hashlib
import zlib

import numpy as np
import pytest

from sparkneuro.data import byte_stream
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.errors import FormatError, StorageError

CONTENT = np.random.default_rng(0).integers(0, 40, size=300_007, dtype=np.uint8).tobytes()


@pytest.fixture(params=["isal", "standard library"])
def both_decompressors(request, monkeypatch):
    """Once with whatever is installed, once with the standard library."""
    if request.param == "standard library":
        monkeypatch.setattr(byte_stream, "gzip_library", zlib)
    return request.param


@pytest.mark.parametrize("piece", [2, 7, 19])
def test_members_are_joined_wherever_the_pieces_of_the_file_end(tmp_path, monkeypatch, piece, both_decompressors):
    monkeypatch.setattr(byte_stream, "_PIECE", piece)
    (tmp_path / "x").write_bytes(gzip.compress(b"first") + gzip.compress(b"second"))
    with ByteStream(tmp_path / "x") as stream:
        assert stream.read(100) == b"firstsecond"


TWO_MEMBERS = gzip.compress(CONTENT[:1234]) + gzip.compress(CONTENT[1234:])


@pytest.mark.parametrize("stored", [CONTENT, gzip.compress(CONTENT), TWO_MEMBERS], ids=["plain", "gzip", "two members"])
def test_the_bytes_and_the_hash_of_the_file_come_from_one_pass(tmp_path, stored, both_decompressors):
    (tmp_path / "x").write_bytes(stored)
    with ByteStream(tmp_path / "x") as stream:
        parts = [stream.read(3), stream.read(1000), stream.read(250_000)]
        assert stream.position == 251_003
        sha256 = stream.finish()
    assert b"".join(parts) == CONTENT[:251_003]
    assert sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize("tail", [bytes(512), b"something else"])
def test_what_follows_the_last_gzip_member_is_left_alone(tmp_path, tail, both_decompressors):
    (tmp_path / "x").write_bytes(gzip.compress(CONTENT) + tail)
    with ByteStream(tmp_path / "x") as stream:
        assert stream.read(len(CONTENT) + 1) == CONTENT
        assert stream.finish() == hashlib.sha256(gzip.compress(CONTENT) + tail).hexdigest()


@pytest.mark.parametrize("n_kept", [40_000, 200_000])
def test_a_file_that_is_cut_off_gives_all_it_still_holds(tmp_path, n_kept, both_decompressors):
    stored = gzip.compress(CONTENT)[:n_kept]
    held = zlib.decompressobj(wbits=31).decompress(stored)
    (tmp_path / "x").write_bytes(stored)
    with ByteStream(tmp_path / "x") as stream:
        assert bytes(stream.read(len(CONTENT))) == held[: len(CONTENT)]


def test_reading_past_the_end_gives_what_there_is(tmp_path):
    (tmp_path / "x").write_bytes(b"abcde")
    with ByteStream(tmp_path / "x") as stream:
        assert (bytes(stream.read(3)), bytes(stream.read(3)), bytes(stream.read(3))) == (b"abc", b"de", b"")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stored: stored[:-4], "ends before its gzip checksum; is the download complete"),
        (lambda stored: stored[:-8] + b"abcd" + stored[-4:], "compressed data are damaged"),
        (lambda stored: stored[:50_000] + bytes(64) + stored[50_064:], "compressed data are damaged"),
    ],
)
def test_damage_is_found_at_the_latest_by_finishing(tmp_path, damage, message, both_decompressors):
    (tmp_path / "x").write_bytes(damage(gzip.compress(CONTENT)))
    with pytest.raises(FormatError, match=message), ByteStream(tmp_path / "x") as stream:
        stream.read(len(CONTENT))
        stream.finish()


def test_an_empty_or_absent_file_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(FormatError, match="the file is empty"):
        ByteStream(tmp_path / "x")
    with pytest.raises(StorageError, match="No such file"):
        ByteStream(tmp_path / "y")
