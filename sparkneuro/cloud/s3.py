"""Objects of S3 and of what speaks its language: their listing, and requests for their bytes.

Public buckets are read without credentials; those of the environment (keys, profile, role) are used when asked for, or when
the bucket refuses a stranger.
"""

import logging
import os
from contextlib import contextmanager
from functools import lru_cache

from sparkneuro.errors import FormatError, StorageError, require

LOG = logging.getLogger(__name__)
_DENIED = {"AccessDenied", "403", "401", "AllAccessDisabled", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_EXPIRES = 3600  # s within which a signed request must begin


def make_access(signed=False, requester_pays=False, endpoint_url=None):
    """Write down how a bucket is spoken to.

    Parameters
    ----------
    signed : bool
        Whether with credentials.
    requester_pays : bool
        Whether the account of the credentials pays.
    endpoint_url : str or None
        Another service than Amazon's; that of ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` when absent.

    Returns
    -------
    access : dict
        Plain values, fit for JSON: without secrets, which every machine takes from its own environment.
    """
    endpoint = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    signed = bool(signed or requester_pays)
    return {"signed": signed, "requester_pays": bool(requester_pays), "endpoint_url": endpoint, "region": None}


def list_objects(uri, access):
    """List the objects below a prefix, or the one object of that name.

    One request a thousand objects.

    Parameters
    ----------
    uri : str
        ``s3://bucket/prefix``.
    access : dict
        Of `make_access`.

    Returns
    -------
    entries : list of dict
        path (relative to the prefix), url (``s3://...``), size, etag, and the access to be used in ``s3``.

    Raises
    ------
    StorageError
        When the bucket is not there, refuses, or does not answer.
    FormatError
        When nothing is there.
    """
    bucket, key = split_uri(uri)
    try:
        return _list(bucket, key, access)
    except AccessDenied:
        if access["signed"] or not _has_credentials():
            raise
        LOG.info("%s refuses strangers; the credentials of the environment are used", uri)
        return _list(bucket, key, {**access, "signed": True})


def object_request(uri, access):
    """Make the HTTP request that reads an object.

    Parameters
    ----------
    uri : str
        ``s3://bucket/key``.
    access : dict
        As `list_objects` has written it.

    Returns
    -------
    url : str
        https://, signed when the access is; it must be asked for within an hour.
    headers : dict of str to str
        To be sent with it; a Range may be added.
    """
    bucket, key = split_uri(uri)
    headers = {"x-amz-checksum-mode": "ENABLED"}
    params = {"Bucket": bucket, "Key": key, "ChecksumMode": "ENABLED"}
    if access["requester_pays"]:
        params["RequestPayer"] = headers["x-amz-request-payer"] = "requester"
    client = _client(access["endpoint_url"], access["region"], access["signed"])
    with _translated(uri):
        return client.generate_presigned_url("get_object", Params=params, ExpiresIn=_EXPIRES), headers


def split_uri(uri):
    """Split an address into bucket and key.

    Parameters
    ----------
    uri : str
        ``s3://bucket/key``.

    Returns
    -------
    bucket : str
        The bucket.
    key : str
        The key, or prefix; may be empty.

    Raises
    ------
    FormatError
        When there is no bucket.

    Examples
    --------
    >>> split_uri("s3://openneuro.org/ds000114")
    ('openneuro.org', 'ds000114')
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise FormatError(f"{uri}: an address like s3://bucket/folder is expected.")
    return bucket, key


def _list(bucket, key, access):
    uri = f"s3://{bucket}/{key}"
    with _translated(uri):
        access = {**access, "region": access["region"] or _find_region(bucket, access)}
        client = _client(access["endpoint_url"], access["region"], access["signed"])
        payer = {"RequestPayer": "requester"} if access["requester_pays"] else {}
        prefix = f"{key.rstrip('/')}/" if key else ""
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **payer)
        entries = [
            _entry(bucket, item, item["Key"][len(prefix) :], access)
            for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/")
        ]
        if not entries and key:
            page = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1, **payer)
            alone = [item for item in page.get("Contents", ()) if item["Key"] == key]
            entries = [_entry(bucket, item, key.rpartition("/")[2], access) for item in alone]
    if not entries:
        raise FormatError(f"{uri}: nothing is there; is the name right?")
    return entries


def _entry(bucket, item, path, access):
    etag = item.get("ETag", "").strip('"') or None
    return {"path": path, "url": f"s3://{bucket}/{item['Key']}", "size": item["Size"], "etag": etag, "s3": access}


def _find_region(bucket, access):
    """Where a bucket lives; S3 itself says so, even to those whom it refuses."""
    from botocore.exceptions import ClientError

    if access["endpoint_url"]:
        return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        answer = _client(None, "us-east-1", access["signed"]).head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    return answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region") or "us-east-1"


def _client(endpoint_url, region, signed):
    who = (os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_PROFILE")) if signed else None
    return _cached_client(os.getpid(), who, endpoint_url, region, signed)


@lru_cache(maxsize=16)
def _cached_client(pid, who, endpoint_url, region, signed):
    boto3 = require("boto3", "cloud")
    from botocore import UNSIGNED
    from botocore.config import Config

    style = {"s3": {"addressing_style": "path"}} if endpoint_url else {}
    config = Config(
        signature_version="s3v4" if signed else UNSIGNED, connect_timeout=20, read_timeout=60,
        retries={"max_attempts": 8, "mode": "standard"}, **style,
    )
    # A session of its own: making a client from the default session is not safe in threads.
    return boto3.session.Session().client("s3", endpoint_url=endpoint_url, region_name=region, config=config)


def _has_credentials():
    return require("boto3", "cloud").session.Session().get_credentials() is not None


class AccessDenied(StorageError):
    """A bucket refuses who asks."""


@contextmanager
def _translated(uri):
    """The errors of botocore as sentences."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code in ("NoSuchBucket", "404"):
            raise StorageError(f"{uri}: there is no such bucket.") from error
        if code in _DENIED:
            raise AccessDenied(f"{uri}: access is denied ({code}); are there credentials for it, and --signed?") from error
        if error.__class__.__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
            raise StorageError(f"{uri}: no credentials were found; set AWS_PROFILE, or leave out --signed.") from error
        raise StorageError(f"{uri}: could not be listed: {str(error).splitlines()[0]}.") from error
