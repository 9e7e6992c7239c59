"""Show how the trainings stand that run on this machine: progress, loss, workers, servers, time left.

Asks the driver of every training of this user; a training is not held up by it. Nothing is shown of trainings that other users
or other machines have started.
"""

import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass

from pyarrow import flight

from sparkneuro.errors import TrainingError
from sparkneuro.pipelines.settings import option
from sparkneuro.train.parameter_server.directory import DirectoryClient
from sparkneuro.train.run_file import read_runs
from sparkneuro.validation import check_number

# A driver answers from memory; one that does not within this time (s) is stopped (Ctrl-Z) or hangs.
ANSWER_S = 3.0


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro status``; see each field's help."""

    output: str = option(None, "only the training that writes this model folder (default: all)")
    watch: float = option(None, "show it again every so many seconds, while a training runs", type=float)
    json: bool = option(False, "write one line of JSON, a list of trainings, instead of text")


def needs_spark(settings):
    """Say whether a Spark session is needed: never.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    needed : bool
        False.
    """
    return False


def run(settings, spark):
    """Show the running trainings.

    Parameters
    ----------
    settings : Settings
        The job's settings.
    spark : None
        Not used.

    Returns
    -------
    text : str or None
        What there is to show; None when the user ended the watching.

    Raises
    ------
    SettingsError
        When the interval makes no sense.
    """
    if settings.watch is None:
        return _text(list_trainings(settings.output), settings)
    check_number("watch", settings.watch, 0, 86400, exclusive=True)
    try:
        while trainings := list_trainings(settings.output):
            # What `run` returns is shown at its end; this is the one command that has something to show before.
            sys.stdout.write(_text(trainings, settings) + ("\n" if settings.json else "\n\n"))
            sys.stdout.flush()
            time.sleep(settings.watch)
    except KeyboardInterrupt:
        return None
    return _text([], settings)


def list_trainings(output=None):
    """Ask the running trainings of this user on this machine; delete the files of those that are gone.

    Parameters
    ----------
    output : str or None
        Model folder of the one that is wanted; all when absent.

    Returns
    -------
    trainings : list of dict
        As of `summarise`, the oldest first.
    """
    trainings = []
    for found in read_runs():
        if output is None or _writes(found.facts, output):
            answer, is_there = _ask(found)
            if is_there:
                trainings.append(summarise(found.facts, answer, time.time()))
            else:
                found.delete()
    return trainings


def summarise(facts, answer, now):
    """Put together what a run's file and its driver say.

    Parameters
    ----------
    facts : dict
        Of `RunFile`.
    answer : dict or None
        The directory's status, empty while the training starts; None when the driver did not answer.
    now : float
        Seconds since 1970.

    Returns
    -------
    training : dict
        Fit for JSON; what is not known is None.
    """
    said = answer or {}
    rows, rate, total = said.get("rows"), said.get("series_per_s"), said.get("n_rows_total", facts.get("n_rows_total"))
    n_ended, epochs = len(said.get("epochs") or []), facts.get("epochs")
    losses = [epoch.get("validation_loss") for epoch in said.get("history") or []]
    known = {name: facts.get(name) for name in ("output", "cwd", "pid", "started", "n_workers", "n_servers", "epochs")}
    heard = ("rows", "loss", "series_per_s", "staleness_max", "versions", "restarts", "checkpoint_version", "checkpoint_error")
    return {
        **known,
        "state": _state(answer),
        "epoch": min(n_ended + 1, epochs or n_ended + 1) if said else None,
        "n_rows_total": total,
        "percent": 100 * rows / total if rows is not None and total else None,
        **{name: said.get(name) for name in heard},
        "validation_loss": next((loss for loss in reversed(losses) if loss is not None), None),
        "workers_registered": len(said["registered"]) if "registered" in said else None,
        "workers_unfinished": len(said["unfinished"]) if "unfinished" in said else None,
        "bad_calls": said.get("bad_calls"),
        "idle_s": said.get("idle_s"),
        "elapsed_s": max(now - facts["started"], 0.0) if "started" in facts else None,
        "left_s": max(total - rows, 0) / rate if rows is not None and total and rate else None,
    }


