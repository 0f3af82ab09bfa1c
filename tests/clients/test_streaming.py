"""Streams, byte by byte, and how each client reads them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.ai.inference.models import StreamingChatCompletionsUpdate, UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError, IncompleteReadError

from .deployments import EMBEDDED, LLAMA, MULTIBYTE, RIEMANN
from .serving import Server
from .wire import Reply, connect, send

LINE = re.compile(rb"data: \{.*\}|data: \[DONE\]|")
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def stream(server: Server, model: str, path: str = "/models", **body: Any) -> Reply:
    whole = {"messages": [{"role": "user", "content": "Hello"}], "model": model, "stream": True, **body}
    return send("POST", f"{server.url}{path}/chat/completions", whole, server.bearer)


@pytest.fixture(params=["mistral-large", LLAMA, "gpt-4o-tools-streamed", "DeepSeek-R1", "multibyte"])
def streamed(server: Server, request: pytest.FixtureRequest) -> Reply:
    extra = {"tools": [WEATHER]} if "tools" in request.param else {}
    if request.param == LLAMA:
        extra = {"max_tokens": 12}
    reply = stream(server, request.param, **extra)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    return reply


@pytest.mark.check(71, 75, 77)
def test_every_line_is_data_or_empty_and_the_end_is_done(streamed: Reply) -> None:
    assert b"\r" not in streamed.body
    lines = streamed.body.split(b"\n")
    assert all(LINE.fullmatch(line) for line in lines)
    # An event is one line and one empty line, so the parts between double newlines are single lines.
    assert all(part.startswith(b"data: ") and b"\n" not in part for part in streamed.body.split(b"\n\n")[:-1])
    assert streamed.body.endswith(b"\n\ndata: [DONE]\n\n")
    assert streamed.body.count(b"[DONE]") == 1


@pytest.mark.check(71, 75, 77)
@pytest.mark.parametrize(
    "path",
    ["/api/models", "/deployments/mistral-large", "/openai/v1", "/v1", "/openai/deployments/mistral-large"],
)
def test_every_door_frames_its_streams_alike(server: Server, path: str) -> None:
    reply = stream(server, "mistral-large", path)
    assert all(LINE.fullmatch(line) for line in reply.body.split(b"\n"))
    assert reply.body.endswith(b"}\n\ndata: [DONE]\n\n")
    assert reply.text() == RIEMANN


@pytest.mark.check(72, 73, 74, 81, 85)
def test_chunks_have_the_documented_shape(streamed: Reply) -> None:
    events = streamed.events()
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[0]["choices"][0]["finish_reason"] is None
    for event in events:
        assert event["object"] == "chat.completion.chunk"
        assert isinstance(event["created"], int)
        assert {event[key] for key in ("id", "model")} == {events[0][key] for key in ("id", "model")}
        (choice,) = event["choices"]
        assert isinstance(choice["delta"].get("content", ""), str) or "tool_calls" in choice["delta"]
        assert choice["delta"].get("tool_calls", []) is not None
    assert b'"tool_calls":null' not in streamed.body.replace(b" ", b"")
    for event in events[1:]:
        assert "role" not in event["choices"][0]["delta"]
        assert "content" in event["choices"][0]["delta"] or "tool_calls" in event["choices"][0]["delta"]
    for event in events[:-1]:
        assert event["choices"][0]["finish_reason"] is None
        assert not event.get("usage")
    usage = events[-1]["usage"]
    assert events[-1]["choices"][0]["finish_reason"] in {"stop", "length", "tool_calls"}
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] > 0


@pytest.mark.check(76)
@pytest.mark.parametrize("model", ["mistral-large", "multibyte", EMBEDDED])
async def test_every_client_reads_the_same_text(server: Server, model: str) -> None:
    body: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
    messages = [UserMessage("How many languages are in the world?")]
    credential = AzureKeyCredential(server.key)
    with ChatCompletionsClient(server.models, credential, model=model) as client:
        whole = client.complete(messages=messages, **body).choices[0].message.content
        updates = client.complete(messages=messages, stream=True, **body)
        synchronous = "".join(update.choices[0].delta.content for update in updates if update.choices)
    async with AsyncChatCompletionsClient(server.models, credential, model=model) as asynchronous_client:
        answer = await asynchronous_client.complete(messages=messages, stream=True, **body)
        asynchronous = "".join([update.choices[0].delta.content async for update in answer if update.choices])
    with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key) as other:
        asked: Any = [{"role": "user", "content": "How many languages are in the world?"}]
        chunks = other.chat.completions.create(model=model, messages=asked, stream=True, **body)
        third = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole
    assert synchronous == whole
    assert asynchronous == whole
    assert third == whole


@pytest.mark.check(77)
def test_a_pause_in_the_stream_is_silent(server: Server) -> None:
    reply = stream(server, "slow")
    assert reply.text() == "One. Two. Three."
    assert all(LINE.fullmatch(line) for line in reply.body.split(b"\n"))
    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client:
        updates = client.complete(messages=[UserMessage("Hello")], model="slow", stream=True)
        assert "".join(update.choices[0].delta.content for update in updates) == "One. Two. Three."


@contextlib.contextmanager
def flushing_every_byte(server: Server) -> Iterator[str]:
    """A relay in front of the server that sends the client each byte of an answer by itself; yields its URL."""
    target = urllib.parse.urlsplit(server.url)

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        upstream = socket.create_connection((target.hostname, target.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, upstream:
            asking = threading.Thread(target=forward, args=(client, upstream))
            asking.start()
            while piece := upstream.recv(4096):
                for index in range(len(piece)):
                    client.sendall(piece[index : index + 1])
            client.shutdown(socket.SHUT_RDWR)
            asking.join()

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(4096):
                sink.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = threading.Thread(target=serve, args=(listener,))
        relay.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        relay.join(timeout=30)


@pytest.mark.check(78)
def test_multibyte_text_is_intact_when_flushed_byte_by_byte(server: Server) -> None:
    assert stream(server, "multibyte").text() == MULTIBYTE
    with flushing_every_byte(server) as url:
        headers = {"Connection": "close"}
        with ChatCompletionsClient(f"{url}/models", AzureKeyCredential(server.key), headers=headers) as client:
            updates = client.complete(messages=[UserMessage("안녕, 你好, 👋🏽")], model="multibyte", stream=True)
            assert "".join(update.choices[0].delta.content for update in updates) == MULTIBYTE


@pytest.mark.check(78)
def test_multibyte_text_goes_to_the_engine_and_back(server: Server) -> None:
    reply = stream(server, "Mistral-large-echo", messages=[{"role": "user", "content": MULTIBYTE}])
    assert json.loads(reply.text())["messages"][0]["content"] == MULTIBYTE


@pytest.mark.check(79, 85)
@pytest.mark.parametrize("path", ["/models", "/openai/v1"])
def test_streamed_tool_calls_come_one_after_the_other(server: Server, path: str) -> None:
    reply = stream(server, "gpt-4o-tools-streamed", path, tools=[WEATHER])
    fragments = [f for e in reply.events() for c in e["choices"] for f in c["delta"].get("tool_calls", [])]
    order = [fragment["index"] for fragment in fragments]
    assert order == sorted(order)
    calls: dict[int, dict[str, str]] = {}
    for fragment in fragments:
        if fragment["index"] not in calls:
            assert fragment["id"]
            assert fragment["type"] == "function"
            assert fragment["function"]["name"]
            calls[fragment["index"]] = {"id": fragment["id"], "name": fragment["function"]["name"], "arguments": ""}
        else:
            assert not fragment.get("id")
            assert not fragment["function"].get("name")
        calls[fragment["index"]]["arguments"] += fragment["function"].get("arguments", "")
    assert [(call["name"], json.loads(call["arguments"])) for call in calls.values()] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "Seoul"}),
    ]
    assert len({call["id"] for call in calls.values()}) == 2
    assert all(len(call["id"]) <= 40 for call in calls.values())
    finishing = [e["choices"][0] for e in reply.events() if e["choices"] and e["choices"][0]["finish_reason"]]
    assert [choice["finish_reason"] for choice in finishing] == ["tool_calls"]


@pytest.mark.check(79)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_tool_of_the_embedded_model_streams(server: Server, choice: Any) -> None:
    tool = {**WEATHER, "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"],
        "additionalProperties": False}}}  # fmt: skip
    reply = stream(server, EMBEDDED, tools=[tool], tool_choice=choice, max_tokens=100)
    fragments = [f for e in reply.events() for c in e["choices"] for f in c["delta"].get("tool_calls", [])]
    assert json.loads("".join(f["function"].get("arguments", "") for f in fragments)) == {"city": "Paris"}
    assert len({f["id"] for f in fragments if f.get("id")}) == 1


@pytest.mark.check(80)
@pytest.mark.parametrize("path", ["/openai/v1", "/openai/deployments/gpt-4o"])
def test_usage_is_an_extra_chunk_for_the_openai_doors(server: Server, path: str) -> None:
    events = stream(server, "gpt-4o", path, stream_options={"include_usage": True}).events()
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] > 0
    assert all(event["usage"] is None for event in events[:-1])
    unasked = stream(server, "gpt-4o", path).events()
    assert all(event["choices"] and not event.get("usage") for event in unasked)


@pytest.mark.check(81)
def test_usage_is_told_once_when_it_is_asked_for_on_models(server: Server) -> None:
    events = stream(server, "gpt-4o", stream_options={"include_usage": True}).events()
    assert len([event for event in events if event.get("usage")]) == 1


@pytest.mark.check(82)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_hangs_up_stops_the_engine(server: Server, streaming: bool) -> None:
    body = {
        "messages": [{"role": "user", "content": "Write a very long story about the sea."}],
        "model": EMBEDDED, "max_tokens": 1500, "stream": streaming, "temperature": 1,
    }  # fmt: skip
    with contextlib.ExitStack() as open_ones:
        for _ in range(4):
            connection = open_ones.enter_context(contextlib.closing(connect(server.url)))
            connection.request("POST", "/models/chat/completions", json.dumps(body),
                               {**server.bearer, "Content-Type": "application/json"})  # fmt: skip
        if streaming:
            response = open_ones.enter_context(connection.getresponse())
            assert response.read(16)
        assert settles(lambda: busy_ticks(server) > BUSY), "the engine never began"
    assert settles(lambda: calls_in_flight(server) == 0)
    assert settles(lambda: busy_ticks(server) < BUSY), "the engine goes on although nobody listens"


BUSY = 20
"""Ticks of processor time within a second, of a hundred, that an idle engine does not come near."""


def settles(holds: Callable[[], bool]) -> bool:
    """Whether this comes true within twenty seconds: four answers of 1,500 tokens take longer than that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


