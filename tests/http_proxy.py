"""An HTTP proxy of this process: it remembers what it was asked for, and by whom."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from http_servers import listening
from slow_to_connect import passed


class HttpProxy:
    """`targets`: `host:port` of each CONNECT, and the URL of each other request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.targets: list[str] = []
        self.authorizations: list[str | None] = []
        self.elsewhere: dict[str, tuple[str, int]] = {}
        """Where names lead that only the proxy knows, by `host:port`."""


@contextmanager
def http_proxy() -> Iterator[HttpProxy]:
    """Listens until the end."""

    class Handler(BaseHTTPRequestHandler):
        def note(self) -> None:
            proxy.targets.append(self.path)
            proxy.authorizations.append(self.headers.get("proxy-authorization"))

        def do_CONNECT(self) -> None:
            self.note()
            host, _, port = self.path.rpartition(":")
            with closing(socket.create_connection(proxy.elsewhere.get(self.path, (host, int(port))))) as far:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=passed, args=(far, self.connection), daemon=True)
                back.start()
                passed(self.connection, far)
                back.join()
            self.close_connection = True

        def do_GET(self) -> None:
            self.note()
            parts = urlsplit(self.path)
            name = f"{parts.hostname}:{parts.port or 80}"
            place = proxy.elsewhere.get(name, (parts.hostname or "", parts.port or 80))
            with closing(http.client.HTTPConnection(*place, timeout=30)) as connection:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                kept = {"content-type", "accept", "authorization"}
                headers = {key: value for key, value in self.headers.items() if key.lower() in kept}
                connection.request(self.command, f"{parts.path}?{parts.query}".rstrip("?"), body, headers)
                answer = connection.getresponse()
                data = answer.read()
            self.send_response(answer.status)
            self.send_header("content-type", answer.headers.get("content-type", ""))
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with listening(Handler) as port:
        proxy = HttpProxy(port)
        yield proxy
