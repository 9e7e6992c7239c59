"""What an ingest has measured on a run: numbers in its receipt, traces and pictures in a small ``KEY_quality.npz`` beside it."""

import zipfile
from io import BytesIO

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.receipts import list_receipts, read_receipt, receipt_path
from sparkneuro.errors import FormatError

ENDING = "_quality.npz"


def write_quality(table_path, key, arrays):
    """Write the arrays of a run, atomically; equal arrays give equal bytes.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    key : str
        The run's key.
    arrays : dict of str to ndarray
        Any arrays of numbers.
    """
    buffer = BytesIO()  # not compressed: carpets are noise, of which a third at most would be saved
    np.savez(buffer, allow_pickle=False, **dict(sorted(arrays.items())))
    store.write_bytes(receipt_path(table_path, key, ENDING), buffer.getvalue())


def read_quality(table_path, key):
    """Read the arrays of a run.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    key : str
        The run's key.

    Returns
    -------
    arrays : dict of str to ndarray, or None
        As they were written; None for a run that was ingested without them.

    Raises
    ------
    FormatError
        When the file is damaged.
    """
    path = receipt_path(table_path, key, ENDING)
    if not store.exists(path):
        return None
    try:
        with np.load(BytesIO(store.read_bytes(path)), allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise FormatError(f"{path}: this file is damaged ({error}); ingest the run again.") from error


def read_numbers(table_path, keys):
    """Read what the receipts of runs say about their quality.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    keys : sequence of str
        Keys of the runs.

    Returns
    -------
    numbers : dict of str to dict
        By key; empty for a run that was ingested without them.
    """
    there = set(list_receipts(table_path))
    return {key: read_receipt(table_path, key).get("quality", {}) if key in there else {} for key in keys}
