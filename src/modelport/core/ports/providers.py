"""What the gateway needs of providers, and of what carries requests to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal, Protocol, runtime_checkable

from msgspec import Struct
from msgspec.structs import replace

from modelport.core.answers import PlainAnswer
from modelport.core.catalog import Target, Timeouts
from modelport.core.errors import ModelportError
from modelport.core.events import Event
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request

ANSWER_BYTES_LIMIT: Final = 128 * 1024 * 1024
"""The most of an answer that is held in memory before it can be passed on: a JSON document, as it travels and as it is
unpacked. 2,048 vectors of 3,072 numbers fit. A stream is passed on as it comes: its events have a limit of their own
(dialects/sse.py), and `timeouts.whole` ends it."""


class UpstreamRequest(Struct, frozen=True):
    """One HTTP request to a target, without its address: the transport knows where."""

    path: str
    """Below the target's base address, with the leading slash."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    streamed: bool = False
    method: str = "POST"
    in_pieces: bool = False
    """Its answer comes as it is made, although the caller gets it whole."""
    queued: bool = False
    """The target sends the head of its answer when it begins to work; until then the call waits in its queue."""

    @property
    def shows_progress(self) -> bool:
        """Whether what has been made can be seen before all is."""
        return self.streamed or self.in_pieces

    def timeouts(self, timeouts: Timeouts) -> Timeouts:
        """The deployment's, for this request: who waits for all of an answer does not wait for its pieces."""
        return replace(timeouts, between_events=timeouts.whole) if self.in_pieces else timeouts


class Decoder(Protocol):
    """Turns one successful answer's bytes into events, however they are cut."""

    def feed(self, data: bytes) -> list[Event]:
        """The events completed by `data`. Raises UpstreamFailed when it cannot be an answer."""
        ...

    def end(self) -> list[Event]:
        """The body has ended. Raises UpstreamFailed when the answer was cut short."""
        ...

    def reported(self) -> list[Event]:
        """The source's counts until now, for an answer that is given up before its end."""
        ...


@runtime_checkable
class Codec(Protocol):
    """How an upstream is asked and understood, without I/O. An implementation names it as its base class, and gets
    what is optional from it."""

    def encode(self, request: Request, target: Target) -> UpstreamRequest:
        """The upstream's own request. Raises ModelportError when this provider cannot ask that."""
        ...

    def decoder(self, request: Request) -> Decoder:
        """A fresh decoder for one answer."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        """Our error for the upstream's. Header names are lower case; `body` is at most 64 KiB of it."""
        ...

    def ignored(self, request: Request) -> tuple[str, ...]:
        """The parameters of `request` that `encode` leaves out, by wire name: the caller gets them in a header."""
        return ()

    def whole_answer(self, body: bytes) -> PlainAnswer | None:
        """The body of a 200 answer to a chat of one choice in one step, if it is JSON and one text is all that it
        says. None: the decoder reads it, and says what is wrong with it. Both ways give the same answer."""
        return None


@runtime_checkable
class Provider(Codec, Protocol):
    """A codec plus an address: it opens no socket."""

    @property
    def address(self) -> Address:
        """Where it is now. Asked before each request: a restarted worker has moved."""
        ...


@runtime_checkable
class OpeningProvider(Protocol):
    """A provider that makes its events itself (the scripted one). Closing the iterator cancels the work. An
    implementation names it as its base class."""

    def open(self, request: Request, target: Target) -> AsyncIterator[Event]:
        """The answer's events. Raises ModelportError before or between them."""
        ...

    def ignored(self, request: Request) -> tuple[str, ...]:
        """The parameters of `request` that have no effect, by wire name: the caller gets them in a header."""
        return ()


@runtime_checkable
class Readiness(Protocol):
    """A provider that is not always ready: an engine that loads."""

    def readiness(self) -> Refusal | NeedsWaiting[None] | None:
        """None: ready now. A Refusal is a 503 with Retry-After."""
        ...


@runtime_checkable
class BackgroundWork(Protocol):
    """A provider that works between calls: it keeps a token fresh."""

    @property
    def name(self) -> str:
        """The provider's name in the configuration."""
        ...

    @property
    def state(self) -> Literal["ready", "degraded", "gone"]:
        """`degraded`: no new token is issued, and the one before serves; `gone`: no token is valid."""
        ...

    def start(self, transport: Transport) -> None:
        """Begins, inside the running loop, before the first call."""
        ...

    async def stop(self) -> None:
        """Ends it, after the last call."""
        ...


class Address(Struct, frozen=True, cache_hash=True):
    """Where a provider is. `unix_socket` wins over the host of `base_url`, whose path is kept."""

    base_url: str
    unix_socket: str | None = None
    verify_tls: bool = True
    ca_file: str | None = None
    proxy: str | None = None


class Transport(Protocol):
    """Sends one request and hands back the answer as it comes. One pool per address; closing cancels upstream."""

    def send(self, address: Address, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamExchange:
        """An async context manager; leaving it early aborts the upstream's work.

        Raises UpstreamFailed / UpstreamTimedOut on entering and while iterating."""
        ...

    async def close(self) -> None:
        """Ends every pool."""
        ...


class UpstreamExchange(Protocol):
    """One request under way."""

    async def __aenter__(self) -> UpstreamAnswer: ...

    async def __aexit__(self, *exc: object) -> None: ...


class UpstreamAnswer(Protocol):
    """Status and headers are here; the body comes as it is read. `first_event` and `between_events` bound the reads."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as read."""
        ...

    async def body(self, limit: int) -> bytes:
        """At most `limit` bytes of it (for error bodies)."""
        ...


class Runtime(Protocol):
    """The live things behind a snapshot."""

    transport: Transport

    def provider(self, name: str) -> Provider | OpeningProvider:
        """The provider of this name."""
        ...
