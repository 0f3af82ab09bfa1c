"""A small HTTP/1.1 client for one peer on this machine, over its unix socket: gateway to worker, worker to engine.

It opens a connection for each request and closes it to cancel; that is all the engines need, and it keeps the worker
processes free of the gateway's HTTP library.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

_LINE_LIMIT_BYTES = 16 * 1024 * 1024
_BODY_LIMIT_BYTES = 128 * 1024 * 1024
_DATA = b"data: "


class LocalHttpError(Exception):
    """The peer is gone, or speaks something that is not HTTP."""


class LocalHttpStatusError(Exception):
    """The peer refused: its status and its body, if that was JSON."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"the peer answered {status}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class LocalHttp:
    """Where the peer listens, and the secret that it asks for."""

    socket_path: Path
    secret: str = field(repr=False)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The peer's JSON answer; LocalHttpStatusError for any status but 2xx."""
        async with self._exchange(method, path, body) as (status, blocks):
            answer = _decoded(await _whole(blocks))
            if not 200 <= status < 300:
                raise LocalHttpStatusError(status, answer)
            return answer

    async def events(self, path: str, body: Any) -> AsyncGenerator[Any]:
        """The JSON of each server-sent event, to `[DONE]` or the end. Closing the iterator hangs up."""
        async with self._exchange("POST", path, body) as (status, blocks):
            if status != 200:
                raise LocalHttpStatusError(status, _decoded(await _whole(blocks)))
            rest = b""
            async for block in blocks:
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > _LINE_LIMIT_BYTES:
                    raise LocalHttpError("the peer sends a line without end")
                for line in lines:
                    if line.startswith(_DATA) and line != b"data: [DONE]":
                        yield _decoded(line[len(_DATA) :])

    @asynccontextmanager
    async def _exchange(self, method: str, path: str, body: Any) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket_path), limit=_LINE_LIMIT_BYTES)
        except OSError as error:
            raise LocalHttpError("the peer does not listen") from error
        try:
            writer.write(_request(method, path, self.secret, body))
            await writer.drain()
            status, headers = await _head(reader)
            yield status, _blocks(reader, headers)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise LocalHttpError("the peer hung up") from error
        finally:
            # Aborting instead of a polite close: the peer notices at once and stops working for nobody.
            writer.transport.abort()


def _request(method: str, path: str, secret: str, body: Any) -> bytes:
    payload = b"" if body is None else msgspec.json.encode(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    try:
        status = int(head[0].split(" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise LocalHttpError("the peer does not speak HTTP") from error
    pairs = (line.partition(":") for line in head[1:] if line)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _blocks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while block := await reader.read(65536):
            yield block


async def _whole(blocks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for block in blocks:
        body += block
        if len(body) > _BODY_LIMIT_BYTES:
            raise LocalHttpError("the peer sends an answer without end")
    return bytes(body)


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
