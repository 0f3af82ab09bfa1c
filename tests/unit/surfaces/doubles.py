"""A gateway that answers from a script, and a real server in front of it."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import uvicorn
from msgspec.structs import replace

from modelport.core.catalog import Deployment, Model, ModelProfile, Snapshot, Target
from modelport.core.errors import ModelportError, Unauthenticated, Unavailable
from modelport.core.events import ChoiceFinished, Embedding, Event, FinishReason, TextDelta, UsageReported
from modelport.core.identity import Credential, Principal, Role
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.ports.states import DeploymentState, StoreState
from modelport.core.quota import QuotaState
from modelport.core.usage import TokenUsage
from modelport.gateway.call import Answer, Call, Selector
from modelport.gateway.identify import ABSENT, MALFORMED
from modelport.gateway.resolve import find, resolve
from modelport.surfaces.app import build
from modelport.surfaces.options import Options

KEY = "the-right-key"
CALLER = Principal(name="caller", key_id="key1", role=Role.INFERENCE_USER)

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
    """Raised once the body has been read."""
    default: str | None = "mistral-large"
    dropped: tuple[str, ...] = ()
    quota: QuotaState = field(default_factory=QuotaState)
    draining: bool = False
    is_ready: bool = True
    role: Role = Role.INFERENCE_USER
    """The caller's."""
    calls: list[Call] = field(default_factory=list)
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

    def identify(self, credential: Credential) -> Principal:
        if KEY not in credential.candidates():
            raise Unauthenticated(reason=MALFORMED if credential.is_malformed else ABSENT)
        return replace(CALLER, role=self.role)

    def visible(self, principal: Principal) -> list[Deployment]:
        return [EMBED, CHAT]

    def named(self, principal: Principal, name: str) -> Deployment:
        return self.describe(principal, Selector(path=name), None)

    def describe(self, principal: Principal, selector: Selector, model: str | None) -> Deployment:
        found = find(selector, model, self.snapshot(), principal)
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

    @asynccontextmanager
    async def run(self, call: Call) -> AsyncIterator[Answer]:
        if self.draining:
            raise Unavailable("The server is shutting down.", retry_after=5)
        self.calls.append(call)
        ending = "refused"
        try:
            principal = self.identify(call.credential)
            body = await call.read()
            self.bodies.append(body)
            request = call.decode(body)
            found = resolve(call.selector, request.model, call.operation, self.snapshot(), principal)
            if isinstance(found, Refusal):
                raise found.error
            if self.refusal is not None:
                raise self.refusal
            ending = "left early"
            finished: list[bool] = []
            yield Answer(
                request=request,
                deployment=found,
                principal=principal,
                snapshot=self.snapshot(),
                events=self._events(finished),
                dropped=self.dropped,
                quota=self.quota,
            )
            ending = "completed" if finished else "left early"
        except asyncio.CancelledError:
            ending = "cancelled"
            raise
        except Exception as error:
            ending = error.code if isinstance(error, ModelportError) else type(error).__name__
            raise
        finally:
            self.ended.put(ending)

    async def _events(self, finished: list[bool]) -> AsyncIterator[list[Event]]:
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
                    yield list(step)
        finished.append(True)


@dataclass
class Served:
    """A gateway behind a listening socket."""

    gateway: FakeGateway
    port: int
    loop: asyncio.AbstractEventLoop

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

        async def cancel() -> None:
            self.gateway.draining = True
            for task in asyncio.all_tasks():
                if "run_asgi" in repr(task.get_coro()):
                    task.cancel()

        asyncio.run_coroutine_threadsafe(cancel(), self.loop).result(20)

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
    config = uvicorn.Config(
        build(gateway, options),
        host="127.0.0.1",
        port=0,
        http="httptools",
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
        yield Served(gateway, port, found[0])
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
