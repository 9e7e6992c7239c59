"""Downpour SGD as a `pyspark.ml` estimator, for notebooks and pipelines alike."""

import logging
from functools import partial

import keras
import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import functions
from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

from sparkneuro.data.batches import read_series
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.train.architecture import build_model, describe_model
from sparkneuro.train.downpour import DownpourSettings
from sparkneuro.train.encode import encode_task, find_output
from sparkneuro.train.gradients import read_vector, write_vector
from sparkneuro.train.model_folder import pack_model, read_model_bytes, read_record, unpack_model, write_model
from sparkneuro.train.progress import TrainingWatch
from sparkneuro.train.server_group import ServerGroup
from sparkneuro.train.spark import WorkerPlan, describe_waves, partition_frame, run_workers
from sparkneuro.train.update_rules import describe_rule
from sparkneuro.validation import check_number

log = logging.getLogger(__name__)


class _DownpourParams(Params):
    inputCol = Param(Params._dummy(), "inputCol", "column of series, array<float>", TypeConverters.toString)
    outputCol = Param(Params._dummy(), "outputCol", "column of features that transform adds", TypeConverters.toString)
    outputLayer = Param(Params._dummy(), "outputLayer", "part of the model whose output they are", TypeConverters.toString)
    seriesLength = Param(Params._dummy(), "seriesLength", "scans: others are cropped or zero-padded", TypeConverters.toInt)
    validationIndicatorCol = Param(
        Params._dummy(), "validationIndicatorCol", "boolean column: true for rows held out", TypeConverters.toString
    )
    validationRows = Param(Params._dummy(), "validationRows", "held-out rows measured each epoch", TypeConverters.toInt)
    nWorkers = Param(Params._dummy(), "nWorkers", "number of workers (Spark tasks)", TypeConverters.toInt)
    nServers = Param(Params._dummy(), "nServers", "number of parameter servers", TypeConverters.toInt)
    nFetch = Param(Params._dummy(), "nFetch", "batches between two pulls", TypeConverters.toInt)
    nPush = Param(Params._dummy(), "nPush", "batches between two pushes", TypeConverters.toInt)
    warmupSteps = Param(Params._dummy(), "warmupSteps", "batches of the first worker alone", TypeConverters.toInt)
    epochs = Param(Params._dummy(), "epochs", "passes over the rows", TypeConverters.toInt)
    batchSize = Param(Params._dummy(), "batchSize", "rows in a batch", TypeConverters.toInt)
    seed = Param(Params._dummy(), "seed", "seed of the order of rows", TypeConverters.toInt)
    timeout = Param(Params._dummy(), "timeout", "seconds without a sign of life before giving up", TypeConverters.toFloat)
    progress = Param(Params._dummy(), "progress", "whether a progress bar is drawn", TypeConverters.toBoolean)

    def _set_defaults(self):
        self._setDefault(
            inputCol="series", outputCol="features", outputLayer="encoder", validationRows=4096, nWorkers=2, nServers=1,
            nFetch=1, nPush=1, warmupSteps=0, epochs=1, batchSize=256, seed=0, timeout=600.0, progress=True,
        )  # fmt: skip

    def _value(self, name):
        return self.getOrDefault(name) if self.isDefined(name) else None

    def _param_values(self):
        return {param.name: self.getOrDefault(param) for param in self.params if self.isDefined(param)}


