"""What a fetch has to do: which of the wanted files are there already, and which are not."""

from dataclasses import dataclass
from functools import partial

from tqdm import tqdm

from sparkneuro.data.download.remote_content import address_of
from sparkneuro.data.download.selection import select
from sparkneuro.data.download.threads import run_in_threads
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.fetch_folder import agrees, is_there, is_whole, make_finder
from sparkneuro.pipelines.fetch_source import check_path, list_source, resolve_source


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
    find = make_finder(settings.output, record)
    wanted = _complete(wanted, record, find, settings.parallel)
    there = [entry for entry in wanted if is_there(entry, record.rows.get(entry["path"]), find(entry["path"]))]
    _refuse_other_sources(settings.output, wanted, record)
    if settings.verify:
        there = _verify(settings.output, there, record, settings.parallel)
    source = resolve_source(settings.dataset).rstrip("/") + "/"
    names, paths = {entry["path"] for entry in there}, {entry["path"] for entry in entries}
    missing = tuple(entry for entry in wanted if entry["path"] not in names)
    gone = tuple(path for path, row in record.rows.items() if path not in paths and row["source"].startswith(source))
    return FetchPlan(settings.output, tuple(there), missing, refused, gone)


def _is_safe(path):
    try:
        return bool(check_path(path))
    except FormatError:
        return False


def _complete(entries, record, find, n_threads):
    """Ask for the sizes that the listing did not tell, but for files that it shows unchanged."""
    from sparkneuro.data.download.http_listing import look_up


    def must_be_asked(entry):
        if entry.get("size") is not None or entry["url"].startswith("s3://"):
            return False
        told = entry.get("stamp") or entry.get("checksum")
        return not (told and is_there(entry, record.rows.get(entry["path"]), find(entry["path"])))

    asked = [number for number, entry in enumerate(entries) if must_be_asked(entry)]
    completed = list(entries)
    if asked:
        for number, found in _each(lambda number: look_up(entries[number]), asked, n_threads, "look up"):
            completed[number] = found
    return completed


def _refuse_other_sources(folder, entries, record):
    for entry in entries:
        row = record.rows.get(entry["path"])
        if row is not None and row["source"] != address_of(entry["url"]) and not agrees(entry, row):
            raise SettingsError(f"{folder}: {entry['path']} came from {row['source']}; choose another folder.")


def _verify(folder, entries, record, n_threads):
    """Those of the files whose content is still what was fetched; the others are forgotten."""
    right = []
    for entry, verified in _each(partial(is_whole, folder, record), entries, n_threads, "verify"):
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
