"""A program that runs another one and lets nothing of it outlive the run: ``python -m sparkneuro.preprocess.apps.supervisor``.

It reads one line of JSON from standard input, the order, and writes one line of JSON when all is over. Whoever started it keeps
its standard input open; when that ends, by whatever death, the program and all its descendants are terminated. The order:

    words, env, cwd     what to run, in which environment, where
    log                 file to which the program's output is appended
    timeout, memory     seconds and bytes that it may take; null for no limit
    grace               seconds between SIGTERM and SIGKILL
    kill                words that end and remove a container, which is no descendant of ours; empty where there is none
"""

import json
import os
import select
import signal
import subprocess
import sys
import time

from sparkneuro.preprocess.apps.attempt_log import note
from sparkneuro.preprocess.apps.process_tree import (
    adopt_orphans,
    die_with_parent,
    list_descendants,
    measure_memory,
    reap,
    terminate_descendants,
)

PERIOD = 0.5
"""Seconds between two looks at the memory."""


def supervise(order, lifeline, woken):
    """Run a program to its end, or bring it to one.

    Parameters
    ----------
    order : dict
        As the module says.
    lifeline : int
        File descriptor that reports the end of whoever gave the order.
    woken : int
        File descriptor on which signals arrive as bytes.

    Returns
    -------
    ending : dict
        `exit_code` (negative for a signal; None when the program was stopped or could not be started), `stopped_by` ("timeout",
        "memory", "signal", "lifeline" or None), `peak` (bytes), `seconds`, `error` (why it could not be started, or None).
    """
    _end_container(order)  # one of this name is left of a supervisor that was killed
    started = time.monotonic()
    try:
        with open(order["log"], "ab") as log:
            program = subprocess.Popen(
                order["words"], env=order["env"], cwd=order["cwd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent,
            )
    except OSError as error:
        return {"exit_code": None, "stopped_by": None, "peak": 0, "seconds": 0.0, "error": error.strerror or str(error)}
    exit_code, stopped_by, peak = _watch(program.pid, order, lifeline, woken)
    if stopped_by in ("lifeline", "signal"):
        note(order["log"], f"terminated: its {'Spark task is gone' if stopped_by == 'lifeline' else 'supervisor was told to'}")
    if order["kill"] and exit_code is None:
        _ask_to_end(order["grace"])
    if exit_code != 0:
        # The client may be gone while its container is not, or the program within may not have heeded SIGTERM.
        _end_container(order)
    terminate_descendants(order["grace"] if exit_code is None else min(1.0, order["grace"]))
    return {
        "exit_code": exit_code, "stopped_by": stopped_by, "peak": peak, "seconds": time.monotonic() - started, "error": None,
    }


def _watch(child, order, lifeline, woken):
    """Wait for the child's end or a reason to end it; return its exit code if it has one, the reason, and the peak memory."""
    deadline = float("inf") if order["timeout"] is None else time.monotonic() + order["timeout"]
    limit = float("inf") if order["memory"] is None else order["memory"]
    peak, look = 0, 0.0
    while True:
        left = max(0.0, min(look, deadline) - time.monotonic())
        ready, _, _ = select.select([lifeline, woken], [], [], left)
        ended = reap()
        if child in ended:
            return ended[child], None, peak
        if lifeline in ready and not os.read(lifeline, 1):
            return None, "lifeline", peak
        if woken in ready and set(os.read(woken, 64)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            return None, "signal", peak
        if time.monotonic() >= deadline:
            return None, "timeout", peak
        if time.monotonic() >= look:
            peak = max(peak, measure_memory(list_descendants(os.getpid()), limit))
            if peak > limit:
                return None, "memory", peak
            look = time.monotonic() + PERIOD


def _ask_to_end(grace):
    """Let the container's client pass SIGTERM on, and give the program within some time."""
    for pid in list_descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError:
            pass  # it has ended meanwhile
    deadline = time.monotonic() + grace
    while list_descendants(os.getpid()) and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)


def _end_container(order):
    if not order["kill"]:
        return
    try:
        subprocess.run(
            order["kill"], env=order["env"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=60, check=False,
        )
    except (OSError, subprocess.SubprocessError):
        pass  # the runtime is gone, and with it what could still be done


def main():
    """Take the order from standard input and write the ending to standard output."""
    adopt_orphans()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda number, frame: None)
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            return
        line += piece
    ending = supervise(json.loads(line), 0, woken)
    try:
        os.write(1, json.dumps(ending).encode() + b"\n")
    except BrokenPipeError:
        pass  # nobody is left to be told


if __name__ == "__main__":
    sys.exit(main())
