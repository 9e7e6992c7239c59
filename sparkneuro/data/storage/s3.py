"""Buckets as filesystems of pyarrow, one a process and bucket, and what the errors of S3 mean."""

import os
import re
from functools import lru_cache
from urllib.parse import urlsplit

from pyarrow import fs

from sparkneuro.data.storage.s3_settings import CONNECT_S, SILENCE_S, TRIES, at_endpoint, is_anonymous, read_endpoint, read_region
from sparkneuro.errors import SettingsError, StorageError

_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}")
_CODE = re.compile(r"AWS Error (\w+) during (\w+) operation: (.*)", re.DOTALL)
_REFUSED = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "UNRECOGNIZED_CLIENT",
    "INVALID_CLIENT_TOKEN_ID",
}  # fmt: skip
_IDENTITY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")


def locate_object(uri):
    """Find the filesystem of an ``s3://bucket/key``; a key is taken letter by letter, as Amazon's own tools do.

    Parameters
    ----------
    uri : str
        ``s3://`` or ``s3a://``.

    Returns
    -------
    filesystem : pyarrow.fs.S3FileSystem
        One a process and bucket.
    inner : str
        ``bucket/key``.

    Raises
    ------
    SettingsError
        When it names no bucket.
    StorageError
        When there is no such bucket, or no S3 that answers.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise SettingsError(
            "an S3 path must be s3://BUCKET/KEY, with nothing but the bucket's name before the first slash; credentials, region"
            " and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL)."
        )
    identity = hash(tuple(map(os.environ.get, _IDENTITY)))
    # A client does not survive a fork: the threads that it counts on stay behind. So each process has its own.
    filesystem = _open_bucket(os.getpid(), bucket, read_endpoint(), read_region(), is_anonymous(), identity)
    return filesystem, f"{bucket}/{key}".rstrip("/")


@lru_cache(maxsize=64)
def _open_bucket(pid, bucket, endpoint, region, anonymous, identity):
    parts = urlsplit(endpoint)
    options = {"endpoint_override": parts.netloc + parts.path, "scheme": parts.scheme} if endpoint else {}
    if os.environ.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = os.environ["AWS_CA_BUNDLE"]
    filesystem = fs.S3FileSystem(
        region=(region or "us-east-1") if endpoint else _find_region(bucket, region), anonymous=anonymous,
        connect_timeout=CONNECT_S, request_timeout=SILENCE_S, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
        # A small file is one request instead of three; a large one is never copied in memory.
        allow_delayed_open=True, background_writes=False, **options,
    )  # fmt: skip
    _check_bucket(filesystem, bucket)
    return filesystem


def _check_bucket(filesystem, bucket):
    """Reading from a bucket that does not exist looks like a missing file: it is told apart here, once."""
    try:
        there = filesystem.get_file_info(bucket).type != fs.FileType.NotFound
    except OSError as error:
        found = _CODE.search(str(error))
        if not found or found[1] not in _REFUSED:
            raise StorageError(f"s3://{bucket}: could not be opened: {explain(error) or error}.") from error
        return  # who may read some folders of a bucket need not see the bucket
    if not there:
        raise StorageError(f"s3://{bucket}: there is no such bucket{at_endpoint()}; make it, or correct its name.")


def _find_region(bucket, region):
    """The bucket's own region wins over that of the machine: a public bucket is often elsewhere."""
    try:
        return fs.resolve_s3_region(bucket)
    except OSError as error:
        if region:
            return region
        if "not found" in str(error):
            raise StorageError(f"s3://{bucket}: there is no such bucket; correct its name.") from error
        remedy = "set AWS_REGION, or AWS_ENDPOINT_URL for an S3 that is not Amazon's"
        raise StorageError(f"s3://{bucket}: its region could not be found out: {explain(error)}; {remedy}.") from error


def explain(error):
    """Say what an error of S3 means.

    Parameters
    ----------
    error : OSError
        Of pyarrow's S3.

    Returns
    -------
    reason : str
        Without a full stop; "" when it is none of S3.
    """
    found = _CODE.search(str(error))
    if not found:
        return ""
    code, detail = found[1], re.sub(r"\s*\(Request ID: [^)]*\)", "", found[3]).strip().rstrip(".")
    detail = detail.rpartition("Details: ")[2].splitlines()[0] if detail else code
    if code in _REFUSED:
        if is_anonymous():
            return f"access was denied{at_endpoint()} to a request without credentials (SPARKNEURO_S3_ANONYMOUS is set)"
        return (
            f"access was denied{at_endpoint()} ({code}); give credentials that may do this (AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the machine), or set SPARKNEURO_S3_ANONYMOUS=1 for a public bucket"
        )
    if code == "NO_SUCH_BUCKET":
        return f"there is no such bucket{at_endpoint()}"
    if code == "NETWORK_CONNECTION":
        return f"S3{at_endpoint()} could not be reached ({detail})"
    if "301" in detail or code == "PERMANENT_REDIRECT":
        return "the bucket is in another region; set AWS_REGION to its region"
    return f"S3{at_endpoint()} says {code} ({detail})"
