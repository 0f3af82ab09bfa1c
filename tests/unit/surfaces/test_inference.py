"""Inference calls at every door, over sockets: what the gateway is asked, and what the client gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelport.core.errors import (
    BadRequest,
    ContentFiltered,
    EngineFailed,
    ExtraParametersRefused,
    InvalidParameters,
    ModelportError,
    Offence,
    PermissionDenied,
    Unavailable,
    UpstreamTimedOut,
)
from modelport.core.events import ChoiceFinished, FinishReason, TextDelta
from modelport.core.limit_errors import RateLimited
from modelport.core.operations import Operation
from modelport.core.quota import QuotaState
from modelport.core.requests import ChatRequest
from modelport.gateway.call import Selector
from modelport.surfaces.options import Limits, Options

from .doubles import KEY, VECTORS, FakeGateway, Served, serving, until_closed

MESSAGES = [{"role": "user", "content": "Hello!"}]
CHAT = json.dumps({"model": "mistral-large", "messages": MESSAGES}).encode()
STREAMED = json.dumps({"model": "mistral-large", "messages": MESSAGES, "stream": True}).encode()
EMBEDDINGS = json.dumps({"model": "embed", "input": ["a", "b"]}).encode()

CHAT_PATHS = [
    "/models/chat/completions", "/api/models/chat/completions", "/chat/completions",
    "/deployments/mistral-large/chat/completions", "/openai/deployments/mistral-large/chat/completions",
    "/models/openai/deployments/mistral-large/chat/completions", "/openai/v1/chat/completions", "/v1/chat/completions",
    "/openai/v1/deployments/mistral-large/chat/completions", "/deployments/mistral-large/v1/chat/completions",
    "/api/projects/mine/openai/v1/chat/completions",
]  # fmt: skip


def chunks(body: bytes) -> list[Any]:
    """The stream's events; every line is `data: …`, an empty line after each, `[DONE]` last."""
    events = body.decode().split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    assert events.pop() == "data: [DONE]"
    return [json.loads(event[6:]) for event in events]


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_a_chat_is_answered_at_every_door(served: Served, path: str) -> None:
    reply = served.send("POST", path, CHAT)
    answer = reply.json()
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["model"] == "Mistral-large-2411"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5} | answer["usage"]
    assert isinstance(answer["created"], int)
    assert served.gateway.endings() == ["completed"]


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_a_chat_is_streamed_at_every_door(served: Served, path: str) -> None:
    reply = served.send("POST", path, STREAMED)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert (reply.headers["cache-control"], reply.headers["x-accel-buffering"]) == ("no-cache", "no")
    text = "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(reply.body) if chunk["choices"]
    )
    assert text == "Hello"
    assert served.gateway.endings() == ["completed"]


@pytest.mark.parametrize(
    ("path", "surface", "selector", "checks"),
    [
        ("/models/chat/completions", "azure_inference", Selector(header="m"), True),
        ("/api/models/chat/completions", "azure_inference", Selector(header="m"), True),
        ("/chat/completions", "azure_inference", Selector(header="a", body_selects=False, wrong_operation="404"), True),
        ("/deployments/D%20x/chat/completions", "azure_inference",
         Selector(path="D x", header="a", body_selects=False, wrong_operation="404"), True),
        ("/score", "azure_inference", Selector(header="a", body_selects=False, wrong_operation="404"), False),
        ("/openai/deployments/D/chat/completions", "azure_openai", Selector(path="D", body_selects=False), False),
        ("/models/openai/deployments/D/chat/completions", "azure_openai",
         Selector(path="D", body_selects=False), False),
        ("/openai/v1/chat/completions", "openai_v1", Selector(header="a"), False),
        ("/v1/chat/completions", "openai_v1", Selector(header="a"), False),
        ("/openai/v1/deployments/D/chat/completions", "openai_v1",
         Selector(path="D", header="a", body_selects=False), False),
    ],
)  # fmt: skip
def test_the_path_and_the_headers_make_the_call(
    served: Served, path: str, surface: str, selector: Selector, checks: bool
) -> None:
    headers = {
        "azureml-model-deployment": "a",
        "x-ms-model-mesh-model-name": "m",
        "extra-params": "drop",
        "x-ms-client-request-id": "mine",
    }
    reply = served.send("POST", path, CHAT, headers)
    (call,) = served.gateway.heads
    assert (call.surface, call.selector, call.checks_extras) == (surface, selector, checks)
    assert call.operation is Operation.CHAT_COMPLETIONS
    assert call.extra_parameters == ("drop" if checks else None)
    assert (reply.headers["x-ms-client-request-id"], len(reply.headers["x-request-id"])) == ("mine", 36)


