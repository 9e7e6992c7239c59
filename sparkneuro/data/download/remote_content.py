"""What a server says about a file's content: size, version, checksum; and whether two answers speak of the same content."""

import base64
import binascii
import re
from dataclasses import asdict, dataclass

_MD5 = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_ENCRYPTED = ("x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-aws-kms-key-id")


@dataclass(frozen=True)
class RemoteContent:
    """What is known of a file's content at its source.

    Parameters
    ----------
    url : str
        Where it lies.
    size : int or None
        Bytes.
    etag : str or None
        The server's name of this version, without quotes; None where it has only a weak one.
    modified : str or None
        Last-Modified, as the server writes it.
    checksum : str or None
        ``"md5:..."`` and the like.
    """

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    checksum: str | None = None

    def to_dict(self):
        """Plain values, fit for JSON.

        Returns
        -------
        values : dict
            Of the fields.
        """
        return asdict(self)

    def may_be(self, entry):
        """Tell whether this is what a listing shows, as far as both tell.

        Parameters
        ----------
        entry : dict
            A file as it is listed.

        Returns
        -------
        same : bool
            Whether address, size, version and checksum do not differ.
        """
        theirs = [entry.get(name) for name in ("size", "etag", "modified")]
        pairs = list(zip((self.size, self.etag, self.modified), theirs, strict=True))
        mine, listed = self.checksum or "", entry.get("checksum") or ""
        if mine.partition(":")[0] == listed.partition(":")[0]:
            pairs.append((mine or None, listed or None))
        same = all(ours is None or other is None or ours == other for ours, other in pairs)
        return same and self.url == address_of(entry["url"])

    def range_headers(self, offset):
        """Headers of a request for the rest of this very content.

        Parameters
        ----------
        offset : int
            Bytes that are there already.

        Returns
        -------
        headers : dict of str to str, or None
            None where nothing would tell this content from another that has come in its place.
        """
        headers = {"Range": f"bytes={offset}-"}
        if self.etag or self.modified:
            return {**headers, "If-Range": f'"{self.etag}"' if self.etag else self.modified}
        return headers if self.checksum or self.url.endswith(".gz") else None

    def is_continued_by(self, answer, offset):
        """Tell whether an answer with status 206 is the rest of this content.

        Parameters
        ----------
        answer : Answer
            The answer.
        offset : int
            Bytes that are there already.

        Returns
        -------
        continued : bool
            Whether start, size and version agree.
        """
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if not found or int(found[1]) != offset:
            return False
        total = None if found[3] == "*" else int(found[3])
        same = ((self.size, total), (self.etag, read_etag(answer.headers)), (self.modified, answer.headers.get("Last-Modified")))
        return all(ours is None or theirs is None or ours == theirs for ours, theirs in same)


def address_of(url):
    """Tell which file an address is of, without what may be different or secret the next time.

    Parameters
    ----------
    url : str
        Address of a file.

    Returns
    -------
    address : str
        https:// addresses have lost their query, e.g. a signature.

    Examples
    --------
    >>> address_of("https://example.org/a.nii.gz?token=secret")
    'https://example.org/a.nii.gz'
    """
    return url.partition("?")[0] if url.startswith("http") else url


def describe_content(entry, answer):
    """Describe the content that an answer with status 200 brings.

    Parameters
    ----------
    entry : dict
        The file as it was listed; its checksum and size, where it has a checksum, outweigh what the server says now.
    answer : Answer
        The answer.

    Returns
    -------
    content : RemoteContent
        What is known.
    """
    headers = answer.headers
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else entry.get("size")
    if entry.get("checksum") and entry.get("size") is not None:
        size = entry["size"]
    checksum = entry.get("checksum") or read_checksum(headers)
    return RemoteContent(address_of(entry["url"]), size, read_etag(headers), headers.get("Last-Modified"), checksum)


def read_etag(headers):
    """Read the ETag of an answer.

    Parameters
    ----------
    headers : mapping
        Of the answer.

    Returns
    -------
    etag : str or None
        Without quotes; None where there is none, or a weak one, which does not tell bytes apart.
    """
    etag = headers.get("ETag", "").strip()
    return None if not etag or etag.startswith("W/") else etag.strip('"')


def read_checksum(headers):
    """Find a checksum of the whole content in an answer with status 200.

    An ETag is one where it is S3's and no multipart upload's, and where the key is not one that makes ETags something else.

    Parameters
    ----------
    headers : mapping
        Of the answer.

    Returns
    -------
    checksum : str or None
        ``"md5:..."`` and the like.
    """
    for algorithm in ("sha256", "sha1", "crc32"):
        value = headers.get(f"x-amz-checksum-{algorithm}", "")
        if value and "-" not in value and (digest := _to_hexadecimal(value)):
            return f"{algorithm}:{digest}"
    google = re.search(r"md5=([0-9A-Za-z+/=]+)", headers.get("x-goog-hash", ""))
    for value in (headers.get("Content-MD5", ""), google[1] if google else ""):
        if value and (digest := _to_hexadecimal(value)):
            return f"md5:{digest}"
    etag = read_etag(headers) or ""
    encrypted = any(name in headers for name in _ENCRYPTED) or "kms" in headers.get("x-amz-server-side-encryption", "")
    if "x-amz-request-id" in headers and not encrypted and _MD5.fullmatch(etag):
        return f"md5:{etag}"
    return None


def known_checksum(entry):
    """Tell a listed file's checksum.

    Parameters
    ----------
    entry : dict
        The file as it was listed.

    Returns
    -------
    checksum : str or None
        Its own, or that in the ETag of an S3 listing.
    """
    if entry.get("checksum"):
        return entry["checksum"]
    etag = entry.get("etag") or ""
    return f"md5:{etag}" if entry["url"].startswith("s3://") and _MD5.fullmatch(etag) else None


def _to_hexadecimal(value):
    try:
        return base64.b64decode(value.strip(), validate=True).hex()
    except (binascii.Error, ValueError):
        return None
