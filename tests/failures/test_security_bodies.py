"""Bodies as attackers send them: too deep, too large, not JSON, not UTF-8, any JSON at all. Never a fault of ours."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served import KEY, Served

SCOPED = "key-of-one-deployment"


def deployed(model: str, **more: Any) -> dict[str, Any]:
    """A scripted deployment without limits."""
    return {
        "model": {"format": "Custom", "name": model, "version": "1"},
        "provider": {"type": "scripted", "dimensions": 4},
        "limits": {"tokens_per_minute": None, "requests_per_minute": None},
        **more,
    }


CONFIG: dict[str, Any] = {
    "extra_parameters": "pass-through",
    "server": {"limits": {"body_bytes": 3_000_000}},
    "deployments": {
        "script": deployed("script", default=True),
        "hidden": deployed("script"),
        "llama": deployed("Meta-Llama-3-8B-Instruct"),
        "embed": deployed("Cohere-embed-v3-english"),
    },
    "keys": {"guest": {"key1": "env:SCOPED_KEY", "deployments": ["script"]}},
}
TEMPLATES = {
    "/models/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/models/completions": {"prompt": "Hi"},
    "/v1/completions": {"prompt": "Hi"},
    "/models/embeddings": {"input": ["Hi"]},
    "/v1/embeddings": {"input": ["Hi"]},
    "/models/images/embeddings": {"input": [{"image": "data:image/png;base64,iVBORw0KGgo="}]},
    "/score": {"input_data": {"input_string": [{"role": "user", "content": "Hi"}], "parameters": {}}},
}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, SCOPED_KEY=SCOPED)


@pytest.fixture(scope="module")
def connection(served: Served) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(*served.address, timeout=30)) as connection:
        yield connection
    assert "unhandled" not in served.stderr()


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", path, body, {"api-key": KEY})
    response = connection.getresponse()
    answer = response.read()
    if response.will_close:
        connection.close()
    return response.status, answer


def fair(status: int, answer: bytes) -> None:
    """An answer, or a refusal that blames the caller, as JSON either way."""
    assert status in (200, 400, 413, 422), (status, answer)
    if not answer.startswith(b"data: "):
        told = json.loads(answer)
        assert status == 200 or told["error"]["message"]


DEEP = 20_000
CHAT = b'{"messages":[{"role":"user","content":%s}]%s}'
ODD = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"messages"',
    "a number": b"7",
    "two objects": b"{}{}",
    "an unfinished object": b'{"messages":[',
    "a mark before it": b"\xef\xbb\xbf" + CHAT % (b'"Hi"', b""),
    "UTF-16": json.dumps({"messages": []}).encode("utf-16"),
    "broken UTF-8": CHAT % (b'"\xff\xfe"', b""),
    "an overlong zero": CHAT % (b'"\xc0\x80"', b""),
    "a lone surrogate": CHAT % (rb'"\ud800"', b""),
    "a lone surrogate as a key": CHAT % (b'"Hi"', rb',"\udfff":1'),
    "a zero character": CHAT % (rb'"\u0000"', b""),
    "gzip": gzip.compress(CHAT % (b'"Hi"', b"")),
    "NaN": CHAT % (b'"Hi"', b',"temperature":NaN'),
    "Infinity": CHAT % (b'"Hi"', b',"temperature":Infinity'),
    "minus Infinity as an extra": CHAT % (b'"Hi"', b',"anything":-Infinity'),
    "a number beyond all": CHAT % (b'"Hi"', b',"temperature":1e999'),
    "a very small number": CHAT % (b'"Hi"', b',"temperature":1e-9999'),
    "a very long integer": CHAT % (b'"Hi"', b',"max_tokens":' + b"9" * 5000),
    "a very long integer as an extra": CHAT % (b'"Hi"', b',"anything":' + b"9" * 5000),
    "a very long seed": CHAT % (b'"Hi"', b',"seed":' + b"9" * 40),
    "a very long n": CHAT % (b'"Hi"', b',"n":' + b"9" * 40),
    "a number as text": CHAT % (b'"Hi"', b',"temperature":"' + b"9" * 400 + b'"'),
    "NaN as text": CHAT % (b'"Hi"', b',"temperature":"nan"'),
    "infinity as text": CHAT % (b'"Hi"', b',"top_p":"-inf"'),
    "digits of another script as text": CHAT % (b'"Hi"', ',"max_tokens":"٣"'.encode()),
    "deep content": CHAT % (b"[" * DEEP + b"]" * DEEP, b""),
    "deep unfinished content": CHAT % (b"[" * DEEP, b""),
    "a deep extra": CHAT % (b'"Hi"', b',"anything":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "a deep schema": CHAT
    % (
        b'"Hi"',
        b',"tools":[{"type":"function","function":{"name":"f","parameters":'
        + b'{"a":' * DEEP
        + b"1"
        + b"}" * DEEP
        + b"}}]",
    ),
    "a deep extra within the limit": CHAT % (b'"Hi"', b',"anything":' + b"[" * 60 + b"]" * 60),
    "brackets in a text": CHAT % (b'"' + b"[" * DEEP + b'"', b""),
    "escaped quotes and brackets": CHAT % (b'"' + b'\\"[' * DEEP + b'"', b""),
    "many messages": b'{"messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 20_000) + b"]}",
    "many wrong messages": b'{"messages":[' + b",".join([b'{"role":"x"}'] * 20_000) + b"]}",
    "many keys": CHAT % (b'"Hi"', b"".join(b',"k%d":1' % number for number in range(50_000))),
    "a megabyte of text": CHAT % (b'"' + b"x" * 1_000_000 + b'"', b""),
    "many stops": CHAT % (b'"Hi"', b',"stop":[' + b",".join([b'"x"'] * 50_000) + b"]"),
}


@pytest.mark.parametrize("path", ["/models/chat/completions", "/v1/chat/completions", "/chat/completions"])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_an_odd_body_is_answered_or_refused(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    fair(*post(connection, path, body))


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
@pytest.mark.parametrize("path", ["/models/embeddings", "/models/completions", "/models/images/embeddings", "/score"])
def test_an_odd_body_is_refused_by_other_operations(
    connection: http.client.HTTPConnection, path: str, body: bytes
) -> None:
    fair(*post(connection, path, body))


MUST_BE_REFUSED = [
    "NaN",
    "Infinity",
    "minus Infinity as an extra",
    "a number beyond all",
    "NaN as text",
    "deep content",
]


@pytest.mark.parametrize(
    "name", [*MUST_BE_REFUSED, "deep content", "a deep extra", "a deep schema", "broken UTF-8", "gzip"]
)
def test_what_is_no_honest_json_is_refused(connection: http.client.HTTPConnection, name: str) -> None:
    status, answer = post(connection, "/models/chat/completions", ODD[name])
    assert status in (400, 422), answer


@pytest.mark.parametrize("order", [["script", "hidden"], ["hidden", "script"]])
def test_a_key_that_stands_twice_does_not_get_around_its_permission(served: Served, order: list[str]) -> None:
    models = ",".join(f'"model":"{name}"' for name in order)
    body = f'{{{models},"messages":[{{"role":"user","content":"Hi"}}]}}'.encode()
    answer = served.call("POST", "/v1/chat/completions", body, key=SCOPED)
    record = served.journal()[-1]
    if answer.status == 200:
        assert record.deployment == answer.headers["x-ms-deployment-name"] == "script"
    else:
        assert answer.json["error"]["code"] == "DeploymentNotFound"
        assert (record.requested_model, record.deployment) == ("hidden", None)


SMUGGLED = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\napi-key: " + KEY.encode() + b"\r\n\r\n"
CONFUSING = {
    "a length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\n123456",
    "a negative length": b"content-length: -5\r\n\r\n",
    "a length with a sign": b"content-length: +5\r\n\r\n12345",
    "a length that is no number": b"content-length: five\r\n\r\n12345",
    "chunks that are not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk that is no number": b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a huge chunk": b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
    "a folded field": b"x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": b"content-length : 5\r\n\r\n12345",
    "a lone line feed": b"content-length: 0\n\n",
    "a zero in a field": b"x-a: \0\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("rest", CONFUSING.values(), ids=CONFUSING)
def test_a_confusing_frame_lets_nothing_through(served: Served, rest: bytes) -> None:
    head = b"POST /models/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    answer = served.exchange(head + rest)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 ")), answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_with_two_frames_hides_no_second_request(served: Served) -> None:
    head = b"POST /models/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
    frame = head + b"content-length: %d\r\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED))
    answer = served.exchange(frame + SMUGGLED)
    assert b"modelport_" not in answer


REFUSED = {
    "nobody": ("POST", "/v1/chat/completions", "a-wrong-key", 401),
    "no such path": ("POST", "/v1/nothing", KEY, 404),
    "no such method": ("PUT", "/v1/chat/completions", KEY, 405),
    "a body where none belongs": ("GET", "/v1/models", KEY, 200),
    "a head alone": ("HEAD", "/v1/models", KEY, 200),
    "a preflight": ("OPTIONS", "/v1/chat/completions", KEY, 204),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_reads_is_not_taken_for_the_next_request(
    served: Served, refused: tuple[str, str, str, int], chunked: bool
) -> None:
    method, path, key, status = refused
    with closing(http.client.HTTPConnection(*served.address, timeout=30)) as connection:
        for _ in range(3):
            body = iter([SMUGGLED] * 3) if chunked else SMUGGLED * 3
            headers = {"api-key": key} | ({"transfer-encoding": "chunked"} if chunked else {})
            connection.request(method, path, body, headers, encode_chunked=chunked)
            response = connection.getresponse()
            answer = response.read()
            assert response.status == status
            assert b"modelport_" not in answer
            connection.request("GET", "/health")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b'{"status":"ok"}')


def test_requests_in_one_piece_are_answered_one_by_one(served: Served) -> None:
    chat = served.request("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})
    wrong = served.request("/v1/chat/completions", b"{")
    last = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = served.exchange(chat + wrong + chat + last)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == [b"200", b"400", b"200", b"200"]


LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12)
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = (
    "messages model frequency_penalty presence_penalty temperature top_p max_tokens stream stop seed "
    "response_format tools tool_choice modalities user_security_context stream_options prompt n best_of "
    "echo suffix logprobs top_logprobs logit_bias input dimensions encoding_format input_type input_data "
    "functions function_call max_completion_tokens parallel_tool_calls reasoning_effort ignore_eos "
    "stop_token_ids use_beam_search safe_prompt user metadata "
)
FIELD = st.sampled_from(FIELDS.split())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(list(TEMPLATES)),
    model=st.sampled_from(["script", "llama", "embed"]),
    fields=st.dictionaries(FIELD, VALUE, max_size=3),
)
def test_json_of_any_shape_is_answered_or_refused(
    connection: http.client.HTTPConnection, path: str, model: str, fields: dict[str, Any]
) -> None:
    status, answer = post(connection, path, json.dumps({**TEMPLATES[path], "model": model, **fields}).encode())
    assert status in (200, 400, 404, 422), (status, answer)
    if not answer.startswith(b"data: "):
        json.loads(answer)


ROLE = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "", None, 3])
PART = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["text", "image_url", "input_audio", 1]), "text": VALUE}
)
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE},
    optional={
        "content": st.none() | st.text(max_size=5) | st.lists(PART | VALUE, max_size=3) | VALUE,
        "tool_calls": st.lists(VALUE, max_size=2) | VALUE,
        "tool_call_id": VALUE,
        "name": VALUE,
        "function_call": VALUE,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/models/chat/completions", "/v1/chat/completions"]),
    messages=st.lists(MESSAGE, max_size=3),
    model=st.sampled_from(["script", "llama"]),
)
def test_messages_of_any_shape_are_answered_or_refused(
    connection: http.client.HTTPConnection, path: str, messages: list[Any], model: str
) -> None:
    fair(*post(connection, path, json.dumps({"messages": messages, "model": model}).encode()))
