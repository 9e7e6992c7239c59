"""How well an autoencoder reconstructs every row of a voxel table: a Spark job that sends home a few numbers a row."""

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparkneuro.data.batches import read_series

MEASURES = ("error", "correlation", "error_from_features", "correlation_from_features")
SCHEMA = "run int, voxel int, " + ", ".join(f"{name} float" for name in MEASURES)
LABELS = ("subject", "session", "task", "run")
CHUNK = 1024
_models = {}


@dataclass(frozen=True)
class RowErrors:
    """What each row's reconstruction is worth; arrays of shape (n_rows,).

    Parameters
    ----------
    run : ndarray of int32
        Place of the row's run among the table's runs.
    voxel : ndarray of int32
        Number of its voxel.
    error : ndarray of float32
        Mean squared error, in the unit of the series squared.
    correlation : ndarray of float32
        Pearson r with the series; NaN where one of them is constant.
    error_from_features, correlation_from_features : ndarray of float32
        The same for the hidden features decoded without switches.
    """

    run: np.ndarray
    voxel: np.ndarray
    error: np.ndarray
    correlation: np.ndarray
    error_from_features: np.ndarray
    correlation_from_features: np.ndarray


def measure_rows(dataframe, runs, model, series_length, fit=False):
    """Reconstruct every row, and measure how well.

    No shuffle; the packed model goes to every executor, and 24 bytes a row come to the driver.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Of `data.spark.read_voxel_table`.
    runs : sequence of Run
        The table's runs.
    model : bytes
        A ``.keras`` file.
    series_length : int
        Samples T that the model takes.
    fit : bool
        Whether series of other lengths are cropped or padded, or refused.

    Returns
    -------
    rows : RowErrors
        Sorted by run and voxel.
    """
    import keras

    keys = tuple(tuple(getattr(run, label) for label in LABELS) for run in runs)
    packed = dataframe.sparkSession.sparkContext.broadcast(model)
    cores = int(dataframe.sparkSession.conf.get("spark.task.cpus", "1"))
    task = partial(
        measure_task, packed=packed, keys=keys, backend=keras.backend.backend(), cores=cores, series_length=series_length, fit=fit
    )
    rows = dataframe.select(*LABELS, "voxel", "series").mapInArrow(task, SCHEMA).toArrow()
    packed.destroy()
    columns = {name: rows[name].to_numpy() for name in rows.schema.names}
    order = np.lexsort((columns["voxel"], columns["run"]))
    return RowErrors(**{name: values[order] for name, values in columns.items()})


def measure_task(batches, packed, keys, backend, cores, series_length, fit):
    """Measure the rows of a partition; the model is unpacked once a Python worker.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Labels of the run, voxel, series.
    packed : pyspark.Broadcast of bytes
        A ``.keras`` file.
    keys : tuple of tuple of str
        Labels of the table's runs.
    backend : str
        Keras backend.
    cores : int
        Threads that a task may use.
    series_length : int
        Samples that the model takes.
    fit : bool
        Whether series of other lengths are cropped or padded, or refused.

    Yields
    ------
    batch : pyarrow.RecordBatch
        Of `SCHEMA`.
    """
    reconstruct = _load(packed.value, backend, cores)
    names = pa.array(["/".join(key) for key in keys])
    for batch in filter(len, batches):
        series = read_series(batch.column(5), series_length, fit)
        labels = [batch.column(place) for place in range(len(LABELS))]
        run = pc.index_in(pc.binary_join_element_wise(*labels, "/"), names)
        measures = [measure_series(part, reconstruct) for part in _cut(series)]
        columns = [np.concatenate(column).astype(np.float32) for column in zip(*measures, strict=True)]
        yield pa.RecordBatch.from_arrays([run, batch.column(4), *map(pa.array, columns)], names=["run", "voxel", *MEASURES])


def measure_series(series, reconstruct):
    """Reconstruct series, and measure how well.

    Parameters
    ----------
    series : ndarray of shape (n_series, n_scans)
        Series.
    reconstruct : callable
        ``series -> (reconstruction, reconstruction from the features alone)``.

    Returns
    -------
    measures : list of 4 ndarray of shape (n_series,)
        In the order of `MEASURES`.
    """
    measures = []
    for reconstruction in reconstruct(np.ascontiguousarray(series)):
        measures += [np.mean((series - reconstruction) ** 2, axis=1), correlate_rows(series, reconstruction)]
    return measures


def correlate_rows(x, y):
    """Pearson correlation of each row of x with the same row of y.

    Parameters
    ----------
    x, y : ndarray of shape (n_series, n_scans)
        Any units.

    Returns
    -------
    correlation : ndarray of shape (n_series,)
        NaN where a row is constant.

    Examples
    --------
    >>> correlate_rows(np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 5.0]])).round(6).tolist()
    [1.0]
    """
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.sum(x * x, axis=1) * np.sum(y * y, axis=1))
    return np.divide(np.sum(x * y, axis=1), norms, out=np.full(len(x), np.nan, x.dtype), where=norms > 0)


def _cut(series):
    return [series[start : start + CHUNK] for start in range(0, len(series), CHUNK)]


def _load(packed, backend, cores):
    key = hashlib.sha256(packed).digest()
    if key not in _models:
        from sparkneuro.train.spark import use_task_cores

        use_task_cores(backend, cores)
        from sparkneuro.models.dca_reconstruction import Reconstructions
        from sparkneuro.train.model_folder import unpack_model

        # Another report's model is not needed any more: one at a time bounds a worker's memory.
        _models.clear()
        _models[key] = Reconstructions(unpack_model(packed)).predict_on_batch
    return _models[key]
