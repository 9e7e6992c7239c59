"""What can go wrong, as types that a caller can tell apart.

Every message is one sentence: what was expected, what came, what to do. The command line prints the sentence alone and exits
with status 1; anything that is not a `SparkneuroError` is a defect and keeps its traceback.
"""

from importlib import import_module


class SparkneuroError(Exception):
    """Base class of every error that a user can mend."""


class FormatError(SparkneuroError, ValueError):
    """A file or folder is not what it should be."""


class SettingsError(SparkneuroError, ValueError):
    """An option, or a combination of options, that makes no sense."""


class StorageError(SparkneuroError, OSError):
    """A file could not be written or read: full disk, no permission, no network."""


class TrainingError(SparkneuroError, RuntimeError):
    """A training stopped before its end."""


class PreprocessingError(SparkneuroError, RuntimeError):
    """An app could not preprocess a subject."""


class MissingExtraError(SparkneuroError, ImportError):
    """An optional dependency is not installed."""


def require(module, extra):
    """Import an optional module, or say which extra installs it.

    Parameters
    ----------
    module : str
        Dotted name of the module, e.g. ``"pyspark.sql"``.
    extra : str
        Extra of the distribution that brings it, e.g. ``"spark"``.

    Returns
    -------
    module : types.ModuleType
        The imported module.

    Raises
    ------
    MissingExtraError
        When the module is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            f"{module.partition('.')[0]} is not installed; install it with: pip install 'sparkneuro[{extra}]'"
        ) from error
