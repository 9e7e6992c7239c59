"""An attempt: how it ends, what it leaves in the log, and that nothing of it lives on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparkneuro.errors import PreprocessingError
from sparkneuro.preprocess.apps.attempt import app_environment, run_attempt
from sparkneuro.preprocess.apps.attempt_log import note, read_tail
from sparkneuro.preprocess.apps.process_tree import list_descendants, measure_memory


@pytest.fixture
def attempt(tmp_path):
    """Runs a shell script; its log is log.txt."""
    return lambda script, **limits: run_attempt(
        ["sh", "-c", script], str(tmp_path / "log.txt"), str(tmp_path), **{"grace": 0.3, **limits}
    )


@pytest.mark.processes
@pytest.mark.parametrize(
    ("script", "failure", "exit_code"),
    [
        ("true", "", 0),
        ("exit 7", "exit code 7", 7),
        ("kill -SEGV $$", "it was killed by SIGSEGV", -signal.SIGSEGV),
        ("exit 137", "exit code 137, as the system does when memory is short (--memory-gb)", 137),
    ],
)
def test_the_end_of_a_program_is_told(attempt, script, failure, exit_code):
    ending = attempt(script)
    assert (ending.failure, ending.exit_code) == (failure, exit_code) and ending.seconds > 0


@pytest.mark.processes
def test_a_program_that_is_not_there_is_told(tmp_path):
    ending = run_attempt([str(tmp_path / "absent")], str(tmp_path / "log.txt"), str(tmp_path))
    assert ending.failure.endswith("absent could not be started: No such file or directory") and ending.exit_code is None


@pytest.mark.processes
def test_output_is_appended_and_has_both_streams(attempt, tmp_path):
    note(str(tmp_path / "log.txt"), "first")
    attempt("echo out; echo err >&2")
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("=== ") and "first\n" in text and read_tail(str(tmp_path / "log.txt")) == ["out", "err"]


@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds orphans by a means of Linux")
def test_processes_in_sessions_of_their_own_are_ended_too(attempt, tmp_path):
    started = time.monotonic()
    daemon = "trap '' TERM; echo $$ > daemon; while :; do sleep 0.1; done"
    ending = attempt(f'setsid sh -c "{daemon.replace("$", chr(92) + "$")}" & sleep 60', timeout=1.0)
    assert "took longer than --timeout" in ending.failure and time.monotonic() - started < 20
    assert not Path(f"/proc/{(tmp_path / 'daemon').read_text().strip()}").exists()


@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a child ends with its parent by a means of Linux")
def test_an_app_does_not_outlive_a_supervisor_that_is_killed(attempt, tmp_path):
    with pytest.raises(PreprocessingError, match="the process that watched over the app died"):
        attempt("echo $$ > pid; kill -KILL $PPID; sleep 60")
    deadline = time.monotonic() + 20
    while (place := Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")).exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not place.exists()


def test_an_app_is_not_told_of_spark():
    variables = app_environment({
        "PATH": "/bin", "SPARK_ENV_LOADED": "1", "PYSPARK_PYTHON": "x", "PYTHON_WORKER_FACTORY_SECRET": "x",
        "OMP_NUM_THREADS": "4",
        "PYTHONPATH": "/lib/pyspark.zip:/lib/py4j-0.10-src.zip:/home/ada/lib",
    })
    assert variables == {"PATH": "/bin", "OMP_NUM_THREADS": "4", "PYTHONPATH": "/home/ada/lib", "PYTHONUNBUFFERED": "1"}


def test_the_tail_is_of_this_attempt_and_without_our_own_lines(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    start = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b"one\n\n=== ours\ntwo\nbroken \xff text\n")
    assert read_tail(str(path), n_lines=3, start=start) == ["one", "two", "broken \ufffd text"]
    assert read_tail(str(path), n_lines=1) == ["broken \ufffd text"] and read_tail(str(tmp_path / "absent")) == []


@pytest.mark.processes
def test_descendants_are_found_with_their_memory():
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        while len(found := list_descendants(child.pid)) < 1:
            os.sched_yield()
        assert {child.pid, *found} <= set(list_descendants(os.getpid()))
        assert all(n_bytes > 0 for n_bytes in found.values())
        for pid in found:
            os.kill(pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_shared_memory_is_counted_once_when_it_matters():
    me = {os.getpid(): 10**12}
    assert measure_memory(me, limit=10**13) == 10**12
    assert 0 < measure_memory(me, limit=10**11) < 10**11
