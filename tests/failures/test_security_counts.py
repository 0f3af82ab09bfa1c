"""Bodies that are small for their bytes and large for everything else: refused before anything is made of them, and
what is kept of them is cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from served import Served

MEGABYTE = 1_000_000
UNLIMITED = {"tokens_per_minute": None, "requests_per_minute": None}


def deployed(model: str, **more: Any) -> dict[str, Any]:
    """A scripted deployment without limits."""
    return {
        "model": {"format": "Custom", "name": model},
        "provider": {"type": "scripted"},
        "limits": UNLIMITED,
        **more,
    }


CONFIG: dict[str, Any] = {"deployments": {"script": deployed("script", default=True)}}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG)


PATHS = {
    "/models/chat/completions": b'"messages":[{"role":"user","content":"Hi"}]',
    "/chat/completions": b'"messages":[{"role":"user","content":"Hi"}]',
    "/openai/deployments/script/chat/completions": b'"messages":[{"role":"user","content":"Hi"}]',
    "/v1/chat/completions": b'"messages":[{"role":"user","content":"Hi"}]',
    "/v1/completions": b'"prompt":"Hi"',
    "/models/embeddings": b'"input":"Hi"',
    "/models/images/embeddings": b'"input":[{"image":"data:image/png;base64,aa=="}]',
    "/score": b'"input_data":{"input_string":["Hi"]}',
}


def filled(unit: bytes, size: int) -> bytes:
    """A list of so many bytes."""
    return b"[" + (unit + b",") * (size // (len(unit) + 1)) + b"1]"


DEEP = b"[" * 60 + b"]" * 60
TOO_MUCH = {
    "flat lists": (b'"a":' + filled(b"[]", 2 * MEGABYTE), "objects and lists"),
    "deep lists": (b'"a":' + filled(DEEP, 20 * MEGABYTE), "objects and lists"),
    "objects": (b'"a":' + filled(b'{"b":{}}', 2 * MEGABYTE), "objects and lists"),
    "lists in a known field": (b'"stop":' + filled(b"[]", 2 * MEGABYTE), "objects and lists"),
    "messages": (b'"messages":' + filled(b'{"role":"user","content":""}', 5 * MEGABYTE), "objects and lists"),
    "one name many times": (b'"model":"x",' * 300_000 + b'"model":"script"', "names"),
    "names": (b",".join(b'"n%d":1' % number for number in range(200_000)), "names"),
    "strings": (b'"stop":' + filled(b'"x"', 5 * MEGABYTE), "values"),
    "numbers": (b'"a":' + filled(b"-1", 5 * MEGABYTE), "values"),
    "token ids": (b'"input":' + filled(b"7", 5 * MEGABYTE), "values"),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("fields", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_body_that_holds_too_much_is_refused(served: Served, path: str, fields: bytes, words: str) -> None:
    answer = served.call("POST", path, b"{" + PATHS[path] + b"," + fields + b"}")
    assert answer.status == 400, answer.body[:200]
    assert words in answer.json["error"]["message"]
    assert served.call("GET", "/health").status == 200


def test_brackets_in_a_text_are_no_lists(served: Served) -> None:
    assert served.chat("[{,:]}" * 200_000, max_tokens=1).status == 200


LONG = "ü" * 200_000


@pytest.mark.parametrize("path", ["/models/chat/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_long_name_of_a_model_is_cut_in_the_record(served: Served, path: str, times: int) -> None:
    for _ in range(times):
        answer = served.call("POST", path, {"model": LONG, "messages": [{"role": "user", "content": "Hi"}]})
    assert answer.status == 404
    assert len(answer.body) < 20_000
    record = served.journal()[-1]
    assert record.requested_model == "ü" * 256 + "…"
    assert LONG[:2000].encode() not in served.log.read_bytes()


@pytest.mark.parametrize("mode", ["error", "drop"])
@pytest.mark.parametrize("extra", [{LONG: 1}, {f"{number}-{LONG[:100]}": 1 for number in range(5000)}])
def test_extra_names_are_listed_as_far_as_anybody_reads(served: Served, mode: str, extra: dict[str, int]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **extra}
    answer = served.call("POST", "/models/chat/completions", body, headers={"extra-parameters": mode})
    assert answer.status == {"error": 400, "drop": 200}[mode]
    assert len(answer.body) < 50_000
    assert sum(map(len, answer.headers.values())) < 8000


WRONG = {
    "a long text as a number": {"temperature": LONG},
    "many values as a number": {"temperature": list(range(100_000))},
    "many wrong parts": {"messages": [{"role": "user", "content": [{"type": "x"}] * 1000}] * 20},
    "a long role": {"messages": [{"role": LONG, "content": "Hi"}]},
    "a long tool": {"tools": [{"type": "function", "function": {"name": LONG}}]},
    "a large bias": {"logit_bias": {str(number): 1 for number in range(100_000)}},
}


@pytest.mark.parametrize("path", ["/models/chat/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG)
def test_what_was_wrong_is_shown_in_part(served: Served, path: str, fields: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    answer = served.call("POST", path, body, headers={"extra-parameters": "pass-through"})
    assert answer.status == 422, answer.body[:200]
    assert len(answer.body) < 100_000
    assert 1 <= len(json.loads(answer.body)["detail"]) <= 100
