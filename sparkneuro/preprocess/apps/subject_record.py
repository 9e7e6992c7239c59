"""What is known of a subject's preprocessing: a receipt when it is done, a note when it has begun, and what was replaced.

A receipt lists the subject's raw files and its outputs with their hashes, and all that the results follow from. The subject is
done as long as all of this holds.
"""

import json
import os
import shutil

from sparkneuro.data import store
from sparkneuro.preprocess.apps.subject_files import find_changed_input, list_damaged

FOLDER = ".sparkneuro"


def record_path(output, subject, ending=".json"):
    """Tell where a subject's receipt is, or what lies beside it.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    ending : str
        ``.json`` for the receipt, ``.begun.json`` for what an attempt was begun with, ``.lock`` for the subject's lock.

    Returns
    -------
    path : str
        Plain path.
    """
    return os.path.join(output, FOLDER, f"sub-{subject}{ending}")


def read_record(output, subject, ending=".json"):
    """Read a subject's receipt.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    ending : str
        As of `record_path`.

    Returns
    -------
    record : dict or None
        What was written; None where there is none, or it is damaged.
    """
    path = record_path(output, subject, ending)
    if not os.path.exists(path):
        return None
    try:
        record = json.loads(store.read_bytes(path))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def write_record(output, subject, record, ending=".json"):
    """Write a subject's receipt, atomically.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    record : dict
        Fit for JSON.
    ending : str
        As of `record_path`.
    """
    store.write_bytes(record_path(output, subject, ending), json.dumps(record, indent=1).encode())


def find_change(output, subject, bids_dir, identity):
    """Find the first reason for which a subject is not done, reading all its outputs.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    bids_dir : str
        Plain path of the BIDS folder.
    identity : dict
        App, version and settings that it shall be done with.

    Returns
    -------
    reason : str
        What does not hold; "" when the subject is done.
    """
    receipt = read_record(output, subject)
    if receipt is None:
        begun = os.path.exists(record_path(output, subject, ".begun.json"))
        return "it was begun and not finished" if begun else "it is new"
    changed = [name for name, value in identity.items() if receipt.get("identity", {}).get(name) != value]
    if changed:
        return f"it was done with other {', '.join(changed)}"
    reason = find_changed_input(receipt.get("inputs", {}), bids_dir, subject)
    if reason:
        return reason
    damaged = list_damaged(output, receipt.get("outputs", {}))
    return f"{damaged[0]} is missing or has changed" if damaged else ""


def set_aside(output, subject, names):
    """Move outputs away that other settings have made, or that are damaged, so that none is taken for a new one.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    names : sequence of str
        Relative to `output`; those that are absent are left out.
    """
    for name in names:
        target = os.path.join(replaced_folder(output, subject), name)
        if os.path.exists(os.path.join(output, name)):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(os.path.join(output, name), target)


def replaced_folder(output, subject):
    """Tell where outputs are that were set aside.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.

    Returns
    -------
    folder : str
        Plain path; absent when nothing was.
    """
    return os.path.join(output, FOLDER, "replaced", f"sub-{subject}")


def finish_record(output, subject, record):
    """Write the receipt of a subject that is done, and drop what was kept until then.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    subject : str
        Label.
    record : dict
        Fit for JSON.
    """
    write_record(output, subject, record)
    store.delete(record_path(output, subject, ".begun.json"))
    shutil.rmtree(replaced_folder(output, subject), ignore_errors=True)
