"""The command as a whole, against a web server on loopback that fails when it is told to."""

import errno
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from sparkneuro.cli import main
from sparkneuro.data.download import part_file
from sparkneuro.data.download.patience import Patience
from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines import fetch, fetch_space
from sparkneuro.pipelines.fetch import Settings
from sparkneuro.pipelines.fetch_source import check_path, fetch_file, list_source, resolve_source

FAST = Patience(retries=3, first_wait=0.001, longest_wait=0.004, timeout=0.4)
BOLD = "sub-{0}/func/sub-{0}_task-rest_bold.nii.gz"


def make_bold(seed, n_bytes=40_000):
    return gzip.compress(random.Random(seed).randbytes(n_bytes), compresslevel=1, mtime=0)


@pytest.fixture
def files(server):
    """A small data set below ds/ on the server, as path -> bytes."""
    content = {
        "dataset_description.json": b'{"Name": "small", "BIDSVersion": "1.8.0"}',
        "participants.tsv": b"participant_id\tage\nsub-01\t30\n",
        "task-rest_bold.json": b'{"RepetitionTime": 2.0}',
        "sub-01/anat/sub-01_T1w.nii.gz": make_bold(9, 30_000),
        **{BOLD.format(subject): make_bold(seed) for seed, subject in enumerate(("01", "02", "11"))},
        "sub-02/func/sub-02 odd name+é.txt": b"",
        "derivatives/fmriprep/sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv": b"csf\n1\n",
    }
    server.files.update({f"ds/{path}": body for path, body in content.items()})
    return content


@pytest.fixture
def run(server, tmp_path):
    """A function that fetches the data set and returns what was said."""

    def call(dataset=f"{server.url}/ds", output=tmp_path / "out", **options):
        return fetch.run(Settings(dataset, output=str(output), **options), patience=FAST)

    return call


