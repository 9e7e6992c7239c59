"""What one Spark task of preprocessing does: check whether a subject is done, or run the app on it. Plain values in and out."""

import glob
import os
import shlex
import shutil
import time

from sparkneuro.data import store
from sparkneuro.data.storage.folder_lock import hold_lock
from sparkneuro.environment import free_disk
from sparkneuro.errors import SparkneuroError, StorageError
from sparkneuro.preprocess.apps.attempt import run_attempt
from sparkneuro.preprocess.apps.attempt_log import note, read_tail
from sparkneuro.preprocess.apps.expected_outputs import find_problem
from sparkneuro.preprocess.apps.subject_files import (
    describe_inputs,
    describe_outputs,
    find_changed_input,
    list_damaged,
    list_inputs,
    list_outputs,
)
from sparkneuro.preprocess.apps.subject_record import (
    FOLDER,
    find_change,
    finish_record,
    read_record,
    record_path,
    replaced_folder,
    set_aside,
    write_record,
)

WAIT = 60.0
"""Seconds to wait for what is left of an earlier run on a subject: its supervisor is about to end it."""


def progress_folder(output, stage):
    """Tell where tasks leave a mark when they have ended.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    stage : str
        ``"check"`` or ``"preprocess"``.

    Returns
    -------
    folder : str
        Plain path.
    """
    return os.path.join(output, FOLDER, "progress", stage)


def log_path(output, subject):
    """Tell where a subject's log is.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.

    Returns
    -------
    path : str
        Plain path.
    """
    return os.path.join(output, "logs", f"sub-{subject}.log")


def find_reason(job):
    """Find out why a subject is to be done; reads its outputs, and of its raw files those that look changed.

    Parameters
    ----------
    job : dict
        Of `Plan.make_job`.

    Returns
    -------
    reason : str
        "" when it is done already.
    """
    try:
        return find_change(job["output"], job["subject"], job["bids_dir"], job["identity"])
    except (SparkneuroError, OSError) as error:
        return str(error)  # the subject is tried, and fails with this sentence if it still holds


def check_subject(job):
    """Find out, as a task of its own, whether a subject is done.

    Parameters
    ----------
    job : dict
        Of `Plan.make_job`.

    Returns
    -------
    result : dict
        `subject`, and as `reason` why it is not done ("" when it is).
    """
    reason = find_reason(job)
    _mark(job, "check")
    return {"subject": job["subject"], "reason": reason}


def run_subject(job):
    """Run the app on a subject until it is done, or has failed as often as it may.

    Whatever goes wrong is a result, so that Spark neither tries it again nor gives up the other subjects.

    Parameters
    ----------
    job : dict
        Of `Plan.make_job`.

    Returns
    -------
    result : dict
        `subject`, `failure` ("" when it is done), `attempts`, `seconds`, and `tail`, the last lines of the app.
    """
    started, log = time.monotonic(), log_path(job["output"], job["subject"])
    busy = f"another process is still at work on sub-{job['subject']}, or has not ended yet; run the command again later."
    try:
        with hold_lock(record_path(job["output"], job["subject"], ".lock"), busy, WAIT) as lock:
            failure, attempts, tail = _run_locked(job, log, lock)
    except (SparkneuroError, OSError) as error:
        failure, attempts, tail = str(error).rstrip("."), 0, []
        _note_quietly(log, f"not done: {failure}")
    _mark(job, "preprocess")
    seconds = round(time.monotonic() - started, 3)
    return {"subject": job["subject"], "failure": failure, "attempts": attempts, "seconds": seconds, "tail": tail}


def _run_locked(job, log, lock):
    output, subject = job["output"], job["subject"]
    if not find_change(output, subject, job["bids_dir"], job["identity"]):
        return "", 0, []  # Spark runs a task again whose executor was lost after its end
    _check_links(job)
    _check_space(job)
    inputs = describe_inputs(job["bids_dir"], subject)
    note(log, f"sub-{subject} is to be done: {job['reason']}")
    _make_room(job, inputs, log)
    os.makedirs(job["work"], exist_ok=True)
    started, failure, tail, attempts = time.time(), "", [], 0
    for attempts in range(1, job["retries"] + 2):
        failure, tail, ending = _attempt(job, log, lock, f"attempt {attempts} of {job['retries'] + 1}")
        if not failure:
            break
    if failure:
        return failure, attempts, tail
    finish_record(output, subject, {
        "subject": subject, "identity": job["identity"], "command": job["words"], "started": started, "seconds": ending.seconds,
        "peak_memory": ending.peak, "inputs": inputs, "outputs": describe_outputs(output, subject),
    })
    if job["delete_work"]:
        shutil.rmtree(job["work"], ignore_errors=True)
    return "", attempts, []


