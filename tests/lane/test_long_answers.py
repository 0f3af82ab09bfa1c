"""An upstream's answer that is longer than any answer: it is broken off, its end is counted once, and nothing is kept
of it, without the collector's help."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator

import pytest

from modelport.dialects.openai_chat.upstream_answers import CompletionDecoder
from modelport.gateway.machine import CallMachine

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
FORMS = {"one text": " ", "two choices": ', "n": 2'}
"""The first is decoded in one step where it is as usual, the second always in events."""
BODIES = {
    "document": [HEAD + TEXT, *[b"x" * 60_000] * 4],
    "events": [HEAD + EVENT, *[EVENT * 100] * 5],
    "white space": [HEAD + b" " * 60_000, *[b" " * 60_000] * 4],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("long"), CONFIG) as found:
        yield found


def limit(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    for place in places:
        monkeypatch.setattr(f"modelport.{place}.ANSWER_BYTES_LIMIT", LIMIT)


TRANSPORTS = ("upstream.wire", "upstream.transports.aiohttp")
DECODER = "dialects.openai_chat.upstream_answers"


def request(filler: str) -> bytes:
    said = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9})
    return post(CHAT, said[:-1].encode() + filler.encode() + b"}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pieces", BODIES.values(), ids=BODIES)
def test_it_is_broken_off_in_every_form(
    server: Shared, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], form: str
) -> None:
    filler = FORMS[form]
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

    server.run(play())


@pytest.mark.parametrize("form", FORMS)
def test_a_client_that_leaves_while_it_is_read_is_one_end(
    server: Shared, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """What was collected is too long for the one that reads it on: the call ends there, and the client's leaving is no
    second end."""
    filler = FORMS[form]
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
def test_nothing_of_it_is_kept(server: Shared, monkeypatch: pytest.MonkeyPatch, form: str, leaves: bool) -> None:
    filler = FORMS[form]
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
            kept = [item for item in gc.get_objects() if isinstance(item, CallMachine | CompletionDecoder)]
            assert kept == []
        finally:
            gc.enable()

    server.run(play())
