"""A gateway that answers from a script, and a real server in front of it."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, patch

import uvicorn
from msgspec.structs import replace

from modelport.core.catalog import Deployment, Model, ModelProfile, Snapshot, Target
from modelport.core.clock import SystemClock
from modelport.core.errors import Unauthenticated
from modelport.core.events import ChoiceFinished, Embedding, Event, FinishReason, TextDelta, UsageReported
from modelport.core.identity import Credential, Identified, Principal
from modelport.core.operations import Operation
from modelport.core.ports.records import UnknownCaller
from modelport.core.ports.stages import Refusal
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.core.quota import QuotaState
from modelport.core.requests import Request
from modelport.core.roles import Grant, Permission, Role
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.gateway.call import CallHead, Selector
from modelport.gateway.identify import ABSENT, MALFORMED
from modelport.gateway.pipeline import Pipeline
from modelport.gateway.resolve import find
from modelport.lane.lane import Lane
from modelport.lane.protocol import bound
from modelport.lane.reply import head_of
from modelport.surfaces.app import build
from modelport.surfaces.options import Options
from modelport.upstream.wire import Wire

KEY = "the-right-key"
CALLER = Principal(name="caller", key_id="key1", grants=(Grant(Role.INFERENCE_USER),))

Step = list[Event] | Exception | asyncio.Event | float
HELLO: Sequence[Step] = (
    [TextDelta("Hel")],
    [TextDelta("lo")],
    [ChoiceFinished(FinishReason.STOP), UsageReported(TokenUsage(input=3, output=2))],
)
VECTORS: Sequence[Step] = (
    [Embedding(0, b"\x00\x00\x80?"), Embedding(1, b"\x00\x00\x00@")],
    [UsageReported(TokenUsage(input=3))],
)


def deployment(name: str, model: str, *operations: Operation, default: bool = False) -> Deployment:
    return Deployment(
        name=name,
        model=Model(format="Mistral AI", name=model),
        targets=(Target("script", model),),
        profile=ModelProfile(family="test", operations=frozenset(operations)),
        default=default,
    )


CHAT = deployment(
    "Mistral-large", "Mistral-large-2411", Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS, default=True
)
EMBED = deployment("embed", "Cohere-embed-v3-english", Operation.EMBEDDINGS, Operation.IMAGE_EMBEDDINGS)


@dataclass
class FakeGateway:
    """Answers every call with `script`; says what it was asked and how each call ended."""

    script: Sequence[Step] = HELLO
    refusal: Exception | None = None
    """Raised where the answer is due."""
    default: str | None = "mistral-large"
    dropped: tuple[str, ...] = ()
    quota: QuotaState = field(default_factory=QuotaState)
    draining: bool = False
    is_ready: bool = True
    role: Role = Role.INFERENCE_USER
    """The caller's."""
    heads: list[CallHead] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ended: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    working: threading.Event = field(default_factory=threading.Event)
    """Set when the script has come to an endless wait."""

    def endings(self, count: int = 1) -> list[str]:
        """How the next `count` calls ended; waits for them. A client may have its answer a moment before."""
        return [self.ended.get(timeout=20) for _ in range(count)]

    def snapshot(self) -> Snapshot:
        both = {one.name.lower(): one for one in (CHAT, EMBED)}
        return Snapshot(id="snapshot-7", deployments=both, default=self.default)

    async def identify(self, credential: Credential) -> Principal:
        found = self._authenticate(credential, self.snapshot(), 0.0)
        if isinstance(found, Refusal):
            raise Unauthenticated(reason=MALFORMED if credential.is_malformed else ABSENT)
        return found.principal

    def visible(self, principal: Principal) -> list[Deployment]:
        return [EMBED, CHAT]

    def named(self, principal: Principal, name: str) -> Deployment:
        return self.describe(principal, Selector(path=name), None)

    def describe(self, principal: Principal, selector: Selector, model: str | None) -> Deployment:
        found = find(selector, model, self.snapshot(), principal, Permission.LIST_MODELS)
        if isinstance(found, Refusal):
            raise found.error
        return found

    def stores(self) -> Sequence[StoreState]:
        return []

    def visible_states(self, principal: Principal) -> Sequence[DeploymentState]:
        return [
            DeploymentState(CHAT, "ready"),
            DeploymentState(
                EMBED, "ready" if self.is_ready else "loading", None if self.is_ready else "reading weights"
            ),
        ]

    def ready(self) -> bool:
        return self.is_ready

    def metrics(self) -> bytes:
        return b"modelport_requests_total 1\n"

    def __post_init__(self) -> None:
        self.running, self.calls = 0, set[object]()
        if not hasattr(self, "pipeline"):  # made anew, it keeps the parts that its server knows
            clock = SystemClock()
            self.pipeline = Pipeline(
                snapshot=lambda: self.snapshot(),
                runtime=cast(Any, SimpleNamespace(provider=lambda _: self, transport=None)),
                authenticators=(self._authenticate,),
                quota=cast(Any, SimpleNamespace(reserve=lambda *_, **__: Room(self), when_freed=lambda _: None)),
                journal=Mock(),
                observer=cast(Any, self),
                clock=clock,
                random=Random(7),
            )

    def _authenticate(self, credential: Credential, snapshot: Snapshot, now: float) -> Identified | Refusal:
        if any(shown.value == KEY for shown in credential.shown):
            return Identified(replace(CALLER, grants=(Grant(self.role),)))
        return Refusal(Unauthenticated(reason="unknown"))

    def noted(self, head: CallHead) -> CallHead:
        """The same, and its body is noted when it is read."""

        def decode(body: bytes) -> Request:
            self.bodies.append(body)
            return head.decode(body)

        self.heads.append(head)
        return replace(head, decode=decode)

    def call_started(self, operation: Operation, surface: str) -> None:
        """core.ports.records.Observer"""

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        """core.ports.records.Observer"""
        self.ended.put(record.error_code or record.ending)

    def ignored(self, request: Request) -> tuple[str, ...]:
        """What the provider leaves out."""
        return self.dropped

    async def open(self, request: Request, target: Target) -> AsyncIterator[Event]:
        """core.ports.providers.OpeningProvider"""
        if self.refusal is not None:
            raise self.refusal
        for step in self.script:
            match step:
                case Exception():
                    raise step
                case asyncio.Event():
                    self.working.set()
                    await step.wait()
                case float():
                    await asyncio.sleep(step)
                case _:
                    for event in step:
                        yield event


