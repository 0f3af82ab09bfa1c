"""How the owner and a worker talk: lines of JSON over a unix socket, in both directions, some of which are answered."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

LINE_LIMIT_BYTES: Final = 64 * 1024 * 1024
ANSWER_SECONDS: Final = 10.0

_logger = logging.getLogger("modelport.processes")

Handler = Callable[[Any], Any]
"""Takes a message's body. What it returns, or awaits to, is the answer."""


class PeerGone(Exception):
    """The other process has ended, or does not answer."""


class PeerRefused(Exception):
    """The other process could not do what it was asked to."""


class Message(Struct, frozen=True, omit_defaults=True):
    """One line. With `ask`, an answer is wanted; with `answer`, this is one."""

    name: str = ""
    body: Any = None
    ask: int | None = None
    answer: int | None = None
    failed: bool = False


class Hello(Struct, frozen=True):
    """A worker's first line: that it belongs here, and who it is."""

    secret: str
    process_id: int


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Message)


class Peer:
    """One end. `run` reads until the other is gone; messages are handled in the order in which they come."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_gone = False

    def tell(self, name: str, body: Any = None) -> None:
        """Sends a message that nobody answers. What is told to a peer that is gone is lost."""
        self._send(Message(name=name, body=body))

    def ask(self, name: str, body: Any = None, seconds: float = ANSWER_SECONDS) -> Coroutine[Any, Any, Any]:
        """Sends at once; what it returns awaits the other's answer. Both raise PeerGone, the latter PeerRefused."""
        if self.is_gone:
            raise PeerGone
        self._last += 1
        answer = self._asked[self._last] = asyncio.get_running_loop().create_future()
        self._send(Message(name=name, body=body, ask=self._last))
        return self._answer_to(self._last, answer, seconds)

    async def _answer_to(self, number: int, answer: asyncio.Future[Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise PeerGone from None
        finally:
            self._asked.pop(number, None)

    async def run(self) -> None:
        """Returns when the connection has ended."""
        try:
            while line := await self._reader.readline():
                self._take(_DECODER.decode(line))
        except (OSError, ValueError, msgspec.DecodeError) as error:
            _logger.error("a process is cut off: %s", type(error).__name__)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection; whoever waits for an answer hears that none will come."""
        self.is_gone = True
        self._writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(PeerGone())
        for task in self._tasks:
            task.cancel()

    def _take(self, message: Message) -> None:
        if message.answer is not None:
            answer = self._asked.get(message.answer)
            if answer is not None and not answer.done():
                if message.failed:
                    answer.set_exception(PeerRefused(message.body))
                else:
                    answer.set_result(message.body)
            return
        handler = self._handlers.get(message.name)
        if handler is None:
            _logger.error("nobody knows what %r means", message.name)
            return
        try:
            result = handler(message.body)
        except Exception as error:  # noqa: BLE001  the end of a request: who asks must hear of it
            self._failed(message, error)
            return
        if isinstance(result, Awaitable):
            task = asyncio.ensure_future(self._awaited(message, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif message.ask is not None:
            self._send(Message(answer=message.ask, body=result))

    async def _awaited(self, message: Message, result: Awaitable[Any]) -> None:
        try:
            body = await result
        except Exception as error:  # noqa: BLE001  the end of a task: who asks must hear of it
            self._failed(message, error)
            return
        if message.ask is not None:
            self._send(Message(answer=message.ask, body=body))

    def _failed(self, message: Message, error: Exception) -> None:
        _logger.error("%s failed: %s", message.name, type(error).__name__, exc_info=error)
        if message.ask is not None:
            self._send(Message(answer=message.ask, body=type(error).__name__, failed=True))

    def _send(self, message: Message) -> None:
        if not self.is_gone and not self._writer.is_closing():
            self._writer.write(_ENCODER.encode(message) + b"\n")


async def connected(path: str, secret: str, process_id: int, handlers: Mapping[str, Handler]) -> Peer:
    """A worker's end. Raises OSError when the owner is gone."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT_BYTES)
    writer.write(_ENCODER.encode(Hello(secret, process_id)) + b"\n")
    return Peer(reader, writer, handlers)


async def introduced(reader: asyncio.StreamReader, secret: str) -> int | None:
    """The process id of whoever connects to the owner; None for one that does not know the secret."""
    try:
        hello = msgspec.json.decode(await reader.readline(), type=Hello)
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    return hello.process_id if hmac.compare_digest(hello.secret.encode(), secret.encode()) else None
