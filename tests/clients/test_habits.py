"""Habits of clients that must not be refused: what they leave out, send in excess, or send oddly."""

from __future__ import annotations

import json
import socket
import urllib.parse
from typing import Any

import pytest

from .deployments import COHERE, EMBEDDED_TEXTS
from .serving import Server
from .wire import send

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}

BODIES: dict[str, dict[str, Any]] = {
    "a list of text parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]},
    "text parts of a system message": {
        "messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, HELLO]
    },
    "a name": {"messages": [{**HELLO, "name": "user"}]},
    "a null name": {"messages": [{**HELLO, "name": None}]},
    "a refusal of null": {"messages": [HELLO, {"role": "assistant", "content": "Hi", "refusal": None}, HELLO]},
    "no content beside calls": {
        "messages": [HELLO, {"role": "assistant", "tool_calls": [CALL]},
                     {"role": "tool", "tool_call_id": "call_1", "name": None, "content": "blue"}]
    },
    "null content beside calls": {
        "messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                     {"role": "tool", "tool_call_id": "call_1", "content": "blue"}]
    },
    "a null description": {"tools": [{**TOOL, "function": {**TOOL["function"], "description": None}}]},
    "no tools": {"tools": []},
    "null everything": {"temperature": None, "stop": None, "tools": None, "response_format": None, "stream": None},
    "stream options without a stream": {"stream_options": {"include_usage": True}},
    "continuous usage": {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    "a schema without strict": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("path", ["/models", "/deployments/gpt-4o", "/openai/v1", "/openai/deployments/gpt-4o"])
def test_a_habit_is_accepted(server: Server, path: str, name: str) -> None:
    body = {"model": "gpt-4o", "messages": [HELLO], **BODIES[name]}
    reply = send("POST", f"{server.url}{path}/chat/completions", body, server.bearer)
    assert reply.status == 200, reply.body


@pytest.mark.parametrize("model", [None, "text-embedding-ada-002", "another"])
def test_the_path_wins_over_the_model_of_the_body(server: Server, model: str | None) -> None:
    body = {"model": model, "messages": [HELLO]}
    url = f"{server.url}/openai/deployments/mistral-large/chat/completions?api-version=2024-10-21"
    assert send("POST", url, body, server.bearer).json()["model"] == "Mistral-large-2411"


@pytest.mark.parametrize(
    "path",
    [
        "/models/openai/deployments/gpt-4o/chat/completions?api-version=2024-05-01-preview",
        "/openai/v1/deployments/gpt-4o/chat/completions?api-version=preview",
    ],
)
def test_a_path_that_a_client_put_together_wrongly_works(server: Server, path: str) -> None:
    assert send("POST", server.url + path, {"model": "gpt-4o", "messages": [HELLO]}, server.bearer).status == 200


@pytest.mark.parametrize("body", [{"input": "a"}, {"input": ["a"], "user": None}, {"input": ["a", "b"]}])
@pytest.mark.parametrize("model", [EMBEDDED_TEXTS, COHERE])
def test_a_habit_of_embeddings_is_accepted(server: Server, model: str, body: dict[str, Any]) -> None:
    whole = {"model": model, **body}
    assert send("POST", f"{server.url}/openai/v1/embeddings", whole, server.bearer).status == 200


def test_a_list_of_models_names_the_deployments(server: Server) -> None:
    for path in ("/openai/v1/models", "/v1/models", "/openai/models?api-version=2024-10-21"):
        listed = send("GET", server.url + path, headers={"api-key": server.key}).json()
        assert listed["object"] == "list"
        entries = {entry["id"]: entry for entry in listed["data"]}
        assert entries["Mistral-large"]["object"] == "model"
        assert isinstance(entries["Mistral-large"]["created"], int)
        assert entries["Mistral-large"]["owned_by"] == "Mistral AI"


def raw(server: Server, head: str, body: bytes = b"") -> bytes:
    """What the server sends, up to the end of an answer's document."""
    parts = urllib.parse.urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        received = b""
        while not received.endswith(b"}}") and (piece := connection.recv(65536)):
            received += piece
    return received


def chat_head(server: Server, *headers: str) -> str:
    lines = [f"Authorization: Bearer {server.key}", "Host: localhost", "Content-Type: application/json", *headers]
    return "POST /models/chat/completions HTTP/1.1\n" + "\n".join(lines) + "\nConnection: close\n\n"


BODY = json.dumps({"model": "mistral-large", "messages": [HELLO]}).encode()


def test_a_chunked_request_is_read(server: Server) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
    assert raw(server, chat_head(server, "Transfer-Encoding: chunked"), chunks).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_expects_100_continue_is_answered(server: Server) -> None:
    head = chat_head(server, f"Content-Length: {len(BODY)}", "Expect: 100-continue")
    received = raw(server, head, BODY)
    assert b"HTTP/1.1 200 OK\r\n" in received


def test_a_java_client_that_offers_http_2_is_answered_in_http_1(server: Server) -> None:
    head = chat_head(server, f"Content-Length: {len(BODY)}", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    head = head.replace("Connection: close", "Connection: Upgrade, HTTP2-Settings")
    assert raw(server, head, BODY).startswith(b"HTTP/1.1 200 OK\r\n")


def test_streaming_with_an_accept_of_json_is_a_stream(server: Server) -> None:
    body = {"model": "mistral-large", "messages": [HELLO], "stream": True}
    headers = {**server.bearer, "Accept": "application/json"}
    reply = send("POST", f"{server.models}/chat/completions", body, headers)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_is_not_insisted_on(server: Server, content_type: str) -> None:
    headers = {**server.bearer, "Content-Type": content_type}
    assert send("POST", f"{server.models}/chat/completions", BODY, headers).status == 200
