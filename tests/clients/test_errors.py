"""Errors as clients meet them: JSON, coded, and honest about when to come back."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import uuid
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from .deployments import EMBEDDED, LLAMA
from .serving import Server
from .wire import Reply, send

HELLO = [{"role": "user", "content": "Hello"}]
CHAT: dict[str, Any] = {"model": "mistral-large", "messages": HELLO}

REFUSALS: dict[str, tuple[str, str, Any, dict[str, str], int]] = {
    "no credential": ("POST", "/models/chat/completions", CHAT, {"authorization": ""}, 401),
    "no credential, root": ("POST", "/chat/completions", CHAT, {"authorization": ""}, 401),
    "no credential, openai": ("POST", "/openai/v1/chat/completions", CHAT, {"authorization": "Bearer x"}, 401),
    "unknown model": ("POST", "/models/chat/completions", {**CHAT, "model": "nobody"}, {}, 404),
    "unknown deployment": ("POST", "/openai/deployments/nobody/chat/completions", CHAT, {}, 404),
    "unknown path": ("POST", "/models/nothing", {}, {}, 404),
    "info of openai": ("GET", "/openai/deployments/gpt-4o/info", None, {}, 404),
    "wrong method": ("GET", "/models/chat/completions", None, {}, 405),
    "wrong modality": ("POST", "/models/embeddings", {"input": ["a"], "model": "gpt-4o"}, {}, 400),
    "wrong modality, root": ("POST", "/deployments/gpt-4o/embeddings", {"input": ["a"]}, {}, 404),
    "not JSON": ("POST", "/models/chat/completions", b"{", {}, 400),
    "extras": ("POST", "/models/chat/completions", {**CHAT, "colour": "blue"}, {}, 400),
    "extras, root": ("POST", "/deployments/gpt-4o/chat/completions", {**CHAT, "colour": "blue"}, {}, 400),
    "odd header": ("POST", "/models/chat/completions", CHAT, {"extra-parameters": "ignore"}, 400),
    "out of range": ("POST", "/models/chat/completions", {**CHAT, "temperature": 3}, {}, 422),
    "missing": ("POST", "/models/chat/completions", {"model": LLAMA}, {}, 422),
    "unsupported": (
        "POST", "/models/chat/completions", {**CHAT, "model": LLAMA, "response_format": "json_object"}, {}, 422,
    ),
    "out of range, openai": ("POST", "/openai/v1/chat/completions", {**CHAT, "temperature": 3}, {}, 422),
    "context": (
        "POST", "/models/chat/completions",
        {"model": EMBEDDED, "messages": [{"role": "user", "content": "word " * 20_000}]}, {}, 400,
    ),
    "engine fails": ("POST", "/models/chat/completions", {**CHAT, "model": "fails-at-once"}, {}, 500),
}  # fmt: skip


def refusal(server: Server, name: str) -> tuple[Reply, int]:
    method, path, body, headers, status = REFUSALS[name]
    sent = {key: value for key, value in {**server.bearer, **headers}.items() if value}
    if "authorization" in headers:
        sent = {key: value for key, value in headers.items() if value}
    return send(method, f"{server.url}{path}", body, sent), status


@pytest.mark.check(101)
@pytest.mark.parametrize("name", REFUSALS)
def test_every_error_is_coded_json(server: Server, name: str) -> None:
    reply, status = refusal(server, name)
    if status == 500:
        assert reply.status in {500, 502, 503, 504}
    else:
        assert reply.status == status
    assert reply.reason == http.client.responses[reply.status].replace("Content", "Entity") or (
        reply.reason == http.client.responses[reply.status]
    )
    assert reply.headers["content-type"].startswith("application/json")
    error = reply.json()["error"]
    assert error["message"]
    assert reply.headers["x-ms-error-code"] == str(error["code"])
    assert reply.headers["x-ms-client-request-id"]
    assert reply.headers["x-request-id"]
    assert reply.headers["apim-request-id"]


@pytest.mark.check(104)
@pytest.mark.parametrize("name", [name for name, row in REFUSALS.items() if row[4] in {400, 401, 404, 422}])
def test_a_mistake_is_not_to_be_retried(server: Server, name: str) -> None:
    reply, _ = refusal(server, name)
    assert "retry-after" not in reply.headers
    assert "retry-after-ms" not in reply.headers


@pytest.mark.check(100)
def test_a_422_is_the_superset_that_every_client_reads(server: Server) -> None:
    body = {**CHAT, "model": LLAMA, "response_format": {"type": "json_object"}, "temperature": 9}
    reply = send("POST", f"{server.models}/chat/completions", body, server.bearer)
    assert reply.status == 422
    answer = reply.json()
    assert answer["status"] == 422
    assert answer["error"]["status"] == 422
    assert answer["error"]["code"] == answer["code"]
    assert answer["error"]["message"] == answer["message"]
    entries = {".".join(entry["loc"]): entry for entry in answer["detail"]}
    assert set(entries) == {"body.response_format", "body.temperature"}
    for entry in answer["detail"]:
        assert all(isinstance(part, str) for part in entry["loc"])
        assert {"type", "loc", "msg", "input"} <= set(entry)
    assert {entry["target"] for entry in answer["error"]["details"]} == {"response_format", "temperature"}


@pytest.mark.check(100)
def test_a_422_is_read_by_both_python_clients(server: Server) -> None:
    with (
        ChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client,
        pytest.raises(HttpResponseError) as caught,
    ):
        client.complete(messages=[UserMessage("Hello")], model=LLAMA, response_format="json_object")
    assert caught.value.status_code == 422
    assert caught.value.error.code == "parameter_not_supported"
    assert "(parameter_not_supported)" in str(caught.value)
    with openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key, max_retries=0) as other:
        messages: Any = HELLO
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            other.chat.completions.create(model=LLAMA, messages=messages, response_format={"type": "json_object"})
    assert refused.value.code == "parameter_not_supported"


@pytest.mark.check(114)
@pytest.mark.parametrize("path", ["/models/chat/completions", "/openai/v1/chat/completions", "/images/embeddings"])
def test_a_body_over_the_limit_is_413(server: Server, path: str) -> None:
    body = json.dumps({"model": "mistral-large", "messages": [{"role": "user", "content": "x" * 3_000_000}]}).encode()
    reply = send("POST", f"{server.url}{path}", body, server.bearer)
    assert reply.status == 413
    assert reply.error_code() == "RequestEntityTooLarge"
    assert reply.headers["x-ms-error-code"] == "RequestEntityTooLarge"


@pytest.mark.check(115)
def test_overload_is_503_with_a_time_to_come_back(server: Server) -> None:
    body = {"model": EMBEDDED, "messages": [{"role": "user", "content": "Tell a story"}], "max_tokens": 24}

    def one(_: int) -> Reply:
        return send("POST", f"{server.models}/chat/completions", body, server.bearer, timeout_seconds=120)

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(one, range(24)))
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {200, 503}
    for reply in replies:
        if reply.status == 503:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["message"]
    # The server is as well as before.
    assert one(0).status == 200


@pytest.mark.check(128)
@pytest.mark.parametrize("status", [200, 401, 404, 422])
def test_the_clients_request_id_comes_back(server: Server, status: int) -> None:
    identity = str(uuid.uuid4())
    headers = {**(server.bearer if status != 401 else {}), "x-ms-client-request-id": identity}
    body = {**CHAT, **({"model": "nobody"} if status == 404 else {}), **({"top_p": 7} if status == 422 else {})}
    reply = send("POST", f"{server.models}/chat/completions", body, headers)
    assert reply.status == status
    assert reply.headers["x-ms-client-request-id"] == identity


@pytest.mark.check(128)
def test_the_genuine_client_sees_its_request_id(server: Server) -> None:
    seen: list[tuple[str, str]] = []

    def look(response: Any) -> None:
        name = "x-ms-client-request-id"
        seen.append((response.http_request.headers[name], response.http_response.headers[name]))

    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client:
        client.complete(messages=[UserMessage("Hello")], model="mistral-large", raw_response_hook=look)
        with pytest.raises(HttpResponseError):
            client.complete(messages=[UserMessage("Hello")], model="nobody", raw_response_hook=look)
    assert seen
    assert all(sent == received for sent, received in seen)