@pytest.mark.parametrize("base", ["/models", "/deployments/embed", "/openai/deployments/embed", "/v1"])
def test_embeddings_are_answered(served: Served, base: str) -> None:
    served.gateway.script = VECTORS
    answer = served.send("POST", f"{base}/embeddings", EMBEDDINGS).json()
    assert [(item["index"], item["embedding"]) for item in answer["data"]] == [(0, [1.0]), (1, [2.0])]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize("base", ["/models", "/deployments/embed"])
def test_image_embeddings_are_answered(served: Served, base: str) -> None:
    served.gateway.script = VECTORS
    body = json.dumps({"model": "embed", "input": [{"image": "data:image/png;base64,AA=="}] * 2}).encode()
    assert len(served.send("POST", f"{base}/images/embeddings", body).json()["data"]) == 2


@pytest.mark.parametrize("base", ["/models", "", "/openai/deployments/mistral-large", "/v1"])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_text_completions_are_answered(served: Served, base: str, is_streamed: bool) -> None:
    body = json.dumps({"model": "mistral-large", "prompt": "Say", "stream": is_streamed}).encode()
    reply = served.send("POST", f"{base}/completions", body)
    answers = chunks(reply.body) if is_streamed else [reply.json()]
    assert {answer["object"] for answer in answers} == {"text_completion"}
    assert "".join(choice["text"] for answer in answers for choice in answer["choices"]) == "Hello"


def test_score_answers_messages_with_its_output(served: Served) -> None:
    body = json.dumps({"input_data": {"input_string": MESSAGES, "parameters": {"temperature": 0.5}}}).encode()
    assert served.send("POST", "/score", body).json()["output"] == "Hello"


def test_two_scores_at_once_do_not_mix(served: Served) -> None:
    for _ in range(2):
        body = json.dumps({"input_data": {"input_string": MESSAGES}}).encode()
        assert served.send("POST", "/score", body).status == 200


def test_what_was_dropped_and_what_served_is_told(served: Served) -> None:
    served.gateway.dropped = ("seed", "ключ")
    served.gateway.quota = QuotaState(limit_requests=10, remaining_requests=9)
    headers = served.send("POST", "/models/chat/completions", CHAT).headers
    assert headers["x-modelport-dropped-parameters"] == "seed, %D0%BA%D0%BB%D1%8E%D1%87"
    assert headers["x-modelport-snapshot"] == "snapshot-7"
    assert headers["x-ms-deployment-name"] == "Mistral-large"
    assert headers["x-ratelimit-remaining-requests"] == "9"


def test_without_a_content_type_the_body_is_json_all_the_same(served: Served) -> None:
    assert served.send("POST", "/models/chat/completions", CHAT, {"Content-Type": "text/plain"}).status == 200


@pytest.mark.parametrize("path", CHAT_PATHS)
def test_who_is_not_known_is_refused_before_the_body_is_read(served: Served, path: str) -> None:
    reply = served.send("POST", path, b"not json", key=False)
    assert (reply.status, reply.reason) == (401, "Unauthorized")
    assert reply.headers["x-ms-error-code"] == reply.json()["error"]["code"]
    assert served.gateway.bodies == []


def test_the_root_forms_refusal_is_worded_as_the_sdk_expects(served: Served) -> None:
    for path in ("/chat/completions", "/deployments/x/chat/completions", "/score"):
        reply = served.send("POST", path, CHAT, {"Authorization": "Bearer wrong"}, key=False)
        assert "auth token validation failed" in reply.json()["error"]["message"].lower()


REFUSALS: list[ModelportError] = [
    BadRequest("no"), ExtraParametersRefused(["a"]), ContentFiltered(), PermissionDenied(), EngineFailed("broke"),
    RateLimited("requests", 10, 7), Unavailable("full"), UpstreamTimedOut("late"),
    InvalidParameters([Offence("parameter_not_supported", ("body", "seed"), "no seed", 1)]),
]  # fmt: skip


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("path", ["/models/chat/completions", "/openai/deployments/mistral-large/chat/completions",
                                  "/v1/chat/completions", "/chat/completions"])  # fmt: skip
@pytest.mark.parametrize("body", [CHAT, STREAMED])
def test_a_refusal_keeps_its_own_status_streamed_or_not(
    served: Served, error: ModelportError, path: str, body: bytes
) -> None:
    served.gateway.refusal = error
    reply = served.send("POST", path, body, {"x-ms-client-request-id": "mine"})
    assert reply.status == error.status
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["error"]["message"]
    assert "x-ms-error-code" in reply.headers
    assert reply.headers["x-ms-client-request-id"] == "mine"
    assert ("retry-after" in reply.headers) == (error.status in (429, 503))


def test_an_answer_that_breaks_before_it_is_whole_is_refused_with_its_own_status(served: Served) -> None:
    served.gateway.script = ([TextDelta("Hel")], EngineFailed("broke"))
    reply = served.send("POST", "/models/chat/completions", CHAT)
    assert reply.status == 500
    assert reply.json()["error"]["message"] == "broke"


