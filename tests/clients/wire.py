"""Plain HTTP for tests that look at bytes: one request on one connection, nothing hidden."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One answer as it came. `cut` says that the connection broke before the body's end."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    cut: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    def error_code(self) -> Any:
        return self.json()["error"]["code"]

    def events(self) -> list[dict[str, Any]]:
        """The JSON of each event of a stream, without `[DONE]`."""
        lines = [line for line in self.body.decode().split("\n") if line.startswith("data: {")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    def text(self) -> str:
        """The text of a stream's first choice."""
        deltas = [c["delta"] for e in self.events() for c in e["choices"] if c["index"] == 0]
        return "".join(delta.get("content") or "" for delta in deltas)


def connect(url: str, timeout_seconds: float = 60, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_seconds, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_seconds)


def send(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None, timeout_seconds: float = 60
) -> Reply:
    """Send one request; a `bytes` body goes as it is, anything else as JSON."""
    parts = urllib.parse.urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data is not None else {}
    connection = connect(url, timeout_seconds)
    try:
        connection.request(method, target, data, {**sent, **(headers or {})})
        response = connection.getresponse()
        cut = False
        try:
            payload = response.read()
        except http.client.IncompleteRead as broken:
            payload, cut = broken.partial, True
        except ConnectionResetError:
            payload, cut = b"", True
        received = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, response.reason, received, payload, cut)
    finally:
        connection.close()
