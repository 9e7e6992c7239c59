"""The feature table: stimulus features as one matrix (n_scans, n_features) a run, matched by labels with a voxel table.

It is a folder of files named by the labels of their runs, with ``sub-`` only where a subject had a stimulus of its own:
``task-movie_run-1.npy`` (2-D), ``sub-01_ses-a_task-movie.h5`` or ``.hdf5`` (the dataset `features`, or the only one),
``task-rest_features.parquet`` (a row a scan: one list column `features`, or numeric columns). Or it is one HDF5 file whose
datasets are named so. A name that begins with "." or "_", or that has no label, is ignored.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from sparkneuro.data import hdf5, store
from sparkneuro.data.bids import name_run, parse_name, run_key
from sparkneuro.data.feature_file import check_matrix, read_file
from sparkneuro.errors import FormatError, SettingsError

_HDF5 = (".h5", ".hdf5")
_FORMATS = (".npy", ".parquet", *_HDF5)
_EXPECTED = "name a file (.npy, .h5, .parquet) or HDF5 dataset a run, e.g. task-movie_run-1.npy or sub-01_task-movie.parquet"


@dataclass(frozen=True)
class FeatureRun:
    """Where the features of a run are; ``FeatureRun(**asdict(run))`` is the same, by way of JSON too.

    Parameters
    ----------
    subject, session, task, run : str
        Labels; "" where the name has none. Without subject the features are every subject's.
    path, dataset : str
        Path or URI of the file, and name within an HDF5 file ("" in other formats).
    n_scans, n_features : int
        Rows and columns.
    dtype : str
        Of the stored numbers, e.g. "float32".
    first : int
        Row of the file that is the first of the run's: the scans before it were left out of the run.
    """

    subject: str
    session: str
    task: str
    run: str
    path: str
    dataset: str
    n_scans: int
    n_features: int
    dtype: str
    first: int = 0

    @property
    def key(self):
        """Name of the run, e.g. ``task-movie_run-1``."""
        return run_key(self.subject, self.session, self.task, self.run)

    @property
    def place(self):
        """File and dataset, for messages."""
        return f"{self.path}:{self.dataset}" if self.dataset else self.path


@dataclass(frozen=True)
class FeatureTable:
    """Which runs have features, without the features.

    Parameters
    ----------
    path : str
        Path or URI of the folder or HDF5 file.
    runs : tuple of FeatureRun
        Sorted by key.
    n_features : int
        Columns of every run.
    """

    path: str
    runs: tuple
    n_features: int

    @classmethod
    def open(cls, path):
        """Read the headers of a table's files.

        Parameters
        ----------
        path : str
            Path or URI of the folder, or of one HDF5 file.

        Returns
        -------
        table : FeatureTable
            The table.

        Raises
        ------
        FormatError, StorageError
            When there is no run, or one twice, or runs differ in n_features, or a file is damaged, no matrix or forbidden.
        """
        path, found = str(path), {}
        for run in _list_runs(path):
            twin = found.setdefault(run.key, run)
            if twin is not run:
                raise FormatError(f"{path}: run {run.key} has features twice, in {twin.place} and {run.place}; keep one.")
        if not found:
            raise FormatError(f"{path}: no run has features here; {_EXPECTED}.")
        first, *others = runs = tuple(found[key] for key in sorted(found))
        for run in others:
            if run.n_features != first.n_features:
                counts = f"{first.place} has {first.n_features} and {run.place} has {run.n_features}"
                raise FormatError(f"{path}: every run must have equally many features; {counts}.")
        return cls(path, runs, first.n_features)

    def find(self, run):
        """Look up the features of a run: the subject's own, else those of its session, task and run, else of task and run.

        Parameters
        ----------
        run : Run
            Anything with the labels subject, session, task and run.

        Returns
        -------
        feature_run : FeatureRun
            Where they are.

        Raises
        ------
        FormatError
            When there are none.
        """
        there = {features.key: features for features in self.runs}
        keys = [run_key(*labels, run.task, run.run) for labels in ((run.subject, run.session), ("", run.session), ("", ""))]
        for key in keys:
            if key in there:
                return there[key]
        wanted, some = " or ".join(dict.fromkeys(filter(None, keys))), ", ".join([*list(there)[:8], *["..."][:len(there) > 8]])
        raise FormatError(f"{self.path}: features of {wanted} are needed; there are {some}.")

    def of_subject(self, subject):
        """List the runs that a subject saw: its own, and those of everyone where it has none of its own.

        Parameters
        ----------
        subject : str
            Label.

        Returns
        -------
        runs : tuple of FeatureRun
            Sorted by key.
        """
        own = {(run.session, run.task, run.run) for run in self.runs if run.subject == subject}
        return tuple(
            run for run in self.runs
            if run.subject == subject or (not run.subject and (run.session, run.task, run.run) not in own)
        )  # fmt: skip

    def match(self, runs):
        """Look up the features of runs and compare the numbers of scans.

        Parameters
        ----------
        runs : sequence of Run
            Anything with the labels of a run, `n_scans` and `key`.

        Returns
        -------
        feature_runs : tuple of FeatureRun
            Where they are, in the order of `runs`; of a run that lacks scans at its beginning or end, those of the others.

        Raises
        ------
        FormatError
            When a run has no features, lacks scans in its middle, or has another number of scans than they.
        """
        return tuple(_fit_run(run, self.find(run)) for run in runs)


def _fit_run(run, features):
    """The features of a run's own scans; those that were left out must not lie between them, since delays need all."""
    stretches = getattr(run, "sample_mask", None)
    if stretches is not None and len(stretches) > 1:
        kept = f"of run {run.key}, {run.n_scans} of {run.n_source_scans} scans are left, with gaps between them"
        raise FormatError(f"{kept}, and delays need every scan; ingest the run with another --denoise than scrubbing.")
    n_scans = run.n_scans if stretches is None else run.n_source_scans
    if n_scans != features.n_scans:
        counts = f"run {run.key} has {n_scans} scans, its features {features.n_scans}"
        raise FormatError(f"{features.place}: {counts}; give the file one row a scan.")
    return features if stretches is None else replace(features, first=stretches[0][0], n_scans=run.n_scans)


