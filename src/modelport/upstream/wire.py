"""The lane's own HTTP/1.1 client: callbacks instead of coroutines, on httptools.

One pool per address, the connection used last is used first; `wire_connection.py` is what happens on each. What it
cannot do (forward proxies, credentials in the address) `reaches` says beforehand: that is the aiohttp transport's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from typing import Final, cast
from urllib.parse import urlsplit

from modelport.core.catalog import Timeouts
from modelport.core.errors import ModelportError, UpstreamFailed, UpstreamTimedOut
from modelport.core.ports.providers import ANSWER_BYTES_LIMIT, Address, UpstreamRequest
from modelport.upstream import failures
from modelport.upstream.reply_head import RawHeaders
from modelport.upstream.sweep import Sweep
from modelport.upstream.usual import UsualReply
from modelport.upstream.wire_connection import Connection
from modelport.upstream.wire_exchange import NEVER, Exchange, Receiver

__all__ = ["Connection", "Exchange", "Pool", "RawHeaders", "Receiver", "Wire"]

KNOWN_HEADS: Final = 256
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Wire:
    """All pools. Belongs to one loop."""

    def __init__(self) -> None:
        self.sweep = Sweep()
        self.pools: dict[Address, Pool] = {}
        """Those that are open."""
        self._is_closed = False

    @staticmethod
    def reaches(address: Address) -> bool:
        """Whether this client can speak to that address."""
        parts = urlsplit(address.base_url)
        plain = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and "@" not in parts.netloc
        return plain and address.proxy is None and address.base_url.isascii() and not (parts.query or parts.fragment)

    def reached(self, address: Address) -> Pool | None:
        """The connections to that address; None: this client cannot speak to it."""
        return self.pool(address) if self.reaches(address) else None

    def pool(self, address: Address) -> Pool:
        """The connections to that address."""
        pool = self.pools.get(address)
        if pool is None:
            if self._is_closed:
                raise UpstreamFailed("The gateway is shutting down.")
            pool = self.pools[address] = Pool(self, address)
        return pool

    @property
    def addresses(self) -> Collection[Address]:
        """Those that have pools."""
        return self.pools.keys()

    def release(self, address: Address) -> None:
        """Closes the idle connections to an address. A request that is under way there ends as it would have."""
        pool = self.pools.pop(address, None)
        if pool is not None:
            for connection in tuple(pool.idle):
                connection.drop()

    def close(self) -> None:
        """Ends every pool; requests under way break."""
        self._is_closed = True
        for connection in self.sweep.watched():
            cast(Connection, connection).drop()
        self.pools.clear()


class Pool:
    """The connections to one address."""

    def __init__(self, wire: Wire, address: Address) -> None:
        parts = urlsplit(address.base_url)
        self.sweep = wire.sweep
        self.idle: list[Connection] = []
        self.usual = UsualReply()
        self.loop = asyncio.get_running_loop()
        self._address = address
        self._host = parts.hostname or ""
        self._port = parts.port or DEFAULT_PORTS[parts.scheme]
        self._is_tls = parts.scheme == "https" and address.unix_socket is None
        self._context: ssl.SSLContext | None = None
        self._path = parts.path.rstrip("/")
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._host_header = host if self._port == DEFAULT_PORTS[parts.scheme] else f"{host}:{self._port}"
        self._heads: dict[tuple[str, str, tuple[tuple[str, str], ...]], bytes] = {}

    def send(self, request: UpstreamRequest, timeouts: Timeouts, receiver: Receiver) -> Exchange:
        """Asks. The receiver hears the rest, never before this has returned."""
        exchange, now = Exchange(), self.loop.time()
        exchange.pool, exchange.receiver, exchange.body = self, receiver, request.body
        exchange.head = self._heads.get((request.method, request.path, request.headers)) or self.head(request)
        if request.in_pieces:
            timeouts = request.timeouts(timeouts)
        exchange.timeouts, exchange.is_queued, exchange.is_paused = timeouts, request.queued, False
        exchange.connection = exchange.connecting = None
        if request.streamed or request.queued:
            exchange.first_seconds = timeouts.first_event if request.streamed else timeouts.whole
            exchange.starts(now)
        else:  # it is made completely before its first byte: only `whole` can bound that
            exchange.first_seconds = timeouts.whole
            exchange.deadline = exchange.whole_deadline = now + timeouts.whole
        exchange.left_bytes = NEVER if request.streamed else ANSWER_BYTES_LIMIT
        if self.idle and not (connection := self.idle.pop()).transport.is_closing():
            connection.begin(exchange)
        else:
            self.take(exchange)
        return exchange

    def take(self, exchange: Exchange) -> None:
        """Sends it over the connection that was used last, or over a new one."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                connection.begin(exchange)
                return
        self.connect(exchange)

    def connect(self, exchange: Exchange) -> None:
        """Opens a connection for it."""
        exchange.connecting = self.loop.create_task(self._connected(exchange))

    async def _connected(self, exchange: Exchange) -> None:
        connection = Connection(self)
        left = exchange.deadline - self.loop.time()
        try:
            async with asyncio.timeout(max(0.0, min(exchange.timeouts.connect, left))):
                await self._open(connection)
        except TimeoutError:
            late = failures.NOT_REACHED_IN_TIME if exchange.timeouts.connect < left else failures.NOT_ANSWERED_IN_TIME
            exchange.failed(UpstreamTimedOut(late))
        except (ssl.SSLError, ssl.CertificateError):
            exchange.failed(UpstreamFailed(failures.NOT_TRUSTED))
        except OSError:
            exchange.failed(UpstreamFailed(failures.NOT_REACHED))
        except ModelportError as error:
            exchange.failed(error)
        else:
            exchange.connecting = None
            if exchange.receiver is None:
                connection.drop()
            else:
                connection.begin(exchange)

    async def _open(self, connection: Connection) -> None:
        if self._address.unix_socket is not None:
            await self.loop.create_unix_connection(lambda: connection, self._address.unix_socket)
        elif self._is_tls:
            context = self._tls()
            await self.loop.create_connection(lambda: connection, self._host, self._port, ssl=context)
        else:
            await self.loop.create_connection(lambda: connection, self._host, self._port)

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._address.ca_file)
            except (OSError, ssl.SSLError) as exc:
                raise UpstreamFailed("The upstream is set up wrongly: its CA file cannot be read.") from exc
            self._context.set_alpn_protocols(["http/1.1"])
            if not self._address.verify_tls:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        return self._context

    def head(self, request: UpstreamRequest) -> bytes:
        """All but the length of the body. Kept, for it is mostly the same again."""
        key = (request.method, request.path, request.headers)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= KNOWN_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._head(request)
        return head

    def _head(self, request: UpstreamRequest) -> bytes:
        fields = {"accept-encoding": ("Accept-Encoding", "identity"), "user-agent": ("User-Agent", "modelport")}
        fields |= {name.lower(): (name, value) for name, value in request.headers}
        lines = [f"{request.method} {self._path}{request.path} HTTP/1.1", f"Host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in fields.values()]
        if any(control in line for line in lines for control in "\r\n\0"):
            raise UpstreamFailed(failures.SET_UP_WRONGLY)
        return "\r\n".join([*lines, "Content-Length: "]).encode()
