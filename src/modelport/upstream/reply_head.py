"""What a reply's head says when somebody wants to know: its fields, and what its body is packed in."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any

import httptools

RawHeaders = list[tuple[bytes, bytes]]


class FieldReader:
    """For a parser of its own: the fields of the first head that is not a 1xx."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._fields: RawHeaders = []
        self._is_done = False

    def read(self, data: bytes) -> RawHeaders:
        """From bytes that hold it whole."""
        with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):  # whatever comes after it
            self._parser.feed_data(data)
        return self._fields

    def on_message_begin(self) -> None:
        if not self._is_done:
            self._fields.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_done:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_done = self._is_done or self._parser.get_status_code() >= 200


def inflater(encoding: bytes) -> Any:
    """Unpacks what was packed although identity was asked for. What we cannot unpack breaks the answer off."""
    word = encoding.strip().lower()
    if word in (b"", b"identity"):
        return None
    if word in (b"gzip", b"x-gzip", b"deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    return Unreadable()


class Unreadable:
    """An encoding that nobody asked for."""

    def decompress(self, data: bytes, limit: int) -> bytes:
        """zlib's interface."""
        raise zlib.error
