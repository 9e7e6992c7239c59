"""Downloads from a server that fails in every way we know: the bytes are right in the end, or there is no file."""

import base64
import errno
import fcntl
import gzip
import hashlib
import json
import os
import random
import threading
import tracemalloc

import pytest

from sparkneuro.data.download import part_file
from sparkneuro.data.download.download import download
from sparkneuro.data.download.http_request import ask
from sparkneuro.data.download.patience import Patience, Stopped
from sparkneuro.errors import FormatError, StorageError

NAME = "sub-01/func/sub-01_task-rest_bold.nii.gz"
PAGE = b"<!DOCTYPE html><html><body>504 Gateway Time-out</body></html>"
FAST = Patience(retries=3, first_wait=0.001, longest_wait=0.004, timeout=0.4)


def make_gzip(seed=0, n_bytes=1_300_000):
    """Random bytes, so that what is compressed is as long; with a checksum of its own."""
    return gzip.compress(random.Random(seed).randbytes(n_bytes), compresslevel=1, mtime=0)


@pytest.fixture
def fetch(server, tmp_path):
    """A function that downloads a file of the server and returns what is on the disk and the record."""

    def run(name=NAME, patience=FAST, stop=None, on_bytes=None, **known):
        target = tmp_path / "out" / name
        record = download(server.entry(name, **known), str(target), ask, patience, on_bytes=on_bytes, stop=stop)
        assert [path.name for path in target.parent.iterdir()] == [target.name]  # the part and its state are gone
        return target.read_bytes(), record

    return run


def left_behind(tmp_path):
    """Files that are there after a failure."""
    return sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())


def test_a_file_comes_whole_with_its_hash_and_version(server, fetch):
    server.files[NAME] = content = make_gzip()
    counted = []
    got, record = fetch(on_bytes=counted.append)
    assert got == content and sum(counted) == len(content)
    assert record["sha256"] == hashlib.sha256(content).hexdigest() and record["size"] == len(content)
    assert record["etag"] == hashlib.sha1(content).hexdigest()[:16]


def test_a_dropped_transfer_goes_on_at_its_byte_and_each_byte_is_sent_once(server, fetch):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"send": n, "drop": True} for n in (400_000, 1, 300_007, 0, 0, 200_000)]
    counted = []
    got, _ = fetch(on_bytes=counted.append)
    assert got == content and sum(counted) == len(content)
    assert server.n_sent[NAME] == len(content)
    stops = (400_000, 400_001, 700_008, 700_008, 700_008, 900_008)
    assert server.asked(NAME) == [None, *(f"bytes={stop}-" for stop in stops)]


@pytest.mark.parametrize("fault", ["ignore_range", "wrong_range"])
def test_a_server_that_cannot_continue_sends_the_file_anew(server, fetch, fault):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"send": 800_000, "drop": True}, {fault: True}]
    assert fetch()[0] == content
    assert server.n_sent[NAME] <= 800_000 + 2 * len(content)


@pytest.mark.parametrize("honest", [True, False], ids=["honest", "ignores If-Range"])
def test_a_file_that_changed_between_two_tries_is_the_new_one_throughout(server, fetch, honest):
    server.files[NAME], new = make_gzip(), make_gzip(seed=1)
    server.faults[NAME] = [{"send": 800_000, "drop": True}, {"change_to": new, "ignore_version": not honest}]
    assert fetch()[0] == new


def test_without_a_version_an_interrupted_text_begins_anew(server, fetch):
    server.etags = False
    server.files["a.txt"] = content = b"line\n" * 300_000
    server.faults["a.txt"] = [{"send": 800_000, "drop": True}]
    assert fetch("a.txt")[0] == content
    assert server.asked("a.txt") == [None, None]


def test_what_another_call_has_left_is_continued_not_repeated(server, fetch, tmp_path):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"send": 900_000, "drop": True}] + [{"status": 500}] * 4
    with pytest.raises(StorageError, match=f"{NAME}: the server answered 500; tried 4 times"):
        fetch()
    part = ".sub-01_task-rest_bold.nii.gz.part"
    assert left_behind(tmp_path) == [part, f"{part}.json"]
    assert fetch()[0] == content and server.n_sent[NAME] == len(content)


