"""Every field of an answer that can hold text passes the completion filter, whatever the upstream puts there, and what
is harmless there arrives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from word_filter import double_modules

from .harness import Answer, post, whole
from .shared import Client, Scenario, Shared, player, shared
from .test_content_filters import PHRASE, TOOL, answered, chunk, config_of, messages, streamed, undone

BASES = ("/v1", "/models")
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.fixture(scope="module", params=["list", "both"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    doubles = double_modules(waits=True)
    with pytest.MonkeyPatch.context() as patches:
        if request.param == "both":  # else the rules are the real ones
            patches.setattr("modelport.app.filters.filter_module", doubles.__getitem__)
        with shared(tmp_path_factory.mktemp("channels"), config_of(request.param)) as found:
            yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


# --- what upstreams say ----------------------------------------------------------------------------------------------


def entry(token: str, *alternatives: str, **more: Any) -> dict[str, Any]:
    """One token's log-probability."""
    beside = [{"token": one, "logprob": -2.0, "bytes": [*one.encode()]} for one in alternatives]
    return {"token": token, "logprob": -1.0, "bytes": [*token.encode()], "top_logprobs": beside, **more}


def logprobs(*tokens: str) -> dict[str, Any]:
    return {"content": [entry(token) for token in tokens]}


def answer(said: dict[str, Any], choice: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A whole answer with further fields of its message, its choice and itself."""
    body = answered(said)
    body["choices"][0] |= choice or {}
    return {**body, **more}


def piece(delta: dict[str, Any], finish: str | None = None, choice: dict[str, Any] | None = None, **more: Any) -> Any:
    """A chunk, likewise."""
    body = chunk(delta, finish)
    body["choices"][0] |= choice or {}
    return {**body, **more}


END = piece({}, "stop")
OK = {"content": "Well."}
WHOLE = {
    "annotations": answer({**OK, "annotations": [{"url_citation": {"title": PHRASE}}]}),
    "transcript": answer({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": PHRASE}}),
    "details": answer({**OK, "reasoning_details": [{"type": "reasoning.text", "text": PHRASE}]}),
    "choice": answer(OK, {"stop_reason": PHRASE}),
    "citations": answer(OK, citations=["https://example.test", PHRASE]),
    "name": answer(OK, parsed={PHRASE: 1}),
    "nested": answer({**OK, "x": json.loads("[" * 150 + json.dumps(PHRASE) + "]" * 150)}),
    "label": answer(OK, system_fingerprint=PHRASE),
    "service tier": answer(OK, service_tier=PHRASE),
    "many": {**answer(OK), **{f"x{number}": "a" for number in range(100)}, "last": PHRASE},
    "tokens": answer(OK, {"logprobs": logprobs("sec", "ret", " plan")}),
    "bytes": answer(OK, {"logprobs": {"content": [entry("Well.", bytes=[*PHRASE.encode()])]}}),
    "part of a character": answer(OK, {"logprobs": {"content": [entry(PHRASE + "\ufffd")]}}),
    "beside a token": answer(OK, {"logprobs": {"content": [entry("Well.", text=PHRASE)]}}),
    "beside tokens": answer(OK, {"logprobs": {**logprobs("Well."), "text": PHRASE}}),
    "for a number": answer(OK, {"logprobs": {"content": [entry("Well.", logprob=PHRASE)]}}),
    "for bytes": answer(OK, {"logprobs": {"content": [entry("Well.", bytes=PHRASE)]}}),
    "mark": answer(OK, {"logprobs": logprobs("Well.", f"<{PHRASE}>")}),
    "refused tokens": answer(OK, {"logprobs": {"content": None, "refusal": [entry(PHRASE)]}}),
    "alternative": answer(OK, {"logprobs": {"content": [entry("Well.", "Yes", PHRASE)]}}),
    "refusal": answer({"content": "sec", "refusal": "ret plan"}),
    "parts": answer({"content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ret plan"}]}),
    "function": answer({"content": None, "tool_calls": [{**CALL, "function": {"name": PHRASE, "arguments": "{}"}}]}),
    "id": answer({"content": None, "tool_calls": [{**CALL, "id": PHRASE}]}),
    "beside a call": answer({"content": None, "tool_calls": [{**CALL, "extra_content": {"google": PHRASE}}]}),
    "object": answer(
        {"content": None, "tool_calls": [{**CALL, "function": {"name": "a", "arguments": {"b": PHRASE}}}]}
    ),
    "older call": answer(
        {"content": None, "function_call": {"name": "look", "arguments": '{"a": "secret\\u0020plan"}'}}
    ),
    "text": {"id": "u", "choices": [{"index": 0, "text": PHRASE, "finish_reason": "stop"}]},
}
STREAMED = {
    "annotations": [piece(OK), piece({"annotations": [{"title": PHRASE}]}), END],
    "details": [
        piece(OK),
        *(piece({"reasoning_details": [{"type": "text", "text": t}]}) for t in ("secret", " plan")),
        END,
    ],
    "both": [*(piece({"reasoning": t, "reasoning_details": [{"text": t}]}) for t in ("sec", "ret plan", ".")), END],
    "transcript": [*(piece({"audio": {"id": "a", "transcript": t}}) for t in ("secret", " plan")), END],
    "early tokens": [piece({"content": ""}, choice={"logprobs": logprobs("secret", " plan")}), piece(OK), END],
    "held tokens": [*(piece({"content": t}, choice={"logprobs": logprobs(t)}) for t in ("secret", " plan")), END],
    "ahead": [piece({"content": "a"}, choice={"logprobs": logprobs("secret", " plan")}), piece(OK), END],
    "between": [piece({"content": "sec"}), piece({"refusal": "x"}), piece({"content": "ret plan"}), END],
    "at the end": [piece(OK), piece({}, "stop", {"stop_reason": PHRASE})],
    "after the end": [piece(OK), END, piece({"content": " secret plan"})],
    "message": [{"id": "u", "choices": [{"index": 0, "message": {"content": PHRASE}, "finish_reason": "stop"}]}],
    "citations": [piece(OK), piece(OK, citations=[PHRASE]), END],
    "call": [piece({"tool_calls": [{**CALL, "index": 0, "extra_content": {"g": PHRASE}}]}), END],
    "error": [piece({"content": "Well, sec"}), {"error": {"message": f"no call: {PHRASE}", "code": 400}}],
}


# --- what a caller reads ---------------------------------------------------------------------------------------------


def read(found: Answer) -> list[str]:
    """Every text of the answer; those at one place of several chunks, joined."""
    if not found.body.startswith(b"data: "):
        bodies = [json.loads(found.body)]
    else:
        bodies = [json.loads(line[6:]) for line in found.body.decode().split("\n\n") if line.startswith("data: {")]
    joined: dict[str, str] = {}
    for body in bodies:
        gather(body, "", joined)
    return [undone(text) for text in joined.values()]


def gather(value: Any, place: str, joined: dict[str, str]) -> None:
    if isinstance(value, str):
        joined[place] = joined.get(place, "") + value
    elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        gather(bytes(value).decode("utf-8", "replace"), place, joined)
    elif isinstance(value, dict):
        for name, item in value.items():
            gather(name, f"{place}/{name}#", joined)
            gather(item, f"{place}/{name}", joined)
    elif isinstance(value, list):
        for item in value:
            gather(item, place, joined)


def asked(base: str, **more: Any) -> bytes:
    data = json.dumps({"model": "served", **messages("hello"), "tools": [TOOL], **more}).encode()
    return post(f"{base}/chat/completions", data)


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.check(109, 110)
@pytest.mark.parametrize("place", WHOLE)
def test_nothing_of_a_whole_answer_gets_by(play: Callable[[Scenario], None], place: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(json.dumps(WHOLE[place]).encode())
        for base in BASES:
            found = await client.ask(asked(base))
            assert found.status == 200, found.body
            assert not any(PHRASE in text for text in read(found)), found.body
        assert [record.ending for record in server.gateway.seen.records] == ["completed", "completed"]

    play(scenario)


@pytest.mark.check(109, 110)
@pytest.mark.parametrize("place", STREAMED)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_nothing_of_a_stream_gets_by(play: Callable[[Scenario], None], place: str, stream: bool) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = streamed(STREAMED[place])
        for base in BASES:
            client = await Client.of(server.gateway)  # a broken answer ends its connection
            found = await client.ask(asked(base, stream=stream))
            assert not any(PHRASE in text for text in read(found)), found.body
            client.go()
        assert len(server.gateway.seen.records) == len(BASES)

    play(scenario)


HONEST = answer(
    {**OK, "annotations": [{"type": "url_citation", "title": "A page."}], "audio": {"id": "a", "transcript": "Well."}},
    {"logprobs": {"content": [entry("We", "Yes"), entry("ll."), entry("<|end|>")]}, "stop_reason": "eos"},
    system_fingerprint="fp_1",
    citations=["https://example.test/a", "https://example.test/b"],
)


def test_what_is_harmless_arrives(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = whole(json.dumps(HONEST).encode())
        found = json.loads((await client.ask(asked("/v1"))).body)
        (choice,), (sent,) = found["choices"], HONEST["choices"]
        assert {name: found[name] for name in ("system_fingerprint", "citations")} == {
            name: HONEST[name] for name in ("system_fingerprint", "citations")
        }
        assert (choice["logprobs"], choice["stop_reason"]) == (sent["logprobs"], "eos")
        assert choice["message"]["annotations"] == sent["message"]["annotations"]
        assert choice["message"]["audio"] == sent["message"]["audio"]

    play(scenario)


def test_what_is_harmless_arrives_in_a_stream(play: Callable[[Scenario], None]) -> None:
    smile = "\N{GRINNING FACE}"
    halves = [smile.encode()[:2], smile.encode()[2:]]
    parts = [entry("".join(f"\\x{byte:02x}" for byte in half), bytes=[*half]) for half in halves]
    thoughts = [{"type": "reasoning.text", "text": text} for text in ("Let ", "me ", "see.")]
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    chunks = [
        *(piece({"reasoning": one["text"], "reasoning_details": [one]}) for one in thoughts),
        piece({"content": "Well"}, choice={"logprobs": logprobs("Well")}, system_fingerprint="fp_1"),
        piece({"content": ""}, choice={"logprobs": {"content": parts[:1]}}, system_fingerprint="fp_1"),
        piece({"content": smile}, choice={"logprobs": {"content": parts[1:]}}, system_fingerprint="fp_1"),
        piece({"tool_calls": [{**call, "extra_content": {"google": {"thought_signature": "AbC="}}}]}),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        piece({}, "tool_calls", {"stop_reason": "eos"}),
    ]

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = streamed(chunks)
        lines = (await client.ask(asked("/v1", stream=True))).body.decode().split("\n\n")
        found = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        deltas = [choice for body in found for choice in body["choices"]]
        tokens = [one for choice in deltas for one in (choice.get("logprobs") or {}).get("content", [])]
        assert tokens == [entry("Well"), *parts]
        assert [one for c in deltas for one in c["delta"].get("reasoning_details", [])] == thoughts
        called = [one for choice in deltas for one in choice["delta"].get("tool_calls", [])]
        assert (called[0]["id"], called[0]["function"]["name"]) == ("c1", "look")
        assert [one["extra_content"] for one in called if "extra_content" in one] == [
            {"google": {"thought_signature": "AbC="}}
        ]
        assert [choice["stop_reason"] for choice in deltas if "stop_reason" in choice] == ["eos"]
        assert [body["system_fingerprint"] for body in found if "system_fingerprint" in body] == ["fp_1"] * 3
        assert deltas[-1]["finish_reason"] == "tool_calls"

    play(scenario)


def test_alternatives_that_are_blocked_are_left_out(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        entries = [entry("Well", "Yes"), entry(".", PHRASE, "!")]
        server.upstream.pieces = whole(json.dumps(answer(OK, {"logprobs": {"content": entries}})).encode())
        (choice,) = json.loads((await client.ask(asked("/v1"))).body)["choices"]
        assert choice["logprobs"] == {"content": [entries[0], {**entries[1], "top_logprobs": []}]}
        assert choice["finish_reason"] == "stop"

    play(scenario)


# --- requests --------------------------------------------------------------------------------------------------------

RICH: dict[str, Any] = {
    "model": "served",
    "messages": [
        {"role": "system", "content": "s", "name": "n"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hello"},
                {"type": "image_url", "image_url": {"url": "https://example.test/a.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {"role": "assistant", "content": "c", "refusal": "r", "reasoning_content": "t", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "t"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"enum": ["x"]}}}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "f", "description": "d", "schema": {"title": "t"}},
    },
    "stop": ["x"],
    "user": "u",
    "metadata": {"a": "b"},
    "prediction": {"type": "content", "content": [{"type": "text", "text": "p"}]},
    "web_search_options": {"user_location": {"approximate": {"city": "c"}}},
    "reasoning_effort": "low",
    "stream_options": {"include_usage": True},
    "stream": True,
}
UNREAD = {
    *("messages.1.content.1.image_url.url", "messages.1.content.1.image_url.detail"),
    *("messages.1.content.2.input_audio.data", "messages.1.content.2.input_audio.format"),
    *("stop.0", "user", "metadata", "metadata.a", "stream_options"),
}
"""What goes on and is no text that a model reads."""


def spoken(value: Any, text: str, place: str = "") -> Iterator[tuple[str, Any]]:
    """The same value with the text in each place that can hold one, and as a further field of each object."""
    if isinstance(value, str):
        yield place, text
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        for where, changed in spoken(item, text, f"{place}.{name}".lstrip(".")):
            yield (
                where,
                {**value, name: changed} if isinstance(value, dict) else [*value[:name], changed, *value[name + 1 :]],
            )
    if isinstance(value, dict):
        yield place, {**value, "further": {"deep": [text]}}


@pytest.mark.check(108, 111)
@pytest.mark.parametrize("base", BASES)
def test_every_text_of_a_request_that_a_model_may_read_is_judged(play: Callable[[Scenario], None], base: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        judged = 0
        for place, body in spoken(RICH, PHRASE):
            server.upstream.seen.clear()
            request = post(f"{base}/chat/completions", json.dumps(body).encode(), "extra-parameters: pass-through")
            found = await client.ask(request)
            if place not in UNREAD:
                assert PHRASE.encode() not in b"".join(server.upstream.seen), place
                judged += b"content_filter" in found.body
        assert judged > 30

    play(scenario)
