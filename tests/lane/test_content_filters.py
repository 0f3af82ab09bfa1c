"""No way around a content filter: every inference route, whole and streamed, under each kind of policy, with what is
looked for in each text of a request and of an answer. The routes are the server's own table: a new one without an
expectation here fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelport.core.operations import Operation
from modelport.surfaces.app import all_routes
from modelport.surfaces.door import Inference, Route
from modelport.surfaces.options import Options
from word_filter import double_modules

from .harness import Answer, chunked, post, whole
from .shared import Client, Scenario, Shared, player, shared

PHRASE = "secret plan"
CONFIG = """
server: {{default_content_filter: tested}}
providers:
  up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}
blocklists:
  house: [{{exact: "secret plan"}}]
content_filters:
  tested: POLICY
deployments:
  served:
    model: {{format: Custom, name: served}}
    provider: up
    default: true
    limits: {{tokens_per_minute: null, requests_per_minute: null}}
"""
HARMLESS = "{hate: off, sexual: off, violence: off, self_harm: off"
POLICIES = {
    "list": f"{{prompt: {HARMLESS}, jailbreak: off, blocklists: [house]}}, completion: {HARMLESS}, "
    "blocklists: [house]}, filters: [rules]}",
    "harm": "{filters: [classifier]}",
    "both": "{prompt: {blocklists: [house]}, completion: {blocklists: [house]}, filters: [rules, classifier]}",
    "asynchronous": "{completion: {blocklists: [house]}, mode: asynchronous, filters: [rules, classifier]}",
}
LOOKED_FOR = {"list": PHRASE, "harm": "carnage", "both": PHRASE, "asynchronous": "carnage"}
"""What each policy blocks, in prompts and completions."""
STREAMED = frozenset({Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS})
KNOWN = {
    ("azure_inference", Operation.CHAT_COMPLETIONS),
    ("azure_inference", Operation.COMPLETIONS),
    ("azure_inference", Operation.EMBEDDINGS),
    ("azure_inference", Operation.IMAGE_EMBEDDINGS),
    ("azure_openai", Operation.CHAT_COMPLETIONS),
    ("azure_openai", Operation.COMPLETIONS),
    ("azure_openai", Operation.EMBEDDINGS),
    ("openai_v1", Operation.CHAT_COMPLETIONS),
    ("openai_v1", Operation.COMPLETIONS),
    ("openai_v1", Operation.EMBEDDINGS),
}
ROUTES: dict[str, Route] = {
    f"{route.method} {route.path}": route for route in all_routes(Options()) if isinstance(route.endpoint, Inference)
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
LOOK = {"name": "look", "arguments": "{}"}


def config_of(policy: str) -> str:
    """A configuration whose deployment has this policy."""
    return CONFIG.replace("POLICY", POLICIES[policy].replace("{", "{{").replace("}", "}}"))


@pytest.fixture(scope="module", params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    doubles = double_modules(waits=policy in ("both", "asynchronous"))
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr("modelport.app.filters.filter_module", doubles.__getitem__)
        with shared(tmp_path_factory.mktemp("filters"), config_of(policy)) as found:
            yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def test_every_route_has_an_expectation() -> None:
    found = {(route.door.surface, route.endpoint.operation) for route in ROUTES.values()}  # type: ignore[union-attr]
    assert found == KNOWN
    assert len(ROUTES) > 40


# --- requests --------------------------------------------------------------------------------------------------------


def target(route: Route) -> str:
    """Its path for the one deployment."""
    path = route.path.replace("{deployment}", "served").replace("{project}", "house")
    return f"{path}?api-version=2025-04-01"


def messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def body(route: Route, text: str, **more: Any) -> dict[str, Any]:
    """A request that says this."""
    if route.path.endswith("/score"):
        return {"input_data": {"input_string": messages(text)["messages"], "parameters": more}}
    said: dict[str, Any]
    match route.endpoint.operation:  # type: ignore[union-attr]
        case Operation.CHAT_COMPLETIONS:
            said = messages(text)
        case Operation.COMPLETIONS:
            said = {"prompt": text}
        case Operation.EMBEDDINGS:
            said = {"input": ["harmless", text]}
        case _:
            said = {"input": [{"image": "data:image/png;base64,AAAA", "text": text}]}
    return {"model": "served", **said, **more}


def prompts(route: Route, text: str) -> dict[str, dict[str, Any]]:
    """Requests that hold the text, each in another place."""
    found = {"text": body(route, text)}
    if route.endpoint.operation is Operation.COMPLETIONS:  # type: ignore[union-attr]
        return {**found, "suffix": body(route, "hello", suffix=text), "second": body(route, "x", prompt=["x", text])}
    if route.endpoint.operation is not Operation.CHAT_COMPLETIONS or route.path.endswith("/score"):  # type: ignore[union-attr]
        return found
    half = len(text) // 2
    parts = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": text})}}
    user = {"role": "user", "content": "hello"}
    described = {"type": "object", "properties": {"at": {"type": "string", "description": text}}}
    tool = {"type": "function", "function": {"name": "look", "description": text}}
    schema = {"type": "function", "function": {"name": "look", "parameters": described}}
    form = {"type": "json_schema", "json_schema": {"name": "f", "schema": described}}
    escaped = {**call["function"], "arguments": arguments(text)}
    picture = {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}, "caption": text}
    conversation = {
        "part": [{"role": "user", "content": [{"type": "text", "text": "hello", "context": text}]}],
        "picture": [{"role": "user", "content": [picture]}],
        "refusal": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No.", "why": text}]}, user],
        "id": [user, {"role": "assistant", "content": None, "tool_calls": [{**call, "id": text, "function": LOOK}]},
               {"role": "tool", "tool_call_id": text, "content": "found"}],
        "escaped": [user, {"role": "assistant", "content": None, "tool_calls": [{**call, "function": escaped}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "found"}],
        "beside": [user, {"role": "assistant", "content": None,
                          "tool_calls": [{**call, "function": LOOK, "thought": {"of": [text]}}]},
                   {"role": "tool", "tool_call_id": "c1", "content": "found"}],
        "system": [{"role": "system", "content": text}, user],
        "earlier": [user, {"role": "assistant", "content": text}, user],
        "parts": [{"role": "user", "content": parts}],
        "called": [user, {"role": "assistant", "content": None, "tool_calls": [call]},
                   {"role": "tool", "tool_call_id": "c1", "content": "found"}],
        "result": [user, {"role": "assistant", "content": None,
                          "tool_calls": [{**call, "function": LOOK}]},
                   {"role": "tool", "tool_call_id": "c1", "content": text}],
    }  # fmt: skip
    return {
        **found,
        **{name: {"model": "served", "messages": said} for name, said in conversation.items()},
        "tool": body(route, "hello", tools=[tool]),
        "schema": body(route, "hello", tools=[schema]),
        "form": body(route, "hello", response_format=form),
        "example": body(route, "hello", tools=[{**TOOL, "example": text}]),
        "form_note": body(route, "hello", response_format={"type": "json_object", "note": text}),
        "effort": body(route, "hello", reasoning_effort=text),
        "extra": body(route, "hello", prediction={"type": "content", "content": text}),
    }


# --- answers ---------------------------------------------------------------------------------------------------------


def pieces(text: str) -> list[str]:
    """Cut everywhere, in a sentence."""
    return ["Well, ", *text, " it is. ", "And more."]


def answers(operation: Operation, text: str, *, stream: bool) -> dict[str, list[bytes]]:
    """Upstreams that say the text, each in another channel."""
    if operation is Operation.COMPLETIONS:
        said = {"id": "u", "object": "text_completion", "model": "m"}
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        if not stream:
            choice = {"index": 0, "text": "".join(pieces(text)), "finish_reason": "stop"}
            return {"text": whole(json.dumps({**said, "choices": [choice], "usage": usage}).encode())}
        chunks = [{**said, "choices": [{"index": 0, "text": piece}]} for piece in pieces(text)]
        last = {**said, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
        return {"text": streamed([*chunks, last])}
    fields = {"content": "content", "reasoning": "reasoning_content", "refusal": "refusal"}
    if not stream:
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments(text)}}
        found = {name: {field: "".join(pieces(text))} for name, field in fields.items()}
        found["reasoning"]["content"] = "Answer."
        found["arguments"] = {"content": None, "tool_calls": [call]}
        return {name: whole(json.dumps(answered(message)).encode()) for name, message in found.items()}
    deltas: dict[str, list[dict[str, Any]]] = {
        name: [{field: piece} for piece in pieces(text)] for name, field in fields.items()
    }
    start = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": character}} for character in arguments(text)]
    deltas["arguments"] = [{"tool_calls": [call]} for call in (start, *rest)]
    return {name: streamed([*map(chunk, found), chunk({}, "stop")]) for name, found in deltas.items()}


def arguments(text: str) -> str:
    """JSON that hides one letter of the text behind an escape, which a caller's program undoes."""
    return json.dumps({"at": "".join(pieces(text))}).replace(text[3], f"\\u{ord(text[3]):04x}")


