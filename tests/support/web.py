"""A web server on loopback that serves files as most do, with an ETag, faults included."""

import hashlib
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What is served: files by name, how many bytes of each are sent before the connection ends, what answers 500.

    `failing` has how many requests for a file are answered by 503 before it is served. `redirects` has the URL that a
    name leads to, sent as `redirect_header`; files in `slow` are sent a byte at a time; `login` is what a request has
    to bring for Basic authentication.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    failing: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    redirect_header: str = "Location"
    slow: set[str] = field(default_factory=set)
    login: str = ""

    def status(self, name: str, authorization: str | None) -> int:
        """Return the status that answers a request for `name`."""
        if name in self.redirects:
            return 302
        if self.login and authorization != f"Basic {b64encode(self.login.encode()).decode()}":
            return 401
        if name in self.broken:
            return 500
        if self.failing.get(name):
            self.failing[name] -= 1
            return 503
        return 200 if name in self.files else 404

    requests: list[str] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Web]:
    """Serve on a free port until the block ends."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            name, data = self._name(), self._head()
            if name not in web.slow:
                self.wfile.write(data[: web.cut_after.get(name, len(data))])
                return
            with suppress(ConnectionError):
                for octet in data:
                    self.wfile.write(bytes([octet]))
                    time.sleep(0.02)

        def _name(self) -> str:
            return self.path[1:].partition("?")[0]

        def _head(self) -> bytes:
            name = self._name()
            web.requests.append(f"{self.command} {self.path}")
            status = web.status(name, self.headers["Authorization"])
            if status >= 400:
                self.send_error(status)
                return b""
            data = web.files.get(name, b"")
            self.send_response(status)
            if status == 302:
                self.send_header(web.redirect_header, web.redirects[name])
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
            self.end_headers()
            return data

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
