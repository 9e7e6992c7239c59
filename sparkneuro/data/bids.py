"""BIDS names: which files are BOLD runs, whose they are, and what lies beside them.

Files in the HCP's layout are read as if they had BIDS names.

A name is ``key-value`` pairs joined by underscores and a suffix, e.g. ``sub-01_ses-a_task-rest_run-1_bold.nii.gz``.
"""

import json
import os
import posixpath
import re

from sparkneuro.data import hcp, store
from sparkneuro.errors import FormatError

BOLD_ENDINGS = ("_bold.nii.gz", "_bold.nii", "_bold.dtseries.nii", "_bold.h5", "_bold.hdf5")
SKIPPED_FOLDERS = ("derivatives", "sourcedata", "code", "stimuli")
_FOLDERS_OF_A_SUBJECT = re.compile(r"(sub-|ses-).*|func$")
_OF_A_GRID = ("space", "res", "den", "desc", "cohort")
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
    entities = hcp.parse_hcp_name(path)
    if entities is not None:
        return entities, "bold"
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
    if not entities["sub"]:
        raise FormatError(f"{path}: a subject's label needs letters A to Z or digits; rename the file, e.g. sub-01_bold.nii.gz.")
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

    In a folder these are the files named ``*_bold.nii.gz``, ``.nii``, ``.dtseries.nii`` or ``.h5`` at any depth, and runs in the
    HCP's layout, except in hidden folders and in `derivatives`, `sourcedata`, `code` and `stimuli` below it (name such a folder
    itself to take its files).

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
        names = [name for name in store.list_files(source, recursive=True) if is_bold(source, name)]
        names = sorted([*names, *_list_absent(source)])
        if not names:
            remedy = "list the files themselves, or get their content if they are only links"
            raise FormatError(f"{source}: no file here is named *_bold.nii.gz, .nii, .dtseries.nii or .h5; {remedy}.")
        paths += [store.join(source, name) for name in names]
    return list(dict.fromkeys(paths))


def _list_absent(source):
    """Links to BOLD files whose content is not here, as DataLad leaves them: a listing would pass them over."""
    if not store.is_local(source):
        return []
    root = store.locate(source)[1]
    links = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names if name.endswith(BOLD_ENDINGS))
    absent = [os.path.relpath(link, root) for link in links if os.path.islink(link) and not os.path.exists(link)]
    return [name for name in absent if is_bold(source, name)]


def is_bold(source, name):
    """Tell whether a file of a folder is a BOLD run to be taken.

    Parameters
    ----------
    source : str
        Path or URI of the folder.
    name : str
        Path of the file within it.

    Returns
    -------
    bold : bool
        Whether its name says so, and no folder on the way is hidden or set aside.
    """
    if not name.endswith(BOLD_ENDINGS) and hcp.parse_hcp_name(store.join(source, name)) is None:
        return False
    hidden = any(part.startswith(".") for part in name.split("/"))
    return not hidden and not any(part in SKIPPED_FOLDERS for part in name.split("/")[:-1])


def read_sidecar(path, list_files=store.list_files):
    """Read what the JSON files beside and above a BOLD file say about it.

    By BIDS' rule of inheritance a JSON of the same suffix holds for every file whose name has all its entities; the nearest
    one wins.

    Parameters
    ----------
    path : str
        Path or URI of a BOLD file.
    list_files : callable
        How a folder is listed; a cached function saves requests where many files are looked up.

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
        mine = (f"sub-{entities.get('sub', '')}_", stem)
        names = [name for name in list_files(folder) if name.endswith(".json")]
        names = [name for name in names if not name.startswith("sub-") or name.startswith(mine)]
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


def find_confounds(path, list_files=store.list_files):
    """Find the confounds table of a BOLD file, as fMRIPrep or the HCP names it.

    Parameters
    ----------
    path : str
        Path or URI of a BOLD file.
    list_files : callable
        How a folder is listed.

    Returns
    -------
    confounds : str
        Path of the ``*_desc-confounds_timeseries.tsv`` (or ``_regressors.tsv``, or ``Movement_Regressors.txt``) beside it.

    Raises
    ------
    FormatError
        When there is none.
    """
    entities = {key: value for key, value in parse_name(path)[0].items() if key not in _OF_A_GRID}
    if hcp.parse_hcp_name(path):
        found, expected = _find_beside(path, list_files, lambda name: name == hcp.MOVEMENT), hcp.MOVEMENT
    else:
        wanted = {**entities, "desc": "confounds"}
        found = _find_beside(path, list_files, lambda name: (
            name.endswith(".tsv") and parse_name(name) in ((wanted, "timeseries"), (wanted, "regressors"))
        ))
        expected = "_".join(f"{key}-{value}" for key, value in wanted.items()) + "_timeseries.tsv"
    if not found:
        raise FormatError(f"{path}: confounds were asked for, but there is no {expected} beside it.")
    return found


def find_brain_mask(path, list_files=store.list_files):
    """Find the brain mask of a preprocessed run, as fMRIPrep or the HCP names it.

    Parameters
    ----------
    path : str
        Path or URI of a BOLD file.
    list_files : callable
        How a folder is listed.

    Returns
    -------
    mask : str
        Path of the ``*_desc-brain_mask.nii.gz`` with the same other entities, or of ``brainmask_fs.2.nii.gz``, beside it; ""
        where there is none.
    """
    if hcp.parse_hcp_name(path):
        return _find_beside(path, list_files, lambda name: name == hcp.BRAIN_MASK)
    wanted = {**parse_name(path)[0], "desc": "brain"}
    images = (".nii.gz", ".nii")
    return _find_beside(path, list_files, lambda name: name.endswith(images) and parse_name(name) == (wanted, "mask"))


def _find_beside(path, list_files, fits):
    folder = posixpath.dirname(str(path)) or "."
    # Only names of the same subject are taken apart: a flat folder may hold thousands of others
    subject = "" if hcp.parse_hcp_name(path) else posixpath.basename(str(path)).partition("_")[0]
    return next((store.join(folder, name) for name in list_files(folder) if name.startswith(subject) and fits(name)), "")
