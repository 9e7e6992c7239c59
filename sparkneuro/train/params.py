"""The settings of a Downpour training as Spark ML params."""

from pyspark.ml.param import Param, Params, TypeConverters


class DownpourParams(Params):
    """The settings of a training, for an estimator and the model that it makes."""

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
    serversOn = Param(Params._dummy(), "serversOn", "where servers run: driver or executors", TypeConverters.toString)
    mode = Param(Params._dummy(), "mode", "asynchronous or synchronous", TypeConverters.toString)
    pipeline = Param(Params._dummy(), "pipeline", "whether exchanges overlap with computing", TypeConverters.toBoolean)
    maxStaleness = Param(Params._dummy(), "maxStaleness", "updates that a gradient may be late", TypeConverters.toInt)
    stalenessScaling = Param(Params._dummy(), "stalenessScaling", "whether late updates are damped", TypeConverters.toBoolean)
    wireType = Param(Params._dummy(), "wireType", "float32, bfloat16 or float16 on the network", TypeConverters.toString)
    tls = Param(Params._dummy(), "tls", "whether connections are encrypted", TypeConverters.toBoolean)
    checkpointDir = Param(Params._dummy(), "checkpointDir", "folder of checkpoints, on any filesystem", TypeConverters.toString)
    checkpointEvery = Param(Params._dummy(), "checkpointEvery", "updates between two checkpoints", TypeConverters.toInt)
    keepCheckpoints = Param(Params._dummy(), "keepCheckpoints", "newest checkpoints kept of each server", TypeConverters.toInt)
    resume = Param(Params._dummy(), "resume", "whether to go on from the checkpoints", TypeConverters.toBoolean)
    patience = Param(
        Params._dummy(), "patience", "epochs without a better validation loss before training ends", TypeConverters.toInt
    )
    bestWeights = Param(
        Params._dummy(), "bestWeights", "whether the epoch of the best validation loss is returned", TypeConverters.toBoolean
    )
    eventDir = Param(Params._dummy(), "eventDir", "folder of TensorBoard event files", TypeConverters.toString)
    runName = Param(Params._dummy(), "runName", "what sparkneuro status calls the training", TypeConverters.toString)
    timeout = Param(Params._dummy(), "timeout", "seconds without a sign of life before giving up", TypeConverters.toFloat)
    progress = Param(Params._dummy(), "progress", "whether a progress bar is drawn", TypeConverters.toBoolean)

    def _set_defaults(self):
        self._setDefault(
            inputCol="series", outputCol="features", outputLayer="encoder", validationRows=4096, nWorkers=2, nServers=1,
            nFetch=1, nPush=1, warmupSteps=0, epochs=1, batchSize=256, seed=0, timeout=600.0, progress=True,
            serversOn="driver", mode="asynchronous", pipeline=False, stalenessScaling=False, wireType="float32", tls=False,
            checkpointEvery=200, keepCheckpoints=2, resume=False, bestWeights=True, runName="",
        )  # fmt: skip

    def _value(self, name):
        return self.getOrDefault(name) if self.isDefined(name) else None

    def _param_values(self):
        return {param.name: self.getOrDefault(param) for param in self.params if self.isDefined(param)}