def read_features(feature_run, start=0, stop=None, dtype=np.float32):
    """Read the features of a run, or of some of its scans.

    A local ``.npy`` is memory-mapped, a remote one is read from `start` to `stop` (in Fortran order: whole); of HDF5 come the
    chunks that hold the scans, and Parquet is read whole.

    Parameters
    ----------
    feature_run : FeatureRun
        Which run.
    start, stop : int
        First scan, and the one after the last; None for all that follow.
    dtype : numpy.dtype
        A float type.

    Returns
    -------
    features : ndarray of shape (stop - start, n_features), `dtype`
        In C order.

    Raises
    ------
    SettingsError, FormatError, StorageError
        When there are no such scans, `dtype` is no float, a feature is NaN or infinite, or the file missing, damaged or replaced.
    """
    run, stop, dtype = feature_run, feature_run.n_scans if stop is None else stop, np.dtype(dtype)
    if not 0 <= start <= stop <= run.n_scans or dtype.kind != "f":
        raise SettingsError(f"{run.key}: scans in 0 to {run.n_scans} as floats are expected; got {start} to {stop} as {dtype}.")
    with np.errstate(over="ignore"):
        features = np.require(_read_rows(run, run.first + start, run.first + stop), dtype, ["C", "W"])
    _refuse_non_finite(features, f"{run.place}: run {run.key}", start)
    return features


