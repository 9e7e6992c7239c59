"""A subject's raw files and outputs: which they are, and by size, time and hash whether they are still the same."""

import hashlib
import os

from sparkneuro.data.store import TEMPORARY
from sparkneuro.errors import FormatError

_PIECE = 1 << 20
# Files at the top of a BIDS folder that describe people and the study, not how an image was acquired.
_OF_NO_IMAGE = ("dataset_description.json", "participants.json", "samples.json", "genetic_info.json", "phenotype.json")


def list_inputs(bids_dir, subject):
    """List a subject's raw files, and those at the top of the BIDS folder that all subjects inherit.

    Parameters
    ----------
    bids_dir : str
        Plain path of the BIDS folder.
    subject : str
        Label.

    Returns
    -------
    names : list of str
        Relative to `bids_dir`, sorted.

    Raises
    ------
    FormatError
        When one of them is a link to something that is not there.
    """
    names = [
        os.path.relpath(os.path.join(folder, name), bids_dir)
        for folder, _, files in os.walk(os.path.join(bids_dir, f"sub-{subject}"), followlinks=True) for name in files
    ]
    names += [name for name in os.listdir(bids_dir) if name.endswith((".json", ".bval", ".bvec")) and name not in _OF_NO_IMAGE]
    for name in names:
        path = os.path.join(bids_dir, name)
        if not os.path.exists(path):
            raise FormatError(f"{path}: a link to a file that is not there; fetch it first (e.g. datalad get).")
    return sorted(names)


def describe_inputs(bids_dir, subject):
    """Write down what a subject's raw files are.

    Parameters
    ----------
    bids_dir : str
        Plain path of the BIDS folder.
    subject : str
        Label.

    Returns
    -------
    inputs : dict of str to list
        Size (bytes), time of the last change (ns) and sha256, by name.
    """
    inputs = {}
    for name in list_inputs(bids_dir, subject):
        path = os.path.join(bids_dir, name)
        stat = os.stat(path)
        inputs[name] = [stat.st_size, stat.st_mtime_ns, hash_file(path)]
    return inputs


def find_changed_input(before, bids_dir, subject):
    """Find a raw file of a subject that has changed.

    A file that looks untouched is taken to be; where only its time has changed, e.g. by a copy, its content decides.

    Parameters
    ----------
    before : dict of str to list
        Of `describe_inputs`.
    bids_dir : str
        Plain path of the BIDS folder.
    subject : str
        Label.

    Returns
    -------
    reason : str
        What has changed; "" when nothing has.
    """
    names = list_inputs(bids_dir, subject)
    different = sorted(set(before) ^ set(names))
    if different:
        return f"{different[0]} is {'gone' if different[0] in before else 'new'} among its raw files"
    for name in names:
        path = os.path.join(bids_dir, name)
        stat, (size, modified, sha256) = os.stat(path), before[name]
        if stat.st_size != size or (stat.st_mtime_ns != modified and hash_file(path) != sha256):
            return f"its raw file {name} has changed"
    return ""


def list_outputs(output, subject):
    """List the files that an app has written for a subject: its folder, and reports beside it.

    Parameters
    ----------
    output : str
        Plain path of the derivatives; older versions of fMRIPrep write into a folder ``fmriprep`` within.
    subject : str
        Label.

    Returns
    -------
    names : list of str
        Paths relative to `output`, sorted.
    """
    names = []
    for root in ("", "fmriprep"):
        top = os.path.join(output, root)
        for folder, _, files in os.walk(os.path.join(top, f"sub-{subject}")):
            names += [os.path.relpath(os.path.join(folder, name), output) for name in files if not name.startswith(TEMPORARY)]
        for name in os.listdir(top) if os.path.isdir(top) else ():
            if name.startswith((f"sub-{subject}.", f"sub-{subject}_")) and os.path.isfile(os.path.join(top, name)):
                names.append(os.path.join(root, name))
    return sorted(names)


def describe_outputs(output, subject):
    """Write down what a subject's outputs are.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.

    Returns
    -------
    outputs : dict of str to list
        Size (bytes) and sha256, by name.
    """
    paths = {name: os.path.join(output, name) for name in list_outputs(output, subject)}
    return {name: [os.path.getsize(path), hash_file(path)] for name, path in paths.items()}


def list_damaged(output, outputs):
    """List the outputs that are missing or not what they were.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    outputs : dict of str to list
        Of `describe_outputs`.

    Returns
    -------
    names : list of str
        Relative to `output`.
    """
    return [
        name for name, (size, sha256) in outputs.items()
        if _size(os.path.join(output, name)) != size or hash_file(os.path.join(output, name)) != sha256
    ]


def hash_file(path):
    """Hash a file.

    Parameters
    ----------
    path : str
        Plain path.

    Returns
    -------
    sha256 : str
        Hexadecimal.
    """
    sha256 = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            sha256.update(piece)
    return sha256.hexdigest()


def _size(path):
    return os.path.getsize(path) if os.path.isfile(path) else -1
