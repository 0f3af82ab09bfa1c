"""A whole HTTP/1.1 error answer as bytes, for what is refused before there is a request to answer."""

from __future__ import annotations

import msgspec


def error_head(status_line: bytes, code: str, message: str, retry_after: int | None = None) -> bytes:
    """Status line (with its CRLF), headers and JSON body; the connection closes after it."""
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return b"".join(
        (
            status_line,
            b"content-type: application/json\r\nx-ms-error-code: ",
            code.encode("ascii"),
            b"" if retry_after is None else b"\r\nretry-after: %d" % retry_after,
            b"\r\nx-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: ",
            str(len(body)).encode("ascii"),
            b"\r\n\r\n",
            body,
        )
    )
