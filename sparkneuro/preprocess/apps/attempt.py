"""One attempt to run an app: started under a supervisor, and told how it ended in one sentence."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from sparkneuro.errors import PreprocessingError

GRACE = 10.0
"""Seconds that an app has between SIGTERM and SIGKILL."""

# What Spark sets for its Python workers, and what keeps memory in our own, is nothing to an app.
_OF_SPARK = ("SPARK_", "PYSPARK_", "PYTHON_WORKER_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Parameters
    ----------
    failure : str
        Why it failed; "" when the app ended with exit code 0.
    exit_code : int or None
        The app's exit code; None when it was terminated, or not started.
    seconds : float
        How long it took.
    peak : int
        Largest memory seen (bytes); 0 where a container's runtime watches it.
    """

    failure: str
    exit_code: int | None
    seconds: float
    peak: int


def run_attempt(words, log, folder, timeout=None, memory=None, kill=(), grace=GRACE, keep=()):
    """Run an app until it ends or must be ended; nothing of it is left running then.

    Where this process dies while the app runs, the supervisor terminates the app.

    Parameters
    ----------
    words : list of str
        The command.
    log : str
        File to which the app's output is appended.
    folder : str
        Where the app is run.
    timeout : float or None
        Seconds that it may take.
    memory : int or None
        Bytes that the app and all its processes may hold together.
    kill : sequence of str
        Command that ends and removes the app's container; empty where there is none.
    grace : float
        Seconds between SIGTERM and SIGKILL.
    keep : sequence of int
        File descriptors that the supervisor holds open until the last of the app has ended, e.g. of locks.

    Returns
    -------
    ending : Ending
        How it ended.

    Raises
    ------
    PreprocessingError
        When the supervisor itself could not be run.
    """
    order = {
        "words": list(words), "env": app_environment(os.environ), "cwd": folder, "log": log, "timeout": timeout, "memory": memory,
        "grace": grace, "kill": list(kill),
    }
    program = [sys.executable, "-P", "-m", "sparkneuro.preprocess.apps.supervisor"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    supervisor = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True, pass_fds=tuple(keep)
    )
    with supervisor:  # on the way out by an exception its standard input is closed, by which the app is terminated
        supervisor.stdin.write(json.dumps(order).encode() + b"\n")
        supervisor.stdin.flush()
        said = supervisor.stdout.readline()
    if not said:
        raise PreprocessingError(f"the process that watched over the app died (exit code {supervisor.returncode}).")
    told = json.loads(said)
    return Ending(_describe(told, order), told["exit_code"], told["seconds"], told["peak"])


def app_environment(environ):
    """Choose what an app is told of the environment of a Spark task.

    Parameters
    ----------
    environ : mapping of str to str
        Variables of this process.

    Returns
    -------
    variables : dict of str to str
        Without those of Spark, and with unbuffered output, so that a log can be followed.

    Examples
    --------
    >>> app_environment({"HOME": "/home/ada", "SPARK_HOME": "/opt/spark", "PYTHONPATH": "/opt/spark/python/lib/pyspark.zip"})
    {'HOME': '/home/ada', 'PYTHONUNBUFFERED': '1'}
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_OF_SPARK)}
    folders = [folder for folder in kept.pop("PYTHONPATH", "").split(os.pathsep) if folder and not _is_of_spark(folder)]
    return {**kept, **({"PYTHONPATH": os.pathsep.join(folders)} if folders else {}), "PYTHONUNBUFFERED": "1"}


def _is_of_spark(folder):
    return "pyspark" in folder or "py4j" in folder or "spark-core" in folder


def _describe(told, order):
    if told["error"]:
        return f"{order['words'][0]} could not be started: {told['error']}"
    hours, peak, limit = (order["timeout"] or 0) / 3600, told["peak"] / 2**30, (order["memory"] or 0) / 2**30
    stopped = {
        "timeout": f"it took longer than --timeout {hours:g} (hours) and was terminated",
        "memory": f"it took {peak:.2f} GB, more than --memory-gb {limit:g}, and was terminated",
        "signal": "it was terminated by a signal to its supervisor",
        "lifeline": "it was terminated because its Spark task had died",
    }
    if told["stopped_by"]:
        return stopped[told["stopped_by"]]
    code = told["exit_code"]
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}{_MEMORY if -code == signal.SIGKILL else ''}"
    if code == 128 + signal.SIGKILL:
        return f"exit code {code}{_MEMORY}"
    return f"exit code {code}" if code else ""


_MEMORY = ", as the system does when memory is short (--memory-gb)"
