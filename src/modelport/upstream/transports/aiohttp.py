"""The boring transport: aiohttp. One session and pool per address; no request leaves a trace for the next one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
from yarl import URL

from modelport.core.catalog import Timeouts
from modelport.core.errors import UpstreamFailed, UpstreamTimedOut
from modelport.core.ports.providers import (
    ANSWER_BYTES_LIMIT,
    Address,
    UpstreamAnswer,
    UpstreamExchange,
    UpstreamRequest,
)
from modelport.core.queueing import queued_too_long
from modelport.upstream import failures
from modelport.upstream.failures import CLIENT_FAILURES, failed_before_answer, failed_in_answer, lost_connection

IDLE_CONNECTION_SECONDS: Final = 30.0
HEADER_BYTES_LIMIT: Final = 32_768
NEVER: Final = float("inf")


class AiohttpTransport:
    """core.ports.providers.Transport. Pools are made on first use, inside the running loop; `close` ends them all."""

    def __init__(self) -> None:
        self._sessions: dict[Address, aiohttp.ClientSession] = {}
        self._is_closed = False

    def send(self, address: Address, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamExchange:
        """One request under way once it is entered."""
        return Exchange(self, address, request, timeouts)

    def session(self, address: Address) -> aiohttp.ClientSession:
        """The pool of this address. Raises UpstreamFailed when its CA file cannot be read, or after `close`."""
        session = self._sessions.get(address)
        if session is None:
            if self._is_closed:
                raise UpstreamFailed("The gateway is shutting down.")
            session = self._sessions[address] = _new_session(address)
        return session

    async def forget(self, address: Address) -> None:
        """Ends one pool, when no deployment leads there any more; requests under way in it break."""
        session = self._sessions.pop(address, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Ends every pool; requests under way break."""
        self._is_closed = True
        for address in tuple(self._sessions):
            await self.forget(address)


class Exchange:
    """One request under way: an async context manager that gives its Answer. Leaving it before the end of the body
    closes the connection, which is how an upstream learns that nobody waits any more."""

    def __init__(
        self, transport: AiohttpTransport, address: Address, request: UpstreamRequest, timeouts: Timeouts
    ) -> None:
        self._transport = transport
        self._address = address
        self._request = request
        self._timeouts = request.timeouts(timeouts)
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> UpstreamAnswer:
        clock, timeouts, is_queued = asyncio.get_running_loop().time, self._timeouts, self._request.queued
        now = clock()
        # A whole answer is made completely before its first byte: only `whole` can bound that.
        first = min(timeouts.first_event, timeouts.whole) if self._request.streamed else timeouts.whole
        try:
            async with asyncio.timeout_at(now + (timeouts.queue if is_queued else first)):
                response = await self._sent()
        except CLIENT_FAILURES as exc:
            if is_queued and isinstance(exc, TimeoutError) and not isinstance(exc, aiohttp.ServerTimeoutError):
                raise queued_too_long(timeouts.queue) from exc
            raise failed_before_answer(exc) from exc
        self._response = response
        if is_queued:
            now = clock()
        limit = NEVER if self._request.streamed else ANSWER_BYTES_LIMIT
        return Answer(response, now + first, timeouts.between_events, now + timeouts.whole, limit)

    async def __aexit__(self, *exc: object) -> None:
        if self._response is not None:
            # Nothing to do for a body that was read to its end: its connection is back in the pool.
            self._response.close()

    async def _sent(self) -> aiohttp.ClientResponse:
        connection = SimpleNamespace(is_reused=False)
        try:
            return await self._attempt(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
            # The upstream closed an idle connection just as it was chosen: it has not seen the request.
            if not (connection.is_reused and lost_connection(exc)):
                raise
        return await self._attempt(connection)

    async def _attempt(self, connection: SimpleNamespace) -> aiohttp.ClientResponse:
        request, address = self._request, self._address
        return await self._transport.session(address).request(
            request.method,
            URL(address.base_url.rstrip("/") + request.path, encoded=True),
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
            proxy=address.proxy,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect),
            trace_request_ctx=connection,
        )


class Answer:
    """core.ports.providers.UpstreamAnswer."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        first_deadline: float,
        between_events_seconds: float,
        whole_deadline: float,
        limit_bytes: float,
    ) -> None:
        self._response = response
        self._limit_bytes = limit_bytes
        self._first_deadline = first_deadline
        self._between_events_seconds = between_events_seconds
        self._whole_deadline = whole_deadline
        self.status: int = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UpstreamFailed, UpstreamTimedOut."""
        deadlines = self._first_deadline, self._between_events_seconds, self._whole_deadline
        return _Chunks(self._response, *deadlines, self._limit_bytes)

    async def body(self, limit: int) -> bytes:
        """At most `limit` bytes of the body; what came before a break counts, for it is an error's text."""
        collected = bytearray()
        try:
            async for chunk in self.chunks():
                collected += chunk
                if len(collected) >= limit:
                    break
        except (UpstreamFailed, UpstreamTimedOut):
            pass
        return bytes(collected[:limit])


class _Chunks:
    """Reads as they come. No generator, so that nothing is left to finalise when its reader leaves."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        first_deadline: float,
        between_events_seconds: float,
        whole_deadline: float,
        limit_bytes: float,
    ) -> None:
        self._left_bytes = limit_bytes
        self._content = response.content
        self._clock = asyncio.get_running_loop().time
        self._first_deadline: float | None = first_deadline
        self._between_events_seconds = between_events_seconds
        self._whole_deadline = whole_deadline
        self._read_at = 0.0

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        deadline = self._first_deadline
        if deadline is None:  # the reader's own pace, or its wait for quota, is not the upstream's
            now = self._clock()
            self._whole_deadline += now - self._read_at
            deadline = min(now + self._between_events_seconds, self._whole_deadline)
        try:
            async with asyncio.timeout_at(deadline):
                chunk = await self._content.readany()
        except CLIENT_FAILURES as exc:
            raise failed_in_answer(exc) from exc
        if not chunk:
            raise StopAsyncIteration
        self._first_deadline = None
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise UpstreamFailed(failures.TOO_LONG)
        self._read_at = self._clock()
        return chunk


def _new_session(address: Address) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_new_connector(address),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # Compressed streams arrive in lumps. What comes compressed all the same is unpacked by the library.
        headers={"Accept-Encoding": "identity", "User-Agent": "modelport"},
        max_field_size=HEADER_BYTES_LIMIT,
        max_line_size=HEADER_BYTES_LIMIT,
        trace_configs=[_reuse_observer()],
    )


def _new_connector(address: Address) -> aiohttp.BaseConnector:
    # No limit here: deployments and engines bound their own concurrency, and a full pool would be a hidden queue.
    if address.unix_socket is not None:
        return aiohttp.UnixConnector(address.unix_socket, limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS)
    return aiohttp.TCPConnector(ssl=_tls(address), limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS, ttl_dns_cache=60)


def _tls(address: Address) -> ssl.SSLContext | bool:
    if not address.verify_tls:
        return False
    if address.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=address.ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise UpstreamFailed("The upstream is set up wrongly: its CA file cannot be read.") from exc


def _reuse_observer() -> aiohttp.TraceConfig:
    async def note(session: aiohttp.ClientSession, context: SimpleNamespace, params: Any) -> None:
        context.trace_request_ctx.is_reused = True

    observer = aiohttp.TraceConfig()
    observer.on_connection_reuseconn.append(note)
    return observer
