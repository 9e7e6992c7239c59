"""Which files lie below an https:// address: by the pages that list folders, by a list with checksums, or one file."""

import threading
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

from sparkneuro.data.download.checksum_list import NAMES, parse_list, read_key
from sparkneuro.data.download.http_request import ask
from sparkneuro.data.download.patience import Faltered, Patience, Throttle, Tries
from sparkneuro.data.download.remote_content import read_etag
from sparkneuro.data.download.threads import run_in_threads
from sparkneuro.errors import FormatError, SparkneuroError, StorageError

_DEEPEST = 40  # folders within folders; links may lead around in a circle
_PATIENCE = Patience(retries=4, longest_wait=10.0)


def list_url(url, n_threads=8, patience=_PATIENCE):
    """List the files below an address.

    One request a folder. A list named like ``SHA256SUMS`` at the top gives checksums, and the files where pages do not list them.

    Parameters
    ----------
    url : str
        Of a folder, or of one file.
    n_threads : int
        Requests at a time.
    patience : Patience
        How long each is tried again.

    Returns
    -------
    entries : list of dict
        path, url, and where they are known size, checksum, etag, modified, and ``stamp``, what the page says beside the link.

    Raises
    ------
    StorageError
        When the server does not answer, or has no such address.
    FormatError
        When nothing is listed there.
    """
    folder, alone = _find_folder(url, patience)
    if alone is not None:
        return [alone]
    tree = _list_tree(folder, n_threads, patience)
    if tree is None:
        return _find_list(folder, {}, NAMES[:1] + ("MD5SUMS",), patience)
    entries = {entry["path"]: entry for entry in tree}
    return _find_list(folder, entries, [name for name in NAMES if name in entries], patience)


def look_up(entry, patience=_PATIENCE):
    """Ask the server for the size and version of a file, without its content.

    Parameters
    ----------
    entry : dict
        The file as it was listed.
    patience : Patience
        How long it is tried again.

    Returns
    -------
    entry : dict
        With size, etag and modified where the server tells them.
    """
    try:
        found = _request(entry["url"], patience, lambda answer: (answer.status, answer.headers), "HEAD")
    except StorageError:
        return entry  # the download will say what is wrong, or that it goes without
    status, headers = found
    if status != 200:
        return entry
    length = headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    known = {"size": size, "etag": read_etag(headers), "modified": headers.get("Last-Modified")}
    return {**entry, **{key: value for key, value in known.items() if value is not None and entry.get(key) is None}}


def read_list(source, patience=_PATIENCE):
    """Read a list of files with checksums.

    Parameters
    ----------
    source : str
        Its https:// address.
    patience : Patience
        How long it is tried again.

    Returns
    -------
    text : str
        The list.

    Raises
    ------
    StorageError
        When it is not there.
    """
    return _get_page(source, patience)[1]


def file_url(folder, path):
    """Make the address of a file.

    Parameters
    ----------
    folder : str
        Address of the folder.
    path : str
        Path below it.

    Returns
    -------
    url : str
        The address.

    Examples
    --------
    >>> file_url("https://example.org/d", "sub-01/a b.tsv")
    'https://example.org/d/sub-01/a%20b.tsv'
    """
    return f"{folder.rstrip('/')}/{quote(path)}"


def _find_folder(url, patience):
    """The folder's address, or the entry of the one file that the address is of."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name:
        return url, None
    status, headers, final = _request(url, patience, lambda answer: (answer.status, answer.headers, answer.url), "HEAD")
    page = "html" in headers.get("Content-Type", "") and not name.lower().endswith((".html", ".htm"))
    if urlsplit(final).path.endswith("/") or (page and status == 200) or (status in (403, 404) and "." not in name):
        return f"{url.partition('?')[0]}/", None
    if status in (404, 410):
        raise StorageError(f"{url}: the server has nothing there ({status}).")
    return url, look_up({"path": name, "url": url, **read_key(name)}, patience)


def _list_tree(folder, n_threads, patience):
    """All files below a folder; None where no page lists it."""
    entries, seen, level = {}, {folder}, [folder]
    for depth in range(_DEEPEST):
        below = []
        with run_in_threads(lambda url: _list_folder(url, patience), level, n_threads) as outcomes:
            for _, links in outcomes:
                if isinstance(links, SparkneuroError) and not depth and not isinstance(links, Unreachable):
                    return None
                if isinstance(links, Exception):
                    raise links
                for link, stamp in links:
                    path = unquote(urlsplit(link).path[len(urlsplit(folder).path) :])
                    if not link.endswith("/"):
                        entries[path] = {"path": path, "url": link, "stamp": stamp, **read_key(path.rpartition("/")[2])}
                    elif link not in seen:
                        below.append(link)
                        seen.add(link)
        level = below
        if not level:
            break
    return list(entries.values())


def _list_folder(url, patience):
    final, text = _get_page(url, patience)
    if "<" not in text[:1000]:
        raise FormatError(f"{url}: a page that lists a folder is expected there.")
    parser = _Links()
    parser.feed(text)
    links = {}
    for href, stamp in parser.links:
        parts = urlsplit(urljoin(final, href))
        same = (parts.scheme, parts.netloc) == urlsplit(final)[:2]
        start = urlsplit(final).path
        if same and not parts.query and parts.path.startswith(start) and len(parts.path) > len(start):
            links[urljoin(url, parts._replace(fragment="").geturl())] = " ".join(stamp.split())
    return list(links.items())


def _find_list(folder, entries, names, patience):
    for name in names:
        try:
            text = _get_page(file_url(folder, name), patience)[1]
            listed = parse_list(text, file_url(folder, name))
        except (StorageError, FormatError) as error:
            if entries or isinstance(error, Unreachable):  # where it is listed, it must be there
                raise
            continue
        for item in listed:
            known = entries.get(item["path"], {"path": item["path"], "url": file_url(folder, item["path"])})
            entries[item["path"]] = {**known, "checksum": item["checksum"]}
        break
    if not entries:
        raise FormatError(f"{folder}: neither a page that lists files is there nor a SHA256SUMS; name a list with --manifest.")
    return list(entries.values())


def _get_page(url, patience):
    def read(answer):
        answer.check()
        return answer.url, answer.read_text()

    return _request(url, patience, read)


def _request(url, patience, read, method="GET"):
    """What `read` takes from the answer, tried again where that may help."""
    tries = Tries(patience, Throttle(), threading.Event())
    while True:
        tries.wait()
        try:
            with ask(url, timeout=patience.timeout, method=method) as answer:
                if answer.status >= 500 or answer.status == 429:
                    answer.check()
                return read(answer)
        except Faltered as fault:
            try:
                tries.pause(fault, progressed=False)
            except StorageError as error:
                raise Unreachable(f"{url}: {error}.") from error
        except StorageError as error:
            raise StorageError(f"{url}: {error}.") from error


class Unreachable(StorageError):
    """A server does not answer, or not with what one could use."""


class _Links(HTMLParser):
    """Links of a page, each with the text that follows it: of most servers date and size."""

    def __init__(self):
        super().__init__()
        self.links, self._inside = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            href = dict(attrs).get("href")
            if href:
                self.links.append((href, ""))
            self._inside = True

    def handle_endtag(self, tag):
        if tag == "a":
            self._inside = False

    def handle_data(self, data):
        if self.links and not self._inside:
            href, stamp = self.links[-1]
            self.links[-1] = (href, stamp + data)