def answered(message: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    return {"id": "u", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "u", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def streamed(chunks: list[dict[str, Any]]) -> list[bytes]:
    data = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks) + b"data: [DONE]\n\n"
    return chunked(data)


def texts(answer: Answer) -> list[str]:
    """What a caller reads: each channel, joined, with escapes undone."""
    if not answer.body.startswith(b"data: "):
        return [*strings(json.loads(answer.body))]
    channels: dict[str, str] = {}
    for line in answer.body.decode().split("\n\n"):
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            delta = choice.get("delta", {"text": choice.get("text")})
            called = delta.pop("tool_calls", None) or []
            said = {**delta, **{f"call{c['index']}": c["function"].get("arguments") for c in called}}
            for name, text in said.items():
                channels[name] = channels.get(name, "") + (text or "")
    return [undone(text) for text in channels.values()]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield undone(value)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def undone(text: str) -> str:
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)


def reasons(answer: Answer) -> list[str]:
    """Why the answer's choices ended."""
    return re.findall(r'"finish_reason":"(\w+)"', answer.body.decode())


ANSWERED = [
    (name, stream)
    for name, route in ROUTES.items()
    if route.endpoint.operation in STREAMED  # type: ignore[union-attr]
    for stream in ([False] if route.path.endswith("/score") else [False, True])
]


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.check(108, 111)
@pytest.mark.parametrize("name", ROUTES)
def test_no_prompt_gets_by(play: Callable[[Scenario], None], policy: str, name: str) -> None:
    route = ROUTES[name]

    async def scenario(server: Shared, client: Client) -> None:
        for place, request in prompts(route, LOOKED_FOR[policy]).items():
            server.upstream.seen.clear()
            data = json.dumps(request).encode()
            answer = await client.ask(post(target(route), data, "extra-parameters: pass-through"))
            assert answer.status == 400, (place, answer.body)
            error = json.loads(answer.body)["error"]
            assert (error["code"], error["status"], error["param"]) == ("content_filter", 400, "prompt"), place
            has_inner = route.door.surface != "azure_inference"
            assert ("innererror" in error) is has_inner
            assert server.upstream.seen == [], place

    play(scenario)


