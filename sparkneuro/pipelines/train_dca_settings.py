"""The settings of ``sparkneuro train dca``, and what must hold of them before anything is started."""

from dataclasses import dataclass

from sparkneuro.data import store
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.train.parameter_server.checkpoint import holds_progress
from sparkneuro.validation import check_choice, check_number

PRECISIONS = ("float32", "mixed_bfloat16")
MODES = ("asynchronous", "synchronous")
WIRE_TYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro train dca``; see each field's help."""

    table: str = argument("voxel table to train on")
    output: str = option("dca.model", "folder of the trained model")
    preset: str = option("dca", "network: dca, dca_plain (no BatchNormalization) or tiny", choices=("dca", "dca_plain", "tiny"))
    workers: int = option(None, "workers, each a Spark task (default: one a slot)", type=int)
    servers: int = option(1, "parameter servers")
    servers_on: str = option("driver", "where they run: beside the driver, or as Spark tasks", choices=("driver", "executors"))
    mode: str = option("asynchronous", "asynchronous (Downpour SGD), or synchronous: all workers step together", choices=MODES)
    fetch: int = option(1, "batches between two fetches of the weights")
    push: int = option(1, "batches between two pushes of the gradients")
    warmup_steps: int = option(0, "batches that one worker trains alone before the others join")
    pipeline: bool = option(False, "exchange weights while the next batch is computed: faster, one update staler")
    max_staleness: int = option(None, "updates by others that a gradient may be late at most (default: any)", type=int)
    staleness_scaling: bool = option(False, "divide an update by 1 + its staleness")
    wire_type: str = option("float32", "what crosses the network; the short types halve it", choices=WIRE_TYPES)
    tls: bool = option(False, "encrypt connections with a certificate made for this training")
    epochs: int = option(10, "passes over the training rows")
    batch_size: int = option(256, "series in a batch of one worker")
    optimizer: str = option("adagrad", "update rule of the servers, by its Keras name: adagrad, adam, rmsprop, sgd, ...")
    learning_rate: float = option(0.01, "its learning rate")
    precision: str = option("float32", "float32 or mixed_bfloat16", choices=PRECISIONS)
    series_length: int = option(None, "crop longer and zero-pad shorter series to this many scans", type=int)
    validation_subjects: tuple = option((), "subjects to hold out", many=True)
    validation_fraction: float = option(0.1, "share of the runs to hold out (of the blocks, when there is one run only)")
    validation_series: int = option(4096, "held-out series measured each epoch, drawn at random")
    patience: int = option(None, "end after this many epochs without a better validation loss", type=int)
    best_weights: bool = option(True, "keep the weights of the best validation loss, not the last")
    checkpoint_every: int = option(200, "updates between two checkpoints of a parameter server; 0 for none")
    keep_checkpoints: int = option(2, "newest checkpoints kept of each parameter server")
    checkpoints: str = option(None, "folder of checkpoints that all servers reach (default: OUTPUT.checkpoints)")
    resume: bool = option(False, "go on from the checkpoints of a training that was interrupted")
    events: str = option(None, "folder of TensorBoard event files (default: none are written)")
    seed: int = option(0, "seed of the first weights, of the order of rows and of the split")
    timeout: float = option(600.0, "seconds without a sign of life of any worker before training is given up")
    standalone: bool = option(False, "plain Keras fit in this process, without Spark")
    overwrite: bool = option(False, "replace a model that is there already")
    progress: bool = option(True, "draw a progress bar")


def check_settings(settings):
    """Check the settings against each other.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Raises
    ------
    SettingsError
        When one makes no sense.
    """
    for name in ("servers", "fetch", "push", "epochs", "batch_size", "validation_series"):
        check_number("--" + name.replace("_", "-"), getattr(settings, name), 1, integer=True)
    if settings.workers is not None:
        check_number("--workers", settings.workers, 1, integer=True)
    check_number("--warmup-steps", settings.warmup_steps, 0, integer=True)
    check_number("--seed", settings.seed, 0, integer=True)
    check_number("--learning-rate", settings.learning_rate, 0, exclusive=True)
    check_number("--timeout", settings.timeout, 0, exclusive=True)
    check_choice("--precision", settings.precision, PRECISIONS)
    if settings.events and not store.is_local(settings.events):
        raise SettingsError(f"--events must be a folder of this machine, where TensorFlow writes; got {settings.events}.")
    check_number("--checkpoint-every", settings.checkpoint_every, 0, integer=True)
    if settings.patience is not None:
        check_number("--patience", settings.patience, 1, integer=True)
    if settings.resume and (settings.standalone or not settings.checkpoint_every):
        raise SettingsError("--resume goes on from checkpoints, which a training has on Spark, unless --checkpoint-every is 0.")


def check_output(settings):
    """Make sure that nothing is lost: no model that is there, no checkpoints of a training that was interrupted.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Raises
    ------
    SettingsError
        When something would be.
    """
    if not settings.overwrite and store.exists(settings.output) and store.list_files(settings.output):
        raise SettingsError(f"{settings.output} exists already; name another --output, or give --overwrite.")
    folder = checkpoint_folder(settings)
    if folder is None:
        return
    unfinished = holds_progress(folder)
    if unfinished and not settings.resume and not settings.overwrite:
        raise SettingsError(
            f"{folder} holds the checkpoints of a training that was interrupted: go on with it by --resume, or give --overwrite"
            " to begin anew."
        )
    if settings.resume and not unfinished:
        raise SettingsError(f"{folder} holds no checkpoints to go on from; train without --resume.")


def checkpoint_folder(settings):
    """Say where the checkpoints of a training are.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    folder : str or None
        None where none are written.
    """
    if settings.standalone or not settings.checkpoint_every:
        return None
    return settings.checkpoints or settings.output.rstrip("/") + ".checkpoints"
