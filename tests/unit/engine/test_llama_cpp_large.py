"""A model that can decide about tools, and fill in the middle, does so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from running_worker import find_weights, running_worker

from modelport.engine.local_http import LocalHttp

pytestmark = pytest.mark.large

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def worker() -> Iterator[LocalHttp]:
    with running_worker(find_weights("qwen2.5-coder-1.5b", "qwen*.gguf"), slots=1, context=2048) as client:
        yield client


async def ask(worker: LocalHttp, messages: list[Any]) -> Any:
    body = {"messages": messages, "tools": [WEATHER], "max_tokens": 80, "temperature": 0}
    return (await worker.call("POST", "/v1/chat/completions", body))["choices"][0]


async def test_it_calls_a_tool_when_one_is_needed_and_answers_from_the_result(worker: LocalHttp) -> None:
    messages: list[Any] = [{"role": "user", "content": "What's the weather in Paris?"}]
    called = await ask(worker, messages)
    assert called["finish_reason"] == "tool_calls"
    (call,) = called["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["city"] == "Paris"
    result = {"role": "tool", "tool_call_id": call["id"], "content": '{"degrees": 22}'}
    answered = await ask(worker, [*messages, called["message"], result])
    assert answered["finish_reason"] == "stop"
    assert "22" in answered["message"]["content"]


async def test_it_answers_in_text_when_no_tool_is_needed(worker: LocalHttp) -> None:
    answered = await ask(worker, [{"role": "user", "content": "What is the capital of France?"}])
    assert answered["message"]["tool_calls"] is None
    assert "Paris" in answered["message"]["content"]


async def test_it_fills_in_the_middle(worker: LocalHttp) -> None:
    body = {"prompt": "def add(a, b):\n    return ", "suffix": "\n", "max_tokens": 6, "temperature": 0}
    answer = await worker.call("POST", "/v1/completions", body)
    assert answer["choices"][0]["text"].startswith("a + b")
