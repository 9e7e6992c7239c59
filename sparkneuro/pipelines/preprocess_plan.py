"""What a preprocessing has to do: settings, folders, app and licence checked, and who the subjects are."""

import os
import shlex
from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.data.storage.folder_lock import hold_lock
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.preprocess_program import find_program, find_version
from sparkneuro.pipelines.preprocess_resources import cores_of
from sparkneuro.preprocess.apps.attempt import GRACE
from sparkneuro.preprocess.apps.bids_app import (
    FMRIPREP,
    BidsApp,
    check_words,
    describe_app,
    list_mounts,
    make_command,
    make_kill_command,
)
from sparkneuro.preprocess.apps.expected_outputs import choose_runs, expect_fmriprep, find_runs, read_filter
from sparkneuro.preprocess.apps.subject_record import FOLDER
from sparkneuro.validation import check_number


@dataclass(frozen=True)
class Plan:
    """What a preprocessing has to do.

    Parameters
    ----------
    app : BidsApp
        The app and how it is run.
    subjects : tuple of str
        Labels, sorted.
    identity : dict
        All that the results follow from, beside the raw files.
    settings : sparkneuro.pipelines.preprocess.Settings
        The settings.
    version : str
        What the app says of its version; "" when it does not.
    """

    app: BidsApp
    subjects: tuple
    identity: dict
    settings: object
    version: str

    def make_job(self, subject, reason=""):
        """Write down what the task of a subject does.

        Parameters
        ----------
        subject : str
            Label.
        reason : str
            Why it is not done.

        Returns
        -------
        job : dict
            Fit for JSON.
        """
        app, settings = self.app, self.settings
        known = app.family == FMRIPREP and not settings.expect
        runs = choose_runs(find_runs(app.bids_dir, subject), app.app_words, read_filter(app.bids_filter_file))
        in_docker = app.runtime == "docker"  # which holds its container to the limit itself
        return {
            "output": app.output, "bids_dir": app.bids_dir, "subject": subject, "identity": self.identity, "reason": reason,
            "words": make_command(app, subject), "kill": make_kill_command(app, subject), "work": app.work_folder(subject),
            "visible": [source for source, _, _ in list_mounts(app, subject)] if app.runtime else [],
            "timeout": settings.timeout and settings.timeout * 3600,
            "memory": None if app.memory_gb is None or in_docker else int(app.memory_gb * 2**30),
            "retries": settings.retries, "min_free_gb": settings.min_free_gb, "delete_work": settings.delete_work, "grace": GRACE,
            "expected": expect_fmriprep(runs, app.app_words, app.output_spaces) if known else [],
            "patterns": list(settings.expect), "wants_report": known,
        }


def make_plan(settings):
    """Check settings and folders, and find the app and the subjects. Nothing is written.

    Parameters
    ----------
    settings : sparkneuro.pipelines.preprocess.Settings
        The settings.

    Returns
    -------
    plan : Plan
        What is to be done.

    Raises
    ------
    SparkneuroError
        When a setting, a folder, the app, its container or a licence is wrong or missing.
    """
    _check_numbers(settings)
    bids_dir, output, work_dir = _find_folders(settings)
    subjects = find_subjects(bids_dir, settings.participant_label)
    runtime, program = find_program(settings)
    words = tuple(_split("--app-options", settings.app_options)) + tuple(settings.app_words)
    app = BidsApp(
        settings.app, runtime, program, bids_dir, output, work_dir, cores_of(settings), settings.memory_gb,
        tuple(settings.output_spaces), _file("bids_filter_file", settings.bids_filter_file), _find_licence(settings),
        _folder("templateflow_home", settings.templateflow_home), words,
        tuple(_split("--container-options", settings.container_options)), tuple(_folder("bind", path) for path in settings.bind),
    )
    check_words(app)
    read_filter(app.bids_filter_file)
    lock = lock_path(output)
    if os.path.exists(lock):
        with hold_lock(lock, busy_sentence(output)):
            pass
    version, image = find_version(app)
    return Plan(app, subjects, {**describe_app(app), "version": version, "image": image}, settings, version)


def lock_path(output):
    """Tell where the lock of a folder of derivatives is.

    Parameters
    ----------
    output : str
        Plain path.

    Returns
    -------
    path : str
        Plain path.
    """
    return os.path.join(output, FOLDER, "lock")


def busy_sentence(output):
    """Say that another command is at work in a folder.

    Parameters
    ----------
    output : str
        Plain path.

    Returns
    -------
    sentence : str
        For an error.
    """
    return f"{output}: another preprocessing is at work in this folder; wait for it, or choose another --output."


