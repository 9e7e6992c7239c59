"""BIDS names: which files are BOLD runs, whose they are, and what lies beside them.

A name is ``key-value`` pairs joined by underscores and a suffix, e.g. ``sub-01_ses-a_task-rest_run-1_bold.nii.gz``.
"""

import csv
import fnmatch
import json
import posixpath
import re

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SettingsError

BOLD_ENDINGS = ("_bold.nii.gz", "_bold.nii")
SKIPPED_FOLDERS = ("derivatives", "sourcedata", "code", "stimuli")
_FOLDERS_OF_A_SUBJECT = re.compile(r"(sub-|ses-).*|func$")
_PARTS_OF_A_RUN = ("acq", "ce", "rec", "dir", "echo", "part")


def parse_name(path):
    """Read the entities of a BIDS name.

    Parameters
    ----------
    path : str
        Path or name of a file.

    Returns
    -------
    entities : dict of str to str
        Values by key, in the order of the name.
    suffix : str
        The last word, without endings.

    Examples
    --------
    >>> parse_name("sub-01/func/sub-01_task-rest_bold.nii.gz")
    ({'sub': '01', 'task': 'rest'}, 'bold')
    """
    words = posixpath.basename(str(path)).partition(".")[0].split("_")
    pairs = (word.partition("-") for word in words)
    return {key: value for key, dash, value in pairs if dash and value}, words[-1]


def name_run(path):
    """Tell whose run a file is.

    A run acquired or reconstructed in several ways keeps the entities that tell them apart (acq, ce, rec, dir, echo, part)
    in its run label: ``dir-LR_run-1`` is run ``1dirLR``. A file without ``sub-`` in its name takes the name as its subject.

    Parameters
    ----------
    path : str
        Path of a BOLD file.

    Returns
    -------
    labels : dict
        subject, session, task and run; "" where the name has none.

    Examples
    --------
    >>> name_run("sub-01_task-motor_dir-LR_run-1_bold.nii.gz")
    {'subject': '01', 'session': '', 'task': 'motor', 'run': '1dirLR'}
    """
    entities, _ = parse_name(path)
    if "sub" not in entities:
        entities = {"sub": posixpath.basename(str(path)).partition(".")[0] or "unnamed"}
    entities = {key: re.sub("[^0-9A-Za-z]", "", value) for key, value in entities.items()}  # they become names of folders
    apart = "".join(key + entities[key] for key in _PARTS_OF_A_RUN if key in entities)
    return {
        "subject": entities["sub"], "session": entities.get("ses", ""), "task": entities.get("task", ""),
        "run": entities.get("run", "") + apart,
    }


def run_key(subject, session="", task="", run=""):
    """Join labels to a run's key.

    Parameters
    ----------
    subject, session, task, run : str
        Labels; "" is left out.

    Returns
    -------
    key : str
        E.g. ``sub-01_task-rest``.

    Examples
    --------
    >>> run_key("01", task="rest", run="2")
    'sub-01_task-rest_run-2'
    """
    labels = (("sub", subject), ("ses", session), ("task", task), ("run", run))
    return "_".join(f"{key}-{label}" for key, label in labels if label)


def find_bold(sources):
    """List the BOLD files of folders and of single files.

    In a folder these are the files named ``*_bold.nii`` or ``*_bold.nii.gz`` at any depth, except in hidden folders and in
    `derivatives`, `sourcedata`, `code` and `stimuli` below it (name such a folder itself to take its files).

    Parameters
    ----------
    sources : sequence of str
        Paths or URIs of folders and files.

    Returns
    -------
    paths : list of str
        Each file once, in the order of the sources, sorted within a folder.

    Raises
    ------
    FormatError
        When a source is missing, or a folder holds no such file.
    """
    paths = []
    for source in map(str, sources):
        if not store.exists(source):
            raise FormatError(f"{source}: there is no such file or folder.")
        if not store.is_folder(source):
            paths.append(source)
            continue
        names = [name for name in store.list_files(source, recursive=True) if _is_bold(name)]
        if not names:
            remedy = "list the files themselves, or get their content if they are only links"
            raise FormatError(f"{source}: no file here is named *_bold.nii.gz or *_bold.nii; {remedy}.")
        paths += [store.join(source, name) for name in names]
    return list(dict.fromkeys(paths))


def _is_bold(name):
    folders = name.split("/")[:-1]
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name.endswith(BOLD_ENDINGS) and not hidden and not any(part in SKIPPED_FOLDERS for part in folders)


