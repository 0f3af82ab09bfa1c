"""An upstream's answer that is longer than any answer: every driver breaks it off alike, counts its end once, and keeps
nothing of it, without the collector's help."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from modelport.dialects.openai_chat.upstream_answers import CompletionDecoder
from modelport.gateway.machine import CallMachine
from modelport.lane.plain import PlainCall

from .harness import post
from .shared import CHAT, Client, Shared, at_rest, shared

CONFIG = """
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments: {{chat: {{model: {{format: Custom, name: served}}, provider: up, default: true}}}}
"""
LIMIT = 100_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"
TEXT = b'{"choices":[{"message":{"content":"' + b"x" * 60_000
EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"word " * 100)
FORMS = {"plain": (True, " "), "general": (True, ', "n": 1'), "coroutine": (False, " ")}
BODIES = {
    "document": [HEAD + TEXT, *[b"x" * 60_000] * 4],
    "events": [HEAD + EVENT, *[EVENT * 100] * 5],
    "white space": [HEAD + b" " * 60_000, *[b" " * 60_000] * 4],
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Shared]]:
    with ExitStack() as stack:
        yield {
            lane: stack.enter_context(shared(tmp_path_factory.mktemp("long"), CONFIG, lane=lane))
            for lane in (False, True)
        }


def limit(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    for place in places:
        monkeypatch.setattr(f"modelport.{place}.ANSWER_BYTES_LIMIT", LIMIT)


TRANSPORTS = ("lane.plain", "upstream.wire", "upstream.transports.aiohttp")
DECODER = "dialects.openai_chat.upstream_answers"


def request(filler: str) -> bytes:
    said = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9})
    return post(CHAT, said[:-1].encode() + filler.encode() + b"}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pieces", BODIES.values(), ids=BODIES)
def test_it_is_broken_off_in_every_form(
    servers: dict[bool, Shared], monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], form: str
) -> None:
    has_lane, filler = FORMS[form]
    server = servers[has_lane]
    limit(monkeypatch, *TRANSPORTS)

    async def play() -> None:
        server.again()
        server.upstream.pieces, server.upstream.ends = pieces, "waits"
        client = await Client.of(server.gateway)
        answer = await client.ask(request(filler))
        client.go()
        assert answer.status == 503
        assert b"longer than any answer" in answer.body
        await at_rest(server.gateway)
        assert [record["ending"] for record in server.gateway.records()] == ["failed"]
        assert (True in server.gateway.plain) == (form == "plain")

    server.run(play())


@pytest.mark.parametrize("form", FORMS)
def test_a_client_that_leaves_while_it_is_read_is_one_end(
    servers: dict[bool, Shared], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """What was collected is too long for the one that reads it on: the call ends there, and the client's leaving is no
    second end."""
    has_lane, filler = FORMS[form]
    server = servers[has_lane]
    limit(monkeypatch, DECODER)

    async def play() -> None:
        server.again()
        server.upstream.pieces, server.upstream.ends = BODIES["document"][:2], "waits"
        client = await Client.of(server.gateway)
        client.write(request(filler))
        while not server.upstream.seen:
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.1)
        client.go()
        await at_rest(server.gateway)
        await asyncio.sleep(0.05)
        assert server.gateway.application.gateway.running == 0
        assert len(server.gateway.records()) == 1

    server.run(play())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaves", [False, True], ids=["broken off", "left"])
def test_nothing_of_it_is_kept(
    servers: dict[bool, Shared], monkeypatch: pytest.MonkeyPatch, form: str, leaves: bool
) -> None:
    has_lane, filler = FORMS[form]
    server = servers[has_lane]
    limit(monkeypatch, *TRANSPORTS)

    async def play() -> None:
        server.again()
        server.upstream.pieces = BODIES["document"][:1] if leaves else BODIES["document"]
        server.upstream.ends = "waits"
        gc.collect()
        gc.disable()
        try:
            client = await Client.of(server.gateway)
            client.write(request(filler))
            while not server.upstream.seen:
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.1)
            if not leaves:
                assert (await client.answer()).status == 503
            client.go()
            await at_rest(server.gateway)
            await asyncio.sleep(0.1)
            kept = [item for item in gc.get_objects() if isinstance(item, PlainCall | CallMachine | CompletionDecoder)]
            assert kept == []
        finally:
            gc.enable()

    server.run(play())
