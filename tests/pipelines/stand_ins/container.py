#!/usr/bin/env python3
"""A stand-in for docker and apptainer, whichever its first word names: checks its words and runs the fMRIPrep stand-in.

What is not bound is not there: a path of the app that no mount covers is an error, as within a container. As with the real
ones, apptainer becomes the app, while docker is only a client of a daemon (`dockerd.py`, at $STAND_IN_DOCKERD), whose child
the app is.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import sys

APP = pathlib.Path(__file__).resolve().parent / "fmriprep.py"


def main():
    name, words = sys.argv[1], sys.argv[2:]
    if name == "docker" and words[:2] == ["image", "inspect"]:
        if words[-1].startswith("absent"):
            sys.exit(f"Error response from daemon: No such image: {words[-1]}")
        print("sha256:" + "5" * 64)
    elif name == "docker" and words[:2] == ["rm", "--force"]:
        ask({"signal": int(signal.SIGKILL), "name": words[2]})
    elif words[0] == "run":
        sys.exit(run_docker(words[1:]) if name == "docker" else run_apptainer(words[1:]))
    else:
        sys.exit(f"{name}: unknown command {words[0]}")


def run_docker(words):
    parser = argparse.ArgumentParser(prog="docker run", allow_abbrev=False)
    for flag in ("--rm", "--init"):
        parser.add_argument(flag, action="store_true", required=True if flag == "--rm" else False)
    for option in ("--name", "--user", "--cpus", "--memory", "--memory-swap", "--workdir"):
        parser.add_argument(option)
    for option in ("--mount", "--env"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(words)
    mounts = []
    for mount in options.mount:
        fields = dict(field.partition("=")[::2] for field in mount.split(","))
        mounts.append((fields["source"], fields["target"], "readonly" in fields))
    check(mounts, options.words)
    if options.words[-1:] == ["--version"]:
        os.execv(sys.executable, [sys.executable, "-S", APP, "--version"])
    signal.signal(signal.SIGTERM, lambda number, frame: ask({"signal": number, "name": options.name}))
    started = {"run": [sys.executable, "-S", str(APP), *options.words], "env": environment(options.env), "cwd": options.workdir}
    return ask({**started, "name": options.name}, [1, 2])


def ask(request, descriptors=()):
    """Send the daemon a request, with the files that a container writes to; return its answer when that comes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["STAND_IN_DOCKERD"])
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], list(descriptors))
        answer = b""
        while piece := connection.recv(64):
            answer += piece
    return int(answer or 125)


def run_apptainer(words):
    parser = argparse.ArgumentParser(prog="apptainer run", allow_abbrev=False)
    parser.add_argument("--cleanenv", action="store_true", required=True)
    parser.add_argument("--nv", action="store_true")
    parser.add_argument("--pwd")
    for option in ("--bind", "--env"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args(words)
    binds = [bind.split(":") for bind in options.bind]
    check([(bind[0], bind[1], bind[2:] == ["ro"]) for bind in binds], options.words)
    os.chdir(options.pwd or ".")
    os.execve(sys.executable, [sys.executable, "-S", APP, *options.words], environment(options.env))


def check(mounts, words):
    for source, _, _ in mounts:
        if not os.path.exists(source):
            sys.exit(f"bind source path does not exist: {source}")
    writable = [target for _, target, fixed in mounts if not fixed]
    covered = [target for _, target, _ in mounts]
    for word in words:
        if word.startswith("/") and not any(word == target or word.startswith(f"{target}/") for target in covered):
            sys.exit(f"fmriprep: error: Path does not exist: <{word}>.")
    if len(words) > 1 and words[1] not in writable:
        sys.exit(f"{words[1]}: Read-only file system")
    if "STAND_IN" in os.environ:
        (pathlib.Path(os.environ["STAND_IN"]) / "mounts.json").write_text(json.dumps(mounts))


def environment(variables):
    """Of the host only what the stand-in needs: a container starts with a clean environment."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("STAND_IN") or name == "PATH"}
    return {**kept, **dict(variable.split("=", 1) for variable in variables)}


if __name__ == "__main__":
    main()
