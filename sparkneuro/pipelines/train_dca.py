"""Train the deep convolutional autoencoder of time series (dist-DCA) on a voxel table.

By default by Downpour SGD on Spark: one worker a Spark task, parameter servers beside the driver, Adagrad at the servers. A
training that was interrupted goes on with --resume. With --standalone the same model is trained on the same rows by plain
Keras fit in this process.
"""

import logging
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np

from sparkneuro.data.batches import BatchSequence, SeriesSpool, fit_length
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.split import choose_split, is_held_out, mark_held_out
from sparkneuro.pipelines.train_dca_settings import Settings as Settings
from sparkneuro.pipelines.train_dca_settings import check_output, check_settings, checkpoint_folder
from sparkneuro.train.parameter_server.checkpoint import clear, holds_progress, read_run
from sparkneuro.validation import check_number

log = logging.getLogger(__name__)


def needs_spark(settings):
    """Say whether a Spark session is needed.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    needed : bool
        Not for a standalone training.

    Raises
    ------
    SettingsError
        When the settings do not go with each other or with the table: said before Spark is started.
    """
    prepare(settings)
    return not settings.standalone


def prepare(settings):
    """Check the settings against each other and the table, and decide what follows from them.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    table : VoxelTable
        What is trained on.
    series_length : int
        Scans of the model's input.
    split : dict
        What is held out, see `split.choose_split`.

    Raises
    ------
    SettingsError
        When the settings do not go with each other or with the table.
    FormatError
        When the table is not one.
    """
    check_settings(settings)
    table = VoxelTable.open(settings.table)
    series_length = choose_series_length(table, settings.series_length)
    split = choose_split(table, settings.validation_subjects, settings.validation_fraction, settings.seed)
    check_output(settings)
    return table, series_length, split


def run(settings, spark):
    """Train the model and write its folder.

    Parameters
    ----------
    settings : Settings
        The job's settings.
    spark : pyspark.sql.SparkSession or None
        The session; None when training is standalone.

    Returns
    -------
    result : dict
        Where the model is, its loss, and how fast it was trained.

    Raises
    ------
    SettingsError
        When the settings do not go with each other or with the table.
    """
    table, series_length, split = prepare(settings)
    announce_fitting(table, series_length)
    model = make_model(settings, series_length)
    start = time.monotonic()
    if settings.standalone:
        trained, training = _train_standalone(settings, table, split, model, series_length)
    else:
        trained, training = _train_downpour(settings, spark, table, split, model)
    record = {
        **training,
        "settings": asdict(settings),
        "table": table.path,
        "split": split,
        "n_validation_series": _count(table, split, held_out=True),
        "training_s": time.monotonic() - start,
    }
    _save(settings, trained, record)
    return summarise(settings.output, record)


def choose_series_length(table, series_length=None):
    """Choose the number of scans of the model's input.

    Parameters
    ----------
    table : VoxelTable
        The table.
    series_length : int or None
        Wanted number of scans.

    Returns
    -------
    series_length : int
        Wanted, or that of all runs.

    Raises
    ------
    SettingsError
        When runs differ and no length is wanted.
    """
    counts = Counter(run.n_scans for run in table.runs)
    if series_length is None:
        if len(counts) > 1:
            lengths = ", ".join(f"{n} of {length} scans" for length, n in sorted(counts.items()))
            raise SettingsError(
                f"all runs must be equally long, or --series-length must say where to crop or pad them; got runs {lengths}."
            )
        return next(iter(counts))
    return check_number("--series-length", series_length, 16, integer=True)


def announce_fitting(table, series_length):
    """Say which runs are cropped or padded.

    Parameters
    ----------
    table : VoxelTable
        The table.
    series_length : int
        Scans of the model's input.
    """
    for length, n in sorted(Counter(run.n_scans for run in table.runs).items()):
        if length != series_length:
            what = "cropped at the end" if length > series_length else "padded with zeros at the end"
            log.warning("runs of %d scans are %s to %d: %d.", length, what, series_length, n)


def make_model(settings, series_length):
    """Build and compile the network.

    Parameters
    ----------
    settings : Settings
        Preset, precision, learning rate and seed.
    series_length : int
        Scans of its input.

    Returns
    -------
    model : keras.Model
        Built and compiled.
    """
    import keras

    from sparkneuro.models.dca import build_dca

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        model = build_dca(settings.preset, series_length, learning_rate=settings.learning_rate, seed=settings.seed)
    finally:
        keras.config.set_dtype_policy(before)
    if settings.optimizer.lower() != "adagrad":
        model.compile(optimizer=make_optimizer(settings.optimizer, settings.learning_rate), loss=model.loss)
    return model


def make_optimizer(name, learning_rate):
    """Make an optimizer of Keras by its name.

    Parameters
    ----------
    name : str
        Such as ``"adam"``, in any case.
    learning_rate : float
        Its learning rate.

    Returns
    -------
    optimizer : keras.optimizers.Optimizer
        With Keras's defaults otherwise.

    Raises
    ------
    SettingsError
        When Keras knows no such optimizer.
    """
    import keras

    try:
        return keras.optimizers.get({"class_name": name.lower(), "config": {"learning_rate": learning_rate}})
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"--optimizer must be the name of a Keras optimizer, such as adagrad or adam; got {name!r}."
        ) from error


