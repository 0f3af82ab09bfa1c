"""Servers that answer the fetch of a document slowly, or without an end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from modelport.core.catalog import Timeouts
from modelport.core.errors import UpstreamFailed, UpstreamTimedOut
from modelport.upstream import documents

OK = b"HTTP/1.1 200 OK\r\n"
MOST = 1024 * 1024
LATE = Timeouts(connect=5.0, first_event=0.5, between_events=0.5, whole=0.5)


def saying(first: bytes, more: bytes, pause: float = 0.0) -> Any:
    """The first, and the other again and again, until the fetch ends."""

    async def script(connection: Any) -> None:
        await connection.request()
        gone = asyncio.create_task(connection.watch())
        with contextlib.suppress(ConnectionError):
            await connection.send(first)
            while not connection.gone.is_set():
                await connection.send(more)
                await asyncio.sleep(pause)
        await gone

    return script


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (OK + b"\r\n", b" " * 65_536),
        (OK + b"content-length: 1000000000000000000\r\n\r\n", b" " * 65_536),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n"),
        (OK, b"x-a: " + b"b" * 4000 + b"\r\n"),
        (b"HTTP/1.1 500 No\r\n\r\n", b" " * 65_536),
        (b"", b"no HTTP "),
    ],
)
async def test_endless_answers_are_broken_off(serving: Any, first: bytes, more: bytes) -> None:
    async with serving(saying(first, more)) as server:
        with pytest.raises(UpstreamFailed):
            await documents.fetch_document(f"{server.base_url}/keys", None, None, MOST)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", b""),
        (OK, b"x: y\r\n"),
        (OK + b"content-length: 100000\r\n\r\n", b" "),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
async def test_slow_answers_end_in_time(
    serving: Any, monkeypatch: pytest.MonkeyPatch, first: bytes, more: bytes
) -> None:
    monkeypatch.setattr(documents, "TIMEOUTS", LATE)
    async with serving(saying(first, more, 0.05)) as server:
        with pytest.raises((UpstreamTimedOut, UpstreamFailed)):
            await documents.fetch_document(f"{server.base_url}/keys", None, None, MOST)
