"""A whole server in this process, before an upstream made of a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httptools
import msgspec
import uvloop
from msgspec import Struct

from modelport.app.build import serving
from modelport.app.http_server import http_server
from modelport.config.load import load
from modelport.core.ports.records import UnknownCaller
from modelport.core.record_forms import RecordForm
from modelport.core.usage import TokenUsage, UsageRecord, UsageRow
from modelport.gateway.machine import CallMachine
from modelport.lane.protocol import LaneProtocol
from modelport.lane.server import Server
from served import JournalTail

KEY = "key-of-the-tests-0123456789abcdef"
TIMES = {"started_at", "duration_seconds", "first_event_seconds"}


class Upstream(Struct):
    """What the upstream does with its next request, and what it has seen."""

    pieces: list[bytes] = []
    """Written one by one."""
    pause_seconds: float = 0.0
    ends: str = "keeps"
    """`keeps` the connection, `closes` it, or `waits` for the gateway to go."""
    seen: list[bytes] = []
    gone: asyncio.Event | None = None
    writing: asyncio.Event | None = None
    port: int = 0
    unix_socket: str | None = None


async def requested(reader: asyncio.StreamReader) -> bytes:
    """One whole request; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    found = re.search(rb"(?i)content-length: (\d+)", head)
    return head + await reader.readexactly(int(found[1]) if found else 0)


@asynccontextmanager
async def upstream(unix_socket: str | None = None) -> AsyncIterator[Upstream]:
    """Listens until the block ends."""
    state = Upstream(gone=asyncio.Event(), writing=asyncio.Event(), seen=[], unix_socket=unix_socket)
    writers: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while request := await requested(reader):
                state.seen.append(request)
                for piece in state.pieces:
                    writer.write(piece)
                    await writer.drain()
                    if state.pause_seconds:
                        await asyncio.sleep(state.pause_seconds)
                assert state.gone is not None
                if state.ends == "waits":
                    await reader.read()
                    state.gone.set()
                if state.ends != "keeps":
                    return
        except ConnectionError:
            assert state.gone is not None
            state.gone.set()
        finally:
            writer.close()
            writers.discard(writer)

    if unix_socket is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        state.port = server.sockets[0].getsockname()[1]
    else:
        server = await asyncio.start_unix_server(accept, unix_socket)
    try:
        yield state
    finally:
        server.close()
        for writer in tuple(writers):
            writer.transport.abort()


class Seen:
    """An observer that notes, around the server's own."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.started: list[tuple[str, str]] = []
        self.records: list[UsageRecord] = []

    def call_started(self, operation: str, surface: str) -> None:
        self.started.append((str(operation), surface))
        self._inner.call_started(operation, surface)

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        self.records.append(record)
        self._inner.call_ended(record, unknown)

    def series(self, surface: str, operation: str, deployment: str) -> SeenSeries:
        return SeenSeries(self, self._inner.series(surface, operation, deployment), (str(operation), surface))


class SeenSeries:
    """The same for calls of one kind. One that is taken back again has become a call like any other."""

    def __init__(self, seen: Seen, inner: Any, kind: tuple[str, str]) -> None:
        self._seen = seen
        self._inner = inner
        self._kind = kind

    @property
    def in_flight(self) -> int:
        return int(self._inner.in_flight)

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        if count > self._inner.in_flight:
            self._seen.started.append(self._kind)
        else:
            self._seen.started.remove(self._kind)
        self._inner.in_flight = count

    def completed(self, form: RecordForm, values: bytes, *figures: Any) -> None:
        self._seen.records.append(msgspec.json.decode(form.filled(values), type=UsageRow).record())
        self._inner.completed(form, values, *figures)


class Gateway(Struct):
    """A server under test."""

    port: int
    application: Any
    server: Any
    data_dir: Path
    seen: Any
    at_once: list[bool]
    """One for each call whose answer was decoded in one step."""
    repeated: list[bool]
    """One for each read that came where a head is known: whether it was taken as the same head again."""
    context: ssl.SSLContext | None = None
    tail: JournalTail | None = None
    told: list[tuple[str, dict[str, Any]]] = []
    """What the journal has held so far."""

    def records(self) -> list[dict[str, Any]]:
        """What the observer was told, without times and ids."""
        return [normal_record(record) for record in self.seen.records]

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        """The journal's lines, likewise; the observer's own order is not the journal's, so sorted by call."""
        if self.tail is None:
            self.tail = JournalTail(self.data_dir / "journal")
        known = len(self.tail.lines)
        for line in self.tail.read()[known:]:
            if line.kind in ("open", "close"):
                self.told.append((line.kind, normal_record(line.usage())))
        return list(self.told)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)


def normal_request(request: bytes, port: int) -> bytes:
    """What an upstream has been asked, without its port and without what means nothing in JSON."""
    head, between, body = request.replace(b":%d\r\n" % port, b":PORT\r\n").partition(b"\r\n\r\n")
    length = b"Content-Length: %d" % len(body)
    assert length in head
    with contextlib.suppress(ValueError):
        body = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()
    return head.replace(length, b"Content-Length: N") + between + body