def summarise(output, record):
    """Say in a few values what a training gave.

    Parameters
    ----------
    output : str
        The model's folder.
    record : dict
        Record of the training.

    Returns
    -------
    summary : dict
        For a person to read.
    """
    last, best = record["history"][-1], record.get("best")
    measured = [epoch["validation_loss"] for epoch in record["history"] if epoch["validation_loss"] is not None]
    validation = f"{measured[-1]:.4g}" if measured else "nothing was held out"
    if best:
        validation = f"{best['validation_loss']:.4g} (of epoch {best['epoch']}, whose weights are kept)"
    rate = record["series_per_s"]
    return {
        "model": output,
        "parameters": f"{record['n_parameters']:,}",
        "training series": f"{record['n_training_series']:,}",
        "training loss": f"{last['loss']:.4g}",
        "validation loss": validation,
        "series/s": f"{rate:,.0f} in the steady state" if rate else "no steady state: too few batches",
        "start-up": f"{record['startup_s']:.1f} s" if record["startup_s"] is not None else "longer than the training",
        "time": f"{record['training_s']:.1f} s",
    }


def _train_downpour(settings, spark, table, split, model):
    from sparkneuro.data.spark import count_slots, read_voxel_table
    from sparkneuro.train.estimator import DownpourTrainer

    folder = checkpoint_folder(settings)
    taken = settings.servers if settings.servers_on == "executors" else 0
    n_workers = settings.workers or (read_run(folder)["nWorkers"] if settings.resume else max(count_slots(spark) - taken, 1))
    # How Spark packs files into partitions then depends on the workers alone, not on the cores that happen to be there: a
    # training that is resumed finds the same rows in each.
    spark.conf.set("spark.sql.files.minPartitionNum", n_workers)
    trainer = DownpourTrainer(
        model=model, seriesLength=settings.series_length, validationIndicatorCol="held_out",
        validationRows=settings.validation_series, nWorkers=n_workers, serversOn=settings.servers_on, mode=settings.mode,
        pipeline=settings.pipeline, maxStaleness=settings.max_staleness, stalenessScaling=settings.staleness_scaling,
        wireType=settings.wire_type, tls=settings.tls, checkpointDir=folder, checkpointEvery=settings.checkpoint_every or None,
        keepCheckpoints=settings.keep_checkpoints, resume=settings.resume, patience=settings.patience,
        bestWeights=settings.best_weights, eventDir=settings.events, runName=settings.output,
        nServers=settings.servers, nFetch=settings.fetch, nPush=settings.push, warmupSteps=settings.warmup_steps,
        epochs=settings.epochs, batchSize=settings.batch_size, seed=settings.seed, timeout=settings.timeout,
        progress=settings.progress,
    )  # fmt: skip
    rows = read_voxel_table(spark, table.path)
    promised, found = sum(run.n_voxels for run in table.runs), rows.count()
    if found != promised:
        raise FormatError(f"{table.path}: {promised} rows are promised and {found} are there; make the table again.")
    with _told_how_to_resume(folder):
        fitted = trainer.fit(mark_held_out(rows, split))
    return fitted, fitted.training


@contextmanager
def _told_how_to_resume(folder):
    ended = False
    try:
        yield
        ended = True
    finally:
        if not ended and folder is not None and holds_progress(folder):
            log.warning("the checkpoints in %s are kept: the same command with --resume goes on from them.", folder)


def _train_standalone(settings, table, split, model, series_length):
    from sparkneuro.train.standalone import fit_standalone

    training, held_out = SeriesSpool(series_length), SeriesSpool(series_length)
    for run in table.runs:
        for block in range(table.n_blocks):
            part = held_out if is_held_out(split, run, block) else training
            part.append(fit_length(table.read_block(run, block)[1], series_length))
    sample = held_out.matrix()
    if len(sample) > settings.validation_series:
        rows = np.random.default_rng(settings.seed).choice(len(sample), settings.validation_series, replace=False)
        sample = np.array(sample[np.sort(rows)])
    sequence = BatchSequence(training.matrix(), settings.batch_size, settings.epochs, settings.seed)
    training = fit_standalone(
        model, sequence, settings.epochs, sample, settings.progress, settings.patience, settings.best_weights, settings.events
    )
    return model, training


def _count(table, split, held_out):
    if split["kind"] == "blocks":
        (run,) = table.runs
        blocks = [block for block in range(table.n_blocks) if is_held_out(split, run, block) == held_out]
        return sum(len(table.read_block(run, block)[0]) for block in blocks)
    return sum(run.n_voxels for run in table.runs if is_held_out(split, run, 0) == held_out)


def _save(settings, trained, record):
    from sparkneuro.train.model_folder import write_model

    if settings.standalone:
        params = {"seriesLength": settings.series_length} if settings.series_length else {}
        write_model(settings.output, trained, {**record, "params": params}, overwrite=settings.overwrite)
        return
    trained.training = record
    writer = trained.write()
    (writer.overwrite() if settings.overwrite else writer).save(settings.output)
    if checkpoint_folder(settings) is not None:
        clear(checkpoint_folder(settings))
