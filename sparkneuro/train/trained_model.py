"""A trained model as a `pyspark.ml` transformer, and how it and its trainer are saved."""

from functools import partial

import keras
from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.train.encode import encode_task, find_output
from sparkneuro.train.model_folder import pack_model, read_model_bytes, read_record, unpack_model, write_model
from sparkneuro.train.params import DownpourParams


class DownpourModel(Model, DownpourParams, MLWritable, MLReadable):
    """A trained Keras model that adds its hidden features to a frame.

    Parameters
    ----------
    model : keras.Model
        The trained model.
    training : dict
        Record of its training: history, rates, numbers of rows and parameters.
    """

    def __init__(self, model=None, training=None):
        super().__init__()
        self._set_defaults()
        self.model = model
        self.training = training or {}

    def write(self):
        """Return a writer: ``model.write().overwrite().save(path)``.

        Returns
        -------
        writer : pyspark.ml.util.MLWriter
            Saves ``model.keras`` and ``training.json``.
        """
        return FolderWriter(self, {**self.training, "params": self._param_values()})

    @classmethod
    def read(cls):
        """Return a reader: ``DownpourModel.load(path)``.

        Returns
        -------
        reader : pyspark.ml.util.MLReader
            Reads what `write` wrote.
        """

        def restore(model, record):
            restored = cls(model, {key: value for key, value in record.items() if key not in ("format", "params")})
            return restored._set(**record.get("params", {}))

        return FolderReader(restore)

    def _transform(self, dataset):
        column, added = self._value("inputCol"), self._value("outputCol")
        if column not in dataset.columns:
            raise SettingsError(f"inputCol must be a column of the frame ({', '.join(dataset.columns)}); got {column!r}.")
        if added in dataset.columns:
            raise SettingsError(f"outputCol must be a new column; the frame has {added!r} already.")
        find_output(self.model, self._value("outputLayer"))
        packed = dataset.sparkSession.sparkContext.broadcast(pack_model(self.model))
        task = partial(
            encode_task, packed=packed, backend=keras.backend.backend(), series_length=self.training["series_length"],
            fit_length=self.isDefined("seriesLength"), output_layer=self._value("outputLayer"), input_column=column,
            output_column=added,
        )  # fmt: skip
        schema = StructType([*dataset.schema.fields, StructField(added, ArrayType(FloatType(), False), False)])
        return dataset.mapInArrow(task, schema)


class FolderWriter(MLWriter):
    """Writes a trainer's or a trained model's folder; see `model_folder`.

    Parameters
    ----------
    instance : DownpourTrainer or DownpourModel
        Whose ``model`` is written.
    record : dict
        What goes with it, fit for JSON.
    """

    def __init__(self, instance, record):
        super().__init__()
        self._instance, self._record = instance, record

    def save(self, path):
        """Write the folder.

        Parameters
        ----------
        path : str
            Where, on any filesystem.
        """
        write_model(path, self._instance.model, self._record, overwrite=self.shouldOverwrite)


class FolderReader(MLReader):
    """Reads what `FolderWriter` wrote.

    Parameters
    ----------
    restore : callable
        Makes the instance of the Keras model and the record.
    """

    def __init__(self, restore):
        super().__init__()
        self._restore = restore

    def load(self, path):
        """Read a folder.

        Parameters
        ----------
        path : str
            Where it is.

        Returns
        -------
        instance : DownpourTrainer or DownpourModel
            What was written.
        """
        record = read_record(path)
        if "params" not in record:
            raise FormatError(f"{path} must be the folder of a trainer or of its model; its record holds no params.")
        return self._restore(unpack_model(read_model_bytes(path)), record)