def test_damage_of_a_part_on_the_disk_is_noticed(server, fetch, tmp_path):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"send": 900_000, "drop": True}] + [{"status": 500}] * 4
    with pytest.raises(StorageError):
        fetch()
    part = next((tmp_path / "out").rglob("*.part"))
    damaged = bytearray(part.read_bytes())
    damaged[500_000:500_100] = bytes(100)
    part.write_bytes(damaged)
    assert fetch()[0] == content


def test_a_part_whose_state_is_lost_or_of_another_source_is_not_used(server, fetch, tmp_path):
    server.files[NAME] = content = make_gzip()
    target = tmp_path / "out" / NAME
    part = target.with_name(f".{target.name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(make_gzip(seed=2)[:500_000])
    assert fetch()[0] == content
    part.write_bytes(make_gzip(seed=2)[:500_000])
    part.with_name(f"{part.name}.json").write_text('{"url": "http://elsewhere/", "size": 1400000, "etag": "a"}')
    assert fetch()[0] == content and server.asked(NAME) == [None, None]


def test_a_part_of_an_older_version_is_dropped_even_when_it_is_complete(server, fetch, tmp_path):
    old, server.files[NAME] = make_gzip(), make_gzip(seed=1)
    target = tmp_path / "out" / NAME
    part = target.with_name(f".{target.name}.part")
    part.parent.mkdir(parents=True)
    state = {"url": server.entry(NAME)["url"], "size": len(old), "etag": "old", "modified": None, "checksum": None}
    for known in ({"etag": "new"}, {"size": len(old) + 1}):
        part.write_bytes(old)
        part.with_name(f"{part.name}.json").write_text(json.dumps(state))
        server.faults[NAME] = [{"status": 404}]
        with pytest.raises(StorageError, match="no such file"):
            fetch(**known)
        assert server.asked(NAME)[-1] is None and left_behind(tmp_path) == []


def test_a_checksum_that_is_learnt_later_holds_for_what_came_before(server, fetch, tmp_path):
    server.files["a.bin"] = content = random.Random(5).randbytes(1_300_000)
    server.faults["a.bin"] = [{"send": 900_000, "drop": True}] + [{"status": 500}] * 4
    with pytest.raises(StorageError):
        fetch("a.bin")
    part = next((tmp_path / "out").rglob("*.part"))
    part.write_bytes(bytes(1000) + content[1000:900_000])
    assert fetch("a.bin", checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")[0] == content


def test_a_content_length_that_is_too_small_is_caught_by_the_gzip_checksum(server, fetch):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"claim": 700_000, "send": 700_000}]
    assert fetch()[0] == content


def test_a_content_length_that_is_too_large_is_a_broken_transfer(server, fetch):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"claim": len(content) + 1000}]
    assert fetch()[0] == content


