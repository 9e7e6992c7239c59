"""Where a data set is fetched from: which files are there, and how the bytes of one of them are asked for.

Everything is plain values, so that a task on another machine can fetch a file that this one has listed.
"""

import posixpath
import re
from functools import partial

from sparkneuro.data import store
from sparkneuro.data.download.checksum_list import parse_list
from sparkneuro.data.download.http_request import ask
from sparkneuro.errors import FormatError, SettingsError

_OPENNEURO = re.compile(r"(?:https?://(?:www\.)?openneuro\.org/datasets/)?(ds\d{6})(?:/.*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def resolve_source(dataset):
    """Turn the name of a data set into its address.

    Parameters
    ----------
    dataset : str
        OpenNeuro's accession number (or the address of its page), ``s3://bucket/prefix`` or ``https://...``.

    Returns
    -------
    uri : str
        ``s3://...``, ``https://...`` or ``http://...``.

    Raises
    ------
    SettingsError
        When it is none of these.

    Examples
    --------
    >>> resolve_source("ds000114")
    's3://openneuro.org/ds000114'
    """
    number = _OPENNEURO.fullmatch(dataset)
    if number:
        return f"s3://openneuro.org/{number[1]}"
    if not re.match(r"(s3|https?)://[^/]", dataset):
        raise SettingsError(f"{dataset}: a data set is ds000114 (OpenNeuro), s3://bucket/folder or https://server/folder.")
    return dataset


def list_source(uri, manifest=None, signed=False, requester_pays=False, endpoint_url=None, n_threads=8):
    """List the files of a data set.

    Parameters
    ----------
    uri : str
        As `resolve_source` gives it.
    manifest : str or None
        Path or address of a list ``checksum  path [size]``; its files are the data set then.
    signed, requester_pays : bool
        S3: with credentials; the account of which pays.
    endpoint_url : str or None
        S3: another service than Amazon's.
    n_threads : int
        Requests at a time.

    Returns
    -------
    entries : list of dict
        path and url of each file; size (bytes), etag, modified, checksum (``"sha256:..."``), stamp where they are known; s3, how
        the bucket is spoken to. Fit for JSON, and what `fetch_file` takes.

    Raises
    ------
    SparkneuroError
        When the source is not there, refuses, or does not answer.
    """
    from sparkneuro.cloud.s3 import list_objects, make_access
    from sparkneuro.data.download.http_listing import file_url, list_url

    if uri.startswith("s3://"):
        entries = list_objects(uri, make_access(signed, requester_pays, endpoint_url))
        missing = {"s3": entries[0]["s3"]}
        address = partial(posixpath.join, uri)
    else:
        entries, missing = [] if manifest else list_url(uri, n_threads), {}
        address = partial(file_url, uri)
    if not manifest:
        return entries
    listed = {entry["path"]: entry for entry in entries}
    named = parse_list(_read_manifest(manifest), manifest, with_sizes=True)
    if not named:
        raise FormatError(f"{manifest}: this list names no file.")
    return [_join({"url": address(item["path"]), **missing, **listed.get(item["path"], {})}, item) for item in named]


def fetch_file(entry, target, **options):
    """Fetch one file: resumed where an earlier call has stopped, checked, and whole or not there at all.

    Parameters
    ----------
    entry : dict
        One of `list_source`.
    target : str
        Local file to make; its bytes wait beside it, as ``.NAME.part``, until it is whole.
    **options : object
        patience, throttle, on_bytes and stop of `sparkneuro.data.download.download.download`.

    Returns
    -------
    record : dict
        path, url, size, sha256, etag, modified, checksum and time of what has come; fit for JSON.

    Raises
    ------
    StorageError
        When the server has no such file or does not answer, or the disk is full.
    FormatError
        When what comes is not what it should be, or its name leads out of the folder.
    """
    from sparkneuro.data.download.download import download

    check_path(entry["path"])
    return download(entry, target, partial(_connect, entry.get("s3")), **options)


def check_path(path):
    """Return the name of a file when it stays within its folder.

    Parameters
    ----------
    path : str
        Relative path, with forward slashes.

    Returns
    -------
    path : str
        The same.

    Raises
    ------
    FormatError
        When it is absolute, climbs out by ``..``, or holds what no name should.

    Examples
    --------
    >>> check_path("../.bashrc")
    Traceback (most recent call last):
    sparkneuro.errors.FormatError: '../.bashrc': this name leads out of the folder, or is no name; it is refused.
    """
    parts = path.split("/")
    if {"", ".", ".."} & set(parts) or _CONTROL.search(path) or parts[0] == ".sparkneuro":
        raise FormatError(f"{path!r}: this name leads out of the folder, or is no name; it is refused.")
    return path


def _join(entry, item):
    return {**entry, **{key: value for key, value in item.items() if value is not None}}


def _connect(access, url, headers, timeout):
    if url.startswith("s3://"):
        from sparkneuro.cloud.s3 import object_request

        url, more = object_request(url, access)
        headers = {**more, **headers}
    return ask(url, headers, timeout)


def _read_manifest(manifest):
    from sparkneuro.data.download.http_listing import read_list

    if manifest.startswith(("http://", "https://")):
        return read_list(manifest)
    return store.read_bytes(manifest).decode("utf-8-sig", errors="replace")
