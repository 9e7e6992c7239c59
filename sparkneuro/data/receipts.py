"""Receipts of an ingest: one small JSON a run, written when all its files are there, so that it need not be ingested again."""

import json

from sparkneuro.data import store
from sparkneuro.errors import FormatError

RECEIPTS = "_runs"
RECIPE = "recipe.json"


def receipt_path(table_path, key, ending=".json"):
    """Tell where a run's receipt is, or what lies beside it.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    key : str
        The run's key.
    ending : str
        ``.json``, ``_tsnr.nii.gz`` or ``_quality.npz``.

    Returns
    -------
    path : str
        Path or URI.
    """
    return store.join(table_path, RECEIPTS, key + ending)


def write_receipt(table_path, key, content):
    """Write a run's receipt, atomically.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    key : str
        The run's key.
    content : dict
        What JSON can hold.
    """
    store.write_bytes(receipt_path(table_path, key), json.dumps(content).encode())


def list_receipts(table_path):
    """List the runs that are done.

    Parameters
    ----------
    table_path : str
        Path or URI of the table; one that is absent has none.

    Returns
    -------
    keys : list of str
        Keys of the runs, sorted.
    """
    names = store.list_files(store.join(table_path, RECEIPTS))
    return [name.removesuffix(".json") for name in names if name.startswith("sub-") and name.endswith(".json")]


def read_receipt(table_path, key):
    """Read a run's receipt.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    key : str
        The run's key.

    Returns
    -------
    content : dict
        What was written.
    """
    return _parse(receipt_path(table_path, key))


def write_recipe(table_path, content):
    """Write what a table is made of and how, before anything else of it.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.
    content : dict
        What JSON can hold.
    """
    store.write_bytes(store.join(table_path, RECEIPTS, RECIPE), json.dumps(content, indent=1).encode())


def read_recipe(table_path):
    """Read what a table is made of.

    Parameters
    ----------
    table_path : str
        Path or URI of the table.

    Returns
    -------
    content : dict or None
        What was written; None where there is nothing.
    """
    path = store.join(table_path, RECEIPTS, RECIPE)
    return _parse(path) if store.exists(path) else None


def _parse(path):
    try:
        return json.loads(store.read_bytes(path))
    except ValueError as error:
        raise FormatError(f"{path}: this file is damaged ({error}); delete it, and run the job again.") from error
