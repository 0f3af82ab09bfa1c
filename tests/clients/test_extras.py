"""Parameters that the API does not name: refused, dropped or passed through."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential

from .deployments import LLAMA
from .serving import Server
from .wire import Reply, send

ECHO = "Mistral-large-echo"
SAFETY = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
NOT_ALLOWED = (
    "Extra parameters {} are not allowed when extra-parameters is not set or set to be 'error'. "
    "Set extra-parameters to 'pass-through' to pass to the model."
)


def ask(server: Server, body: dict[str, Any], headers: dict[str, str] | None = None, model: str = ECHO) -> Reply:
    whole = {"messages": [{"role": "user", "content": "Hello"}], "model": model, **body}
    return send("POST", f"{server.models}/chat/completions", whole, {**server.bearer, **(headers or {})})


def asked(reply: Reply) -> dict[str, Any]:
    """What the scripted engine says it was asked."""
    assert reply.status == 200, reply.body
    seen: dict[str, Any] = json.loads(reply.json()["choices"][0]["message"]["content"])
    return seen


@pytest.mark.check(56, 57)
@pytest.mark.parametrize("extra", ["safe_mode", "safe_prompt"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_safety_extra_puts_the_safety_prompt_in_effect(server: Server, extra: str, stream: bool) -> None:
    messages = [SystemMessage("You are a helpful assistant."), UserMessage("How many languages are in the world?")]
    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key), model=ECHO) as client:
        plain = client.complete(messages=messages).choices[0].message.content
        if stream:
            updates = client.complete(messages=messages, model_extras={extra: True}, stream=True)
            safe = "".join(update.choices[0].delta.content for update in updates if update.choices)
        else:
            safe = client.complete(messages=messages, model_extras={extra: True}).choices[0].message.content
    assert SAFETY not in plain
    assert SAFETY in safe
    first = json.loads(safe)["messages"][0]
    assert first["role"] == "system"
    assert "You are a helpful assistant." in json.dumps(json.loads(safe)["messages"])


@pytest.mark.check(58)
@pytest.mark.parametrize("base", ["/models", "/api/models", "/deployments/Mistral-large-echo"])
def test_an_extra_without_the_header_is_refused_by_name(server: Server, base: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": ECHO, "safe_mode": True, "n": 2}
    reply = send("POST", f"{server.url}{base}/chat/completions", body, server.bearer)
    assert reply.status == 400
    text = NOT_ALLOWED.format("['safe_mode', 'n']")
    assert reply.json()["error"] == {"code": "Bad Request", "message": text, "status": 400}
    assert reply.json()["detail"] == text


@pytest.mark.check(58)
def test_the_fields_of_openai_alone_are_extras(server: Server) -> None:
    names = ["n", "user", "logprobs", "logit_bias", "parallel_tool_calls", "max_completion_tokens", "reasoning_effort"]
    for name in names:
        reply = ask(server, {name: 1})
        assert reply.status == 400
        assert reply.json()["detail"] == NOT_ALLOWED.format(f"['{name}']")


@pytest.mark.check(59)
def test_the_header_error_is_the_default(server: Server) -> None:
    reply = ask(server, {"safe_mode": True}, {"extra-parameters": "error"})
    assert reply.status == 400
    assert reply.json()["detail"] == NOT_ALLOWED.format("['safe_mode']")


@pytest.mark.check(60)
def test_a_dropped_extra_never_reaches_the_engine(server: Server) -> None:
    reply = ask(server, {"safe_mode": True, "colour": "blue-grey"}, {"extra-parameters": "drop"})
    seen = json.dumps(asked(reply))
    assert "safe_mode" not in seen
    assert "blue-grey" not in seen
    assert SAFETY not in seen
    assert set(reply.headers["x-modelport-dropped-parameters"].replace(" ", "").split(",")) == {"safe_mode", "colour"}


@pytest.mark.check(61)
def test_drop_also_drops_a_known_parameter_that_the_model_lacks(server: Server) -> None:
    refused = ask(server, {"seed": 1}, model="no-seed")
    assert refused.status == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "seed"]
    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key), model="no-seed") as client:
        answer = client.complete(messages=[UserMessage("Hello")], seed=1, headers={"extra-parameters": "drop"})
    assert "seed" not in {key for key, value in json.loads(answer.choices[0].message.content).items() if value}


@pytest.mark.check(62)
def test_a_passed_extra_reaches_the_engine(server: Server) -> None:
    seen = json.dumps(asked(ask(server, {"key1": "value-one"}, {"extra-parameters": "pass-through"})))
    assert "key1" in seen
    assert "value-one" in seen


@pytest.mark.check(63)
def test_the_javascript_spelling_of_the_header_is_understood(server: Server) -> None:
    assert "value-one" in json.dumps(asked(ask(server, {"key1": "value-one"}, {"extra-params": "pass-through"})))


@pytest.mark.check(64)
def test_the_oldest_spelling_of_the_header_is_understood(server: Server) -> None:
    reply = ask(server, {"key1": "value-one"}, {"unknown-parameters": "pass_through"})
    assert "value-one" in json.dumps(asked(reply))


@pytest.mark.check(65)
@pytest.mark.parametrize("value", ["ignore", "allow", "true"])
def test_an_unknown_value_of_the_header_is_refused(server: Server, value: str) -> None:
    reply = ask(server, {}, {"extra-parameters": value})
    assert reply.status == 400
    text = f"Unexpected EXTRA_PARAMETERS option {value}, expected options are ['error', 'drop', 'pass-through']"
    assert reply.json()["error"]["message"] == text
    assert reply.json()["detail"] == text


@pytest.mark.check(67)
@pytest.mark.parametrize("base", ["/openai/v1", "/v1", "/openai/deployments/Mistral-large-echo"])
def test_the_openai_doors_never_check_for_extras(server: Server, base: str) -> None:
    body = {"model": ECHO, "messages": [{"role": "user", "content": "Hello"}], "colour": "blue", "user": "u"}
    assert send("POST", f"{server.url}{base}/chat/completions", body, server.bearer).status == 200
    if base != "/openai/deployments/Mistral-large-echo":
        with openai.OpenAI(base_url=server.url + base, api_key=server.key, max_retries=0) as client:
            messages: Any = [{"role": "user", "content": "Hello"}]
            assert client.chat.completions.create(model=ECHO, messages=messages, extra_body={"safe_mode": True})


@pytest.mark.check(68)
@pytest.mark.parametrize(("logprobs", "alternatives"), [(True, 0), (5, 5)])
def test_logprobs_of_a_llama(server: Server, logprobs: Any, alternatives: int) -> None:
    with ChatCompletionsClient(server.url, AzureKeyCredential(server.key)) as client:
        response = client.complete(
            messages=[UserMessage("How many languages are in the world?")],
            max_tokens=6,
            temperature=0,
            model_extras={"logprobs": logprobs},
        )
    choice = response.choices[0]
    content = choice["logprobs"]["content"]
    assert len(content) == response.usage.completion_tokens
    assert "".join(entry["token"] for entry in content) == choice.message.content
    for entry in content:
        assert entry["logprob"] <= 0
        assert alternatives <= len(entry.get("top_logprobs") or []) <= alternatives + 1


PASSED = {"extra-parameters": "pass-through"}


@pytest.mark.check(69)
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"best_of": 2, "n": 2}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"use_beam_search": True, "best_of": 2, "temperature": 0.5}, "use_beam_search"),
        ({"use_beam_search": True, "temperature": 0}, "use_beam_search"),
    ],
)
def test_what_a_llama_cannot_combine_is_refused(server: Server, body: dict[str, Any], field: str) -> None:
    reply = ask(server, {"max_tokens": 8, **body}, PASSED, model=LLAMA)
    assert reply.status == 422
    named = {entry["loc"][1] for entry in reply.json()["detail"]}
    assert named & {field, "temperature", "stream"}


@pytest.mark.check(70)
def test_two_choices_have_their_index(server: Server) -> None:
    reply = ask(server, {"n": 2, "max_tokens": 8, "temperature": 1}, PASSED, model=LLAMA)
    assert reply.status == 200
    choices = reply.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    usage = reply.json()["usage"]
    assert usage["completion_tokens"] > 8 or any(choice["finish_reason"] == "stop" for choice in choices)
    streamed = ask(server, {"n": 2, "max_tokens": 8, "stream": True}, PASSED, model=LLAMA)
    assert {c["index"] for event in streamed.events() for c in event["choices"]} == {0, 1}


def test_best_of_and_beam_search_answer_with_the_best(server: Server) -> None:
    base = {"max_tokens": 6, "messages": [{"role": "user", "content": "Count to three"}]}
    assert len(ask(server, {**base, "best_of": 3, "n": 1}, PASSED, model=LLAMA).json()["choices"]) == 1
    beams = {**base, "best_of": 2, "use_beam_search": True, "temperature": 0}
    assert ask(server, beams, PASSED, model=LLAMA).json()["choices"][0]["message"]["content"]
