"""A Keras model and what is known of its training, as a folder on any filesystem.

``MODEL/model.keras`` and ``MODEL/training.json``; the second is written last and removed first, so that a folder
without it is no model yet.
"""

import io
import json
import tempfile
import warnings
import zipfile
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.train.architecture import custom_modules, import_modules

FORMAT = 1
WEIGHTS, RECORD = "model.keras", "training.json"


def write_model(path, model, record, overwrite=False):
    """Write a model's folder.

    Parameters
    ----------
    path : str
        The folder, as a plain path or a URI.
    model : keras.Model
        Any built model.
    record : dict
        What is known of it, fit for JSON.
    overwrite : bool
        Whether a model that is there already may be replaced.

    Raises
    ------
    SettingsError
        When something is there already, and may not be replaced.
    StorageError
        When the folder cannot be written.
    """
    if not overwrite and (store.exists(path) and store.list_files(path)):
        raise SettingsError(f"{path} exists already; name another folder, or allow it to be overwritten.")
    store.delete(store.join(path, RECORD))
    store.write_bytes(store.join(path, WEIGHTS), pack_model(model))
    store.write_bytes(store.join(path, RECORD), json.dumps({"format": FORMAT, **record}, indent=1).encode())


def read_record(path):
    """Read what is known of a model's training.

    Parameters
    ----------
    path : str
        The folder.

    Returns
    -------
    record : dict
        As it was written.

    Raises
    ------
    FormatError
        When the folder holds no finished model.
    """
    file = store.join(path, RECORD)
    if not store.exists(file):
        raise FormatError(f"{path} must be the folder of a trained model; it holds no {RECORD}: did its training end?")
    try:
        record = json.loads(store.read_bytes(file))
    except ValueError as error:
        raise FormatError(f"{file} must be JSON; it is not: {error}.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise FormatError(f"{file} must have format {FORMAT}; got {found}.")
    return record


def read_model_bytes(path):
    """Read a model as the bytes of a ``.keras`` file.

    Parameters
    ----------
    path : str
        The folder.

    Returns
    -------
    packed : bytes
        For `unpack_model`.

    Raises
    ------
    FormatError
        When the folder holds no finished model.
    """
    read_record(path)
    return store.read_bytes(store.join(path, WEIGHTS))


def pack_model(model):
    """Return a model as the bytes of a ``.keras`` file.

    Parameters
    ----------
    model : keras.Model
        Any built model.

    Returns
    -------
    packed : bytes
        For `unpack_model`.
    """
    with tempfile.TemporaryDirectory(prefix="sparkneuro-") as folder:
        file = Path(folder) / WEIGHTS
        model.save(file)
        return file.read_bytes()


def unpack_model(packed):
    """Return the model in the bytes of a ``.keras`` file.

    Parameters
    ----------
    packed : bytes
        What `pack_model` made.

    Returns
    -------
    model : keras.Model
        Built, and compiled if it was.

    Raises
    ------
    FormatError
        When Keras cannot read it.
    SettingsError
        When a module of its classes cannot be imported here.
    """
    import keras  # here, so that a record is read without loading it

    _import_classes(packed)
    with tempfile.TemporaryDirectory(prefix="sparkneuro-") as folder:
        file = Path(folder) / WEIGHTS
        file.write_bytes(packed)
        try:
            with warnings.catch_warnings():
                # The optimizer's memory stays with the servers, so there is none to load, as Keras would remark.
                warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
                return keras.saving.load_model(file)
        except (ValueError, OSError, KeyError, TypeError) as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise FormatError(f"Keras cannot read the model's {WEIGHTS}: {first_line}") from error


def _import_classes(packed):
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise FormatError(f"the model's {WEIGHTS} is damaged ({error}); train the model again.") from error
    import_modules(custom_modules(config))
