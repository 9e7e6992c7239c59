"""A web server on loopback that does, when it is told to, what real ones do on bad days; and counts what it sends."""

import hashlib
import re
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

DROPPED = (BrokenPipeError, ConnectionResetError)


class FaultyServer:
    """Serves `files` (path -> bytes) with ETag, Range and If-Range; each request for a path takes one of its `faults`.

    A fault is a dict; its keys, in the order in which they act:

    change_to      bytes that the file holds from now on
    status, body, headers    the answer, instead of the file
    ignore_range   the whole file is sent with status 200
    wrong_range    another part of the file is sent than was asked for
    ignore_version the range is sent although If-Range names another version
    claim          Content-Length, whatever is sent
    send           so many bytes of the body are sent
    drop           the connection is closed after these; else it goes on, or
    stall          it stays open and silent
    """

    def __init__(self):
        self.files, self.faults = {}, defaultdict(list)
        self.requests, self.n_sent, self.n_connections = [], Counter(), 0
        self.etags, self.lists, self.head = True, True, True
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"owner": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path=None, method="GET"):
        """Range headers (None: the whole) of the requests for files, or for one, in their order."""
        return [wanted for verb, name, wanted in self.requests if verb == method and name in ([path] if path else self.files)]

    def entry(self, path, **known):
        """The file as a listing would give it."""
        return {"path": path, "url": f"{self.url}/{quote(path)}", **known}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that has hung up


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner = None

    def setup(self):
        super().setup()
        with self.owner.lock:
            self.owner.n_connections += 1

    def log_message(self, *words):
        pass

    def do_HEAD(self):
        if not self.owner.head:
            return self._send(405, b"")
        self.do_GET()

    def do_GET(self):
        owner, path = self.owner, unquote(urlsplit(self.path).path).lstrip("/")
        with owner.lock:
            owner.requests.append((self.command, path, self.headers.get("Range")))
            fault = owner.faults[path].pop(0) if self.command == "GET" and owner.faults[path] else {}
            if "change_to" in fault:
                owner.files[path] = fault["change_to"]
        if "status" in fault:
            return self._send(fault["status"], fault.get("body", b""), fault.get("headers", {}), fault)
        if path not in owner.files:
            return self._send_page(path)
        self._send_file(path, owner.files[path], fault)

    def _send_page(self, folder):
        names = {name[len(folder) :] for name in self.owner.files if name.startswith(folder)}
        if not self.owner.lists or not names or (folder and not folder.endswith("/")):
            return self._send(404, b"<html>nothing here</html>", {"Content-Type": "text/html"})
        links = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in names})
        rows = "".join(f'<a href="{quote(link)}">{link}</a>  20-Nov-2026 10:00  1.2K\n' for link in links)
        page = f'<html><a href="../">up</a> <a href="?C=N;O=D">Name</a><pre>{rows}</pre></html>'
        self._send(200, page.encode(), {"Content-Type": "text/html"})

    def _send_file(self, path, content, fault):
        etag = f'"{hashlib.sha1(content).hexdigest()[:16]}"'
        headers = {"Content-Type": "application/octet-stream", **({"ETag": etag} if self.owner.etags else {})}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        outdated = self.headers.get("If-Range") not in (None, etag) and not fault.get("ignore_version")
        if not wanted or outdated or fault.get("ignore_range"):
            return self._send(200, content, headers, fault, path)
        start = int(wanted[1])
        if start >= len(content):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        if fault.get("wrong_range"):
            start += 7
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206, content[start:], headers, fault, path)

    def _send(self, status, body, headers=None, fault=None, path=None):
        fault = fault or {}
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in (headers or {}):
            self.send_header("Content-Length", str(fault.get("claim", len(body))))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = body[: fault.get("send", len(body))]
        try:
            self.wfile.write(body)
        except DROPPED:
            self.close_connection = True
        with self.owner.lock:
            self.owner.n_sent[path] += len(body)
        if fault.get("stall"):
            self.wfile.flush()
            self.owner.closing.wait()
        if fault.get("stall") or fault.get("drop") or "claim" in fault:
            self.close_connection = True
