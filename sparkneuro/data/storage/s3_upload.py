"""Uploads to a bucket that are whole or absent, also behind an error, and the end of those that were interrupted."""

import errno
import logging
import mmap
import tempfile
from contextlib import contextmanager

from sparkneuro.data.storage.s3_settings import CONNECT_S, SILENCE_S, is_anonymous, read_endpoint, read_region
from sparkneuro.errors import StorageError

LOG = logging.getLogger(__name__)


@contextmanager
def upload_replacement(filesystem, inner):
    """Write an object in parts, atomically.

    Closing pyarrow's stream ends an upload and shows the object, also behind an error or an interrupt. So what is written lies in
    a nameless local file until all of it is there, and the stream gets it in one call.

    Parameters
    ----------
    filesystem : pyarrow.fs.S3FileSystem
        Where.
    inner : str
        ``bucket/key``.

    Yields
    ------
    file : binary file object
        Writable; uploaded when the body has ended well.

    Raises
    ------
    StorageError
        When the local disk is full.
    OSError
        As pyarrow raises it.
    """
    try:
        with tempfile.TemporaryFile(prefix="sparkneuro-") as file:
            yield file
            file.flush()
            _upload(filesystem, inner, file)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"the disk of {tempfile.gettempdir()} is full, where s3://{inner} is prepared"
        raise StorageError(f"{where}; free some space, or set TMPDIR to a larger disk.") from error


def _upload(filesystem, inner, file):
    try:
        stream = filesystem.open_output_stream(inner, compression=None)
        if file.tell():
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                stream.write(content)
        stream.close()
    except OSError:
        abort_uploads(inner)
        raise


def abort_uploads(inner):
    """Throw away the parts of uploads that were begun at or below a key and never ended: nobody sees them, and they cost money.

    Without boto3 they stay until a rule of the bucket removes them.

    Parameters
    ----------
    inner : str
        ``bucket/key``.
    """
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        LOG.info("unfinished uploads below s3://%s are not looked for: boto3 is not installed", inner)
        return
    bucket, _, prefix = inner.partition("/")
    signature = {"signature_version": UNSIGNED} if is_anonymous() else {}
    config = Config(connect_timeout=CONNECT_S, read_timeout=SILENCE_S, retries={"total_max_attempts": 2}, **signature)
    try:
        client = boto3.client("s3", endpoint_url=read_endpoint() or None, region_name=read_region() or "us-east-1", config=config)
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            for begun in page.get("Uploads", []):
                if not prefix or begun["Key"] == prefix or begun["Key"].startswith(f"{prefix}/"):
                    client.abort_multipart_upload(Bucket=bucket, Key=begun["Key"], UploadId=begun["UploadId"])
    except (BotoCoreError, ClientError) as error:
        LOG.info("unfinished uploads below s3://%s could not be thrown away: %s", inner, error)
