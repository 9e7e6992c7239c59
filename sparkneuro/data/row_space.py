"""Where the rows of a voxel table lie: voxels of a mask, parcels of a labels image, grayordinates, or just numbered series.

A volume of row numbers says it for the first two: row r of the table is wherever the volume holds r + 1. The others have no
grid of their own; grayordinates keep the CIFTI file that names them.
"""

import csv
import io

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError

VOXELS, PARCELS, GRAYORDINATES, SERIES = "voxels", "parcels", "grayordinates", "series"
MASK = "mask.nii.gz"
LABELS = "parcels.nii.gz"
NAMES = "parcels.tsv"
BRAIN_MODELS = "grayordinates.dscalar.nii"

FILES = {VOXELS: (MASK,), PARCELS: (LABELS, NAMES), GRAYORDINATES: (BRAIN_MODELS,), SERIES: ()}
"""Kind of rows -> the files of a table that say where they lie."""


def number_voxels(mask):
    """Number the voxels of a mask, as rows of a table.

    Parameters
    ----------
    mask : ndarray of shape (x, y, z), bool
        Which voxels.

    Returns
    -------
    numbers : ndarray of shape (x, y, z), int32
        0 outside; else 1 + the place in ``volume[mask]``.

    Examples
    --------
    >>> number_voxels(np.array([[[True, False, True]]])).tolist()
    [[[1, 0, 2]]]
    """
    numbers = np.zeros(mask.shape, np.int32)
    numbers[mask] = np.arange(1, np.count_nonzero(mask) + 1)
    return numbers


def place_rows(numbers, row, values):
    """Put the values of rows where they are in the brain.

    Parameters
    ----------
    numbers : ndarray of shape (x, y, z), int
        0 outside; else 1 + the row.
    row : ndarray of shape (n,), int
        Rows that have a value.
    values : ndarray of shape (n,)
        A value each.

    Returns
    -------
    volume : ndarray of shape (x, y, z), float32
        The values; NaN elsewhere. A parcel's voxels share its value.

    Examples
    --------
    >>> place_rows(np.array([[[1, 0, 2, 2]]]), np.array([1]), np.array([0.5])).tolist()
    [[[nan, nan, 0.5, 0.5]]]
    """
    of_rows = np.full(int(numbers.max(initial=0)) + 1, np.nan, np.float32)
    of_rows[np.asarray(row) + 1] = values
    return of_rows[numbers]


def locate_rows(numbers, affine):
    """Tell where rows are, in mm.

    Parameters
    ----------
    numbers : ndarray of shape (x, y, z), int
        0 outside; else 1 + the row.
    affine : array_like of shape (4, 4)
        From voxel indices to mm.

    Returns
    -------
    centres : ndarray of shape (n_rows, 3)
        Centre of each row's voxels (mm); NaN for a row without any.
    """
    places = np.argwhere(numbers)
    rows = numbers[tuple(places.T)] - 1
    n_rows = int(numbers.max(initial=0))
    counts = np.bincount(rows, minlength=n_rows)
    with np.errstate(invalid="ignore"):
        indices = [np.bincount(rows, axis, minlength=n_rows) / counts for axis in places.T.astype(float)]
    return np.stack(indices, axis=1) @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def copy_row_space(kind, source, target):
    """Copy the files that say where rows lie from a table to another one made from it.

    Parameters
    ----------
    kind : str
        Of the rows: a key of `FILES`.
    source, target : str
        Paths or URIs of the tables.
    """
    for name in FILES[kind]:
        if store.exists(store.join(source, name)):
            store.write_bytes(store.join(target, name), store.read_bytes(store.join(source, name)))


def write_names(path, names):
    """Write the names of parcels, in the order of rows.

    Parameters
    ----------
    path : str
        Path or URI of the TSV file.
    names : sequence of tuple of (int, str)
        Value in the labels image, and name.
    """
    lines = ["row\tindex\tname", *(f"{row}\t{index}\t{' '.join(name.split())}" for row, (index, name) in enumerate(names))]
    store.write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_names(path):
    """Read a table of parcel names: BIDS' ``dseg.tsv``, or that of a voxel table.

    Parameters
    ----------
    path : str
        Path or URI of a TSV file with the columns index and name.

    Returns
    -------
    names : dict of int to str
        Name of each value of the labels image.

    Raises
    ------
    FormatError
        When the columns are missing, or an index is no whole number.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(store.read_bytes(path).decode("utf-8-sig")), delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: this is no table in UTF-8 ({error}).") from error
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise FormatError(f"{path}: names of parcels need the columns index and name, separated by tabs.")
    odd = next((row["index"] for row in rows if not str(row["index"]).strip().isdecimal() or not row["name"]), None)
    if odd is not None:
        raise FormatError(f"{path}: a parcel needs a whole number as its index, and a name; got index {odd!r}.")
    return {int(row["index"]): row["name"] for row in rows}
