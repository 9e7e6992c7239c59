"""What a parameter server writes down so that a training survives it: one file a shard and version, atomic on any filesystem.

``FOLDER/run.json`` says which training it is; ``FOLDER/shard-000-of-002.000000000200.npz`` is all that shard 0 knew after
200 updates: weights, averaged state, slots of the update rule, ledger, warm-up and log. Each shard stands at a version of its
own: the ledgers tell workers which batches a shard still lacks, and a shard that has them answers "duplicate".
"""

import io
import json
import logging
import re
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import FormatError, SettingsError, SparkneuroError, StorageError
from sparkneuro.validation import check_number

FORMAT = 1
RUN = "run.json"
OURS = re.compile(r"run\.json|history\.json|best\.npy|shard-\d+-of-\d+\.\d+\.npz")
# What NumPy and zipfile raise at a file that is cut off or has a bit turned over, wherever it is.
DAMAGE = (ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointSettings:
    """Where, how often and how many.

    Parameters
    ----------
    folder : str
        Folder on any filesystem that servers can reach, wherever they run.
    every : int
        Updates between two checkpoints of a shard.
    keep : int
        Newest checkpoints kept of each shard.
    """

    folder: str
    every: int = 200
    keep: int = 2

    def __post_init__(self):
        check_number("checkpoint_every", self.every, 1, integer=True)
        check_number("keep_checkpoints", self.keep, 1, integer=True)


class ShardCheckpoints:
    """Checkpoints of one shard.

    Parameters
    ----------
    settings : CheckpointSettings
        Where and how many.
    shard, n_servers : int
        Which shard, of how many.
    """

    def __init__(self, settings, shard, n_servers):
        self.settings = settings
        self._prefix = f"shard-{shard:03d}-of-{n_servers:03d}."

    def save(self, version, arrays, record):
        """Write a checkpoint, then delete those that are older than the newest `keep`.

        Parameters
        ----------
        version : int
            Updates that made it.
        arrays : dict of str to ndarray
            What is large.
        record : dict
            What is small, fit for JSON.

        Raises
        ------
        StorageError
            When it cannot be written; those that are there stay.
        """
        text = json.dumps({"format": FORMAT, "version": version, "arrays": sorted(arrays), **record}).encode()
        name = store.join(self.settings.folder, f"{self._prefix}{version:012d}.npz")
        with store.open_replacement(name) as stream:
            np.savez(stream, record=np.frombuffer(text, np.uint8), **arrays)
        for old in self._names()[: -self.settings.keep]:
            store.delete(store.join(self.settings.folder, old))

    def load(self):
        """Read the newest checkpoint that is whole.

        Returns
        -------
        arrays : dict of str to ndarray
            What is large.
        record : dict
            What is small, with ``version``; None for both when there is none.

        Raises
        ------
        FormatError
            When the newest was written by another format of this software, or none of those that are there is whole.
        """
        names = self._names()
        self._delete_unfinished()
        for name in reversed(names):
            path = store.join(self.settings.folder, name)
            try:
                with np.load(io.BytesIO(store.read_bytes(path)), allow_pickle=False) as file:
                    arrays = {key: file[key] for key in file.files}
                record = json.loads(arrays.pop("record").tobytes())
                if record.get("format") == FORMAT and record["arrays"] != sorted(arrays):
                    raise ValueError(f"it must hold {', '.join(record['arrays'])}; got {', '.join(sorted(arrays))}")
            except DAMAGE as error:
                log.warning("%s is damaged and left aside: %s", path, error)
                continue
            if record.get("format") != FORMAT:
                raise FormatError(f"{path} must be a checkpoint of format {FORMAT}; got format {record.get('format')}.")
            return arrays, record
        if names:
            raise FormatError(f"{self.settings.folder} holds no whole checkpoint of {self._prefix.rstrip('.')}; train anew.")
        return None, None

    def _delete_unfinished(self):
        # The server that was writing it is dead.
        for name in store.list_files(self.settings.folder):
            if name.startswith(f"{store.TEMPORARY}{self._prefix}"):
                try:
                    store.delete(store.join(self.settings.folder, name))
                except StorageError as error:  # what can only be read can still be resumed from
                    log.info("an unfinished checkpoint stays: %s", error)

    def _names(self):
        files = store.list_files(self.settings.folder)
        return [name for name in files if name.startswith(self._prefix) and name.endswith(".npz")]


def write_run(folder, run):
    """Write down which training the checkpoints of a folder belong to.

    Parameters
    ----------
    folder : str
        The folder of checkpoints.
    run : dict
        What a training that goes on from them must have in common, fit for JSON.
    """
    store.write_bytes(store.join(folder, RUN), json.dumps({"format": FORMAT, **run}, indent=1).encode())


def read_run(folder):
    """Read which training the checkpoints of a folder belong to.

    Parameters
    ----------
    folder : str
        The folder of checkpoints.

    Returns
    -------
    run : dict
        What `write_run` wrote.

    Raises
    ------
    FormatError
        When there is none, or it is of another format.
    """
    path = store.join(folder, RUN)
    if not store.exists(path):
        raise FormatError(f"{folder} must hold checkpoints to resume from; it holds none: train without resuming.")
    try:
        run = json.loads(store.read_bytes(path))
    except ValueError as error:
        raise FormatError(f"{path} must be JSON; it is not: {error}.") from error
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        found = run.get("format") if isinstance(run, dict) else None
        raise FormatError(f"{path} must have format {FORMAT}; got {found}: resume with the version that wrote it.")
    return run


def holds_progress(folder):
    """Tell whether something would be lost with a folder of checkpoints.

    Parameters
    ----------
    folder : str
        The folder.

    Returns
    -------
    progress : bool
        Whether a server has come beyond its first weights.
    """
    shards = [name for name in store.list_files(folder) if name.startswith("shard-") and OURS.fullmatch(name)]
    versions = [int(name.split(".")[1]) for name in shards]
    return store.exists(store.join(folder, RUN)) and max(versions, default=0) > 0


def check_run(folder, run):
    """Make sure that a training may go on from the checkpoints of a folder.

    Parameters
    ----------
    folder : str
        The folder of checkpoints.
    run : dict
        What this training would write.

    Raises
    ------
    SettingsError
        When it is another training; every difference is named.
    FormatError
        When there are no checkpoints.
    """
    before = read_run(folder)
    differences = [
        f"{name.replace('_', ' ')} {_short(before.get(name))}, not {_short(value)}"
        for name, value in run.items()
        if before.get(name) != json.loads(json.dumps(value))
    ]
    if differences:
        raise SettingsError(f"the checkpoints in {folder} are of another training: it has {'; '.join(differences)}.")


def clear(folder):
    """Delete the checkpoints of a folder, the run's description first.

    Parameters
    ----------
    folder : str
        The folder; one that is absent is fine. Files of another kind stay.

    Raises
    ------
    SparkneuroError
        When they cannot be deleted.
    """
    names = [name for name in store.list_files(folder) if OURS.fullmatch(name)]
    for name in sorted(names, key=lambda name: name != RUN):
        store.delete(store.join(folder, name))
    store.delete_unfinished(folder)
    if store.is_folder(folder) and not store.list_files(folder, recursive=True):
        try:
            store.delete(folder)
        except SparkneuroError:
            log.info("the empty folder %s stays", folder)


def _short(value):
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