def test_a_checksum_that_is_known_outweighs_what_the_server_announces(server, fetch):
    server.files[NAME] = content = make_gzip()
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    server.faults[NAME] = [{"claim": len(content) + 1000}]
    assert fetch(size=len(content), checksum=checksum)[0] == content
    assert server.n_sent[NAME] == len(content)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_another_content_than_the_checksums_is_never_kept(server, fetch, tmp_path, algorithm):
    server.files["a.bin"] = b"right" * 5000
    digest = hashlib.new(algorithm, server.files["a.bin"]).hexdigest()
    assert fetch("a.bin", checksum=f"{algorithm}:{digest}")[0] == b"right" * 5000
    (tmp_path / "out" / "a.bin").unlink()
    server.files["a.bin"] = b"wrong" * 5000
    with pytest.raises(FormatError, match=f"a.bin: its {algorithm} should be {digest} and is"):
        fetch("a.bin", checksum=f"{algorithm}:{digest}")
    assert left_behind(tmp_path) == []
    assert len(server.asked("a.bin")) == 4  # one that was right, and three that were not: no terabytes for a wrong list


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (NAME, make_gzip(n_bytes=5000)),
        ("a.nii", (348).to_bytes(4, "little") + bytes(400)),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(90)),
        ("a.json", b'{"RepetitionTime": 2.0}'),
        ("participants.tsv", b"participant_id\tage\nsub-01\tn/a\n"),
        ("sub-01_dwi.bval", b"0 1000 1000\n"),
    ],
    ids=["nii.gz", "nii", "h5", "json", "tsv", "bval"],
)
@pytest.mark.parametrize(
    "body",
    [PAGE, b"\n <?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", b"<Error><Code>SlowDown</Code></Error>"],
    ids=["html", "xml", "bare xml"],
)
def test_an_error_page_with_status_200_is_tried_again_and_never_kept(server, fetch, tmp_path, name, content, body):
    server.files[name] = content
    server.faults[name] = [{"status": 200, "body": body}, {"status": 504, "body": body}, {"status": 200, "body": body}]
    assert fetch(name)[0] == content
    (tmp_path / "out" / name).unlink()
    server.faults[name] = [{"status": 200, "body": body}] * 9
    with pytest.raises(FormatError, match="this is a web page, not"):
        fetch(name)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("name", [NAME, "a.nii", "a.h5", "a.json"])
