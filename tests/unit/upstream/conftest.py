"""An upstream made of a bare socket, so that a test decides about every byte and sees every hang-up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest


class RawConnection:
    """One connection as the upstream sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.gone = asyncio.Event()

    async def request(self) -> bytes:
        """Head and body of the next request; empty when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + await self.reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def watch(self) -> None:
        """Returns when the client has hung up."""
        try:
            while await self.reader.read(1024):
                pass
        except ConnectionError:
            pass
        self.gone.set()


Script = Callable[[RawConnection], Awaitable[None]]


class RawServer:
    """What came in, and where it listens."""

    def __init__(self) -> None:
        self.base_url = ""
        self.connections: list[RawConnection] = []


@asynccontextmanager
async def _serving(script: Script, unix_socket: str | None = None) -> AsyncIterator[RawServer]:
    state = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        connection = RawConnection(len(state.connections), reader, writer)
        state.connections.append(connection)
        try:
            await script(connection)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    if unix_socket is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        state.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    else:
        server = await asyncio.start_unix_server(accept, unix_socket)
        state.base_url = "http://engine/v1"
    try:
        yield state
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[RawServer]]:
    return _serving