def busy_ticks(server: Server) -> int:
    """The processor time that the server's engine processes use within a second."""

    def used() -> int:
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(") ")[2].split()
                total += int(fields[11]) + int(fields[12]) if int(fields[1]) == server.pid else 0
        return total

    before = used()
    time.sleep(1)
    return used() - before


def calls_in_flight(server: Server) -> float:
    metrics = send("GET", f"{server.url}/metrics", headers=server.bearer).body.decode()
    found = [line for line in metrics.splitlines() if line.startswith("modelport_calls_in_flight{")]
    assert found, metrics[:2000]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.mark.check(83)
def test_a_death_in_mid_stream_is_an_exception_in_the_azure_client(server: Server) -> None:
    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client:
        updates = client.complete(messages=[UserMessage("Hello")], model="dies-in-mid-stream", stream=True)
        read = []
        with pytest.raises(HttpResponseError):
            read.extend(update.choices[0].delta.content for update in updates if update.choices)
    assert "".join(read).startswith("The beginning")


@pytest.mark.check(83)
async def test_a_death_in_mid_stream_is_an_exception_in_the_asynchronous_azure_client(server: Server) -> None:
    read = []

    async def follow(updates: AsyncIterable[StreamingChatCompletionsUpdate]) -> None:
        async for update in updates:
            read.append(update.choices[0].delta.content if update.choices else "")

    async with AsyncChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client:
        updates = await client.complete(messages=[UserMessage("Hello")], model="dies-in-mid-stream", stream=True)
        with pytest.raises((IncompleteReadError, HttpResponseError)):
            await follow(updates)
    assert "".join(read).startswith("The beginning")