def write_features(folder, run, matrix):
    """Write the features of a run as ``.npy``, atomically.

    Parameters
    ----------
    folder : str
        Path or URI of the table; made when needed.
    run : Run
        Anything with the labels subject, session, task and run.
    matrix : ndarray of shape (n_scans, n_features)
        Finite numbers.

    Returns
    -------
    path : str
        The file, named by the labels that are not "".

    Raises
    ------
    SettingsError, FormatError, StorageError
        When the labels make no name, `matrix` is no matrix of finite numbers, or it cannot be written.
    """
    labels = {"subject": run.subject, "session": run.session, "task": run.task, "run": run.run}
    key, matrix = run_key(**labels), np.asarray(matrix, order="C")
    if _name_labels(key) != labels:
        raise SettingsError(f"labels must be letters and digits, at least one of them not empty; got {labels}.")
    path = store.join(folder, f"{key}.npy")
    check_matrix(path, matrix.shape, matrix.dtype)
    _refuse_non_finite(matrix, f"{path}: run {key}", 0)
    with store.open_replacement(path) as stream:
        np.lib.format.write_array(stream, matrix, allow_pickle=False)
    return path


def fingerprint(feature_run):
    """Identify the features of a run by their content, whatever file they are in; reads them once.

    Parameters
    ----------
    feature_run : FeatureRun
        Which run.

    Returns
    -------
    fingerprint : str
        First 16 hexadecimal digits of the sha256 of shape, type and values.

    Raises
    ------
    FormatError, StorageError
        When the file is missing or damaged.
    """
    rows = _read_rows(feature_run, feature_run.first, feature_run.first + feature_run.n_scans)
    digest = hashlib.sha256(f"{rows.shape} {rows.dtype.str}".encode())
    digest.update(np.ascontiguousarray(rows).view(np.uint8).reshape(-1))
    return digest.hexdigest()[:16]


def _list_runs(path):
    if store.is_folder(path):
        names = [name for name in store.list_files(path) if name.endswith(_FORMATS) and _name_labels(name)]
        found = ((name, *_describe(store.join(path, name))) for name in names)
    elif path.endswith(_HDF5):
        found = ((name.rpartition("/")[2], path, name, *header) for name, header in hdf5.list_datasets(path).items())
    else:
        raise FormatError(f"{path}: there is no such folder, nor is it an HDF5 file; make a folder and {_EXPECTED}.")
    for name, file, dataset, shape, dtype in found:
        if labels := _name_labels(name):
            check_matrix(f"{file}:{dataset}".rstrip(":"), shape, dtype)
            yield FeatureRun(**labels, path=file, dataset=dataset, n_scans=shape[0], n_features=shape[1], dtype=dtype.name)


def _name_labels(name):
    """Labels of a name, as `name_run` makes them, but with subject "" where it has none; {} for a name to ignore."""
    entities = parse_name(name)[0].keys() & {"sub", "ses", "task", "run"}
    if name.startswith((".", "_")) or not entities:
        return {}
    return name_run(name) if "sub" in entities else {**name_run(f"sub-all_{name}"), "subject": ""}


def _describe(path):
    if path.endswith(_HDF5):
        return path, *hdf5.find_dataset(path, "features")
    shape, rows = read_file(path, 0, 0)
    return path, "", shape, rows.dtype


def _read_rows(run, start, stop):
    rows = hdf5.read_rows(run.path, run.dataset, start, stop) if run.dataset else read_file(run.path, start, stop)[1]
    if rows.shape != (wanted := (stop - start, run.n_features)):
        raise FormatError(f"{run.place}: rows of shape {wanted} were expected, got {rows.shape}; was the file replaced?")
    return rows


def _refuse_non_finite(matrix, place, start):
    if not (finite := np.isfinite(matrix)).all():
        scan, feature = np.argwhere(~finite)[0]
        odd = f"NaN, infinity or too large a number at scan {start + scan}, feature {feature} (counted from 0)"
        raise FormatError(f"{place} has {odd}; replace it in the file.")