def normal_record(record: UsageRecord) -> dict[str, Any]:
    """What must be the same whoever drives."""
    fields: dict[str, Any] = msgspec.structs.asdict(record)
    fields["usage"] = {name: getattr(record.usage, name) for name in TokenUsage.__struct_fields__}
    return {name: value for name, value in fields.items() if name not in TIMES | {"id"}}


@asynccontextmanager
async def gateway(
    folder: Path,
    config: str,
    monkeypatch: Any,
    *,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Gateway]:
    """A server with this configuration. `tls`: the server's and the client's context. `secrets`:
    more of its environment."""
    data_dir = folder / "data"
    (folder / "modelport.yaml").write_text(config)
    variables = {
        "MODELPORT_API_KEY": KEY,
        "MODELPORT_DATA_DIR": str(data_dir),
        "UPSTREAM_KEY": "upstream-key",
        "PROXY": "http://127.0.0.1:9",
        **secrets,
    }
    # The process that fills the ledger takes longer to start than most tests, and none looks into the ledger.
    monkeypatch.setattr("modelport.app.ledger.LocalLedger.running", lambda _: contextlib.nullcontext())
    settings = load(folder / "modelport.yaml", variables)
    data_dir.mkdir(parents=True, exist_ok=True)
    async with serving(settings, None) as application:
        pipeline = application.gateway.pipeline
        pipeline.observer = seen = Seen(pipeline.observer)
        at_once: list[bool] = []
        repeated: list[bool] = []
        monkeypatch.setattr(LaneProtocol, "_repeats", noting(LaneProtocol._repeats, repeated))
        monkeypatch.setattr(CallMachine, "complete_at_once", noting(CallMachine.complete_at_once, at_once))
        server = http_server(settings, application, tls[0] if tls else None, Server)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        port = listener.getsockname()[1]
        try:
            yield Gateway(port, application, server, data_dir, seen, at_once, repeated, tls[1] if tls else None)
        finally:
            server.should_exit = server.force_exit = True
            await task
            monkeypatch.undo()


def noting(step: Callable[..., Any], taken: list[bool]) -> Callable[..., Any]:
    """The step, and whether it was taken."""

    def noted(self: Any, *given: Any, **named: Any) -> Any:
        kept = step(self, *given, **named)
        taken.append(kept is not False)
        return kept

    return noted


class Answer:
    """One answer read from a socket."""

    def __init__(self, is_head: bool = False) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.is_head = is_head
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode(), value.decode()))

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        if self.status < 200:
            self.headers = []
        elif self.is_head:
            self.is_complete = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = self.status >= 200

    @property
    def normal(self) -> tuple[int, tuple[tuple[str, str], ...], bytes, bool]:
        """Without what differs from one call to the next: ids, dates, and the second in which the quota is empty."""
        headers = []
        for name, value in self.headers:
            if (
                name in ("x-request-id", "apim-request-id", "date")
                or name.startswith("x-ratelimit-reset")
                or (name == "x-ms-client-request-id" and re.fullmatch(r"[0-9a-f-]{36}", value))
                or (name == "content-length" and self.body)
            ):
                value = "…"
            headers.append((name, value))
        body = re.sub(rb'"id":"(chatcmpl-|cmpl-)?[0-9A-Za-z]{29,32}"', rb'"id":"\1ID"', self.body)
        body = re.sub(rb'"id":"call_[0-9a-f]{24}"', b'"id":"call_ID"', body)
        return self.status, tuple(headers), re.sub(rb'"created":\d+', b'"created":0', body), self.is_complete


async def read_answer(reader: asyncio.StreamReader, seconds: float = 20, is_head: bool = False) -> Answer:
    """The next answer, or as much as comes of it. `is_head`: to a HEAD request, so it has no body."""
    answer = Answer(is_head)
    async with asyncio.timeout(seconds):
        while not answer.is_complete:
            try:
                data = await reader.read(65536)
            except ConnectionError:
                break
            if not data:
                break
            answer.parser.feed_data(data)
    return answer


async def ask(gateway: Gateway, *pieces: bytes, pause_seconds: float = 0.0) -> Answer:
    """One request on a connection of its own."""
    reader, writer = await gateway.connect()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        if pause_seconds:
            await asyncio.sleep(pause_seconds)
    answer = await read_answer(reader)
    writer.transport.abort()
    return answer


def post(target: str, body: bytes, *headers: str, key: str | None = KEY, method: str = "POST") -> bytes:
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test", "Content-Type: application/json", *headers]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def chunked(body: bytes, *cuts: int) -> list[bytes]:
    """A 200 with this body, a chunk from each cut to the next."""
    bounds = [0, *cuts, len(body)]
    parts = [body[a:b] for a, b in pairwise(bounds) if a != b]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


def whole(body: bytes, status: str = "200 OK", *headers: str) -> list[bytes]:
    """An answer with a length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, f"Content-Length: {len(body)}", "", ""]
    return ["\r\n".join(lines).encode() + body]


def on_uvloop(main: Callable[[], Any]) -> Any:
    """Runs a coroutine function on the loop that serves."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