def held_by(folder):
    """What a folder holds, but for what the command notes for itself."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".sparkneuro" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_everything_below_an_address_is_fetched(files, run, tmp_path):
    said = run()
    assert "9 files fetched" in said and "all 9 are there" in said
    assert held_by(tmp_path / "out") == files


def test_a_second_time_nothing_is_transferred(server, files, run):
    run()
    before = len(server.asked())
    assert "0 files fetched, 9 there already, 0 failed; all 9 are there." in run()
    assert len(server.asked()) == before
    assert not server.asked(method="HEAD")[len(files) :]  # the dates of the listing were enough


def test_what_changed_on_either_side_is_fetched_again_and_nothing_else(server, files, run, tmp_path):
    server.lists = False
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {path}\n" for path, body in files.items())
    (tmp_path / "list.txt").write_text(sums)
    run(manifest=str(tmp_path / "list.txt"))
    (tmp_path / "out" / BOLD.format("02")).write_bytes(b"damaged")
    os.utime(tmp_path / "out" / BOLD.format("01"))  # touched, with its content as it was
    server.files["ds/participants.tsv"] = new = b"participant_id\tage\nsub-01\t31\n"
    (tmp_path / "list.txt").write_text(sums.replace(*(hashlib.sha256(x).hexdigest() for x in (files["participants.tsv"], new))))
    del server.requests[:]
    assert "2 files fetched" in (said := run(manifest=str(tmp_path / "list.txt"))) and "7 there already" in said
    assert {path for verb, path, _ in server.requests if verb == "GET"} == {f"ds/{BOLD.format('02')}", "ds/participants.tsv"}
    assert held_by(tmp_path / "out") == {**files, "participants.tsv": new}


def test_verify_reads_everything_and_mends_what_is_damaged(server, files, run, tmp_path):
    run()
    path = tmp_path / "out" / BOLD.format("11")
    before = path.stat()
    path.write_bytes(bytes(len(files[BOLD.format("11")])))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "0 files fetched" in run()
    assert "1 file fetched" in run(verify=True)
    assert held_by(tmp_path / "out") == files


def test_files_that_another_tool_has_brought_are_read_and_not_fetched(server, files, run, tmp_path):
    sums = "".join(f"{hashlib.md5(body).hexdigest()}  {path} {len(body)}\n" for path, body in files.items())
    (tmp_path / "list.txt").write_text(sums)
    for path in (BOLD.format("01"), "participants.tsv"):
        (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / path).write_bytes(files[path])
    assert "7 files fetched" in (said := run(manifest=str(tmp_path / "list.txt"))) and "2 there already" in said
    assert not {verb for verb, _, _ in server.requests} - {"GET"}
    assert held_by(tmp_path / "out") == files


def test_a_list_of_sums_beside_the_files_is_found_and_compared(server, files, run, tmp_path):
    server.lists = False
    sums = [f"{hashlib.sha256(body).hexdigest()} *./{path}" for path, body in files.items() if path.startswith("sub-01")]
    server.files["ds/SHA256SUMS"] = "\n".join(sums).encode()
    run()
    assert held_by(tmp_path / "out") == {path: body for path, body in files.items() if path.startswith("sub-01")}
    server.lists = True
    server.files["ds/SHA256SUMS"] = f"{'0' * 64}  participants.tsv".encode()
    with pytest.raises(StorageError, match="1 failed: participants.tsv: its sha256 should be 0000"):
        run()


def test_one_address_of_one_file_is_enough(server, files, run, tmp_path):
    run(f"{server.url}/ds/{BOLD.format('02')}")
    assert held_by(tmp_path / "out") == {"sub-02_task-rest_bold.nii.gz": files[BOLD.format("02")]}


def test_a_name_of_a_git_annex_key_is_its_checksum(server, run, tmp_path):
    body = make_bold(4)
    name = f"MD5E-s{len(body)}--{hashlib.md5(body).hexdigest()}.nii.gz"
    server.files[name] = make_bold(5)
    with pytest.raises(StorageError, match="its md5 should be|are listed"):
        run(f"{server.url}/{name}")
    server.files[name] = body
    run(f"{server.url}/{name}")
    assert held_by(tmp_path / "out") == {name: body}


def test_participants_and_patterns_choose_and_bring_what_describes_them(files, run, tmp_path):
    run(include=("sub-0*/func/*",), output=tmp_path / "a")
    top = {"dataset_description.json", "participants.tsv", "task-rest_bold.json"}
    assert set(held_by(tmp_path / "a")) == {path for path in files if path.startswith("sub-0") and "/func/" in path} | top
    run(participant_label=("sub-01",), exclude=("derivatives",), output=tmp_path / "b")
    assert set(held_by(tmp_path / "b")) == {path for path in files if path.startswith("sub-01")} | top


def test_a_dry_run_lists_and_writes_nothing(server, files, run, tmp_path):
    said = run(dry_run=True)
    assert all(f"{len(body)}  {path}" in said for path, body in files.items())
    total = sum(map(len, files.values()))
    assert f"9 files with {total / 1000:.4g} kB would be transferred; 0 files there already." in said
    assert not server.asked() and not (tmp_path / "out").exists()


def test_a_file_that_is_missing_is_an_error_that_counts_and_names(server, files, run, tmp_path, capsys):
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {path}\n" for path, body in files.items())
    (tmp_path / "list.txt").write_text(sums)
    del server.files[f"ds/{BOLD.format('11')}"]
    words = ["fetch", f"{server.url}/ds", "--output", str(tmp_path / "out"), "--manifest", str(tmp_path / "list.txt")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "8 files fetched" in said and f"1 failed: {BOLD.format('11')}: the server has no such file (404)" in said
    assert len(held_by(tmp_path / "out")) == 8
    server.files[f"ds/{BOLD.format('11')}"] = files[BOLD.format("11")]
    assert main(words) == 0 and held_by(tmp_path / "out") == files


def test_what_the_source_no_longer_has_is_said_and_kept(server, files, run, tmp_path):
    run()
    del server.files["ds/participants.tsv"]
    assert "No longer at the source, and kept: 1 file (participants.tsv)." in run()
    assert held_by(tmp_path / "out") == files


@pytest.mark.parametrize("path", ["../up.txt", "/etc/passwd", "a/../../b", "a//b", ".sparkneuro/fetched.tsv", "a\nb", "", ".."])
def test_names_that_lead_out_of_the_folder_are_refused(path):
    with pytest.raises(FormatError, match="it is refused"):
        check_path(path)
    with pytest.raises(FormatError, match="it is refused"):
        fetch_file({"path": path, "url": "http://127.0.0.1:9/x"}, "/nowhere")


def test_an_unsafe_name_of_a_list_fails_alone(server, files, run, tmp_path):
    right = hashlib.md5(files["participants.tsv"]).hexdigest()
    (tmp_path / "list.txt").write_text(f"{'0' * 64}  ../x\n{right}  participants.tsv\n")
    with pytest.raises(StorageError, match="1 file fetched.*1 failed: '../x': this name leads out of the folder"):
        run(manifest=str(tmp_path / "list.txt"))
    assert set(held_by(tmp_path)) == {"list.txt", "out/participants.tsv"}


def test_too_little_space_is_said_before_anything_is_transferred(server, files, run, monkeypatch):
    monkeypatch.setattr(fetch_space.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 7}))
    with pytest.raises(StorageError, match="kB are missing, and 7 B are free; free some space"):
        run()
    assert not server.asked()


def test_a_server_that_dies_ends_the_fetch_soon(server, files, run):
    for number in range(40):
        server.files[f"ds/{number:02}.txt"] = b"text"
    for path in server.files:
        server.faults[path] = [{"drop": True, "send": 0}] * 99
    with pytest.raises(StorageError, match="there already, [4-9] failed, 4[0-9] not tried: .*the connection broke; tried 4"):
        run(parallel=2)


def test_two_at_once_in_one_folder_are_refused(server, files, run, tmp_path):
    server.faults["ds/participants.tsv"] = [{"stall": True, "send": 3}] * 2
    first = threading.Thread(target=run)
    first.start()
    while not server.asked("ds/participants.tsv"):
        first.join(0.01)
    with pytest.raises(SettingsError, match="another fetch is at work in this folder"):
        run()
    first.join()
    assert held_by(tmp_path / "out") == files


def test_another_source_in_the_same_folder_is_refused_where_they_differ(server, files, run, tmp_path):
    run()
    server.files["other/participants.tsv"] = b"participant_id\nsub-99\n"
    with pytest.raises(SettingsError, match=f"participants.tsv came from {server.url}/ds/participants.tsv; choose"):
        run(f"{server.url}/other")


def test_bad_settings_are_sentences(server, run, tmp_path, files):
    with pytest.raises(SettingsError, match="output is missing"):
        fetch.run(Settings("ds000114"))
    with pytest.raises(SettingsError, match="a data set is ds000114"):
        run("ds114")
    with pytest.raises(SettingsError, match="there is no participant 03; labels here are 01, 02, 11"):
        run(participant_label=("03",))
    with pytest.raises(SettingsError, match="no file matches 'sub-9"):
        run(include=("sub-9*",))
    with pytest.raises(StorageError, match="the server has nothing there"):
        run(f"{server.url}/absent.nii.gz")
    with pytest.raises(SettingsError, match="parallel must be"):
        run(parallel=0)
    assert not (tmp_path / "out").exists()


def test_names_and_pages_of_openneuro_are_its_bucket():
    assert resolve_source("https://openneuro.org/datasets/ds000114/versions/1.0.2") == "s3://openneuro.org/ds000114"


def test_one_listed_file_is_fetched_by_plain_values(server, files, tmp_path):
    entries = json.loads(json.dumps(list_source(f"{server.url}/ds")))
    assert {entry["path"] for entry in entries} == set(files)
    entry = next(entry for entry in entries if entry["path"] == BOLD.format("02"))
    record = json.loads(json.dumps(fetch_file(entry, str(tmp_path / "x.nii.gz"))))
    assert (tmp_path / "x.nii.gz").read_bytes() == files[BOLD.format("02")]
    assert record["sha256"] == hashlib.sha256(files[BOLD.format("02")]).hexdigest()


def start(server, output, *words):
    """The command in a process of its own."""
    command = ["fetch", f"{server.url}/ds", "--output", str(output), *words]
    program = f"import sys; from sparkneuro.cli import main; sys.exit(main({command!r}))"
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_fetch_goes_on_where_it_was(server, files, tmp_path, number):
    large = make_bold(7, 3_000_000)
    server.files["ds/large.nii.gz"] = large
    server.faults["ds/large.nii.gz"] = [{"send": 2_000_000, "stall": True}]
    process = start(server, tmp_path / "out")
    part = tmp_path / "out" / ".large.nii.gz.part"
    record = tmp_path / "out" / ".sparkneuro" / "fetched.tsv"
    done = threading.Event()
    while not (part.exists() and part.stat().st_size == 2_000_000 and len(record.read_text().splitlines()) == 10):
        assert process.poll() is None, process.communicate()
        done.wait(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "what was finished is kept" in said or number == signal.SIGKILL
    assert not (tmp_path / "out" / "large.nii.gz").exists()
    before = dict(server.n_sent)
    process = start(server, tmp_path / "out")
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "1 file fetched" in said and "9 there already" in said
    assert held_by(tmp_path / "out") == {**files, "large.nii.gz": large}
    sent = {path: n for path, n in server.n_sent.items() if n != before.get(path) and path}
    assert sent == {"ds/large.nii.gz": len(large)}


@pytest.mark.processes
def test_many_small_files_share_connections_and_a_second_run_asks_for_none(server, tmp_path):
    for number in range(1500):
        server.files[f"ds/sub-{number % 50:02}/{number}.txt"] = b"text %d" % number
    process = start(server, tmp_path / "out")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "1500 files fetched" in said
    assert server.n_connections < 40
    del server.requests[:]
    process = start(server, tmp_path / "out")
    said, _ = process.communicate(timeout=60)
    assert "1500 there already" in said and not server.asked()


def test_a_disk_that_fills_up_is_one_sentence_and_nothing_that_came_is_lost(server, files, run, tmp_path, monkeypatch):
    server.head = False  # sizes are not known beforehand
    room = [100_000]

    def write(file, view):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        n_bytes = min(len(view), room[0])
        room[0] -= n_bytes
        return os.write(file, view[:n_bytes])

    with monkeypatch.context() as patch:
        patch.setattr(part_file, "os", type("Full", (), {**vars(os), "write": staticmethod(write)}))
        with pytest.raises(StorageError, match="failed, . not tried: [^;]*: the disk is full; free some space") as caught:
            run(f"{server.url}/ds/", parallel=1)
    assert str(caught.value).count("the disk is full") == 1
    whole = {path: body for path, body in held_by(tmp_path / "out").items() if not path.endswith((".part", ".part.json"))}
    assert whole and whole.items() <= files.items()
    run(f"{server.url}/ds/")
    assert held_by(tmp_path / "out") == files
