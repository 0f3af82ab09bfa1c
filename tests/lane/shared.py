"""One server for all tests of a module: each runs on the server's own loop, which stands still between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec import Struct

from .harness import Answer, Gateway, Upstream, gateway, post, read_answer, upstream, whole

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Say hello."}]


class Shared(Struct):
    """A gateway before an upstream, and the way to run on their loop."""

    gateway: Gateway
    upstream: Upstream
    run: Callable[[Coroutine[Any, Any, None]], None]

    def again(self) -> None:
        """Forgets what was seen and done."""
        self.upstream.pieces, self.upstream.ends, self.upstream.pause_seconds = whole(answered()), "keeps", 0.0
        self.upstream.gone = asyncio.Event()
        for seen in (self.upstream.seen, self.gateway.seen.started, self.gateway.seen.records):
            seen.clear()
        for kept in (self.gateway.at_once, self.gateway.repeated):
            kept.clear()


@contextmanager
def shared(folder: Path, config: str, **secrets: str) -> Iterator[Shared]:
    """`config` has a `{port}` in it; `secrets` are its environment."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.MonkeyPatch.context() as patches:
        stack = AsyncExitStack()

        async def begin() -> Shared:
            above = await stack.enter_async_context(upstream())
            made = gateway(folder, config.format(port=above.port), patches, secrets=secrets)
            return Shared(await stack.enter_async_context(made), above, runner.run)

        async def end() -> None:
            await stack.aclose()

        found = runner.run(begin())
        try:
            yield found
        finally:
            runner.run(end())


class Client:
    """One connection, asked again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, found: Gateway) -> Client:
        return cls(*await found.connect())

    async def ask(self, request: bytes) -> Answer:
        """One request, one answer."""
        self.write(request)
        return await self.answer()

    def write(self, data: bytes) -> None:
        """A request, or a part of one."""
        self._writer.write(data)

    async def pause(self) -> None:
        """So that what is written next is another read."""
        await asyncio.sleep(0.02)

    async def answer(self) -> Answer:
        """The next."""
        return await read_answer(self._reader)

    async def answers(self, count: int) -> bytes:
        """So many at once, as bytes."""
        data = b""
        while data.count(b"HTTP/1.1 ") < count or not data.endswith(b"}"):
            data += await asyncio.wait_for(self._reader.read(65536), 10)
        return data

    async def ended(self) -> bool:
        """Whether the server closes, and says no more."""
        return not await asyncio.wait_for(self._reader.read(), 10)

    def go(self) -> None:
        """Hangs up."""
        self._writer.transport.abort()


Scenario = Callable[[Shared, Client], Coroutine[Any, Any, None]]


def player(server: Shared, before: Scenario | None = None) -> Callable[[Scenario], None]:
    """Runs scenarios, each on a connection of its own; `before`: what happens on it first."""

    async def played(scenario: Scenario) -> None:
        server.again()
        client = await Client.of(server.gateway)
        try:
            if before is not None:
                await before(server, client)
            await scenario(server, client)
            await at_rest(server.gateway)
        finally:
            client.go()

    return lambda scenario: server.run(played(scenario))


def answered(text: str = "Hello", **more: Any) -> bytes:
    """An upstream's whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    said = {"id": "c1", "model": "m", "choices": [choice], "usage": usage, **more}
    return json.dumps({name: value for name, value in said.items() if value is not None}).encode()


def chat(*headers: str, target: str = CHAT, key: str | None = None, **body: Any) -> bytes:
    """A request."""
    fields = {"messages": MESSAGES, "max_tokens": 9, **body}
    data = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    return post(target, data, *headers) if key is None else post(target, data, *headers, key=key or None)


def content(answer: Answer) -> str:
    """Its text."""
    text: str = json.loads(answer.body)["choices"][0]["message"]["content"]
    return text


async def at_rest(found: Gateway) -> None:
    """Until no call runs, and its lines are written."""
    for _ in range(2000):
        if found.application.gateway.running == 0:
            break
        await asyncio.sleep(0.005)
    assert found.application.gateway.running == 0
    await asyncio.sleep(0)