class DownpourTrainer(Estimator, _DownpourParams, MLWritable, MLReadable):
    """Train a Keras model by Downpour SGD (Dean et al. 2012) on the rows of a frame.

    Every worker is a Spark task with a replica of the model; parameter servers run beside the driver. The rows are read
    once, by one task a worker, with no shuffle where neighbouring partitions can be joined to equal shares; the driver
    gets the model's weights and a sample of held-out rows.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; its loss gets the series as input and as target. Its optimizer is the servers' update rule:
        Adagrad or SGD with a constant learning rate. Not modified.
    inputCol : str
        Column of series, array<float>.
    outputCol : str
        Column that the trained model's `transform` adds.
    outputLayer : str
        Part of the model whose output it adds; empty for the model's own output.
    seriesLength : int or None
        Scans that other series are cropped or zero-padded to; None takes the model's and refuses others.
    validationIndicatorCol : str or None
        Boolean column that is true for rows held out.
    validationRows : int
        How many of them, drawn at random, are measured each epoch.
    nWorkers, nServers : int
        Number of workers and of parameter servers.
    nFetch, nPush : int
        Batches between two pulls, and between two pushes.
    warmupSteps : int
        Batches that the first worker trains alone.
    epochs, batchSize : int
        Passes over the rows, and rows in a batch.
    seed : int
        Seed of the order of rows.
    timeout : float
        Seconds without a sign of life of any worker before training is given up.
    progress : bool
        Whether a progress bar is drawn.
    """

    @keyword_only
    def __init__(
        self, *, model=None, inputCol="series", outputCol="features", outputLayer="encoder", seriesLength=None,
        validationIndicatorCol=None, validationRows=4096, nWorkers=2, nServers=1, nFetch=1, nPush=1, warmupSteps=0, epochs=1,
        batchSize=256, seed=0, timeout=600.0, progress=True,
    ):  # fmt: skip
        super().__init__()
        self._set_defaults()
        options = dict(self._input_kwargs)
        self.model = options.pop("model", None)
        self._set(**{name: value for name, value in options.items() if value is not None})

    def write(self):
        """Return a writer: ``trainer.write().overwrite().save(path)``.

        Returns
        -------
        writer : pyspark.ml.util.MLWriter
            Saves the untrained model and the parameters.
        """
        return _FolderWriter(self, {"params": self._param_values()})

    @classmethod
    def read(cls):
        """Return a reader: ``DownpourTrainer.load(path)``.

        Returns
        -------
        reader : pyspark.ml.util.MLReader
            Reads what `write` wrote.
        """
        return _FolderReader(lambda model, record: cls(model=model, **record["params"]))

    def _fit(self, dataset):
        model, series_length = self._check_model()
        rule = describe_rule(model.optimizer)
        for name in ("nWorkers", "nServers", "nFetch", "nPush", "epochs", "batchSize", "validationRows"):
            check_number(name, self._value(name), minimum=1, integer=True)
        check_number("seed", self._value("seed"), minimum=0, integer=True)
        training, held_out = self._split(dataset)
        n_workers = self._value("nWorkers")
        if (waves := describe_waves(dataset.sparkSession, n_workers)) is not None:
            log.warning(waves)
        frame, n_rows = partition_frame(training.select(self._value("inputCol")), n_workers)
        if n_rows == 0:
            raise SettingsError("there must be rows to train on; got none.")
        values, n_trainable = read_vector(model)
        host = dataset.sparkSession.conf.get("spark.driver.host")
        bind = dataset.sparkSession.conf.get("spark.driver.bindAddress", host)
        trained = build_model(describe_model(model))
        sample = self._sample(held_out, series_length)
        servers = ServerGroup(
            values, n_trainable, self._value("nServers"), host, rule, self._value("warmupSteps"), n_workers, n_rows, bind=bind
        )
        with servers:
            plan = self._plan(model, series_length, servers, rule, n_trainable)
            watch = TrainingWatch(n_rows * self._value("epochs"), _validator(trained, servers, sample), self._value("progress"))
            try:
                run_workers(frame, plan, servers, self._value("timeout"), watch)
                status = servers.client.status()
                watch(status)
            finally:
                watch.close()
            write_vector(trained, servers.client.pull())
        summary = {
            "mode": "downpour", "series_length": series_length, "n_parameters": model.count_params(), "n_training_series": n_rows,
            "history": watch.history, "startup_s": status["startup_s"], "series_per_s": status["series_per_s"],
        }  # fmt: skip
        return self._copyValues(DownpourModel(model=trained, training=summary))

    def _check_model(self):
        model = self.model
        if not isinstance(model, keras.Model) or not model.built or not getattr(model, "compiled", False):
            raise SettingsError(f"model must be a built and compiled keras.Model; got {model!r}.")
        own = getattr(model, "series_length", None) or getattr(model, "input_shape", (None, None))[1]
        length = self._value("seriesLength") or own
        if own not in (None, length):
            raise SettingsError(f"seriesLength must be {own}, as the model takes; got {length}.")
        if length is None:
            raise SettingsError("seriesLength must be given, since the model takes any length.")
        return model, length

    def _split(self, dataset):
        column = self._value("validationIndicatorCol")
        if column is None:
            return dataset, None
        held_out = functions.coalesce(functions.col(column), functions.lit(False))
        return dataset.filter(~held_out), dataset.filter(held_out)

    def _sample(self, held_out, series_length):
        if held_out is None or (n_rows := held_out.count()) == 0:
            return None
        wanted = self._value("validationRows")
        frame = held_out.select(self._value("inputCol"))
        if n_rows > wanted:
            # A few more than wanted, so that chance does not make them fewer; the rest is left out at random.
            share = (wanted + 4 * wanted**0.5 + 10) / n_rows
            frame = frame.sample(min(1.0, share), seed=self._value("seed"))
        column = frame.toArrow().column(0)
        if len(column) > wanted:
            rows = np.random.default_rng(self._value("seed")).choice(len(column), wanted, replace=False)
            column = column.take(pa.array(np.sort(rows)))
        return read_series(column, series_length, self.isDefined("seriesLength")) if len(column) else None

    def _plan(self, model, series_length, servers, rule, n_trainable):
        settings = DownpourSettings(self._value("nFetch"), self._value("nPush"), rule, n_trainable, self._value("timeout"))
        return WorkerPlan(
            describe_model(model), keras.backend.backend(), servers.n_values, series_length, self.isDefined("seriesLength"),
            self._value("batchSize"), self._value("epochs"), self._value("seed"), tuple(servers.addresses), servers.token, 60.0,
            settings,
        )  # fmt: skip


class DownpourModel(Model, _DownpourParams, MLWritable, MLReadable):
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
        return _FolderWriter(self, {**self.training, "params": self._param_values()})

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

        return _FolderReader(restore)

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


class _FolderWriter(MLWriter):
    def __init__(self, instance, record):
        super().__init__()
        self._instance, self._record = instance, record

    def save(self, path):
        write_model(path, self._instance.model, self._record, overwrite=self.shouldOverwrite)


class _FolderReader(MLReader):
    def __init__(self, restore):
        super().__init__()
        self._restore = restore

    def load(self, path):
        record = read_record(path)
        if "params" not in record:
            raise FormatError(f"{path} must be the folder of a trainer or of its model; its record holds no params.")
        return self._restore(unpack_model(read_model_bytes(path)), record)


def _validator(model, servers, sample):
    if sample is None:
        return None

    def validate():
        client = servers.connect()
        try:
            write_vector(model, client.pull())
        finally:
            client.close()
        return float(model.evaluate(sample, sample, batch_size=1024, verbose=0, return_dict=True)["loss"])

    return validate
