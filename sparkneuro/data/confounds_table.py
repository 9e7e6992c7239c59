"""Confounds: chosen columns of the table that lies beside a run."""

import csv
import fnmatch

import numpy as np

from sparkneuro.data import hcp, store
from sparkneuro.errors import FormatError, SettingsError


def read_confounds(path, columns, n_scans):
    """Read columns of a confounds table.

    Parameters
    ----------
    path : str
        Path or URI of a TSV file with one row a scan, or of the HCP's movement regressors.
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
    names, values = hcp.read_movement(path) if hcp.is_movement(path) else _read_table(path)
    chosen = list(dict.fromkeys(name for pattern in columns for name in _match(path, names, pattern)))
    if len(values) != n_scans:
        raise FormatError(f"{path}: one row a scan is expected, {n_scans} in all; the file has {len(values)}.")
    confounds = np.full((n_scans, len(chosen)), np.nan)
    for column, name in enumerate(chosen):
        try:
            confounds[:, column] = [_number(row[names.index(name)]) for row in values]
        except (ValueError, IndexError) as error:
            raise FormatError(f"{path}: column {name} holds something that is no number ({error}).") from error
    finite = np.isfinite(confounds)
    if not finite.any(axis=0).all():
        raise FormatError(f"{path}: column {chosen[int(np.argmin(finite.any(axis=0)))]} holds no number at all.")
    means = np.where(finite, confounds, 0).sum(axis=0) / finite.sum(axis=0)
    return np.where(finite, confounds, means)


def _read_table(path):
    try:
        rows = list(csv.reader(store.read_bytes(path).decode("utf-8-sig").rstrip().splitlines(), delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: this is no table in UTF-8 ({error}).") from error
    return (rows[0], rows[1:]) if rows else ([], [])


def _match(path, names, pattern):
    matches = fnmatch.filter(names, pattern)
    if not matches:
        some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise SettingsError(f"{path}: no column is named {pattern}; it has {some}.")
    return matches


def _number(word):
    if not isinstance(word, str):
        return word
    return np.nan if word.strip().lower() in ("n/a", "nan", "") else float(word)
