"""A connection to a running server."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import SplitResult


def connection_to(address: SplitResult, data_dir: Path, timeout_seconds: float) -> http.client.HTTPConnection:
    """Connects when it is used. Trusts the certificate authority that a server made in this data directory, too."""
    if address.scheme != "https":
        return http.client.HTTPConnection(address.netloc, timeout=timeout_seconds)
    context = ssl.create_default_context()
    ca = data_dir / "tls" / "ca.pem"
    if ca.exists():
        context.load_verify_locations(ca)
    return http.client.HTTPSConnection(address.netloc, timeout=timeout_seconds, context=context)