@pytest.mark.check(83)
@pytest.mark.parametrize("path", ["/openai/v1", "/models"])
def test_a_death_in_mid_stream_is_an_exception_in_the_openai_client(server: Server, path: str) -> None:
    with openai.OpenAI(base_url=server.url + path, api_key=server.key, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        chunks = client.chat.completions.create(model="dies-in-mid-stream", messages=messages, stream=True)
        with pytest.raises((openai.APIError, OSError)):
            list(chunks)


@pytest.mark.check(83)
def test_a_death_in_mid_stream_breaks_the_connection_after_an_error_chunk(server: Server) -> None:
    reply = stream(server, "dies-in-mid-stream")
    assert reply.status == 200
    assert reply.cut
    assert b"[DONE]" not in reply.body
    last = reply.events()[-1]
    assert last["error"]["message"]
    assert last["choices"] == []


@pytest.mark.check(83)
def test_a_death_before_the_end_of_a_whole_answer_is_an_error(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "dies-in-mid-stream"}
    reply = send("POST", f"{server.models}/chat/completions", body, server.bearer)
    assert reply.status >= 500
    assert reply.json()["error"]["message"]


@pytest.mark.check(84)
@pytest.mark.parametrize("path", ["/models", "/openai/v1", "/openai/deployments/fails-at-once"])
def test_an_error_before_the_first_byte_keeps_its_status(server: Server, path: str) -> None:
    reply = stream(server, "fails-at-once", path)
    assert reply.status in {500, 502, 503, 504}
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json()["error"]["message"]
    refused = stream(server, "Codestral-2501", path.replace("fails-at-once", "Codestral-2501"), temperature=3)
    assert refused.status == 422


@pytest.mark.check(86)
@pytest.mark.parametrize("version", ["2024-05-01-preview", None])
def test_reasoning_is_in_the_text_for_old_versions(server: Server, version: str | None) -> None:
    query = f"?api-version={version}" if version else ""
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "DeepSeek-R1"}
    url = f"{server.models}/chat/completions{query}"
    message = send("POST", url, body, server.bearer).json()["choices"][0]["message"]
    assert message["content"] == "<think>\nLet me see.\n</think>\n\nForty-two."
    assert "reasoning_content" not in message
    assert send("POST", url, {**body, "stream": True}, server.bearer).text() == message["content"]


@pytest.mark.check(86)
@pytest.mark.parametrize("path", ["/models/chat/completions?api-version=2025-04-01", "/openai/v1/chat/completions"])
def test_reasoning_is_a_field_for_new_versions(server: Server, path: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "DeepSeek-R1"}
    message = send("POST", server.url + path, body, server.bearer).json()["choices"][0]["message"]
    assert message["content"] == "Forty-two."
    assert message["reasoning_content"].strip() == "Let me see."
    streamed = send("POST", server.url + path, {**body, "stream": True}, server.bearer)
    assert streamed.text() == "Forty-two."
    deltas = [c["delta"] for e in streamed.events() for c in e["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas).strip() == "Let me see."
    assert all(delta["content"] == "" for delta in deltas if delta.get("reasoning_content"))


def test_the_riemann_text_is_more_than_one_chunk(server: Server) -> None:
    reply = stream(server, "mistral-large")
    assert reply.text() == RIEMANN
    assert len(reply.events()) > 3
