"""What a fetch has to do: which of the wanted files are there already, and which are not."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from sparkneuro.data import store
from sparkneuro.data.content_check import ContentCheck
from sparkneuro.data.part_file import ENDING
from sparkneuro.data.remote_content import address_of, known_checksum
from sparkneuro.data.selection import select
from sparkneuro.data.threads import run_in_threads
from sparkneuro.errors import FormatError, SettingsError, StorageError
from sparkneuro.pipelines.fetch_source import check_path, list_source, resolve_source

_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class FetchPlan:
    """What a fetch has to do.

    Parameters
    ----------
    folder : str
        Path or URI of the folder.
    there : tuple of dict
        Entries of the files that are there and unchanged.
    missing : tuple of dict
        Entries of those that are not.
    refused : tuple of str
        Names that lead out of the folder.
    gone : tuple of str
        Paths of files that were fetched from here and are no longer at the source.
    """

    folder: str
    there: tuple
    missing: tuple
    refused: tuple
    gone: tuple

    @property
    def n_bytes(self):
        """Bytes of the missing files, as far as their sizes are known."""
        return sum(entry.get("size") or 0 for entry in self.missing)


def list_wanted(settings):
    """List what the source has, and what of it is wanted.

    Parameters
    ----------
    settings : Settings
        Of the command.

    Returns
    -------
    entries : list of dict
        All files of the source.
    wanted : list of dict
        Those that the settings choose.

    Raises
    ------
    SparkneuroError
        When the source does not answer, or nothing is chosen.
    """
    uri = resolve_source(settings.dataset)
    how = (settings.manifest, settings.signed, settings.requester_pays, settings.endpoint_url, settings.parallel)
    entries = list_source(uri, *how)
    wanted = select(entries, settings.include, settings.exclude, settings.participant_label)
    if not wanted:
        raise SettingsError(f"{uri}: of its {len(entries)} files none is wanted; name fewer patterns with --exclude.")
    return entries, wanted


def make_plan(settings, entries, wanted, record):
    """Compare a data set with a folder. Nothing is transferred, nothing written.

    Parameters
    ----------
    settings : Settings
        Of the command.
    entries, wanted : list of dict
        Of `list_wanted`.
    record : FetchRecord
        Of the folder.

    Returns
    -------
    plan : FetchPlan
        What is to be done.

    Raises
    ------
    SettingsError
        When the folder holds another source's files.
    """
    refused = tuple(entry["path"] for entry in wanted if not _is_safe(entry["path"]))
    wanted = [entry for entry in wanted if _is_safe(entry["path"])]
    find = _make_finder(settings.output, record)
    wanted = _complete(wanted, record, find, settings.parallel)
    there = [entry for entry in wanted if _is_there(entry, record.rows.get(entry["path"]), find(entry["path"]))]
    _refuse_other_sources(settings.output, wanted, record)
    if settings.verify:
        there = _verify(settings.output, there, record, settings.parallel)
    source = resolve_source(settings.dataset).rstrip("/") + "/"
    names, paths = {entry["path"] for entry in there}, {entry["path"] for entry in entries}
    missing = tuple(entry for entry in wanted if entry["path"] not in names)
    gone = tuple(path for path, row in record.rows.items() if path not in paths and row["source"].startswith(source))
    return FetchPlan(settings.output, tuple(there), missing, refused, gone)


def check_space(plan):
    """Refuse to begin what the disk cannot hold.

    Parameters
    ----------
    plan : FetchPlan
        What is to be done.

    Raises
    ------
    StorageError
        When the missing files need more than is free. Storage that is not local is not asked.
    """
    filesystem, inner = store.locate(plan.folder)
    if filesystem.type_name != "local":
        return
    folder = Path(inner)
    parts = [(folder / entry["path"]).with_name(f".{Path(entry['path']).name}{ENDING}") for entry in plan.missing]
    begun = sum(part.stat().st_size for part in parts if part.exists())
    while not folder.exists():
        folder = folder.parent
    needed, free = plan.n_bytes - begun, shutil.disk_usage(folder).free
    if needed > free:
        sizes = f"{needed / 1e9:.2f} GB are missing, and {free / 1e9:.2f} GB are free"
        raise StorageError(f"{plan.folder}: {sizes}; free some space, or fetch less with --include.")


def adopt_file(entry, row, target):
    """Tell whether a local file that nobody has written down is the right one.

    Parameters
    ----------
    entry : dict
        The file at its source.
    row : dict or None
        What was written down when it was fetched, where it has been touched since.
    target : str
        Local file.

    Returns
    -------
    sha256 : str or None
        Of the file; None where it is not there, not the right one, or nothing tells whether it is.
    """
    if not os.path.isfile(target) or os.path.getsize(target) != entry.get("size"):
        return None
    checksum = known_checksum(entry)
    if checksum is None and row is not None and row["source"] == address_of(entry["url"]) and _agrees(entry, row):
        checksum = f"sha256:{row['sha256']}"
    if checksum is None and not target.endswith(".gz"):
        return None
    try:
        return hash_file(target, checksum)
    except (FormatError, OSError):
        return None


def hash_file(path, checksum=None):
    """Read a local file and check its content.

    Parameters
    ----------
    path : str
        The file.
    checksum : str or None
        What it should have, ``"md5:..."`` and the like.

    Returns
    -------
    sha256 : str
        Of the file.

    Raises
    ------
    FormatError
        When it is not what it should be.
    """
    check = ContentCheck(path, checksum)
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            check.update(piece)
    return check.finish()


def _is_safe(path):
    try:
        return bool(check_path(path))
    except FormatError:
        return False


def _make_finder(folder, record):
    """A function that tells size and time of a file in the folder; None where there is none."""
    filesystem, inner = store.locate(folder)
    if filesystem.type_name == "local":

        def find(path):
            try:
                found = os.stat(os.path.join(inner, path))
            except OSError:
                return None
            return found.st_size, found.st_mtime_ns

        return find
    names = set(store.list_files(folder, recursive=True))
    known = record.rows
    return lambda path: (known[path]["size"], known[path]["mtime_ns"]) if path in names and path in known else None


def _complete(entries, record, find, n_threads):
    """Ask for the sizes that the listing did not tell, but for files that it shows unchanged."""
    from sparkneuro.data.http_listing import look_up


    def must_be_asked(entry):
        if entry.get("size") is not None or entry["url"].startswith("s3://"):
            return False
        told = entry.get("stamp") or entry.get("checksum")
        return not (told and _is_there(entry, record.rows.get(entry["path"]), find(entry["path"])))

    asked = [number for number, entry in enumerate(entries) if must_be_asked(entry)]
    completed = list(entries)
    if asked:
        for number, found in _each(lambda number: look_up(entries[number]), asked, n_threads, "look up"):
            completed[number] = found
    return completed


def _is_there(entry, row, found):
    return row is not None and found == (row["size"], row["mtime_ns"]) and _agrees(entry, row)


def _agrees(entry, row):
    """Whether the source still has what was fetched, as far as a listing tells; of another place only a checksum or ETag does."""
    same_place = row["source"] == address_of(entry["url"])
    if entry.get("size") not in (None, row["size"]):
        return False
    checksum = entry.get("checksum")
    if checksum:
        known = {row["checksum"], f"sha256:{row['sha256']}"}
        algorithm = checksum.partition(":")[0]
        comparable = any(value.partition(":")[0] == algorithm for value in known)
        return checksum in known if comparable else same_place
    for key in ("etag", "modified", "stamp"):
        if entry.get(key) and row[key]:
            return entry[key] == row[key] and (same_place or key == "etag")
    return same_place


def _refuse_other_sources(folder, entries, record):
    for entry in entries:
        row = record.rows.get(entry["path"])
        if row is not None and row["source"] != address_of(entry["url"]) and not _agrees(entry, row):
            raise SettingsError(f"{folder}: {entry['path']} came from {row['source']}; choose another folder.")


def _verify(folder, entries, record, n_threads):
    """Those of the files whose content is still what was fetched; the others are forgotten."""

    def is_right(entry):
        expected = f"sha256:{record.rows[entry['path']]['sha256']}"
        check, path = ContentCheck(entry["path"], expected), store.join(folder, entry["path"])
        try:
            with store.open_stream(path) as file:
                while piece := file.read(_PIECE):
                    check.update(piece)
            check.finish()
        except (FormatError, StorageError):
            return False
        return True

    right = []
    for entry, verified in _each(is_right, entries, n_threads, "verify"):
        if verified:
            right.append(entry)
        else:
            record.forget(entry["path"])
    return right


def _each(function, items, n_threads, name):
    """Each item with what the function returns; a bar shows how many are done."""
    with run_in_threads(function, items, n_threads) as outcomes:
        for item, outcome in tqdm(outcomes, total=len(items), desc=name, unit=" files", disable=None):
            if isinstance(outcome, Exception):
                raise outcome
            yield item, outcome
