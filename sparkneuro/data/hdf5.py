"""HDF5 files on any filesystem: which datasets they hold, and rows of one of them."""

import io
from contextlib import contextmanager
from tokenize import TokenError

import pyarrow as pa

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SparkneuroError, require

_BUFFER_BYTES = 1 << 20  # HDF5 looks about in small steps, each of which would be a request to a bucket
# What h5py, NumPy and pyarrow raise over bytes that are not what their format says.
_DAMAGES = (OSError, RuntimeError, KeyError, TypeError, ValueError, SyntaxError, TokenError, pa.ArrowException)


def list_datasets(path):
    """List the datasets of a file with their shapes, reading none of their values.

    Soft and external links are not followed.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Returns
    -------
    datasets : dict of str to (tuple of int, numpy.dtype)
        Shape and type by name, e.g. ``"group/name"``, in the order of the names.

    Raises
    ------
    StorageError
        When there is no such file, or it may not be read.
    FormatError
        When it is no whole HDF5 file, or a dataset keeps its values in other files (which are silently zero when absent).
    MissingExtraError
        When h5py is not installed.
    """
    h5py = require("h5py", "keras")
    names = []
    with open_hdf5(path) as file:
        file.visit(names.append)
        datasets = {name: file[name] for name in sorted(names) if isinstance(file[name], h5py.Dataset)}
        for name, dataset in datasets.items():
            if dataset.is_virtual or dataset.external:
                raise FormatError(f"{path}: dataset {name} keeps its values in other files; copy them into one file.")
        return {name: (dataset.shape or (), dataset.dtype) for name, dataset in datasets.items()}


def find_dataset(path, name):
    """Find the dataset of a name, or the only one of a file.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    name : str
        Name that it has when there are several.

    Returns
    -------
    dataset : str
        Its name.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Type of its values.

    Raises
    ------
    StorageError, FormatError, MissingExtraError
        As `list_datasets`; FormatError also when none has that name and there is not one alone.
    """
    datasets = list_datasets(path)
    found = name if name in datasets or len(datasets) != 1 else next(iter(datasets))
    if found not in datasets:
        there = ", ".join(list(datasets)[:8]) or "none"
        raise FormatError(f"{path}: a dataset named {name}, or only one, was expected; there are {there}.")
    return found, *datasets[found]


def read_rows(path, dataset, start, stop):
    """Read rows of a dataset; of a chunked one, the chunks they lie in.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    dataset : str
        Name, as `list_datasets` tells it.
    start, stop : int
        First row, and the one after the last.

    Returns
    -------
    rows : ndarray of shape (stop - start, ...), dtype of the dataset
        The rows; fewer where the dataset ends before `stop`.

    Raises
    ------
    StorageError, FormatError, MissingExtraError
        As `list_datasets`; FormatError also when there is no such dataset.
    """
    with open_hdf5(path) as file:
        if dataset not in file:
            raise FormatError(f"{path}: there is no dataset {dataset}; was the file replaced?")
        return file[dataset][start:stop]


def read_attributes(path, dataset):
    """Read the attributes of a dataset.

    Parameters
    ----------
    path : str
        Path or URI of the file.
    dataset : str
        Name, as `list_datasets` tells it.

    Returns
    -------
    attributes : dict
        Values by name.

    Raises
    ------
    StorageError, FormatError, MissingExtraError
        As `list_datasets`; FormatError also when there is no such dataset.
    """
    with open_hdf5(path) as file:
        if dataset not in file:
            raise FormatError(f"{path}: there is no dataset {dataset}; was the file replaced?")
        return dict(file[dataset].attrs)


@contextmanager
def open_file(path):
    """Open a file to read anywhere in it, memory-mapped when it is local.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Yields
    ------
    file : pyarrow.NativeFile
        Readable binary file.

    Raises
    ------
    StorageError
        When there is no such file, or it may not be read.
    FormatError
        In place of whatever a reader in the body finds wrong with the bytes.
    """
    try:
        with store.open_file(path) as file:
            yield file
    except SparkneuroError:
        raise
    except _DAMAGES as error:
        ending, reason = path.rpartition(".")[2], (str(error).splitlines() or [repr(error)])[0]
        raise FormatError(f"{path}: this is no whole .{ending} file ({reason}); is the download complete?") from error


@contextmanager
def open_hdf5(path):
    """Open an HDF5 file to read it.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Yields
    ------
    file : h5py.File
        The file.

    Raises
    ------
    StorageError, FormatError, MissingExtraError
        As `list_datasets`; FormatError also in place of what h5py finds damaged in the body.
    """
    h5py = require("h5py", "keras")
    with open_file(path) as file:
        source = store.locate(path)[1] if store.is_local(path) else io.BufferedReader(file, _BUFFER_BYTES)
        with h5py.File(source, "r") as content:
            yield content
