"""The transfers of a fetch: several files at a time, each written down as soon as it is there."""

import os
import shutil
import tempfile
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field

from tqdm import tqdm

from sparkneuro.data import store
from sparkneuro.data.download.part_file import DiskFull
from sparkneuro.data.download.patience import Exhausted, Patience, Stopped, Throttle
from sparkneuro.data.download.remote_content import address_of
from sparkneuro.data.download.threads import run_in_threads
from sparkneuro.errors import SparkneuroError
from sparkneuro.pipelines.fetch_folder import adopt_file
from sparkneuro.pipelines.fetch_source import fetch_file

_PIECE = 1 << 22
_FEW = 4


@dataclass
class Transfers:
    """What became of the missing files.

    Parameters
    ----------
    n_fetched : int
        Transferred now.
    n_adopted : int
        There already, and found right by their content.
    n_bytes : int
        Bytes of the files that were transferred.
    failures : list of SparkneuroError
        One a file that failed, in the order in which they did.
    given_up : SparkneuroError or None
        Why no further file was tried.
    """

    n_fetched: int = 0
    n_adopted: int = 0
    n_bytes: int = 0
    failures: list = field(default_factory=list)
    given_up: SparkneuroError | None = None


def transfer(plan, record, n_threads, patience=None, progress=None):
    """Fetch the missing files of a plan.

    Parameters
    ----------
    plan : FetchPlan
        What is to be done.
    record : FetchRecord
        Of the folder; each file is written down as it is done.
    n_threads : int
        Files at a time.
    patience : Patience or None
        How long each is tried again.
    progress : bool or None
        Whether a bar is shown; on a terminal only when absent.

    Returns
    -------
    transfers : Transfers
        What became of them. After a full disk, and after as many files in a row as are fetched at a time (or four) found no
        server that would answer, no further one is tried.
    """
    done, stop = Transfers(), threading.Event()
    local = store.locate(plan.folder)[0].type_name == "local"
    made = nullcontext() if local else tempfile.TemporaryDirectory(prefix="sparkneuro-fetch-")
    with _Bar(plan, progress) as bar, made as staging:
        worker = _Worker(plan.folder, record, staging, patience or Patience(), bar, stop)
        n_silent = 0
        with run_in_threads(worker.fetch, plan.missing, n_threads, stop) as outcomes:
            for entry, outcome in outcomes:
                if isinstance(outcome, Stopped):
                    continue
                if isinstance(outcome, SparkneuroError):
                    done.failures.append(outcome)
                elif isinstance(outcome, Exception):
                    raise outcome
                else:
                    _write_down(record, entry, outcome, done)
                    bar.count()
                n_silent = n_silent + 1 if isinstance(outcome, Exhausted) else 0
                if isinstance(outcome, DiskFull) or n_silent >= max(n_threads, _FEW):
                    done.given_up = done.given_up or outcome
                    stop.set()
    return done


def _write_down(record, entry, row, done):
    record.add({**row, "stamp": entry.get("stamp"), "source": address_of(entry["url"])})
    if row.get("adopted"):
        done.n_adopted += 1
    else:
        done.n_fetched += 1
        done.n_bytes += row["size"]


class _Worker:
    """What a thread does for one file; a folder that is not local gets its files whole, from a staging folder that is."""

    def __init__(self, folder, record, staging, patience, bar, stop):
        self._folder, self._record, self._staging = store.make_absolute(folder), record, staging
        self._options = {"patience": patience, "throttle": Throttle(), "on_bytes": bar.add, "stop": stop}
        self._add, self._stop = bar.add, stop

    def fetch(self, entry):
        if self._stop.is_set():
            raise Stopped
        path = store.join(self._folder, entry["path"])
        if self._staging is not None:
            return self._fetch_and_upload(entry, path)
        local = store.locate(path)[1]
        sha256 = adopt_file(entry, self._record.rows.get(entry["path"]), local)
        if sha256 is None:
            row = fetch_file(entry, local, **self._options)
        else:
            self._add(entry["size"])
            row = {**entry, "sha256": sha256, "adopted": True}
        found = os.stat(local)
        return {**row, "size": found.st_size, "mtime_ns": found.st_mtime_ns}

    def _fetch_and_upload(self, entry, path):
        staged = os.path.join(self._staging, entry["path"])
        try:
            row = fetch_file(entry, staged, **self._options)
            with open(staged, "rb") as source, store.open_replacement(path) as target:
                shutil.copyfileobj(source, target, _PIECE)
            return row
        finally:
            if os.path.exists(staged):
                os.remove(staged)


class _Bar:
    """Bytes, rate, time left and files of a fetch; fed by several threads."""

    def __init__(self, plan, progress):
        self._lock, self._n_files, self._n_done = threading.Lock(), len(plan.missing), 0
        hidden = None if progress is None else not progress
        self._bar = tqdm(total=plan.n_bytes or None, desc="fetch", unit="B", unit_scale=True, disable=hidden)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._bar.close()

    def add(self, n_bytes):
        with self._lock:
            self._bar.update(n_bytes)

    def count(self):
        with self._lock:
            self._n_done += 1
            self._bar.set_postfix_str(f"{self._n_done}/{self._n_files} files", refresh=False)