def describe(training):
    """Write a training as text.

    Parameters
    ----------
    training : dict
        Of `summarise`.

    Returns
    -------
    text : str
        A line each; what is not known has none.
    """
    began = "" if training["started"] is None else time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(training["started"]))
    lines = [f"{training['output'] or 'a training'} (process {training['pid']}{began}): {training['state']}"]
    told = {
        "epoch": _of(training["epoch"], training["epochs"]),
        "series": _of(training["rows"], training["n_rows_total"], training["percent"]),
        "loss": _number(training["loss"], ".4g"),
        "validation loss": _number(training["validation_loss"], ".4g"),
        "series/s": _number(training["series_per_s"], ",.0f"),
        "staleness": _number(training["staleness_max"], "d", "at most {} in this epoch"),
        "workers": _workers(training),
        "servers": _servers(training),
        "checkpoint": _checkpoint(training),
        "refused calls": _number(training["bad_calls"], ",d"),
        "sign of life": _seconds(training["idle_s"], "{} ago"),
        "elapsed": _seconds(training["elapsed_s"]),
        "left": _seconds(training["left_s"], "about {}"),
    }
    return "\n".join([*lines, *(f"  {label:<16}{text}" for label, text in told.items() if text is not None)])


def _ask(found):
    """What the driver says, or None; and whether the training is there at all."""
    try:
        with closing(DirectoryClient(found.directory, found.credentials, ANSWER_S)) as client:
            return client.act("status"), True
    except TrainingError as error:
        # Nobody listens there, or another run does: this one is gone. Who listens and is silent may wake up.
        return None, isinstance(error.__cause__, flight.FlightTimedOutError) and _is_alive(found.facts.get("pid"))


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False  # the number belongs to a process of another user by now
    except (ProcessLookupError, TypeError):
        return False
    return True


def _writes(facts, output):
    written = facts.get("output")
    if not isinstance(written, str):
        return False
    return output == written or os.path.abspath(output) == os.path.normpath(os.path.join(facts.get("cwd", ""), written))


def _state(answer):
    if answer is None:
        return f"does not answer within {ANSWER_S:g} s"
    if not answer.get("registered"):
        return "starting"
    if answer.get("stopping"):
        return "ending early"
    return "warming up" if answer.get("warming_up") else "training"


def _text(trainings, settings):
    if settings.json:
        return json.dumps(trainings)
    if trainings:
        return "\n\n".join(describe(training) for training in trainings)
    if settings.output is not None:
        return f"no training of this user that writes {settings.output} is running on this machine."
    return "no training of this user is running on this machine."


def _number(value, form, sentence="{}"):
    return None if value is None else sentence.format(format(value, form))


def _of(value, total, percent=None):
    if value is None:
        return None
    share = "" if percent is None else f" ({percent:.1f} %)"
    return f"{value:,}{share}" if total is None else f"{value:,} of {total:,}{share}"


def _workers(training):
    registered, unfinished, n_workers = (training[name] for name in ("workers_registered", "workers_unfinished", "n_workers"))
    if registered is None:
        return None if n_workers is None else f"{n_workers} expected"
    left = "" if unfinished is None else f", {unfinished} of them unfinished"
    return f"{_of(registered, n_workers)} registered{left}"


def _servers(training):
    versions, n_servers, restarts = training["versions"], training["n_servers"], training["restarts"]
    if versions is None:
        return None if n_servers is None else f"{n_servers} expected"
    again = f"; started again {restarts} times" if restarts else ""
    return f"{len(versions)}, after {', '.join(f'{version:,}' for version in versions)} updates{again}"


def _checkpoint(training):
    version, complaint = training["checkpoint_version"], training["checkpoint_error"]
    newest = None if version is None else f"after {version:,} updates"
    return newest if complaint is None else f"{newest or 'none'}; the newest failed: {complaint}"


def _seconds(value, sentence="{}"):
    if value is None:
        return None
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    return sentence.format(text)
