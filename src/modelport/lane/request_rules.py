"""What RFC 9110 and RFC 9112 forbid in a request's head and the parser lets pass. Every fault closes the connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

CHECKED_FIELDS: Final = frozenset(
    {b"host", b"transfer-encoding", b"te", b"content-encoding", b"origin", b"expect"}  # never in lane.spellings
)
"""Fields that the protocol collects by themselves: they decide whether a request is acceptable, and who answers it."""

HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{0,5})?")
ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)/[^#]*", re.IGNORECASE)
VERSIONS: Final = ("1.0", "1.1")
WRONG_VERSION: Final = "This server speaks HTTP/1.0 and HTTP/1.1."

Fault = tuple[int, str, str]
"""Status, error code, message."""


def head_fault(version: str, fields: Mapping[bytes, bytes]) -> Fault | None:
    """The first rule that this head breaks. `fields`: its CHECKED_FIELDS; values of repeated ones joined by commas."""
    if version not in VERSIONS:
        return 505, "505", WRONG_VERSION
    message = host_fault(version, fields.get(b"host"))
    if message is not None:
        return 400, "BadRequest", message
    if b"chunked" in codings(fields.get(b"te", b"")):
        return 400, "BadRequest", "The TE field must not name chunked."
    coding = fields.get(b"transfer-encoding")
    return None if coding is None else coding_fault(version, codings(coding))


def host_fault(version: str, host: bytes | None) -> str | None:
    """RFC 9112 3.2: exactly one valid Host; only HTTP/1.0 may do without."""
    if host is None:
        return None if version == "1.0" else "The request has no Host field."
    if HOST.fullmatch(host) is None:
        return f"The request needs one Host field with a name and perhaps a port; it has {shown(host)}."
    return None


def target_fault(method: bytes, url: bytes, host: bytes | None) -> str | None:
    """RFC 9112 3.2: a path, the absolute form of one on the same host, or `OPTIONS *`."""
    if url.startswith(b"/") and url.isascii() and b"#" not in url:
        return None
    if url == b"*" and method == b"OPTIONS":
        return None
    absolute = ABSOLUTE.fullmatch(url)
    if absolute is None or not url.isascii():
        return f"The request target {shown(url)} is not a path."
    if host is not None and absolute[1].lower() != host.lower():
        return f"The request target names another host than the Host field: {shown(absolute[1])}."
    return None


def coding_fault(version: str, given: list[bytes]) -> Fault | None:
    """RFC 9112 6.1: `chunked` once and last. No other coding is understood."""
    if version == "1.0":
        return 400, "BadRequest", "HTTP/1.0 has no Transfer-Encoding; send a Content-Length."
    if given == [b"chunked"]:
        return None
    said = shown(b", ".join(given))
    if given[-1:] != [b"chunked"] or given.count(b"chunked") > 1:
        return 400, "BadRequest", f"The Transfer-Encoding {said} does not end with chunked, once."
    return 501, "501", f"The Transfer-Encoding {said} is not implemented; send chunked alone."


def codings(value: bytes) -> list[bytes]:
    """The names in a list of transfer codings, without their parameters."""
    return [item.partition(b";")[0].strip().lower() for item in value.split(b",")]


def shown(value: bytes) -> str:
    """A caller's bytes in a message: short and printable."""
    text = quote(value[:80], safe=" !#$&'()*+,/:;=?@[]")
    return f"'{text}'" if len(value) <= 80 else f"'{text}…'"