class Room:
    """core.ports.quota.Reservation: there is always some."""

    reserved_tokens = 0

    def __init__(self, gateway: FakeGateway) -> None:
        self.state = lambda: gateway.quota

    def top_up(self, tokens: int) -> bool:
        return True

    def give_back(self, tokens: int) -> None: ...

    def settle(self, actual_tokens: int) -> None: ...

    def cancel(self) -> None: ...


@dataclass
class Served:
    """A gateway behind a listening socket."""

    gateway: FakeGateway
    port: int
    loop: asyncio.AbstractEventLoop
    lane: Lane

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, key: bool = True
    ) -> Received:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {**({"api-key": KEY} if key else {}), **(headers or {})})
            return Received.of(connection.getresponse())
        finally:
            connection.close()

    def open(self, request: bytes) -> socket.socket:
        """A raw connection on which this has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(request)
        return connection

    def stop_running_calls(self) -> None:
        """What the server does when the time to drain is over."""

        async def stop() -> None:
            self.gateway.draining = True
            self.lane.stop()

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(20)

    def tasks(self) -> int:
        """How many tasks the server's loop has."""

        async def count() -> int:
            return len(asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(count(), self.loop).result(20)


@dataclass
class Received:
    """A response, read to its end."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, response: HTTPResponse) -> Received:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return cls(response.status, response.reason, headers, response.read())

    def json(self) -> Any:
        import json

        return json.loads(self.body)


def request(path: str, body: bytes, *headers: str, method: str = "POST", key: str | None = KEY) -> bytes:
    """A request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    if key is not None:
        lines.append(f"api-key: {key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def until_closed(connection: socket.socket) -> bytes:
    """Everything that still comes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@contextmanager
def serving(gateway: FakeGateway, options: Options | None = None) -> Iterator[Served]:
    """The doors on a free port, in a thread of their own."""
    doors = build(gateway, options)
    lane = Lane(cast(Any, gateway), doors, Wire())
    config = uvicorn.Config(
        doors,
        host="127.0.0.1",
        port=0,
        http=bound(32768, 20, lane, idle_seconds=doors.options.limits.idle_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    found: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        found.append(asyncio.get_running_loop())
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        started.set()
        await server.main_loop()
        await server.shutdown()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(20)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with patch("modelport.lane.reply.head_of", lambda *given: gateway.noted(head_of(*given))):
            yield Served(gateway, port, found[0], lane)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
