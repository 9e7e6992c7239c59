"""Downpour SGD as a `pyspark.ml` estimator, for notebooks and pipelines alike."""

import hashlib
import json
import logging

import keras
import numpy as np
import pyarrow as pa
from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import MLReadable, MLWritable
from pyspark.sql import functions

from sparkneuro.data.batches import read_series
from sparkneuro.data.spark import count_slots
from sparkneuro.errors import SettingsError
from sparkneuro.train.architecture import build_model, describe_model
from sparkneuro.train.downpour import DownpourSettings
from sparkneuro.train.event_file import EventFile
from sparkneuro.train.executor_servers import ExecutorServers, check_slots
from sparkneuro.train.gradients import read_vector, write_vector
from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings, check_run, write_run
from sparkneuro.train.parameter_server.pace import check_pace
from sparkneuro.train.parameter_server.push import ServerSettings
from sparkneuro.train.parameter_server.server_group import DriverServers, ServerGroup
from sparkneuro.train.parameter_server.update_rules import describe_rule
from sparkneuro.train.parameter_server.wire import WIRE_TYPES
from sparkneuro.train.params import DownpourParams
from sparkneuro.train.progress import TrainingWatch
from sparkneuro.train.run_file import published
from sparkneuro.train.spark import WorkerPlan, partition_frame, run_workers
from sparkneuro.train.trained_model import DownpourModel, FolderReader, FolderWriter
from sparkneuro.validation import check_choice, check_number

PLACES = ("driver", "executors")
MODES = ("asynchronous", "synchronous")
# Longest time of one call to a server, and of the search for one that was lost (s).
CALL_S, RECONNECT_S = 60.0, 120.0
log = logging.getLogger(__name__)


