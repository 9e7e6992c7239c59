"""Fetch a data set: from OpenNeuro (ds000114), a bucket (s3://bucket/folder) or a web server (https://server/folder).

Files come several at a time; each is checked and appears whole or not at all. What a broken connection, Ctrl-C or a crash has
cut off goes on at its byte when the command is given again, and what is there and unchanged is not transferred a second time.
Of a web server the files are those of --manifest, of its pages that list folders, or of a SHA256SUMS or MD5SUMS at the top; the
address may also be that of one file. S3 is read without credentials unless it refuses that, or --signed is given. In patterns *
stands for anything, / included: --include 'sub-0*/func/*' takes these with the sidecars that hold for them,
dataset_description.json and participants.tsv. The exit status is 0 only when every wanted file is there. What was fetched is
written down in .sparkneuro/fetched.tsv of the folder (size, sha256, source, time).
"""

import time
from dataclasses import dataclass

from sparkneuro.data.download.fetch_record import LOCK, FetchRecord
from sparkneuro.data.download.part_file import DiskFull
from sparkneuro.data.download.patience import Patience
from sparkneuro.data.storage.folder_lock import lock_folder
from sparkneuro.errors import SettingsError, StorageError
from sparkneuro.pipelines.fetch_plan import list_wanted, make_plan
from sparkneuro.pipelines.fetch_source import resolve_source
from sparkneuro.pipelines.fetch_space import check_space, format_size
from sparkneuro.pipelines.fetch_transfer import transfer
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.validation import check_number

N_SHOWN = 5
"""Failures that the last sentence names."""


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro fetch``."""

    dataset: str = argument("ds000114 (OpenNeuro), s3://bucket/folder, or https://server/folder")
    output: str = option(None, "folder for the files")
    include: tuple = option((), "patterns of files to take, e.g. 'sub-0*/func/*'; all when absent", many=True)
    exclude: tuple = option((), "patterns of files to leave out, e.g. 'derivatives/*'", many=True)
    participant_label: tuple = option((), "participants to take, with or without sub-; all when absent", many=True)
    manifest: str = option(None, "list of the files, lines 'sha256  path [size]' (or md5); a path or an address")
    parallel: int = option(8, "files at a time")
    dry_run: bool = option(False, "list what would be transferred, and transfer nothing")
    verify: bool = option(False, "read the files that are there again and compare their checksums")
    signed: bool = option(False, "S3: use the credentials of the environment from the first request on")
    requester_pays: bool = option(False, "S3: let the account of the credentials pay for the transfer")
    endpoint_url: str = option(None, "S3: another service than Amazon's (also AWS_ENDPOINT_URL)")
    retries: int = option(8, "tries after the first one without a byte of progress, for each file")
    timeout: float = option(60.0, "seconds without a byte after which a connection is given up and tried again")


def needs_spark(settings):
    """Tell whether the job needs a Spark session: never; settings that make no sense are found here.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    needed : bool
        False.
    """
    if not settings.output:
        raise SettingsError("output is missing; name the folder for the files with --output, e.g. --output ds000114.")
    check_number("parallel", settings.parallel, minimum=1, maximum=256, integer=True)
    check_number("retries", settings.retries, minimum=0, maximum=1000, integer=True)
    check_number("timeout", settings.timeout, minimum=0, exclusive=True)
    resolve_source(settings.dataset)
    return False


def run(settings, spark=None, patience=None):
    """Fetch a data set, or what is missing of it.

    Parameters
    ----------
    settings : Settings
        The settings.
    spark : None
        Not used.
    patience : Patience or None
        How long a file is tried again; that of the settings when absent.

    Returns
    -------
    sentence : str
        What was done; of a dry run, what would be.

    Raises
    ------
    SparkneuroError
        When not every wanted file is there in the end; what is finished is kept for the next time.
    """
    needs_spark(settings)
    started = time.monotonic()
    entries, wanted = list_wanted(settings)
    if settings.dry_run:
        return _describe(make_plan(settings, entries, wanted, FetchRecord(settings.output)))
    with lock_folder(settings.output, LOCK, "fetch"), FetchRecord(settings.output) as record:
        plan = make_plan(settings, entries, wanted, record)
        check_space(plan)
        patience = patience or Patience(retries=settings.retries, timeout=settings.timeout)
        done = transfer(plan, record, settings.parallel, patience)
    return _tell(plan, done, time.monotonic() - started)


def _describe(plan):
    lines = [f"{entry['size'] if entry.get('size') is not None else '?':>14}  {entry['path']}" for entry in plan.missing]
    unknown = sum(entry.get("size") is None for entry in plan.missing)
    more = f" and {unknown} of unknown size" if unknown else ""
    total = f"{_files(len(plan.missing))} with {format_size(plan.n_bytes)}{more} would be transferred"
    refused = [f"{path!r}: this name would be refused." for path in plan.refused]
    return "\n".join([*lines, *refused, f"{plan.folder}: {total}; {_files(len(plan.there))} there already.{_gone(plan)}"])


def _tell(plan, done, seconds):
    """The last sentence: returned when everything is there, raised when it is not."""
    there = len(plan.there) + done.n_adopted
    n_left = len(plan.missing) - done.n_fetched - done.n_adopted
    n_failed = len(done.failures) + len(plan.refused)
    rate = format_size(done.n_bytes / max(seconds, 1e-9))
    pace = f" ({format_size(done.n_bytes)} in {seconds:.1f} s, {rate}/s)" if done.n_fetched else ""
    counts = f"{_files(done.n_fetched)} fetched{pace}, {there} there already, {n_failed} failed"
    if not n_left and not plan.refused:
        return f"{plan.folder}: {counts}; all {there + done.n_fetched} are there.{_gone(plan)}"
    failures = [done.given_up] if isinstance(done.given_up, DiskFull) else done.failures
    reasons = [str(error).rstrip(".") for error in failures]
    reasons += [f"{path!r}: this name leads out of the folder and is refused" for path in plan.refused]
    shown = "; ".join(reasons[:N_SHOWN]) + ("; ..." if len(reasons) > N_SHOWN else "")
    untried = n_left - len(done.failures)
    not_tried = f", {untried} not tried" if untried > 0 else ""
    again = "give the command again to fetch what is missing"
    raise StorageError(f"{plan.folder}: {counts}{not_tried}: {shown}; {again}.{_gone(plan)}")


def _gone(plan):
    if not plan.gone:
        return ""
    some = ", ".join(plan.gone[:N_SHOWN]) + (", ..." if len(plan.gone) > N_SHOWN else "")
    return f" No longer at the source, and kept: {_files(len(plan.gone))} ({some})."


def _files(n_files):
    return f"{n_files} file{'' if n_files == 1 else 's'}"
