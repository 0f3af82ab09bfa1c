"""Fetches small JSON documents over HTTP, such as an issuer's keys."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from modelport.core.catalog import Timeouts
from modelport.core.errors import UpstreamFailed
from modelport.core.ports.providers import Address, UpstreamRequest
from modelport.upstream.transports.aiohttp import AiohttpTransport

TIMEOUTS: Final = Timeouts(connect=5.0, first_event=10.0, between_events=5.0, whole=10.0)
HEADERS: Final = (("Accept", "application/json"),)


async def fetch_document(url: str, ca_file: str | None, proxy: str | None, most_bytes: int) -> bytes:
    """The body of a 200. Follows no redirect, reads `ca_file` anew each time (None: SSL_CERT_FILE, else the system's).
    Raises UpstreamFailed, UpstreamTimedOut."""
    parts = urlsplit(url)
    address = Address(f"{parts.scheme}://{parts.netloc}", ca_file=ca_file, proxy=proxy)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    request = UpstreamRequest(path, b"", HEADERS, method="GET")
    transport, found = AiohttpTransport(), bytearray()
    try:
        async with transport.send(address, request, TIMEOUTS) as answer:
            if answer.status != 200:
                raise UpstreamFailed(f"{url} answered {answer.status}")
            async for chunk in answer.chunks():
                found += chunk
                if len(found) > most_bytes:
                    raise UpstreamFailed(f"{url} answered more than {most_bytes} bytes")
    finally:
        await transport.close()
    return bytes(found)
