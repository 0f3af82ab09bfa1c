"""A whole answer of one text is taken in one step, however its reply comes: in one read or several, with a length or in
chunks, with a head that was there before or not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .harness import chunked, post, whole
from .shared import CHAT, MESSAGES, Client, Shared, answered, shared

CONFIG = """
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments: {{chat: {{model: {{format: Custom, name: served}}, provider: up, default: true}}}}
"""
BODY = answered()
LENGTH = whole(BODY)[0]
TOOL = json.loads(BODY)
TOOL["choices"][0]["message"] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
TOOL["choices"][0]["finish_reason"] = "tool_calls"
REPLIES = {
    "one read": [LENGTH],
    "two reads": [LENGTH[: len(LENGTH) - 20], LENGTH[-20:]],
    "head and body apart": [LENGTH[: LENGTH.index(b"{")], LENGTH[LENGTH.index(b"{") :]],
    "chunks": chunked(BODY, 7, 40),
    "another head": whole(BODY, "200 OK", "X-Odd: 1"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("at-once"), CONFIG) as found:
        yield found


@pytest.mark.parametrize("reply", REPLIES)
def test_a_text_is_taken_in_one_step(server: Shared, reply: str) -> None:
    async def play() -> None:
        server.again()
        server.upstream.pieces, server.upstream.pause_seconds = REPLIES[reply], 0.02
        client = await Client.of(server.gateway)
        answer = await client.ask(post(CHAT, json.dumps({"messages": MESSAGES}).encode()))
        client.go()
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == said(BODY)
        assert server.gateway.at_once == [True]
        assert [record["ending"] for record in server.gateway.records()] == ["completed"]

    server.run(play())


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_what_is_no_text_is_read_in_events(server: Shared, cut: int) -> None:
    async def play() -> None:
        server.again()
        body = json.dumps(TOOL).encode()
        server.upstream.pieces, server.upstream.pause_seconds = chunked(body, cut), 0.02
        client = await Client.of(server.gateway)
        answer = await client.ask(post(CHAT, json.dumps({"messages": MESSAGES}).encode()))
        client.go()
        assert json.loads(answer.body)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
        assert not server.gateway.at_once

    server.run(play())


def said(body: bytes) -> str:
    text = json.loads(body)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text
