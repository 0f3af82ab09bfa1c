"""A provider's token is there before it is needed, and outlives its server; requests wait only where none is valid."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.upstream.credentials import source as module
from modelport.upstream.credentials.source import AccessToken, TokenFault, TokenSource


class Server:
    """Issues the tokens `1`, `2` …, or what a test puts into `outcome`."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1_000.0
        self.seconds = 3_600.0
        self.fault: str | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.tokens: list[str] = []

    async def fetch(self) -> AccessToken:
        self.asked += 1
        await self.gate.wait()
        if self.fault is not None:
            raise TokenFault(self.fault)
        return AccessToken(str(self.asked), self.seconds)


@asynccontextmanager
async def started(server: Server) -> AsyncIterator[TokenSource]:
    source = TokenSource("house", server.fetch, server.tokens.append, monotonic=lambda: server.now, spread=lambda: 1.0)
    source.start()
    try:
        yield source
    finally:
        await source.stop()


def run(work: Callable[[Server], Awaitable[None]]) -> None:
    async def whole() -> None:
        await work(Server())

    asyncio.run(whole())


async def waited(source: TokenSource) -> Refusal | None:
    outcome = source.readiness()
    assert isinstance(outcome, NeedsWaiting)
    return await outcome.resume()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_the_first_requests_wait_for_one_fetch() -> None:
    async def work(server: Server) -> None:
        server.gate.clear()
        async with started(server) as source:
            calls = [asyncio.create_task(waited(source)) for _ in range(10)]
            await asyncio.sleep(0)
            server.gate.set()
            assert await asyncio.gather(*calls) == [None] * 10
            assert (server.asked, server.tokens, source.readiness()) == (1, ["1"], None)

    run(work)


def test_a_fetch_that_ends_before_a_request_begins_to_wait_is_the_one_it_waits_for() -> None:
    async def work(server: Server) -> None:
        async with started(server) as source:
            outcome = source.readiness()
            assert isinstance(outcome, NeedsWaiting)
            await until(lambda: server.tokens == ["1"])
            async with asyncio.timeout(30):
                assert await outcome.resume() is None

    run(work)


def test_the_next_token_is_fetched_while_the_one_before_serves() -> None:
    async def work(server: Server) -> None:
        server.seconds = 2.0  # so the next one is fetched after a second
        async with started(server) as source:
            await until(lambda: server.tokens == ["1"])
            server.gate.clear()
            await until(lambda: server.asked == 2)
            assert source.readiness() is None
            server.now += 1.9
            assert source.readiness() is None
            server.now += 0.2
            assert isinstance(source.readiness(), NeedsWaiting)
            server.gate.set()
            await until(lambda: server.tokens == ["1", "2"])
            assert source.readiness() is None

    run(work)


def test_a_server_that_is_down_is_asked_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    async def work(server: Server) -> None:
        server.fault = "the token server: not there"
        async with started(server) as source:
            refusal = await waited(source)
            assert isinstance(refusal, Refusal)
            assert (refusal.error.status, refusal.error.retry_after) == (503, 1)
            outcomes = [source.readiness() for _ in range(1000)]
            assert all(isinstance(outcome, Refusal) for outcome in outcomes)
            assert server.asked == 1
            pauses = [source._failed("again") for _ in range(8)]
            assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
        # Another line a minute later, and none between.
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert lines == ["provider house: no new token: the token server: not there; its calls are answered 503"]

    run(work)


def test_it_recovers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "SHORTEST_PAUSE_SECONDS", 0.01)
    caplog.set_level(logging.INFO)

    async def work(server: Server) -> None:
        server.fault = "down"
        async with started(server) as source:
            await until(lambda: server.asked >= 2)
            server.fault = None
            await until(lambda: bool(server.tokens))
            assert source.readiness() is None
        assert "the token server issues tokens again" in caplog.records[-1].getMessage()

    run(work)


def test_the_token_serves_on_while_its_server_is_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SHORTEST_PAUSE_SECONDS", 0.01)

    async def work(server: Server) -> None:
        server.seconds = 0.02
        async with started(server) as source:
            await until(lambda: bool(server.tokens))
            server.fault = "down"
            await until(lambda: "serves for" in caplog.text)
            assert source.readiness() is None  # the clock of this test stands
            server.now += 1
            assert source.readiness() is not None

    run(work)


def test_a_refused_token_is_replaced_once_a_minute() -> None:
    async def work(server: Server) -> None:
        async with started(server) as source:
            await until(lambda: server.tokens == ["1"])
            source.refused()
            assert await waited(source) is None
            assert server.tokens == ["1", "2"]
            for _ in range(100):
                source.refused()
            assert (source.readiness(), server.asked) == (None, 2)
            server.now += module.REFUSALS_SECONDS
            source.refused()
            assert await waited(source) is None
            assert server.asked == 3

    run(work)


def test_a_fault_of_a_library_and_a_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.01)

    async def work(server: Server) -> None:
        server.gate.clear()
        async with started(server) as source:
            assert isinstance(await waited(source), Refusal)
        assert "no answer in" in caplog.text
        server.gate.set()
        server.fetch = lambda: 1 / 0  # type: ignore[assignment,method-assign,return-value]
        async with started(server) as source:
            assert isinstance(await waited(source), Refusal)
        assert "ZeroDivisionError" in caplog.text

    run(work)
