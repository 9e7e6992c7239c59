"""What has been fetched into a folder: a table that grows by one line a file, and survives whatever ends its process."""

import csv
import io
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from sparkneuro.data import store
from sparkneuro.errors import StorageError

LOG = logging.getLogger(__name__)
FOLDER = ".sparkneuro"
RECORD, LOCK = f"{FOLDER}/fetched.tsv", f"{FOLDER}/fetch.lock"
COLUMNS = ("path", "size", "mtime_ns", "sha256", "etag", "modified", "checksum", "stamp", "source", "fetched")
_PERIOD = 60.0  # s between two writes where lines cannot be appended


class FetchRecord:
    """The files that were fetched into a folder, by path.

    Each is a dict of `COLUMNS`: size (bytes), mtime_ns (of the local file when it was fetched), sha256; etag, modified, checksum
    and stamp of the source ("" where it has none), its address, and the time.

    Parameters
    ----------
    folder : str
        Path or URI of the folder. On storage that is not local the table is written once a minute and by `close`.
    """

    def __init__(self, folder):
        self.path = store.join(folder, RECORD)
        filesystem, inner = store.locate(self.path)
        self._local = Path(inner) if filesystem.type_name == "local" else None
        self._file, self._written = None, time.monotonic()
        self.rows, self._whole = _read(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            self.close()
        except StorageError as error:  # every line is in the table; it is unsorted then
            LOG.warning("%s", error)

    def add(self, row):
        """Write down a file.

        Parameters
        ----------
        row : dict
            Of `COLUMNS`; those that are missing are empty.
        """
        row = {name: row.get(name) if row.get(name) is not None else "" for name in COLUMNS}
        row["size"], row["mtime_ns"] = int(row["size"] or 0), int(row["mtime_ns"] or 0)
        row["fetched"] = row["fetched"] or datetime.now(UTC).isoformat(timespec="seconds")
        self.rows[row["path"]] = row
        if self._local:
            self._append(_format([row]))
        elif time.monotonic() - self._written > _PERIOD:
            self.flush()

    def forget(self, path):
        """Take a file that is not right any more out of the table.

        Parameters
        ----------
        path : str
            Its path.
        """
        self.rows.pop(path, None)
        self._whole = False

    def flush(self):
        """Write the whole table anew, sorted, each file once."""
        self._close_file()
        rows = [self.rows[path] for path in sorted(self.rows)]
        store.write_bytes(self.path, "\t".join(COLUMNS).encode() + b"\n" + _format(rows))
        self._whole, self._written = True, time.monotonic()

    def close(self):
        """Write what is not written yet."""
        changed = self._file is not None or not self._whole or not self._local
        self._close_file()
        if changed and self.rows:
            self.flush()

    def _append(self, line):
        try:
            if not self._whole:
                return self.flush()  # with the new line
            if self._file is None:
                self._file = os.open(self._local, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.write(self._file, line)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{self.path}: could not be written: {error.strerror}.") from error

    def _close_file(self):
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _format(rows):
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL).writerows(
        [row[name] for name in COLUMNS] for row in rows
    )
    return text.getvalue().encode()


def _read(path):
    """The rows of a table, and whether it is as it should be: not cut off within a line, as by a kill."""
    if not store.exists(path):
        return {}, False
    text = store.read_bytes(path).decode(errors="replace")
    head, *lines = text.split("\n")
    if tuple(head.split("\t")) != COLUMNS:
        return {}, False  # nothing is known then, and the files are looked at again
    whole = lines[-1:] == [""]
    rows = {}
    for values in csv.reader(lines if whole else lines[:-1], delimiter="\t"):
        if len(values) != len(COLUMNS) or not values[1].isdigit() or not values[2].isdigit():
            whole = whole and not values
            continue
        row = dict(zip(COLUMNS, values, strict=True))
        rows[row["path"]] = {**row, "size": int(row["size"]), "mtime_ns": int(row["mtime_ns"])}
    return rows, whole
