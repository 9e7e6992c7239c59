"""What an app must have written for a subject before it counts as done, and whether that is there and whole."""

import fnmatch
import json
import os

from sparkneuro.data.bids import parse_name
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.preprocess.apps.subject_files import list_outputs

# Entities that an output has and its run lacks, and those of parts that are put together to one run.
_ADDED = ("space", "res", "den", "cohort", "desc", "hemi")
_MERGED = ("echo", "part")
_SURFACES = ("fsaverage", "fsnative", "fsLR")
# With these fMRIPrep writes no preprocessed BOLD.
_WITHOUT_BOLD = ("--anat-only", "--reports-only", "--boilerplate-only", "--boilerplate_only")
_FILTERS = {
    "subject": "sub", "session": "ses", "task": "task", "run": "run", "acquisition": "acq", "reconstruction": "rec",
    "direction": "dir", "ceagent": "ce", "echo": "echo", "part": "part",
}


def find_runs(bids_dir, subject):
    """List a subject's raw BOLD runs; the echoes and parts of a run are one.

    Parameters
    ----------
    bids_dir : str
        Plain path of the BIDS folder.
    subject : str
        Label.

    Returns
    -------
    runs : list of dict
        Entities of each, sorted by name.
    """
    names = sorted(
        name for _, _, files in os.walk(os.path.join(bids_dir, f"sub-{subject}")) for name in files
        if name.endswith(("_bold.nii.gz", "_bold.nii")) and not name.startswith(".")
    )
    runs = []
    for name in names:
        run = {key: value for key, value in parse_name(name)[0].items() if key not in _MERGED}
        if run not in runs:
            runs.append(run)
    return runs


def choose_runs(runs, words, bids_filter=None):
    """Leave out the runs that an app is told not to process.

    Parameters
    ----------
    runs : list of dict
        Entities of each run.
    words : sequence of str
        Words for the app: ``--task-id``, ``-t`` and ``--session-label`` are heeded.
    bids_filter : dict or None
        Content of a BIDS filter file; its ``bold`` is heeded.

    Returns
    -------
    runs : list of dict
        Those that are left.

    Examples
    --------
    >>> choose_runs([{"sub": "01", "task": "rest"}, {"sub": "01", "task": "nback"}], ["--task-id", "rest"])
    [{'sub': '01', 'task': 'rest'}]
    """
    tasks = _values(words, "--task-id", "--task_id", "-t")
    sessions = _values(words, "--session-label", "--session_label")
    wanted = {"task": tasks, "ses": [label.removeprefix("ses-") for label in sessions]}
    for name, value in ((bids_filter or {}).get("bold") or {}).items():
        if name in _FILTERS and _FILTERS[name] not in _MERGED:
            wanted.setdefault(_FILTERS[name], [])
            wanted[_FILTERS[name]] = wanted[_FILTERS[name]] + (value if isinstance(value, list) else [value])
    return [run for run in runs if all(_is_among(run.get(key), values) for key, values in wanted.items() if values)]


def read_filter(path):
    """Read a BIDS filter file.

    Parameters
    ----------
    path : str
        Plain path; "" for none.

    Returns
    -------
    bids_filter : dict
        Its content; empty for none.

    Raises
    ------
    SettingsError
        When it is no JSON object.
    """
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return {name: dict(query) for name, query in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SettingsError(f"{path}: a BIDS filter file is a JSON object of objects, by kind of image ({error}).") from error


def expect_fmriprep(runs, words, spaces):
    """List what fMRIPrep writes for a subject, as patterns of names.

    Parameters
    ----------
    runs : list of dict
        Entities of the runs that it processes.
    words : sequence of str
        Further words that it was given.
    spaces : sequence of str
        Output spaces; its default when empty.

    Returns
    -------
    expected : list of dict
        `run` (entities), `ending` and `what`, one of each run's BOLD and confounds.
    """
    if set(words) & set(_WITHOUT_BOLD) or set(_values(words, "--level")) & {"minimal", "resampling"}:
        return []
    on_surface = bool(spaces) and all(space.startswith(_SURFACES) for space in spaces)
    endings = {
        "preprocessed BOLD": "_bold.func.gii" if on_surface else "_desc-preproc_bold.nii.gz",
        "confounds table": ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv"),
    }
    return [{"run": run, "ending": ending, "what": what} for run in runs for what, ending in endings.items()]


def find_problem(output, subject, expected, patterns, wants_report):
    """Find the first thing that is missing of a subject's outputs, or damaged; every compressed file is read to its end.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    expected : list of dict
        Of `expect_fmriprep`.
    patterns : sequence of str
        Further paths that must be there, with ``*`` and ``{subject}``.
    wants_report : bool
        Whether there must be an HTML report.

    Returns
    -------
    problem : str
        What is wrong; "" when all is there.
    """
    names = list_outputs(output, subject)
    if not names:
        return f"it wrote nothing for sub-{subject}"
    found = [(parse_name(name)[0], name) for name in names]
    for item in expected:
        if not any(name.endswith(_tuple(item["ending"])) and _without(entities) == item["run"] for entities, name in found):
            run = "_".join(f"{key}-{value}" for key, value in item["run"].items())
            return f"there is no {item['what']} (*{_tuple(item['ending'])[0]}) of {run}"
    for pattern in (pattern.replace("{subject}", subject) for pattern in patterns):
        if not fnmatch.filter(names, pattern):
            return f"there is no file {pattern}"
    if wants_report and not any(name.endswith(".html") and "figures" not in name for name in names):
        return f"there is no report sub-{subject}.html"
    return next(filter(None, (_damage(output, name) for name in names)), "")


def _damage(output, name):
    path = os.path.join(output, name)
    try:
        if os.path.getsize(path) == 0:
            # Nipype leaves empty files of its own, and an app may; these are what a reader needs.
            return f"{name} is empty" if name.endswith((".nii.gz", ".nii", ".tsv", ".html", ".json", ".gii")) else ""
        if name.endswith(".gz"):
            with ByteStream(path) as stream:
                stream.finish()
    except FormatError as error:
        return str(error).rstrip(".")
    except OSError as error:
        return f"{name} cannot be read ({error.strerror or error})"
    return ""


def _values(words, *names):
    """Values that follow an option among words, in either way of writing."""
    values, taking = [], False
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            taking = name in names and not equals
            values += [value] if name in names and equals else []
        elif taking:
            values.append(word)
    return values


def _is_among(value, wanted):
    """Whether an entity is as a filter says: ``*`` is any, null is none, and numbers are written with or without zeros."""
    plain = [str(item) for item in wanted if item is not None]
    if value is None:
        return None in wanted
    return "*" in plain or value in plain or (value.isdigit() and value.lstrip("0") in [item.lstrip("0") for item in plain])


def _without(entities):
    return {key: value for key, value in entities.items() if key not in (*_ADDED, *_MERGED)}


def _tuple(ending):
    return (ending,) if isinstance(ending, str) else tuple(ending)
