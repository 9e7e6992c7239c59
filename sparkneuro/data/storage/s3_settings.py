"""Which S3 is meant, and as whom it is asked: what the environment says.

What a user sets are the variables that other tools of S3 read too: ``AWS_ENDPOINT_URL`` (or ``AWS_ENDPOINT_URL_S3``) for an S3
that is not Amazon's, ``AWS_REGION``, ``AWS_CA_BUNDLE``, and credentials in any way that Amazon's libraries know. One is ours:
``SPARKNEURO_S3_ANONYMOUS=1`` reads public buckets without credentials.
"""

import os
from urllib.parse import urlsplit

from sparkneuro.errors import SettingsError

CONNECT_S, SILENCE_S, TRIES = 5, 15, 5
"""Seconds to connect, seconds that a server may say nothing, and tries: a dead server is reported after a minute or so."""


def read_endpoint():
    """Tell which S3 the environment names.

    Returns
    -------
    endpoint : str
        With its scheme, e.g. ``http://127.0.0.1:9000``; "" for Amazon's.

    Raises
    ------
    SettingsError
        When it is no http:// or https:// address.
    """
    endpoint = (os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "").rstrip("/")
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.netloc):
        raise SettingsError(f"AWS_ENDPOINT_URL must be an http:// or https:// address, e.g. http://storage:9000; got {endpoint}.")
    return endpoint


def read_region():
    """Tell the region that the environment names.

    Returns
    -------
    region : str
        E.g. ``us-east-1``; "" where it names none.
    """
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""


def is_anonymous():
    """Tell whether buckets are read without credentials.

    Returns
    -------
    anonymous : bool
        Whether ``SPARKNEURO_S3_ANONYMOUS`` says so.
    """
    return os.environ.get("SPARKNEURO_S3_ANONYMOUS", "").lower() in ("1", "true", "yes")


def at_endpoint():
    """Name the S3 in a message.

    Returns
    -------
    words : str
        E.g. " at http://127.0.0.1:9000"; "" for Amazon's.
    """
    return f" at {read_endpoint()}" if read_endpoint() else ""


def hadoop_options():
    """Say to Hadoop's S3A what the environment says to us.

    Returns
    -------
    options : dict of str to str
        Properties of Hadoop; empty where the environment says nothing.
    """
    endpoint, region = read_endpoint(), read_region()
    options = {"fs.s3a.endpoint.region": region} if region else {}
    if endpoint:
        secure = str(endpoint.startswith("https://")).lower()
        options |= {"fs.s3a.endpoint": endpoint, "fs.s3a.path.style.access": "true", "fs.s3a.connection.ssl.enabled": secure}
    return options