@pytest.mark.parametrize("body", [b'{"message": "Not Found", "status": "404"}', b"", b"Internal error"])
def test_an_error_message_with_status_200_is_no_image_and_no_sidecar(server, fetch, tmp_path, name, body):
    server.files[name] = b"?"
    server.faults[name] = [{"status": 200, "body": body}] * 9
    with pytest.raises(FormatError, match=name):
        fetch(name)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "pointer", [b"/annex/objects/MD5E-s9--0123456789abcdef0123456789abcdef.nii.gz\n", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_pointer_to_the_content_is_refused_at_once(server, fetch, tmp_path, pointer):
    server.files[NAME] = pointer
    with pytest.raises(FormatError, match="this is a pointer to the file, not the file"):
        fetch()
    assert left_behind(tmp_path) == [] and len(server.asked()) == 1


def test_a_throttling_server_slows_and_does_not_fail(server, fetch):
    server.files[NAME] = content = make_gzip()
    slow = {"status": 429, "headers": {"Retry-After": "0.01"}, "body": b"slower"}
    busy = {"status": 503, "body": b"<Error><Code>SlowDown</Code></Error>"}
    server.faults[NAME] = [slow] * 9 + [{"send": 500_000, "drop": True}] + [busy] * 9
    assert fetch()[0] == content and server.n_sent[NAME] == len(content)
    assert len(server.asked()) == 20


def test_the_wait_that_a_server_asks_for_is_kept(server, fetch):
    server.files["a.txt"] = b"text"
    server.faults["a.txt"] = [{"status": 429, "headers": {"Retry-After": "3600"}}]
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        fetch("a.txt", stop=stop)
    assert len(server.asked()) == 1


def test_a_stalled_connection_is_given_up_and_continued(server, fetch):
    server.files[NAME] = content = make_gzip()
    server.faults[NAME] = [{"send": 600_000, "stall": True}]
    assert fetch()[0] == content and server.n_sent[NAME] == len(content)


@pytest.mark.parametrize(("status", "message"), [(404, "the server has no such file"), (403, "refuses it .403: Not you.")])
def test_what_no_further_try_can_mend_is_said_at_once(server, fetch, tmp_path, status, message):
    server.faults[NAME] = [{"status": status, "body": b"<Error><Message>Not you</Message></Error>"}]
    with pytest.raises(StorageError, match=message):
        fetch()
    assert len(server.requests) == 1 and left_behind(tmp_path) == []


def test_a_server_that_is_not_there_is_said(server, fetch, tmp_path):
    server.close()
    with pytest.raises(StorageError, match="there is no connection to the server; tried 4 times"):
        fetch()
    server.closing.clear()


def test_a_body_of_unknown_length_comes_whole(server, fetch):
    chunks = b"5\r\nhello\r\n6\r\n world\r\n"
    server.files["a.txt"] = b"hello world"
    chunked = {"status": 200, "headers": {"Transfer-Encoding": "chunked"}}
    server.faults["a.txt"] = [{**chunked, "body": chunks, "drop": True}, {**chunked, "body": chunks + b"0\r\n\r\n"}]
    assert fetch("a.txt")[0] == b"hello world"
    assert len(server.asked("a.txt")) == 2


def test_redirections_are_followed(server, fetch):
    server.files["b.txt"] = b"moved"
    server.faults["a.txt"] = [{"status": 302, "headers": {"Location": "/b.txt"}}]
    assert fetch("a.txt")[0] == b"moved"


def test_a_checksum_in_the_answer_is_compared(server, fetch):
    right = base64.b64encode(hashlib.md5(b"text").digest()).decode()
    server.faults["a.txt"] = [{"status": 200, "body": b"tent", "headers": {"Content-MD5": right}}] * 9
    with pytest.raises(FormatError, match="its md5 should be"):
        fetch("a.txt")


def test_an_uncompressed_image_that_is_shorter_than_its_header_says_is_refused(server, fetch, write_bold):
    path, _ = write_bold("a_bold.nii")
    whole = open(path, "rb").read()
    server.files["a_bold.nii"] = whole[:-1]
    with pytest.raises(FormatError, match=f"the header promises {len(whole)} bytes, and {len(whole) - 1} came"):
        fetch("a_bold.nii")
    server.files["a_bold.nii"] = whole
    assert fetch("a_bold.nii")[0] == whole


def test_a_full_disk_is_one_sentence_and_the_part_is_continued(server, fetch, tmp_path, monkeypatch):
    server.files[NAME] = content = make_gzip()
    room = [700_000]

    def write(file, view):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        n_bytes = min(len(view), room[0])
        room[0] -= n_bytes
        return os.write(file, view[:n_bytes])

    with monkeypatch.context() as patch:
        patch.setattr(part_file, "os", type("Full", (), {**vars(os), "write": staticmethod(write)}))
        with pytest.raises(StorageError, match="the disk is full; free some space"):
            fetch()
    part = next((tmp_path / "out").rglob("*.part"))
    assert part.read_bytes() == content[:700_000]
    assert fetch()[0] == content and server.asked(NAME)[-1] == "bytes=700000-"


def test_a_file_that_another_process_fetches_is_left_to_it(server, fetch, tmp_path):
    server.files[NAME] = make_gzip()
    target = tmp_path / "out" / NAME
    target.parent.mkdir(parents=True)
    with open(target.with_name(f".{target.name}.part"), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process is fetching this file"):
            fetch()


def test_stopping_keeps_what_has_come(server, fetch, tmp_path):
    server.files[NAME] = content = make_gzip()
    stop, seen = threading.Event(), []

    def watch(n_bytes):
        seen.append(n_bytes)
        if sum(seen) > 500_000:
            stop.set()

    with pytest.raises(Stopped):
        fetch(stop=stop, on_bytes=watch)
    n_kept = next((tmp_path / "out").rglob("*.part")).stat().st_size
    assert 500_000 < n_kept < len(content)
    assert fetch()[0] == content and server.asked(NAME)[-1] == f"bytes={n_kept}-"


def test_one_connection_serves_many_files(server, fetch):
    for number in range(20):
        server.files[f"{number}/a.txt"] = b"text" * number
        fetch(f"{number}/a.txt")
    assert server.n_connections == 1


def test_memory_stays_small_whatever_the_size(server, tmp_path):
    server.files["a.bin"] = content = random.Random(3).randbytes(24_000_000)
    entry = server.entry("a.bin", checksum=f"md5:{hashlib.md5(content).hexdigest()}")
    tracemalloc.start()
    try:
        download(entry, str(tmp_path / "a.bin"), ask, FAST)
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