def test_scores_engine_failure_is_424(served: Served) -> None:
    served.gateway.script = (EngineFailed("broke"),)
    body = json.dumps({"input_data": {"input_string": MESSAGES}}).encode()
    assert served.send("POST", "/score", body).status == 424


def test_an_api_version_that_is_none_is_a_bad_request_to_who_is_known(served: Served) -> None:
    path = "/models/chat/completions?api-version=yesterday"
    assert served.send("POST", path, CHAT).status == 400
    assert served.send("POST", path, CHAT, key=False).status == 401


def test_strictly_azure_openai_needs_an_api_version() -> None:
    with serving(FakeGateway(), Options(strict=True)) as strict:
        path = "/openai/deployments/mistral-large/chat/completions"
        assert strict.send("POST", path, CHAT).status == 404
        assert strict.send("POST", f"{path}?api-version=2024-10-21", CHAT).status == 200
        assert strict.send("POST", "/v1/chat/completions", CHAT).status == 200


def test_our_own_fault_is_a_500_that_quotes_nothing_and_is_logged_without_the_prompt(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.gateway.refusal = ValueError("the prompt: my secret")
    reply = served.send("POST", "/models/chat/completions", CHAT)
    assert reply.status == 500
    assert "secret" not in reply.body.decode()
    (record,) = [record for record in caplog.records if record.name == "modelport.surfaces"]
    assert reply.headers["x-request-id"] in record.getMessage()
    assert "ValueError" in record.getMessage()
    assert "doubles.py" in record.getMessage()
    assert "secret" not in caplog.text


def test_a_body_over_the_limit_is_413_and_the_connection_lives(served: Served) -> None:
    with serving(FakeGateway(), Options(limits=Limits(body_bytes=100_000))) as small:
        reply = small.send("POST", "/models/chat/completions", b" " * 3_000_000)
        assert (reply.status, reply.json()["error"]["code"]) == (413, "RequestEntityTooLarge")
        assert reply.headers.get("connection") != "close"
        assert small.send("POST", "/models/chat/completions", CHAT + b" " * 90_000).status == 200


def test_a_body_that_does_not_come_is_408() -> None:
    with serving(FakeGateway(), Options(limits=Limits(idle_seconds=0.05))) as hasty:
        head = f"POST /models/chat/completions HTTP/1.1\r\nHost: t\r\napi-key: {KEY}\r\nContent-Length: 50\r\n\r\n{{"
        with hasty.open(head.encode()) as connection:
            received = until_closed(connection)
    assert received.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"connection: close" in received


def test_a_body_that_trickles_for_too_long_is_408() -> None:
    with serving(FakeGateway(), Options(limits=Limits(request_seconds=0.1))) as hasty:
        head = f"POST /models/chat/completions HTTP/1.1\r\nHost: t\r\napi-key: {KEY}\r\nContent-Length: 50\r\n\r\n{{"
        with hasty.open(head.encode()) as connection:
            assert until_closed(connection).startswith(b"HTTP/1.1 408 Request Timeout")


def test_an_answer_that_takes_too_long_is_504() -> None:
    gateway = FakeGateway(script=(60.0,))
    with serving(gateway, Options(limits=Limits(request_seconds=0.05))) as hasty:
        assert hasty.send("POST", "/models/chat/completions", CHAT).status == 504
        assert gateway.endings() == [UpstreamTimedOut.code]


def test_while_draining_new_calls_are_turned_away_and_told_to_come_back(served: Served) -> None:
    served.gateway.draining = True
    for path in ("/models/chat/completions", "/v1/chat/completions"):
        reply = served.send("POST", path, CHAT)
        assert (reply.status, reply.headers["connection"], reply.headers["retry-after"]) == (503, "close", "5")


def test_reasoning_is_in_the_content_of_old_versions_and_beside_it_in_new_ones(served: Served) -> None:
    from modelport.core.events import ReasoningDelta

    served.gateway.script = ([ReasoningDelta("hm"), TextDelta("Yes"), ChoiceFinished(FinishReason.STOP)],)

    def message(path: str) -> Any:
        return served.send("POST", path, CHAT).json()["choices"][0]["message"]

    old = message("/models/chat/completions?api-version=2024-05-01-preview")
    assert old["content"].startswith("<think>")
    assert "Yes" in old["content"]
    for path in ("/models/chat/completions?api-version=2025-04-01", "/v1/chat/completions"):
        assert (message(path)["content"], message(path)["reasoning_content"]) == ("Yes", "hm")


def test_the_decoded_request_is_the_bodys(served: Served) -> None:
    served.send("POST", "/models/chat/completions", CHAT)
    request = served.gateway.heads[0].decode(served.gateway.bodies[0])
    assert isinstance(request, ChatRequest)
    assert request.model == "mistral-large"
