"""A connection to a running server."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from modelport.cli.settings import readable_key
from modelport.config.client import ClientSettings

CONNECT_SECONDS: Final = 2
NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


def ask(
    settings: ClientSettings,
    endpoint: str,
    method: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] = NO_HEADERS,
    answer_seconds: float,
) -> Reply:
    """One request with the operator's key; a body is sent as JSON. Raises OSError, HTTPException."""
    parts = urlsplit(endpoint)
    connection = connection_to(parts, settings.data_dir, CONNECT_SECONDS)
    key = readable_key(settings)
    headers = {**headers, "api-key": key.reveal() if key is not None else ""}
    if body is not None:
        headers["content-type"] = "application/json"
    try:
        connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(answer_seconds)
        sent = None if body is None else json.dumps(body).encode()
        connection.request(method, parts.path + path, body=sent, headers=headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())
    finally:
        connection.close()


def connection_to(address: SplitResult, data_dir: Path, timeout_seconds: float) -> http.client.HTTPConnection:
    """Connects when it is used. Trusts the certificate authority that a server made in this data directory, too."""
    if address.scheme != "https":
        return http.client.HTTPConnection(address.netloc, timeout=timeout_seconds)
    context = ssl.create_default_context()
    ca = data_dir / "tls" / "ca.pem"
    if ca.exists():
        context.load_verify_locations(ca)
    return http.client.HTTPSConnection(address.netloc, timeout=timeout_seconds, context=context)
