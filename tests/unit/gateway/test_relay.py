"""Relaying without decoding gives the bytes and the counts that decoding gives, however the reads are cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.core.answers import AnswerHead
from modelport.core.content import Message
from modelport.core.errors import ModelportError
from modelport.core.requests import ChatRequest
from modelport.dialects.azure_inference import answers as azure_answers
from modelport.dialects.openai_chat import answers as openai_answers
from modelport.dialects.openai_chat.upstream_answers import decoder
from modelport.gateway.count import Count
from modelport.gateway.relay import TextRelay

HEAD = AnswerHead(id="ours", created=7, model="served")
REQUEST = ChatRequest(messages=(Message(role="user", content="u"),), stream=True)
WRITERS = {
    "azure": lambda: azure_answers.ChatStream(HEAD, reasoning="inline"),
    "azure-usage": lambda: azure_answers.ChatStream(HEAD, include_usage=True, reasoning="field"),
    "openai": lambda: openai_answers.ChatStream(HEAD),
    "legacy": lambda: openai_answers.CompletionsStream(HEAD, include_usage=True),
}


class Lease:
    """Covers so many tokens at a time, as often as it is asked."""

    def __init__(self, step: int) -> None:
        self.step = self.covered_tokens = step
        self.asked: list[int] = []
        self.is_asked = True
        self.is_in_one_piece = False
        self.meter: Any = None

    def first_event(self) -> None: ...

    def answered(self, model: str | None) -> None: ...

    def served_as(self, service_tier: str | None) -> None: ...

    def cover(self, tokens: int) -> bool:
        self.asked.append(tokens)
        self.covered_tokens += self.step
        return len(self.asked) < 5


def through(reads: list[bytes], kind: str, step: int, *, relays: bool) -> tuple[bytes, Any, list[int], int]:
    """(bytes to the client, usage, when the quota was asked, how many bytes were not decoded)"""
    lease = Lease(step)
    count, writer, reader = Count(lease, REQUEST), WRITERS[kind](), decoder(REQUEST, new_id=lambda: "new")  # type: ignore[arg-type]
    relay = TextRelay(lambda: decoder(REQUEST), count) if relays else None
    out, spared = b"", 0
    try:
        for read in reads:
            left = read
            while left and not count.stopped:
                relayed, rest, left = relay.take(left) if relay is not None else (b"", left, b"")
                out += relayed
                spared += len(relayed)
                if not rest:
                    break
                events = reader.feed(rest)
                out += writer.feed(count.feed(events))
                if relay is not None:
                    relay.learn(rest, events, writer)
            if count.stopped and left:
                with suppress(ModelportError):  # nobody waits for what comes after the end
                    count.overtaken(reader.feed(left))
        if not count.stopped:
            held = relay.release() if relay is not None else b""
            out += writer.feed(count.feed(reader.feed(held)))
            out += writer.feed(count.feed(reader.end()))
        out += writer.feed(count.end()) + writer.end()
    except ModelportError as error:
        out += writer.broken(error)
    return out, count.usage(), lease.asked, spared


def event(text: str | None, ascii_only: bool = False, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None, **more}
    said = {"id": "u", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(said, ensure_ascii=ascii_only, separators=(",", ":")).encode() + b"\n\n"


texts = st.one_of(
    st.text(max_size=9), st.sampled_from(["a", "word ", '"', "\\", "\n\n", "ü", "😀", "\x00", "}}]}", '"content":"x"'])
)
usual = st.builds(event, texts)
odd = st.one_of(
    st.builds(event, texts, st.just(True)),
    st.builds(lambda text: event(None, delta={"content": text, "role": "assistant"}), texts),
    st.builds(lambda text: event(None, delta={"content": text, "tool_calls": None}), texts),
    st.builds(lambda text: event(None, delta={"reasoning_content": text}), texts),
    st.builds(lambda text: event(text, finish_reason="length"), texts),
    st.builds(lambda text: event(text, logprobs={"content": [{"token": "t"}]}), texts),
    st.builds(lambda text: event(text, index=1), texts),
    st.sampled_from(
        [
            b": comment\n\n",
            b"event: x\n" + event("a"),
            event("a").replace(b"\n\n", b"\r\n\r\n"),
            event("a").replace(b'"u"', b'"v"'),
            event("a").replace(b'"choices"', b'"usage":{"prompt_tokens":1,"completion_tokens":1},"choices"'),
            event("a").replace(b'"a"', b'"\xff"'),
            event("a").replace(b'"a"', b'"\\ud83d"'),
            event("a").replace(b'"a"', b'"a\n"'),
            event("a").replace(b'"a"', b"5"),
            event(None),
            b'data: {"error":{"message":"no"}}\n\n',
            b'data: {"choices":[]}\n\n',
            b"data: [DONE]\n\n",
            b"data: \n\n\n\n",
        ]
    ),
)
streams = st.lists(st.one_of(usual, usual, usual, odd), max_size=30).map(b"".join)


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    data = draw(streams) + draw(st.sampled_from([b"", b"data: [DONE]\n\n", b"data: {", b"data: [DONE]"]))
    by_event = [index + 2 for index in range(len(data)) if data[index : index + 2] == b"\n\n"]
    places = draw(st.one_of(st.just(by_event), st.lists(st.integers(0, len(data)), max_size=12)))
    bounds = [0, *sorted(set(places)), len(data)]
    return [data[a:b] for a, b in pairwise(bounds) if a != b]


@settings(max_examples=400, deadline=None)
@given(cut(), st.sampled_from(sorted(WRITERS)), st.sampled_from([3, 1000]))
def test_relaying_is_decoding_and_encoding_again(reads: list[bytes], kind: str, step: int) -> None:
    assert through(reads, kind, step, relays=True)[:3] == through(reads, kind, step, relays=False)[:3]


def test_a_report_in_the_read_in_which_the_quota_ends_an_answer_is_believed_either_way() -> None:
    report = event("a").replace(b'"choices"', b'"usage":{"prompt_tokens":1,"completion_tokens":12},"choices"')
    read = b"".join(event(text) for text in ["word "] * 20) + report + b"data: [DONE]\n\n"
    relayed, decoded = (through([read], "azure", 3, relays=relays) for relays in (True, False))
    assert relayed[:3] == decoded[:3]
    assert relayed[1].total == 13


def reads_of(texts: list[str], **more: Any) -> Iterator[bytes]:
    for text in texts:
        yield event(text, **more)


@pytest.mark.parametrize("kind", ["azure", "openai"])
def test_a_plain_stream_is_decoded_only_until_it_is_learned(kind: str) -> None:
    words = ["Grüße ", '"you"', "\n", " and", " so", " on"] * 20
    out, usage, _, spared = through([*reads_of(words), b"data: [DONE]\n\n"], kind, 10**9, relays=True)
    assert spared > 0.9 * len(out)
    assert usage.output == len(words)


def test_events_that_differ_in_more_than_their_text_are_decoded() -> None:
    reads = [event("a").replace(b'"u"', b'"%d"' % number) for number in range(50)]
    assert through(reads, "openai", 10**9, relays=True)[3] == 0


def test_one_odd_event_is_decoded_and_those_around_it_are_not() -> None:
    reads = [
        b"".join(
            [*reads_of(["a"] * 50), event(""), event(None, delta={"content": "b", "role": "x"}), *reads_of(["c"] * 50)]
        )
    ]
    out, _, _, spared = through([*reads, b"data: [DONE]\n\n"], "openai", 10**9, relays=True)
    assert out.count(b'"content":"c"') == 50
    assert spared > 0.9 * len(out)