def find_subjects(bids_dir, wanted=()):
    """Find the subjects of a BIDS folder.

    Parameters
    ----------
    bids_dir : str
        Plain path.
    wanted : sequence of str
        Labels, with or without ``sub-``; all when empty.

    Returns
    -------
    subjects : tuple of str
        Labels, sorted.

    Raises
    ------
    SettingsError
        When a label is unknown.
    FormatError
        When there is no subject.
    """
    with os.scandir(bids_dir) as entries:
        there = sorted(entry.name[4:] for entry in entries if entry.name.startswith("sub-") and entry.is_dir())
    if not there:
        raise FormatError(f"{bids_dir}: there is no folder sub-* in it; is it the top of a BIDS dataset?")
    labels = sorted({label.removeprefix("sub-") for label in wanted})
    unknown = [label for label in labels if label not in there]
    if unknown:
        some = ", ".join(there[:20]) + (f", ... ({len(there)} in all)" if len(there) > 20 else "")
        raise SettingsError(f"{bids_dir}: there is no subject {', '.join(unknown)}; there are {some}.")
    return tuple(labels or there)


def _check_numbers(settings):
    check_number("retries", settings.retries, minimum=0, integer=True)
    check_number("min_free_gb", settings.min_free_gb, minimum=0)
    if settings.cores is not None:
        check_number("cores", settings.cores, minimum=1, integer=True)
    if settings.memory_gb is not None:
        check_number("memory_gb", settings.memory_gb, minimum=0, exclusive=True)
    if settings.timeout is not None:
        check_number("timeout", settings.timeout, minimum=0, exclusive=True)


def _find_folders(settings):
    if not settings.output:
        raise SettingsError("output is missing; name the folder of the derivatives with --output, e.g. derivatives/fmriprep.")
    bids_dir, output = _local("BIDS_DIR", settings.bids_dir), _local("output", settings.output)
    if not os.path.isdir(bids_dir):
        raise SettingsError(f"{bids_dir}: there is no such folder.")
    if not os.path.isfile(os.path.join(bids_dir, "dataset_description.json")):
        raise FormatError(f"{bids_dir}: there is no dataset_description.json, which every BIDS dataset has at its top.")
    if output == bids_dir:
        raise SettingsError(f"{output}: the output cannot be the BIDS folder; choose e.g. {bids_dir}/derivatives/fmriprep.")
    if os.path.exists(output) and not os.path.isdir(output):
        raise SettingsError(f"{output}: this is a file; the output is a folder.")
    # fMRIPrep refuses a working folder within the BIDS folder.
    default = f"{bids_dir if _is_within(output, bids_dir) else output}-work"
    work_dir = _local("work_dir", settings.work_dir or default)
    if _is_within(work_dir, bids_dir):
        raise SettingsError(f"{work_dir}: the working folder cannot be within the BIDS folder; choose another --work-dir.")
    return bids_dir, output, work_dir


def _local(name, path):
    if "://" in path and not path.startswith("file://"):
        raise SettingsError(
            f"{name} must be a local or shared folder, since programs and containers see no {path.partition('://')[0]}://;"
            f" got {path}; copy the data to such a folder first."
        )
    return store.locate(path)[1].rstrip("/") or "/"


def _is_within(path, folder):
    return os.path.commonpath([path, folder]) == folder


def _find_licence(settings):
    """fMRIPrep stops without a FreeSurfer licence, whatever it is to do, and it looks where we look."""
    environment = {} if settings.app != FMRIPREP else os.environ
    folder = environment.get("FREESURFER_HOME")
    default = environment.get("FS_LICENSE") or (os.path.join(folder, "license.txt") if folder else "")
    path = settings.fs_license_file or (default if os.path.isfile(default) else "")
    if not path and settings.app == FMRIPREP:
        raise SettingsError(
            "fMRIPrep needs a FreeSurfer licence, and neither --fs-license-file nor FS_LICENSE names one; it is free at"
            " https://surfer.nmr.mgh.harvard.edu/registration.html."
        )
    return _file("fs_license_file", path)


def _file(name, path):
    if path and not os.path.isfile(path):
        raise SettingsError(f"--{name.replace('_', '-')}: there is no file {path}.")
    return os.path.abspath(path) if path else ""


def _folder(name, path):
    if path and not os.path.isdir(path):
        raise SettingsError(f"--{name.replace('_', '-')}: there is no folder {path}.")
    return os.path.abspath(path) if path else ""


def _split(name, text):
    try:
        return shlex.split(text or "")
    except ValueError as error:
        raise SettingsError(f"{name}: these words cannot be read as a shell would ({error}): {text}.") from error
