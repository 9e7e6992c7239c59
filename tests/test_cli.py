"""The command line: finding commands, help, errors as one sentence, and an end that is clean."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from sparkneuro import __version__, cli
from sparkneuro.errors import FormatError, require
from sparkneuro.pipelines.settings import argument, option


@dataclass(frozen=True)
class Settings:
    """Settings of a made-up command."""

    table: str = argument("table to read")
    n_parts: int = option(3, "parts to make")


@pytest.fixture
def command(monkeypatch):
    """Register a command of one test: ``command(run)`` makes `sparkneuro try it` call run(settings, spark)."""

    def register(run):
        module = SimpleNamespace(__doc__="Try something.", Settings=Settings, run=run, needs_spark=lambda settings: False)
        monkeypatch.setitem(cli.COMMANDS, "try it", ("made_up", "try something"))
        real = cli.import_module
        monkeypatch.setattr(cli, "import_module", lambda name: module if name == "sparkneuro.made_up" else real(name))

    return register


def test_a_command_of_two_words_gets_its_settings(command, capsys):
    command(lambda settings, spark: {"table": settings.table, "parts": settings.n_parts})
    assert cli.main(["try", "it", "a.voxels", "--n-parts", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == ["table  a.voxels", "parts  5"]


def test_an_error_of_the_user_is_one_sentence(command, capsys):
    def run(settings, spark):
        raise FormatError("a.voxels: this is no voxel table.")

    command(run)
    assert cli.main(["try", "it", "a.voxels"]) == 1
    assert capsys.readouterr().err == "sparkneuro: error: a.voxels: this is no voxel table.\n"


def test_a_missing_extra_is_named_with_its_pip_command(command, capsys):
    command(lambda settings, spark: require("nilearn_that_is_absent", "neuro"))
    assert cli.main(["try", "it", "a.voxels"]) == 1
    assert "pip install 'sparkneuro[neuro]'" in capsys.readouterr().err


def test_an_import_of_an_absent_library_is_named_with_its_extra_too(command, capsys):
    def run(settings, spark):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    command(run)
    assert cli.main(["try", "it", "a.voxels"]) == 1
    assert capsys.readouterr().err.endswith("tensorflow is not installed; install it with: pip install 'sparkneuro[keras]'\n")


def test_a_defect_keeps_its_traceback(command):
    def run(settings, spark):
        raise ZeroDivisionError("a defect")

    command(run)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        cli.main(["try", "it", "a.voxels"])


def test_an_interrupted_command_ends_with_130(command, capsys):
    def run(settings, spark):
        raise KeyboardInterrupt

    command(run)
    assert cli.main(["try", "it", "a.voxels"]) == 130
    assert capsys.readouterr().err == "sparkneuro: interrupted; what was finished is kept.\n"


def test_a_termination_is_as_an_interrupt(command):
    command(lambda settings, spark: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["try", "it", "a.voxels"]) == 130
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], "there is no command 'nonsense'"),
        (["train"], "train what? One of: train dca"),
        (["try", "it"], "the following arguments are required: TABLE"),
        (["try", "it", "x", "--n-parts", "many"], "invalid int value: 'many'"),
    ],
)
def test_words_that_make_no_sense_end_with_2(command, capsys, words, sentence):
    command(lambda settings, spark: None)
    assert cli.main(words) == 2
    assert sentence in capsys.readouterr().err


def test_the_overview_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.COMMANDS)


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sparkneuro {__version__}\n"


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS])
def test_every_command_has_help(name, capsys):
    pytest.importorskip("keras", reason="needs all extras")
    assert cli.main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: sparkneuro {name}") and "--log" in shown


INTERRUPTED = """
import sys, time
from types import SimpleNamespace
from dataclasses import dataclass
from sparkneuro import cli

@dataclass(frozen=True)
class Settings:
    pass

def wait(_):
    import time
    time.sleep(300)

def run(settings, spark):
    print("ready", flush=True)
    spark.sparkContext.parallelize(range(2), 2).foreach(wait)

module = SimpleNamespace(__doc__="Wait.", Settings=Settings, run=run)
cli.COMMANDS["wait"] = ("waiting", "wait")
real = cli.import_module
cli.import_module = lambda name: module if name == "sparkneuro.waiting" else real(name)
sys.exit(cli.main(["wait"]))
"""


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_during_a_spark_job_stops_everything(number):
    psutil = pytest.importorskip("psutil")
    environment = {**os.environ, "SPARK_MASTER": "local[2]"}
    environment.pop("SPARK_SUBMIT_OPTS", None)
    driver = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert driver.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while len(tasks := psutil.Process(driver.pid).children(recursive=True)) < 4 and time.monotonic() < deadline:
            os.sched_yield()  # the JVM, the daemon and two workers
        driver.send_signal(number)
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130
    assert said == "sparkneuro: interrupted; what was finished is kept.\n"
    _, alive = psutil.wait_procs(tasks, timeout=20)
    assert not alive
