"""Run fMRIPrep, or another BIDS-App, on every subject of a BIDS folder: one Spark task a subject.

The app is a container image (--apptainer or --docker) or a program of this machine (--command). A subject is done when the app
has ended well and its outputs are there and whole: for fMRIPrep a preprocessed BOLD and a confounds table of each run, and a
report. Running the command again does only what is not done: a subject is skipped while its raw files, the app, its options and,
by their hashes, its outputs are what they were. What a crash has left is kept for the app to go on from. Each subject has a log
in logs/ of the output. BIDS folder, output and working folder must be visible to all machines of the cluster.

    sparkneuro preprocess bids --output derivatives --apptainer fmriprep.sif --cores 8 --memory-gb 16 -- --fs-no-reconall
"""

import logging
import os
import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sparkneuro.data import store
from sparkneuro.data.storage.folder_lock import hold_lock
from sparkneuro.data.task_progress import show_progress
from sparkneuro.errors import PreprocessingError, SettingsError
from sparkneuro.pipelines import preprocess_plan, preprocess_resources
from sparkneuro.pipelines.preprocess_task import check_subject, find_reason, log_path, progress_folder, run_subject
from sparkneuro.pipelines.settings import argument, option, remainder
from sparkneuro.preprocess.apps.derivative_description import write_description
from sparkneuro.preprocess.apps.subject_files import list_inputs
from sparkneuro.preprocess.apps.subject_record import read_record, record_path

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro preprocess``."""

    bids_dir: str = argument("BIDS dataset, in a local or shared folder")
    output: str = option(None, "folder of the derivatives to make, e.g. derivatives/fmriprep")
    apptainer: str = option(None, "run the app from this Apptainer (Singularity) image")
    docker: str = option(None, "run the app from this Docker image, e.g. nipreps/fmriprep:24.1.1")
    command: str = option(None, "run this program of the machine, e.g. fmriprep")
    app: str = option("fmriprep", "bids-app: only what every BIDS-App takes is given to it", choices=("fmriprep", "bids-app"))
    participant_label: tuple = option((), "labels of the subjects to take; all when absent", many=True)
    output_spaces: tuple = option((), "spaces of the output, e.g. MNI152NLin2009cAsym:res-2 (default: the app's)", many=True)
    bids_filter_file: str = option(None, "JSON file that tells the app which images to take")
    fs_license_file: str = option(None, "FreeSurfer licence (default: what FS_LICENSE names)")
    templateflow_home: str = option(None, "folder of TemplateFlow's templates, for machines without network")
    app_options: str = option(None, "further words for the app, as one: --app-options='--fs-no-reconall'; or put them after --")
    cores: int = option(None, "cores of a subject (default: this machine's, up to 8; on a cluster spark.task.cpus)", type=int)
    memory_gb: float = option(None, "memory of a subject; one that takes more is terminated", type=float)
    timeout: float = option(None, "hours that a subject may take in one attempt", type=float)
    retries: int = option(0, "how often a subject that failed is tried again")
    work_dir: str = option(None, "folder of intermediate files (default: beside the output, ending in -work)")
    delete_work: bool = option(False, "delete a subject's intermediate files when it is done")
    min_free_gb: float = option(10.0, "disk space that a subject needs, in the output and in the working folder")
    expect: tuple = option((), "files that a finished subject has, instead of fMRIPrep's: 'sub-{subject}/func/*.tsv'", many=True)
    bind: tuple = option((), "further folders that a container sees, read-only, e.g. where links lead", many=True)
    container_options: str = option(None, "further words for docker run or apptainer run, as one: --container-options='--nv'")
    dry_run: bool = option(False, "print the commands, and start nothing")
    app_words: tuple = remainder("further words for the app, e.g. -- --fs-no-reconall --dummy-scans 4")


def needs_spark(settings):
    """Tell whether anything is to be run; bad input is found here, before Spark starts.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        Whether `run` will use its session.
    """
    plan = preprocess_plan.make_plan(settings)
    if settings.dry_run:
        return False
    new = [subject for subject in plan.subjects if read_record(plan.app.output, subject) is None]
    if new:
        preprocess_resources.check_space(plan, len(new))
    return True


def cores_per_task(settings):
    """Tell how many cores the task of a subject needs.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    n_cores : int
        For ``spark.task.cpus``, where the session is started for this command.
    """
    return preprocess_resources.cores_of(settings)


def run(settings, spark):
    """Preprocess what is not done.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : pyspark.sql.SparkSession or None
        The session; None will do for a dry run.

    Returns
    -------
    sentence : str
        What was done; for a dry run, the commands.

    Raises
    ------
    PreprocessingError
        When a subject failed; the others are finished first.
    SparkneuroError
        When an input or a setting is wrong. Nothing has been started then.
    """
    settings = settings if settings.dry_run else _with_cores_of(settings, spark)
    plan = preprocess_plan.make_plan(settings)
    if settings.dry_run:
        return _list_commands(plan)
    started = time.monotonic()
    with hold_lock(preprocess_plan.lock_path(plan.app.output), preprocess_plan.busy_sentence(plan.app.output)):
        reasons = _find_reasons(plan, spark)
        if reasons:
            preprocess_resources.check_space(plan, len(reasons))
            if warning := preprocess_resources.warn_of_memory(plan, len(reasons)):
                LOG.warning("%s", warning)
        results = _run_subjects(plan, reasons, spark)
        app = plan.app
        if any(not result["failure"] for result in results):
            name = {"fmriprep": "fMRIPrep"}.get(app.family) or os.path.basename(app.program[0])
            write_description(app.output, app.bids_dir, name, plan.version, app.runtime, app.program[0])
    sentence = _summarise(plan, results, time.monotonic() - started)
    if any(result["failure"] for result in results):
        raise PreprocessingError(sentence)
    return sentence


def _with_cores_of(settings, spark):
    """A session that others have started gives a task what it gives; that is what the app is told."""
    n_cores = preprocess_resources.cores_of(settings) if spark is None else int(spark.conf.get("spark.task.cpus", "1"))
    if settings.cores is not None and settings.cores != n_cores:
        raise SettingsError(
            f"cores is {settings.cores}, but a task of this Spark session has {n_cores}; set spark.task.cpus={settings.cores}, or"
            " leave --cores away."
        )
    return replace(settings, cores=n_cores)


def _list_commands(plan):
    lines = []
    for subject in plan.subjects:
        job = plan.make_job(subject)
        reason = find_reason(job)
        if not reason:
            lines.append(f"# sub-{subject} is done and would be skipped")
            continue
        lines += [f"# sub-{subject}: {reason}", shlex.join(["mkdir", "-p", job["output"], job["work"]]), shlex.join(job["words"])]
    return "\n".join(lines)


def _find_reasons(plan, spark):
    """Tell of each subject that is not done why; those with a receipt are looked at by Spark tasks, since all is read."""
    from sparkneuro.data.spark import run_jobs

    output, reasons = plan.app.output, {}
    with_receipt = [subject for subject in plan.subjects if os.path.exists(record_path(output, subject))]
    for subject in set(plan.subjects) - set(with_receipt):
        reasons[subject] = find_reason(plan.make_job(subject))
    jobs = [plan.make_job(subject) for subject in with_receipt]
    if jobs:
        sizes = {subject: _output_size(output, subject) for subject in with_receipt}
        with _progress(output, "check", sizes):
            results, failures = run_jobs(spark, check_subject, jobs)
        _raise(failures)
        reasons |= {result["subject"]: result["reason"] for result in results}
    return {subject: reasons[subject] for subject in plan.subjects if reasons[subject]}


def _run_subjects(plan, reasons, spark):
    from sparkneuro.data.spark import run_jobs

    if not reasons:
        return []
    sizes = {subject: _input_size(plan.app.bids_dir, subject) for subject in reasons}
    with _progress(plan.app.output, "preprocess", sizes):
        jobs = [plan.make_job(subject, reason) for subject, reason in reasons.items()]
        results, failures = run_jobs(spark, run_subject, jobs)
    _raise(failures)
    return results


@contextmanager
def _progress(output, stage, sizes):
    folder = progress_folder(output, stage)
    store.delete(folder)
    with show_progress(stage, sizes, lambda: store.list_files(folder), noun="subjects"):
        yield
    store.delete(os.path.dirname(folder))


def _raise(failures):
    if failures:  # a task returns what goes wrong with its subject, so this is about Spark or the machine
        raise failures[0]


def _input_size(bids_dir, subject):
    try:
        return sum(os.path.getsize(os.path.join(bids_dir, name)) for name in list_inputs(bids_dir, subject))
    except (OSError, ValueError):
        return 1  # the subject's own task says what is wrong


def _output_size(output, subject):
    outputs = (read_record(output, subject) or {}).get("outputs", {})
    return sum(size for size, _ in outputs.values())


def _summarise(plan, results, seconds):
    failed = [result for result in results if result["failure"]]
    n_done, n_skipped = len(results) - len(failed), len(plan.subjects) - len(results)
    hours, rest = divmod(round(seconds), 3600)
    took = f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
    again = "; the command given again takes up what failed" if failed else ""
    head = f"{plan.app.output}: {n_done} done, {n_skipped} skipped (done before), {len(failed)} failed, in {took}{again}."
    return "\n".join([head, *(line for result in failed for line in _describe_failure(plan, result))])


def _describe_failure(plan, result):
    subject, attempts = result["subject"], result["attempts"]
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    log = log_path(plan.app.output, subject)
    return [f"  sub-{subject} failed{tries}: {result['failure']} (log: {log})", *(f"    | {line}" for line in result["tail"])]