def _attempt(job, log, lock, name):
    """Run the app once; return why it failed ("" when all is there), its last lines, and its ending."""
    _remove_locks_of_freesurfer(job, log)
    note(log, f"sub-{job['subject']}, {name}: {shlex.join(job['words'])}")
    start = os.path.getsize(log)
    ending = run_attempt(job["words"], log, job["work"], job["timeout"], job["memory"], job["kill"], job["grace"], [lock])
    failure = ending.failure
    if not failure:
        problem = find_problem(job["output"], job["subject"], job["expected"], job["patterns"], job["wants_report"])
        failure = f"exit code 0, but {problem}" if problem else ""
    memory = f", {ending.peak / 2**30:.2f} GB at its peak" if ending.peak else ""
    note(log, f"sub-{job['subject']}, {name}: {failure or 'done'} (after {ending.seconds:.0f} s{memory})")
    return failure, read_tail(log, start=start) if failure else [], ending


def _make_room(job, inputs, log):
    """Note what is begun; what was made with other settings or from other raw files, or is damaged, is set aside first."""
    output, subject = job["output"], job["subject"]
    receipt = read_record(output, subject)
    before = receipt or read_record(output, subject, ".begun.json") or {"identity": job["identity"], "inputs": inputs}
    same = before.get("identity") == job["identity"]
    if same and not find_changed_input(before.get("inputs", {}), job["bids_dir"], subject):
        names = list_damaged(output, receipt.get("outputs", {})) if receipt else []
    else:
        names = list_outputs(output, subject)
    if names:
        set_aside(output, subject, names)
        note(log, f"{len(names)} files are set aside in {replaced_folder(output, subject)}")
    begun = {"identity": job["identity"], "inputs": inputs, "started": time.time()}
    write_record(output, subject, begun, ".begun.json")
    store.delete(record_path(output, subject))


def _check_links(job):
    """A container sees what is bound, so a link that leads elsewhere is broken within."""
    if not job["visible"]:
        return
    visible = [os.path.realpath(path) for path in job["visible"]]
    for name in list_inputs(job["bids_dir"], job["subject"]):
        path = os.path.join(job["bids_dir"], name)
        target = os.path.realpath(path)
        if not any(os.path.commonpath([target, folder]) == folder for folder in visible):
            folder = os.path.dirname(target)
            raise StorageError(f"{path} is a link to {target}, which the container does not see; add --bind {folder}.")


def _check_space(job):
    for place in (job["output"], job["work"]):
        free = free_disk(place) / 1e9
        if free < job["min_free_gb"]:
            raise StorageError(
                f"{place}: {free:.1f} GB are free, and a subject may need {job['min_free_gb']:g} (--min-free-gb); free some."
            )


def _remove_locks_of_freesurfer(job, log):
    """recon-all leaves a mark when it is killed, and refuses to go on while that is there. We hold the subject's lock."""
    output, folder = glob.escape(job["output"]), f"sub-{job['subject']}"
    for root in ("sourcedata/freesurfer", "freesurfer"):
        for ending in ("", "_*"):  # the second is of its sessions, and of no other subject
            for path in glob.glob(os.path.join(output, root, folder + ending, "scripts", "IsRunning*")):
                os.remove(path)
                note(log, f"removed {path}, which a recon-all that was killed has left")


def _note_quietly(log, sentence):
    try:
        note(log, sentence)
    except OSError:
        pass  # the sentence is the result as well


def _mark(job, stage):
    try:
        store.write_bytes(os.path.join(progress_folder(job["output"], stage), job["subject"]), b"")
    except StorageError:
        pass  # only the progress bar misses it
