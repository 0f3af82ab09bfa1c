"""What the address of an HTTP proxy may be: of an upstream's, and of an issuer's."""

from __future__ import annotations

from urllib.parse import urlsplit


def proxy_fault(address: str) -> str | None:
    """Why this is no address of a proxy, or None. It may hold a password, which the reason does not repeat."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host:
        return "must be the http:// or https:// address of a proxy"
    return None