@pytest.mark.check(109, 110)
@pytest.mark.parametrize(("name", "stream"), ANSWERED)
def test_no_completion_gets_by(play: Callable[[Scenario], None], policy: str, name: str, stream: bool) -> None:
    route = ROUTES[name]
    operation = route.endpoint.operation  # type: ignore[union-attr]

    async def scenario(server: Shared, client: Client) -> None:
        for channel, above in answers(operation, LOOKED_FOR[policy], stream=stream).items():
            server.upstream.pieces = above
            more = {"stream": True} if stream else {}
            if channel == "arguments" and not route.path.endswith("/score"):
                more["tools"] = [TOOL]
            answer = await client.ask(post(target(route), json.dumps(body(route, "hello", **more)).encode()))
            assert answer.status == 200, (channel, answer.body)
            if policy != "asynchronous" or not stream:  # else some of it may have passed already
                assert not any(LOOKED_FOR[policy] in text for text in texts(answer)), (channel, answer.body)
            if not route.path.endswith("/score"):
                assert reasons(answer) == ["content_filter"], (channel, answer.body)
            assert not stream or answer.body.endswith(b"data: [DONE]\n\n")

    play(scenario)


@pytest.mark.check(109)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_was_cut_is_metered_and_recorded_without_its_text(
    play: Callable[[Scenario], None], policy: str, stream: bool
) -> None:
    looked_for = LOOKED_FOR[policy]

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = answers(Operation.CHAT_COMPLETIONS, looked_for, stream=stream)["content"]
        request = {"model": "served", **messages("hello"), "stream": stream}
        await client.ask(post("/v1/chat/completions", json.dumps(request).encode()))
        (record,) = server.gateway.seen.records
        assert (record.status, record.ending, record.error_code) == (200, "completed", None)
        assert record.usage.completion > 0
        category = "custom_blocklists" if looked_for == PHRASE else "violence=high"
        assert record.content_filter == f"completion.{category}!"
        assert looked_for not in str(record)

    play(scenario)


@pytest.mark.check(113)
@pytest.mark.parametrize("policy", [one for one in POLICIES if one != "list"], indirect=True)  # its filter never fails
@pytest.mark.parametrize("base", ["/models", "/openai/v1"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_outage_is_said_on_every_surface(
    play: Callable[[Scenario], None], policy: str, base: str, stream: bool
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = answers(Operation.CHAT_COMPLETIONS, "nothing", stream=stream)["content"]
        request = {"model": "served", **messages("an outage"), "stream": stream}
        answer = await client.ask(post(f"{base}/chat/completions", json.dumps(request).encode()))
        assert answer.status == 200
        said = b'"error":{"code":"content_filter_error","message":"The contents are not filtered"}'
        assert answer.body.count(said) == 1
        (record,) = server.gateway.seen.records
        assert record.content_filter == "prompt.error"

    play(scenario)
