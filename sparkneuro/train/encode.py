"""Hidden features of every row, inside a Spark task; the model is unpacked once a Python worker."""

import hashlib

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from sparkneuro.data.batches import read_series
from sparkneuro.errors import SettingsError
from sparkneuro.train.spark import use_task_cores

CHUNK = 1024
_models = {}


def encode_task(batches, packed, backend, series_length, fit_length, output_layer, input_column, output_column):
    """Append the features of a frame's series to its rows.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Rows of the frame.
    packed : pyspark.Broadcast of bytes
        The model, as `model_folder.pack_model` makes it.
    backend : str
        Keras backend.
    series_length : int
        Scans that the model takes.
    fit_length : bool
        Whether other series are cropped or padded, or refused.
    output_layer : str
        See `find_output`.
    input_column, output_column : str
        Where the series are, and where the features go.

    Yields
    ------
    batch : pyarrow.RecordBatch
        The rows, with one column more.
    """
    predict = _load(packed.value, backend, output_layer, series_length)
    for batch in batches:
        series = read_series(batch.column(batch.schema.names.index(input_column)), series_length, fit_length)
        features = _predict_in_chunks(predict, series)
        offsets = np.arange(len(series) + 1, dtype=np.int32) * features.shape[1]
        column = pa.ListArray.from_arrays(pa.array(offsets), pa.array(features.reshape(-1)))
        yield pa.RecordBatch.from_arrays([*batch.columns, column], names=[*batch.schema.names, output_column])


def find_output(model, output_layer):
    """Find the part of a model whose output is wanted.

    Parameters
    ----------
    model : keras.Model
        A built model.
    output_layer : str
        Name of a model within it (``encoder``), of a layer of a functional model, or empty for the model's own output.

    Returns
    -------
    part : keras.Model
        Takes series, returns features.

    Raises
    ------
    SettingsError
        When there is no such part.
    """
    import keras

    if not output_layer:
        return model
    part = getattr(model, output_layer, None)
    if isinstance(part, keras.Model):
        return part
    layers = [layer.name for layer in model.layers]
    if output_layer not in layers or not hasattr(model, "inputs"):
        raise SettingsError(f"outputLayer must be a part of the model ({', '.join(layers)}); got {output_layer!r}.")
    return keras.Model(model.inputs, model.get_layer(output_layer).output)


def _load(packed, backend, output_layer, series_length):
    key = (hashlib.sha256(packed).digest(), output_layer)
    if key not in _models:
        use_task_cores(backend, TaskContext.get().cpus())
        from sparkneuro.train.model_folder import unpack_model

        # Another job's model is not needed any more: one at a time bounds a worker's memory.
        _models.clear()
        _models[key] = _make_predict(find_output(unpack_model(packed), output_layer), backend, series_length)
    return _models[key]


def _make_predict(part, backend, series_length):
    if backend != "tensorflow":
        return lambda x: np.asarray(part.predict_on_batch(x))
    import tensorflow as tf

    signature = [tf.TensorSpec([None, series_length], tf.float32)]
    function = tf.function(lambda x: part(x, training=False), input_signature=signature, autograph=False)
    return lambda x: function(x).numpy()


def _predict_in_chunks(predict, series):
    if len(series) == 0:
        return np.empty((0, 0), np.float32)
    parts = [predict(np.ascontiguousarray(series[i : i + CHUNK])) for i in range(0, len(series), CHUNK)]
    return np.concatenate(parts).astype(np.float32, copy=False).reshape(len(series), -1)