def read_sidecar(path):
    """Read what the JSON files beside and above a BOLD file say about it.

    By BIDS' rule of inheritance a JSON of the same suffix holds for every file whose name has all its entities; the nearest
    one wins.

    Parameters
    ----------
    path : str
        Path or URI of a BOLD file.

    Returns
    -------
    sidecar : dict
        All fields; empty where there is no JSON.

    Raises
    ------
    FormatError
        When one of them is no JSON object.
    """
    entities, suffix = parse_name(path)
    folder = posixpath.dirname(str(path)) or "."
    folders = [folder]
    while _FOLDERS_OF_A_SUBJECT.match(posixpath.basename(folder)) and posixpath.dirname(folder) != folder:
        folder = posixpath.dirname(folder) or "."
        folders.append(folder)
    sidecar, stem = {}, posixpath.basename(str(path)).partition(".")[0]
    for folder in reversed(folders):
        names = [name for name in store.list_files(folder) if name.endswith(".json")]
        inherited = [name for name in names if _holds_for(name, entities, suffix) or name == f"{stem}.json"]
        for name in sorted(inherited, key=lambda name: len(parse_name(name)[0])):
            sidecar.update(_read_json(store.join(folder, name)))
    return sidecar


def _holds_for(name, entities, suffix):
    theirs, their_suffix = parse_name(name)
    return their_suffix == suffix == "bold" and theirs.items() <= entities.items()


def _read_json(path):
    try:
        content = json.loads(store.read_bytes(path))
    except ValueError as error:
        raise FormatError(f"{path}: this is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path}: a sidecar is a JSON object; this one is a {content.__class__.__name__}.")
    return content


def find_confounds(path):
    """Find the confounds table of a BOLD file, as fMRIPrep names it.

    Parameters
    ----------
    path : str
        Path or URI of a BOLD file.

    Returns
    -------
    confounds : str
        Path of the ``*_desc-confounds_timeseries.tsv`` (or ``_regressors.tsv``) beside it.

    Raises
    ------
    FormatError
        When there is none.
    """
    folder = posixpath.dirname(str(path)) or "."
    wanted = {key: value for key, value in parse_name(path)[0].items() if key not in ("space", "res", "den", "desc")}
    for name in store.list_files(folder):
        entities, suffix = parse_name(name)
        if name.endswith(".tsv") and suffix in ("timeseries", "regressors") and entities == {**wanted, "desc": "confounds"}:
            return store.join(folder, name)
    expected = "_".join(f"{key}-{value}" for key, value in wanted.items()) + "_desc-confounds_timeseries.tsv"
    raise FormatError(f"{path}: confounds were asked for, but there is no {expected} beside it.")


def read_confounds(path, columns, n_scans):
    """Read columns of a confounds table.

    Parameters
    ----------
    path : str
        Path or URI of a TSV file with one row a scan.
    columns : sequence of str
        Names, or patterns such as ``rot_?`` and ``a_comp_cor_0[0-4]``.
    n_scans : int
        Scans of the run.

    Returns
    -------
    confounds : ndarray of shape (n_scans, n_confounds), float64
        The values; ``n/a`` (first rows of derivatives) is replaced by the column's mean.

    Raises
    ------
    FormatError
        When a column is missing or holds no numbers, or the rows are not `n_scans`.
    """
    rows = list(csv.reader(store.read_bytes(path).decode("utf-8-sig").splitlines(), delimiter="\t"))
    names = rows[0] if rows else []
    chosen = list(dict.fromkeys(name for pattern in columns for name in _match(path, names, pattern)))
    if len(rows) - 1 != n_scans:
        raise FormatError(f"{path}: one row a scan is expected, {n_scans} in all; the file has {max(0, len(rows) - 1)}.")
    confounds = np.full((n_scans, len(chosen)), np.nan)
    for column, name in enumerate(chosen):
        try:
            confounds[:, column] = [_number(row[names.index(name)]) for row in rows[1:]]
        except (ValueError, IndexError) as error:
            raise FormatError(f"{path}: column {name} holds something that is no number ({error}).") from error
    finite = np.isfinite(confounds)
    if not finite.any(axis=0).all():
        raise FormatError(f"{path}: column {chosen[int(np.argmin(finite.any(axis=0)))]} holds no number at all.")
    means = np.where(finite, confounds, 0).sum(axis=0) / finite.sum(axis=0)
    return np.where(finite, confounds, means)


def _match(path, names, pattern):
    matches = fnmatch.filter(names, pattern)
    if not matches:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise SettingsError(f"{path}: no column is named {pattern}; it has {some}.")
    return matches


def _number(word):
    return np.nan if word.strip().lower() in ("n/a", "nan", "") else float(word)
