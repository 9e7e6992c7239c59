"""The program or container that a preprocessing runs: whether it is there, and which version of the app it holds."""

import functools
import hashlib
import os
import shlex
import shutil
import subprocess

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.apps.attempt import app_environment
from sparkneuro.preprocess.apps.bids_app import FMRIPREP, make_version_command
from sparkneuro.preprocess.apps.derivative_description import find_version as find_number

PATIENCE = 600
"""Seconds to wait for a version; the first start of a container from a slow disk takes minutes."""


def find_program(settings):
    """Find out how the app is run.

    Parameters
    ----------
    settings : sparkneuro.pipelines.preprocess.Settings
        One of its `apptainer`, `docker` and `command` is set.

    Returns
    -------
    runtime : str
        ``"docker"``, ``"apptainer"``, ``"singularity"``, or "" for a program of this machine.
    program : tuple of str
        The image, or the words that start the program.

    Raises
    ------
    SettingsError
        When none or several are set, or what they name is not there.
    """
    ways = {name: getattr(settings, name) for name in ("apptainer", "docker", "command") if getattr(settings, name)}
    if len(ways) != 1:
        got = " and ".join(f"--{name}" for name in ways) or "none of them"
        wanted = "one of --apptainer IMAGE.sif, --docker IMAGE:TAG and --command PROGRAM says how the app is run"
        raise SettingsError(f"{wanted}; got {got}.")
    if "docker" in ways:
        _find("docker", "--docker")
        return "docker", (ways["docker"],)
    if "apptainer" in ways:
        return _find_apptainer(ways["apptainer"])
    return "", _find_command(ways["command"])


def find_version(app):
    """Ask the app for its version, and look at its image.

    Parameters
    ----------
    app : BidsApp
        The app.

    Returns
    -------
    version : str
        As the app says it; "" when it does not.
    image : str
        What tells the image from others; "" without a container.

    Raises
    ------
    SettingsError
        When the image is missing, or fMRIPrep cannot be started.
    """
    image = ""
    if app.runtime == "docker":
        image = _inspect_docker(app.program[0])
    elif app.runtime:
        image = _fingerprint(app.program[0])
    return _ask_version(tuple(make_version_command(app)), app.family == FMRIPREP), image


@functools.lru_cache
def _ask_version(words, required):
    """The answer to ``--version``; asked once in a process, since a container takes a while to start."""
    ended = _run(words)
    said = find_number(ended.stdout) or find_number(ended.stderr)
    if ended.returncode == 0:
        return said
    if required:
        lines = [line for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
        reason = f"exit code {ended.returncode}" + (f", {lines[-1].strip()}" if lines else "")
        raise SettingsError(f"the app does not start: {shlex.join(words)} ended with {reason}.")
    return ""


def _inspect_docker(image):
    ended = _run(("docker", "image", "inspect", "--format", "{{.Id}}", image))
    if ended.returncode == 0:
        return ended.stdout.strip()
    if "no such image" in ended.stderr.lower():
        raise SettingsError(f"docker has no image {image}; fetch it with: docker pull {image}")
    said = " ".join(ended.stderr.split()) or f"exit code {ended.returncode}"
    raise SettingsError(f"docker does not answer for {image}: {said}")


def _run(words):
    try:
        return subprocess.run(
            words, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False,
            env=app_environment(os.environ),
        )
    except OSError as error:
        raise SettingsError(f"{words[0]} could not be started: {error.strerror or error}.") from error
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"{shlex.join(words)} has not ended within {PATIENCE} s.") from error


def _find(name, option):
    path = shutil.which(name)
    if path is None:
        raise SettingsError(f"{option} needs {name}, which is not on the PATH here; install it, or run the app otherwise.")
    return path


def _find_apptainer(image):
    runtime = next((name for name in ("apptainer", "singularity") if shutil.which(name)), None)
    runtime = runtime or _find("apptainer", "--apptainer") and "apptainer"
    if not os.path.exists(image):
        raise SettingsError(
            f"--apptainer: there is no image {image}; make one with: apptainer build fmriprep.sif docker://nipreps/fmriprep:VERSION"
        )
    return runtime, (os.path.abspath(image),)


def _find_command(text):
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"--command: these words cannot be read as a shell would ({error}): {text}.") from error
    if not words or shutil.which(words[0]) is None:
        missing = words[0] if words else text
        raise SettingsError(f"--command: there is no program {missing} on the PATH here; install it, or give its path.")
    # A task has a working folder of its own.
    return (os.path.abspath(words[0]) if "/" in words[0] else words[0], *words[1:])


def _fingerprint(image):
    """Size of an image and hash of its first megabyte, in which a SIF holds its unique id; a sandbox folder is known by name."""
    if os.path.isdir(image):
        return image
    with open(image, "rb") as file:
        start = hashlib.sha256(file.read(1 << 20)).hexdigest()
    return f"{os.path.getsize(image)}:{start}"