class DownpourTrainer(Estimator, DownpourParams, MLWritable, MLReadable):
    """Train a Keras model by Downpour SGD (Dean et al. 2012) on the rows of a frame.

    Every worker is a Spark task with a replica of the model. The rows are read once, by one task a worker, with no shuffle where
    neighbouring partitions can be joined to equal shares; the driver gets the model's weights and a sample of held-out rows.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; its loss gets the series as input and as target. Its optimizer is the servers' update rule: any of
        Keras's that treat each weight by itself. Not modified.
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
    serversOn : str
        ``"driver"``: servers are processes beside the driver. ``"executors"``: each is a long-lived Spark task.
    mode : str
        ``"asynchronous"``, or ``"synchronous"``: all workers step together, with the mean gradient of all their rows.
    pipeline : bool
        Whether an exchange runs while the next gradient is computed, which makes gradients one push staler.
    maxStaleness : int or None
        Updates by others between a fetch and the push computed from it, at most; None for no bound.
    stalenessScaling : bool
        Whether an update is divided by 1 + its staleness.
    wireType : str
        What crosses the network: ``"float32"``, ``"bfloat16"`` or ``"float16"``; servers keep float32.
    tls : bool
        Whether connections are encrypted, with a certificate of this run.
    checkpointDir : str or None
        Folder that servers can reach, on any filesystem; with it a server that dies comes back, and a training can be resumed.
        Its checkpoints stay until they are deleted, or another training begins there.
    checkpointEvery, keepCheckpoints : int
        Updates between two checkpoints of a server, and how many are kept of each.
    resume : bool
        Whether to go on from the checkpoints in `checkpointDir`.
    patience : int or None
        Epochs without a better validation loss after which training ends; None for never.
    bestWeights : bool
        Whether the weights of the best validation loss are returned, where one is measured, and not the last.
    eventDir : str or None
        Folder of TensorBoard event files; none are written when absent.
    runName : str
        What ``sparkneuro status`` calls the training.
    """

    @keyword_only
    def __init__(
        self, *, model=None, inputCol="series", outputCol="features", outputLayer="encoder", seriesLength=None,
        validationIndicatorCol=None, validationRows=4096, nWorkers=2, nServers=1, nFetch=1, nPush=1, warmupSteps=0, epochs=1,
        batchSize=256, seed=0, timeout=600.0, progress=True, serversOn="driver", mode="asynchronous", pipeline=False,
        maxStaleness=None, stalenessScaling=False, wireType="float32", tls=False, checkpointDir=None, checkpointEvery=200,
        keepCheckpoints=2, resume=False, patience=None, bestWeights=True, eventDir=None, runName="",
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
        return FolderWriter(self, {"params": self._param_values()})

    @classmethod
    def read(cls):
        """Return a reader: ``DownpourTrainer.load(path)``.

        Returns
        -------
        reader : pyspark.ml.util.MLReader
            Reads what `write` wrote.
        """
        return FolderReader(lambda model, record: cls(model=model, **record["params"]))

    def _fit(self, dataset):
        model, series_length = self._check_model()
        self._check_settings()
        rule, place = describe_rule(model.optimizer), self._place(dataset.sparkSession)
        events = EventFile(self._value("eventDir")) if self._value("eventDir") else None
        training, held_out = self._split(dataset)
        frame, n_rows = partition_frame(training.select(self._value("inputCol")), self._value("nWorkers"))
        if n_rows == 0:
            raise SettingsError("there must be rows to train on; got none.")
        values, n_trainable = read_vector(model)
        settings = self._server_settings(rule, values.size, n_trainable, n_rows)
        resume, folder = self._value("resume"), self._value("checkpointDir")
        if resume:
            check_run(folder, self._describe_run(model, settings))
        servers = ServerGroup(values, settings, self._value("nServers"), place, CALL_S, self._value("tls"), resume)
        trained = build_model(describe_model(model))
        sample = self._sample(held_out, series_length)
        with servers:
            if folder is not None and not resume:
                write_run(folder, self._describe_run(model, settings))
            watch = TrainingWatch(
                n_rows * self._value("epochs"), _validator(trained, servers, sample), self._value("progress"),
                self._value("patience"), servers.finish, folder, resume, events,
            )  # fmt: skip
            plan = self._plan(model, series_length, servers, settings)
            facts = {"n_workers": self._value("nWorkers"), "n_servers": self._value("nServers"), "epochs": self._value("epochs")}
            facts |= {"output": self._value("runName"), "n_rows_total": n_rows * self._value("epochs")}
            try:
                with published(servers.directory.address, servers.credentials, **facts):
                    _, retrained = run_workers(
                        frame, plan, servers, self._value("timeout"), watch, synchronous=self._value("mode") == "synchronous"
                    )
                vector, _ = servers.ask(lambda client: client.pull(), RECONNECT_S)
                status = servers.ask(lambda client: client.status(), RECONNECT_S)
                watch(status)
            finally:
                watch.close()
        best = self._value("bestWeights") and watch.best_vector is not None
        write_vector(trained, watch.best_vector if best else vector)
        summary = {
            "mode": "downpour", "series_length": series_length, "n_parameters": model.count_params(), "n_training_series": n_rows,
            "history": watch.history, "best": watch.best if best else None, "stopped_early": watch.stopped,
            "startup_s": status["startup_s"], "series_per_s": status["series_per_s"], "updates": status["version"],
            "server_restarts": servers.restarts, "retrained_batches": retrained,
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

    def _check_settings(self):
        for name in ("nWorkers", "nServers", "nFetch", "nPush", "epochs", "batchSize", "validationRows"):
            check_number(name, self._value(name), minimum=1, integer=True)
        for name in ("seed", "warmupSteps"):
            check_number(name, self._value(name), minimum=0, integer=True)
        if self._value("patience") is not None:
            check_number("patience", self._value("patience"), minimum=1, integer=True)
            if self._value("validationIndicatorCol") is None:
                raise SettingsError("patience needs rows that are held out: name their column in validationIndicatorCol.")
        check_choice("serversOn", self._value("serversOn"), PLACES)
        check_choice("mode", self._value("mode"), MODES)
        check_choice("wireType", self._value("wireType"), tuple(WIRE_TYPES))
        if self._value("resume") and self._value("checkpointDir") is None:
            raise SettingsError("checkpointDir must name the folder of checkpoints to resume from; got none.")
        if self._value("mode") == "synchronous":
            for name, only in {"nFetch": 1, "nPush": 1, "pipeline": False, "warmupSteps": 0, "stalenessScaling": False}.items():
                if self._value(name) != only:
                    raise SettingsError(f"{name} must be {only} in a synchronous training; got {self._value(name)}.")
        names = ("mode", "nWorkers", "maxStaleness", "pipeline", "nFetch")
        check_pace(*(self._value(name) for name in names))

    def _server_settings(self, rule, n_values, n_trainable, n_rows):
        checkpoints = None
        if self._value("checkpointDir") is not None:
            checkpoints = CheckpointSettings(
                self._value("checkpointDir"), self._value("checkpointEvery"), self._value("keepCheckpoints")
            )
        return ServerSettings(
            rule, n_trainable, n_values - n_trainable, self._value("warmupSteps"), self._value("nWorkers"), n_rows,
            mode=self._value("mode"), max_staleness=self._value("maxStaleness"),
            staleness_scaling=self._value("stalenessScaling"), checkpoints=checkpoints,
        )  # fmt: skip

    def _describe_run(self, model, settings):
        names = ("nWorkers", "nServers", "nPush", "batchSize", "epochs", "seed")
        # Not the whole configuration: Keras numbers its layers, and the same model made twice has other names.
        layers = [[layer.__class__.__name__, [list(weight.shape) for weight in layer.weights]] for layer in model.layers]
        return {
            "model": hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:16], "rule": settings.rule,
            "training_rows": settings.rows_per_epoch, "mode": settings.mode, **{name: self._value(name) for name in names},
        }  # fmt: skip

    def _place(self, spark):
        """Where the servers run; that everything fits is made sure of before anything is started."""
        host = spark.conf.get("spark.driver.host")
        bind = spark.conf.get("spark.driver.bindAddress", host)
        place = DriverServers(host, bind) if self._value("serversOn") == "driver" else ExecutorServers(spark, host, bind)
        notice = check_slots(
            count_slots(spark), self._value("nWorkers"), place.n_slots(self._value("nServers")),
            self._value("mode") == "synchronous",
        )  # fmt: skip
        if notice is not None:
            log.warning(notice)
        return place

    def _plan(self, model, series_length, servers, settings):
        downpour = DownpourSettings(
            self._value("nFetch"), self._value("nPush"), settings.rule, settings.n_trainable, self._value("timeout"),
            RECONNECT_S, self._value("pipeline"),
        )  # fmt: skip
        return WorkerPlan(
            describe_model(model), keras.backend.backend(), servers.n_values, series_length, self.isDefined("seriesLength"),
            self._value("batchSize"), self._value("epochs"), self._value("seed"), servers.directory.address, servers.credentials,
            CALL_S, self._value("wireType"), downpour,
        )  # fmt: skip


def _validator(model, servers, sample):
    if sample is None:
        return None

    def validate():
        vector, _ = servers.ask(lambda client: client.pull(), RECONNECT_S)
        write_vector(model, vector)
        loss = float(model.evaluate(sample, sample, batch_size=1024, verbose=0, return_dict=True)["loss"])
        return loss, vector

    return validate
