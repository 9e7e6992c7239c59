"""HTTP requests whose answers are read piece by piece, with time-outs and the proxies of the environment."""

import os
import re
import time
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from sparkneuro.data.download.patience import Faltered
from sparkneuro.errors import SettingsError, StorageError, require

PIECE = 1 << 18
"""Bytes that are read at once."""
_SLOWEST = 64  # bytes a second; what comes slower has stalled
_LARGEST_REST = 1 << 16  # of a body that nobody wants, read so that the connection can be used again
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


class Answer:
    """A server's answer; its body is read once, forward.

    Parameters
    ----------
    response : urllib3.BaseHTTPResponse
        The response, its body unread.
    url : str
        What was asked for.
    timeout : float
        Seconds without a byte after which the connection has stalled.

    Attributes
    ----------
    status : int
        E.g. 200.
    headers : mapping
        By name, whatever its case.
    url : str
        Where redirections led.
    """

    def __init__(self, response, url, timeout):
        self.status, self.headers = response.status, response.headers
        self.url = urljoin(url, response.geturl() or url)
        self._response, self._timeout = response, timeout

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Give the connection back when the body is at its end, else close it."""
        self._response.close()
        self._response.release_conn()

    def pieces(self):
        """Read the body.

        Yields
        ------
        piece : bytes
            At most `PIECE` of them, as they come.

        Raises
        ------
        Faltered
            When the connection breaks or stalls.
        """
        from urllib3.exceptions import HTTPError

        since, n_bytes = time.monotonic(), 0
        while True:
            try:
                piece = self._response.read1(PIECE)
            except (HTTPError, OSError) as error:
                raise Faltered(_reason(error)) from error
            if not piece:
                return
            yield piece
            n_bytes += len(piece)
            if (now := time.monotonic()) - since > self._timeout:
                if n_bytes < _SLOWEST * self._timeout:
                    raise Faltered("the connection has stalled")
                since, n_bytes = now, 0

    def read_text(self, limit=1 << 28):
        """Read a body that is a text.

        Parameters
        ----------
        limit : int
            Bytes; what is longer is cut off.

        Returns
        -------
        text : str
            The body; bytes that are no UTF-8 are replaced.
        """
        content = bytearray()
        for piece in self.pieces():
            content += piece
            if len(content) > limit:
                break
        return content[:limit].decode("utf-8-sig", errors="replace")

    def check(self):
        """Refuse an answer that brings no content.

        Raises
        ------
        Faltered
            When another try may bring it: 5xx, 408, and 429 and 503 with the wait that they ask for.
        StorageError
            When none will: 404, 403 and the like.
        """
        if self.status in (200, 206):
            return
        body = self._read_rest()
        if self.status in _TRANSIENT:
            hold = read_hold(self.headers.get("Retry-After"))
            throttled = self.status == 429 or (self.status == 503 and (hold is not None or "SlowDown" in body))
            raise Faltered(f"the server answered {self.status}", throttled=throttled, hold=hold)
        if self.status in (404, 410):
            raise StorageError(f"the server has no such file ({self.status})")
        message = re.search(r"<Message>(.{1,300}?)</Message>", body)
        said = f"{self.status}: {message[1]}" if message else str(self.status)
        if self.status in (401, 403):
            raise StorageError(f"the server refuses it ({said}); does it need a login, or --signed?")
        raise StorageError(f"the server answered {said}, not 200")

    def _read_rest(self):
        content = b""
        try:
            for piece in self.pieces():
                content += piece
                if len(content) > _LARGEST_REST:
                    break
        except Faltered:
            pass  # the status has said enough
        return content.decode(errors="replace")


def ask(url, headers=None, timeout=60.0, method="GET"):
    """Send a request; redirections are followed.

    Parameters
    ----------
    url : str
        http:// or https://.
    headers : dict of str to str or None
        Further headers.
    timeout : float
        Seconds without a byte after which the connection has stalled.
    method : str
        GET or HEAD.

    Returns
    -------
    answer : Answer
        With whatever status the server sent; close it.

    Raises
    ------
    Faltered
        When there is no connection, or no answer.
    SettingsError
        When `url` is none.
    StorageError
        When the server's certificate is not trusted.
    """
    urllib3 = require("urllib3", "cloud")
    patience = urllib3.Retry(
        total=None, connect=0, read=0, redirect=8, status=0, other=0, respect_retry_after_header=False, raise_on_status=False
    )
    wait = urllib3.Timeout(connect=min(timeout, 20.0), read=timeout)
    headers = {"User-Agent": "sparkneuro", "Accept-Encoding": "identity", **(headers or {})}
    try:
        response = _pool(os.getpid(), _proxy(url)).request(
            method, url, headers=headers, timeout=wait, retries=patience, preload_content=False, decode_content=False
        )
    except (urllib3.exceptions.LocationValueError, urllib3.exceptions.URLSchemeUnknown) as error:
        raise SettingsError(f"{url}: this is no address ({error}).") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            server = urlsplit(url).netloc
            raise StorageError(f"the certificate of {server} is not trusted; name its authority's in SSL_CERT_FILE") from error
        raise Faltered(_reason(error)) from error
    if method == "HEAD":
        response.drain_conn()  # there is no body, and the connection can be used again
    return Answer(response, url, timeout)


def read_hold(text):
    """Read a Retry-After header.

    Parameters
    ----------
    text : str or None
        Seconds, or a date.

    Returns
    -------
    seconds : float or None
        To wait from now on; None where it does not tell.

    Examples
    --------
    >>> read_hold("120"), read_hold("soon")
    (120.0, None)
    """
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _pool(pid, proxy):
    # By process: after a fork parent and child would talk on the same connections.
    urllib3 = require("urllib3", "cloud")
    trusted = {"ca_certs": path} if (path := os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")) else {}
    options = {"num_pools": 32, "maxsize": 64, **trusted}
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _proxy(url):
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(parts.hostname or "") else proxy


def _reason(error):
    name = error.__class__.__name__
    if name in ("ReadTimeoutError", "TimeoutError"):
        return "the connection has stalled"
    if "NameResolution" in name or "Name or service" in str(error) or "name resolution" in str(error):
        return "the server's name could not be resolved"
    if name in ("MaxRetryError", "NewConnectionError", "ConnectTimeoutError", "ConnectionRefusedError"):
        reason = getattr(error, "reason", None)
        return _reason(reason) if reason is not None and reason is not error else "there is no connection to the server"
    if name in ("ProtocolError", "IncompleteRead", "ConnectionResetError", "RemoteDisconnected"):
        return "the connection broke"
    return f"the connection failed ({error})".splitlines()[0][:200]
