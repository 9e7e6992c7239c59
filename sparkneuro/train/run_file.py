"""A small file while a training runs, by which other processes of the same user on this machine find whom to ask about it.

It holds the run's secrets, so it lies in a folder that is this user's alone. A folder in /tmp may have been put there by
somebody else: it is opened without following a link, looked at through the open descriptor, and refused unless it is private.
"""

import json
import logging
import os
import secrets
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field

from sparkneuro.train.parameter_server.credentials import Credentials

SUFFIX = ".json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFile:
    """What a running training has left for others to find.

    Parameters
    ----------
    folder, name : str
        Where the file is.
    directory : str
        ``host:port`` of the run's `Directory`.
    credentials : Credentials
        The run's; not shown.
    facts : dict
        ``pid``, ``started`` (seconds since 1970), ``cwd``, and what was given to `published`.
    """

    folder: str
    name: str
    directory: str
    credentials: Credentials = field(repr=False)
    facts: dict

    def delete(self):
        """Delete the file; one that is absent is fine."""
        _delete(self.folder, self.name)


@contextmanager
def published(directory_address, credentials, **facts):
    """Let other processes of this user find a training while the body runs. That they cannot is logged, and stops nothing.

    Parameters
    ----------
    directory_address : str
        ``host:port`` at which this machine reaches the run's `Directory`.
    credentials : Credentials
        The run's.
    **facts
        What a watcher may want to know, fit for JSON: ``output``, ``n_workers``, ``n_servers``, ``epochs``,
        ``n_rows_total`` (training rows times epochs).

    Yields
    ------
    nothing : None
        The file is removed at the end, whatever happens.
    """
    name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    folder = None
    try:
        folder = _publish(name, directory_address, credentials, facts)
        yield
    finally:
        if folder is not None:
            _delete(folder, name)


def read_runs():
    """Read the files of all trainings of this user on this machine, also of those that have died.

    Returns
    -------
    runs : list of RunFile
        The oldest first.
    """
    runs = [run for folder in private_folders() for run in _read_folder(folder)]
    return sorted(runs, key=lambda run: run.facts.get("started", 0))


def private_folders():
    """Name the folders that may hold such files: a training writes to the first that it can use.

    Returns
    -------
    folders : list of str
        ``$XDG_RUNTIME_DIR/sparkneuro`` where that is private, then ``sparkneuro-UID`` among the temporary files. Sessions
        of one user differ in the variable, so both are looked through.
    """
    folders = [os.path.join(tempfile.gettempdir(), f"sparkneuro-{os.geteuid()}")]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        try:
            with _opened(runtime):
                folders.insert(0, os.path.join(runtime, "sparkneuro"))
        except OSError as error:  # that of another user, after sudo; or removed at log-out
            log.info("$XDG_RUNTIME_DIR is not used: %s", error)
    return folders


def _publish(name, directory, credentials, facts):
    try:
        facts = {"pid": os.getpid(), "started": time.time(), "cwd": os.getcwd(), **facts}
        record = {"directory": directory, "credentials": asdict(credentials), "facts": facts}
        content = json.dumps(record, default=_plain).encode()
        folders = private_folders()
    except (OSError, TypeError, ValueError) as error:
        log.warning("sparkneuro status will not find this training: %s", error)
        return None
    for folder in folders:
        try:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            with _opened(folder) as descriptor:
                _write(descriptor, name, content)
            return folder
        except OSError as error:
            log.warning("sparkneuro status will not find this training in %s: %s", folder, error)
    return None


def _plain(value):
    """NumPy's numbers as Python's, and paths as text."""
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def _opened(folder):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.geteuid() or about.st_mode & 0o077:
            raise PermissionError(
                f"{folder} must belong to user {os.geteuid()} and have mode 700;"
                f" it belongs to user {about.st_uid} and has mode {about.st_mode & 0o777:o}."
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor, name, content):
    unfinished = f".{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(unfinished, flags, 0o600, dir_fd=descriptor), "wb") as stream:
            stream.write(content)
        os.replace(unfinished, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=descriptor)
        raise


def _delete(folder, name):
    try:
        with _opened(folder) as descriptor:
            os.unlink(name, dir_fd=descriptor)
    except FileNotFoundError:
        pass  # a status command has found that nobody answers, or the folder was cleaned
    except OSError as error:
        log.info("%s stays: %s", os.path.join(folder, name), error)


def _read_folder(folder):
    try:
        with _opened(folder) as descriptor:
            names = [name for name in os.listdir(descriptor) if name.endswith(SUFFIX) and not name.startswith(".")]
            runs = [_read(descriptor, folder, name) for name in names]
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("no trainings are looked for in %s: %s", folder, error)
        return []
    return [run for run in runs if run is not None]


def _read(descriptor, folder, name):
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=descriptor), "rb") as stream:
            record = json.loads(stream.read())
        return RunFile(folder, name, record["directory"], Credentials(**record["credentials"]), dict(record["facts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:  # just removed; or of another version of this software
        log.info("%s is left aside: %s", os.path.join(folder, name), error)
        return None
