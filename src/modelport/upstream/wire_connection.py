"""One socket of `upstream/wire.py`, on httptools: it sends an Exchange (`wire_exchange.py`) and reads its answer.

Deadlines are swept. An idle connection that turns out to be closed is replaced once, if no byte of an answer had come.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Any, Final, Protocol, cast

import httptools

from modelport.core.errors import ModelportError, UpstreamFailed, UpstreamGivenUp
from modelport.core.queueing import queued_too_long
from modelport.upstream import failures
from modelport.upstream.reply_head import FieldReader, RawHeaders, inflater
from modelport.upstream.sweep import Sweep
from modelport.upstream.usual import UsualReply
from modelport.upstream.wire_exchange import Exchange

IDLE_CONNECTION_SECONDS: Final = 30.0
JOINED_BYTES: Final = 16 * 1024
"""A request whose body is larger is written in two pieces instead of being copied into one."""
HEAD_BYTES_LIMIT: Final = 128 * 1024
INFLATED_BYTES_LIMIT: Final = 16 * 1024 * 1024
"""What a piece of a packed body may grow to."""
CHUNK_SIZE: Final = re.compile(rb"(0*[1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n").match
"""The size of a chunk that is not the last."""


class Home(Protocol):
    """Where a connection belongs: wire.Pool."""

    loop: asyncio.AbstractEventLoop
    sweep: Sweep
    idle: list[Connection]
    usual: UsualReply

    def connect(self, exchange: Exchange) -> None:
        """Opens a connection for it."""
        ...


class Connection(asyncio.Protocol):
    """One socket, one request at a time."""

    __slots__ = (
        "_at_chunk_end",
        "_chunk_is_over",
        "_exchange",
        "_has_head",
        "_head",
        "_idle_since",
        "_inflate",
        "_is_fresh",
        "_is_over",
        "_is_reused",
        "_is_usual",
        "_keeps_alive",
        "_parser",
        "_pieces",
        "_pool",
        "_received_bytes",
        "_until_close",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Home) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head = b""
        """All reads until the head was complete."""
        self._pieces: list[bytes] = []
        self._inflate: Any = None
        self._at_chunk_end = self._chunk_is_over = False
        self._is_usual = self._is_reused = self._has_head = self._is_over = self._keeps_alive = self._until_close = (
            False
        )
        self._is_fresh = True
        """Nothing of an answer has come."""
        self._received_bytes = 0
        self._idle_since = 0.0
        """0: a sweep will say."""

    def begin(self, exchange: Exchange) -> None:
        """Sends the request."""
        self._exchange = exchange
        exchange.connection = self
        body = exchange.body
        if len(body) > JOINED_BYTES:
            self.transport.writelines([b"%b%d\r\n\r\n" % (exchange.head, len(body)), body])
        else:
            self.transport.write(b"%b%d\r\n\r\n%b" % (exchange.head, len(body), body))
        if exchange.is_paused:
            exchange.pause()

    def drop(self) -> None:
        """Closes at once; nobody hears of it."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
        self.transport.abort()

    # --- the socket ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pool.sweep.watch(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody asked
            self.transport.abort()
            return
        if self._is_fresh:
            if not exchange.is_paused:
                found = self._pool.usual.match(data)
                if found is not None:
                    body = data[found.end() :]
                    if len(body) == int(found[1]):
                        self._came_whole(exchange, body)
                        return
            self._is_fresh = False
        exchange.left_bytes -= len(data)
        if exchange.left_bytes < 0:
            self._broke(exchange, UpstreamFailed(failures.TOO_LONG))
            return
        if self._at_chunk_end:
            found = CHUNK_SIZE(data)
            if found is not None and len(data) == found.end() + int(found[1], 16) + 2 and data.endswith(b"\r\n"):
                # One whole chunk after another: the parser would find nothing else in it, and stands where it stood.
                exchange.moved(self._pool.loop.time())
                if exchange.receiver is not None:
                    exchange.receiver.answer_grew(data[found.end() : -2])
                return
            self._at_chunk_end = False
        if not self._has_head:
            self._received_bytes += len(data)
            self._head = self._head + data if self._head else data
        fault: str | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            fault = failures.BROKE_OFF if self._has_head else failures.NO_HTTP
        except zlib.error:
            fault = failures.BROKE_OFF
        if not self._has_head and self._received_bytes > HEAD_BYTES_LIMIT:
            fault = failures.NO_HTTP
        if exchange.left_bytes < 0:
            self._broke(exchange, UpstreamFailed(failures.TOO_LONG))
            return
        if self._chunk_is_over:
            # Not after a part of the next chunk's size.
            self._at_chunk_end = fault is None and self._inflate is None and data.endswith(b"\r\n")
        pieces = self._pieces
        if pieces:
            self._pieces = []
            if not self._is_over:
                exchange.moved(self._pool.loop.time())
            if exchange.receiver is not None:
                exchange.receiver.answer_grew(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._is_over:
            self._keeps_alive = self._keeps_alive and fault is None
            if self._is_usual and self._keeps_alive and len(data) == self._received_bytes:
                self._pool.usual.learn(data, FieldReader().read(data))
            self._finished(exchange)
        elif fault is not None:
            self._broke(exchange, UpstreamFailed(fault))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.sweep.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            if self in self._pool.idle:
                self._pool.idle.remove(self)
            return
        exchange.connection = None
        if self._is_reused and not self._received_bytes:
            # The upstream closed an idle connection just as it was chosen: it has not seen the request.
            self._pool.connect(exchange)
        elif not self._has_head:
            exchange.failed(UpstreamFailed(failures.CLOSED_BEFORE_ANSWER))
        elif self._until_close and exc is None:
            receiver, exchange.receiver = exchange.receiver, None
            if receiver is not None:
                receiver.answer_ended()
        else:
            exchange.failed(UpstreamFailed(failures.BROKE_OFF))

    def sweep(self, now: float) -> None:
        """Ends a request that is late, or a connection that nobody has needed for long."""
        exchange = self._exchange
        if exchange is not None:
            if now > exchange.deadline:
                if exchange.is_queued:
                    self._broke(exchange, queued_too_long(exchange.timeouts.queue))
                    return
                late = failures.STOPPED_SENDING if self._has_head else failures.NOT_ANSWERED_IN_TIME
                self._broke(exchange, UpstreamGivenUp(late))
        elif not self._idle_since:
            self._idle_since = now
        elif now - self._idle_since > IDLE_CONNECTION_SECONDS:
            self.transport.close()

    # --- the parser ------------------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        if self._is_over:  # a second answer to one request
            self._keeps_alive = False
            return
        status = self._parser.get_status_code()
        if status < 200:
            return
        self._has_head = True
        self._inflate = None
        self._until_close = False
        # After the message it is always false.
        self._keeps_alive = self._parser.should_keep_alive()
        self._is_usual = status == 200
        if not self._keeps_alive or b"content-encoding" in self._head.lower():
            self._is_usual = False
            self._look_closer(status)
        exchange = self._exchange
        if exchange is not None and exchange.is_queued:
            exchange.leaves_queue(self._pool.loop.time())
        if exchange is not None and exchange.receiver is not None:
            exchange.receiver.answer_began(status, self._headers)
            exchange.head = exchange.body = b""  # it will not be sent again
        self._head = b""

    def _headers(self) -> RawHeaders:
        """The fields of the head. Rarely wanted, so they are read only then."""
        return FieldReader().read(self._head)

    def _look_closer(self, status: int) -> None:
        """How the body ends, and what it is packed in."""
        headers = [(name.lower(), value) for name, value in self._headers()]
        names = {name for name, _ in headers}
        if not self._keeps_alive:
            self._until_close = not names & {b"content-length", b"transfer-encoding"} and status not in (204, 304)
        for name, value in headers:
            if name == b"content-encoding":
                self._inflate = inflater(value)

    def on_body(self, body: bytes) -> None:
        if not self._is_over:
            self._pieces.append(body if self._inflate is None else self._inflated(body))

    def _inflated(self, packed: bytes) -> bytes:
        """Unpacks what one read holds of the body. What it grows to counts like what came."""
        body: bytes = self._inflate.decompress(packed, INFLATED_BYTES_LIMIT)
        if self._exchange is not None:
            self._exchange.left_bytes -= len(body)
            if self._inflate.unconsumed_tail:
                self._exchange.left_bytes = -1
        return body

    def on_chunk_header(self) -> None:
        self._chunk_is_over = False

    def on_chunk_complete(self) -> None:
        self._chunk_is_over = not self._is_over

    def on_message_complete(self) -> None:
        self._chunk_is_over = False
        if self._has_head:  # else it was a 1xx: the answer comes after it
            self._is_over = True

    # --- what came of it -------------------------------------------------------------------------------------------

    def _came_whole(self, exchange: Exchange, body: bytes) -> None:
        """A usual reply. The parser has not seen it, and stands where it stood."""
        receiver, exchange.receiver = exchange.receiver, None
        self._exchange = exchange.connection = None
        self._is_reused, self._idle_since = True, 0.0
        self._pool.idle.append(self)
        if receiver is not None:
            receiver.answer_whole(body)

    def _finished(self, exchange: Exchange) -> None:
        if self._exchange is None:
            return  # the receiver has aborted it
        self._exchange = exchange.connection = None
        if self._keeps_alive and not self.transport.is_closing():
            if exchange.is_paused:
                self.transport.resume_reading()
            self._is_fresh = self._is_reused = True
            self._has_head = self._is_over = self._at_chunk_end = self._chunk_is_over = False
            self._received_bytes, self._idle_since = 0, 0.0
            self._pool.idle.append(self)
        else:
            self.transport.close()
        receiver, exchange.receiver = exchange.receiver, None
        if receiver is not None:
            receiver.answer_ended()

    def _broke(self, exchange: Exchange, error: ModelportError) -> None:
        self.drop()
        exchange.failed(error)
