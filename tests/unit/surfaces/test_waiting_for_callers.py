"""Over a socket: a caller whom an authenticator knows only after it has fetched something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from modelport.core.catalog import Snapshot
from modelport.core.clock import SystemClock
from modelport.core.errors import Unauthenticated
from modelport.core.identity import Credential, Identified
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.roles import Grant
from modelport.gateway.gateway import Gateway
from modelport.surfaces.options import Limits, Options

from .doubles import CALLER, KEY, FakeGateway, Served, request, serving, until_closed

CHAT = b'{"messages":[{"role":"user","content":"Hi"}],"model":"Mistral-large"}'
PATH = "/v1/chat/completions"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class KeySet:
    """core.ports.stages.Authenticator: fetches before it knows anyone, as long as the test wants."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway
        self.asked = threading.Semaphore(0)
        """Released by each fetch that begins."""
        self.left = threading.Semaphore(0)
        """Released by each fetch that is given up."""
        self.decision = asyncio.Event()

    def __call__(self, credential: Credential, snapshot: Snapshot, now: float) -> NeedsWaiting[Identified]:
        async def resume() -> Identified | Refusal:
            self.asked.release()
            try:
                await self.decision.wait()
            except asyncio.CancelledError:
                self.left.release()
                raise
            if any((one.header, one.value) == ("api-key", KEY) for one in credential.shown):
                return Identified(replace(CALLER, grants=(Grant(self.gateway.role),)))
            return Refusal(Unauthenticated(reason="unknown"))

        return NeedsWaiting(resume)


class Waiting(FakeGateway):
    """Its routes outside of the inference calls ask the same authenticators."""

    async def identify(self, credential: Credential) -> Any:
        return await Gateway.identify(self, credential)  # type: ignore[arg-type]


@pytest.fixture
def served() -> Iterator[Served]:
    gateway = Waiting()
    gateway.pipeline.authenticators = (KeySet(gateway),)
    with serving(gateway, Options(limits=Limits(body_bytes=2000))) as one:
        yield one


def keys(served: Served) -> KeySet:
    (found,) = served.gateway.pipeline.authenticators
    assert isinstance(found, KeySet)
    return found


def decide(served: Served) -> None:
    """The fetch that is waited for is done, and later ones are quick."""
    assert keys(served).asked.acquire(timeout=20)
    assert served.gateway.bodies == []
    served.loop.call_soon_threadsafe(keys(served).decision.set)


def test_a_call_waits_for_it_with_its_body_here(served: Served) -> None:
    with served.open(request(PATH, CHAT, "Connection: close")) as connection:
        decide(served)
        assert b"200 OK" in until_closed(connection)
    assert served.gateway.bodies == [CHAT]
    assert served.gateway.endings() == ["completed"]


def test_a_stranger_is_refused_after_it_and_the_connection_goes_on(served: Served) -> None:
    with served.open(request(PATH, CHAT, key="wrong")) as connection:
        decide(served)
        assert b"401 Unauthorized" in connection.recv(65536)
        connection.sendall(request(PATH, CHAT, "Connection: close"))
        assert b"200 OK" in until_closed(connection)
    assert served.gateway.endings(2) == ["401", "completed"]
    assert served.gateway.bodies == [CHAT]


def test_who_waits_for_our_word_gets_it_once_it_is_known(served: Served) -> None:
    head = request(PATH, CHAT, "Expect: 100-continue", "Connection: close")[: -len(CHAT)]
    with served.open(head) as connection:
        decide(served)
        assert connection.recv(65536) == CONTINUE
        connection.sendall(CHAT)
        assert b"200 OK" in until_closed(connection)


def test_a_stranger_that_waits_for_our_word_gets_none(served: Served) -> None:
    with served.open(request(PATH, CHAT, "Expect: 100-continue", key="wrong")[: -len(CHAT)]) as connection:
        decide(served)
        assert until_closed(connection).startswith(b"HTTP/1.1 401 Unauthorized")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [(("Content-Encoding: gzip",), CHAT, b"415"), ((), b" " * 2001, b"413")],
    ids=["packed", "too long"],
)
@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_a_body_that_cannot_be_taken_is_refused_once_the_caller_is_known(
    served: Served, headers: tuple[str, ...], body: bytes, status: bytes, key: str
) -> None:
    with served.open(request(PATH, body, *headers, "Connection: close", key=key)) as connection:
        decide(served)
        assert until_closed(connection).split()[1] == (status if key == KEY else b"401")
    assert served.gateway.bodies == []


def test_a_client_that_leaves_meanwhile_ends_the_fetch(served: Served) -> None:
    with served.open(request(PATH, CHAT)):
        assert keys(served).asked.acquire(timeout=20)
    assert keys(served).left.acquire(timeout=20)
    decided = served.open(request(PATH, CHAT, "Connection: close"))
    with decided:
        decide(served)
        assert b"200 OK" in until_closed(decided)
    assert served.gateway.endings() == ["completed"], "the one that left has no record"
    assert served.gateway.running == 0


def test_lists_and_pages_wait_for_it_too(served: Served) -> None:
    served.loop.call_soon_threadsafe(keys(served).decision.set)
    assert served.send("GET", "/v1/models").status == 200
    assert served.send("GET", "/v1/models", headers={"api-key": "wrong"}, key=False).status == 401
    assert "deployments" in served.send("GET", "/health/ready").json()
    assert "deployments" not in served.send("GET", "/health/ready", key=False).json()
    assert b"Mistral-large" in served.send("GET", "/", headers={"accept": "text/html"}).body


class Watch(SystemClock):
    """core.clock.Clock: unix seconds as the test sets them."""

    def __init__(self) -> None:
        self.unix = 1000.0

    def now(self) -> float:  # type: ignore[override]
        return self.unix


def test_a_credential_that_expires_between_two_calls_of_one_connection_is_refused() -> None:
    gateway = FakeGateway()
    watch = gateway.pipeline.clock = Watch()

    def authenticate(credential: Credential, snapshot: Snapshot, now: float) -> Identified | Refusal:
        return Identified(CALLER, 2000.0) if now < 2000.0 else Refusal(Unauthenticated(reason="expired"))

    gateway.pipeline.authenticators = (authenticate,)
    with serving(gateway) as served, served.open(request(PATH, CHAT)) as connection:
        assert b"200 OK" in connection.recv(65536)
        watch.unix = 2000.0
        connection.sendall(request(PATH, CHAT))
        assert b"401 Unauthorized" in connection.recv(65536)
        watch.unix = 1999.0
        connection.sendall(request(PATH, CHAT, "Connection: close"))
        assert b"200 OK" in until_closed(connection)
    assert gateway.endings(3) == ["completed", "401", "completed"]
