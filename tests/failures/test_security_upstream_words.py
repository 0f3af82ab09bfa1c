"""Upstreams that say too much: the gateway's key and their own address, wherever an error can have a text."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from served import KEY, Answer, Served, eventually

SECRET = "house-Upstream/qv6Ym3+77d1=x"
BASIC = base64.b64encode(f"house:{SECRET}".encode()).decode()
FORMS = [
    SECRET,
    f"Bearer {SECRET}",
    "house-Up*****************d1=x",
    quote(SECRET, safe=""),
    f"Basic {BASIC}",
    SECRET[:13] + "...",
]
FRAGMENTS = ("house-Up", "d1=x", "Ym3", BASIC[8:20], KEY)


class Talkative(BaseHTTPRequestHandler):
    """Answers with what the prompt asks for: `{"status", "body", "headers"}`, `{"events"}`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        wanted = json.loads(body["messages"][-1]["content"])
        if "second" in self.path:
            wanted = {"status": 200, "body": ANSWER}
        if "events" in wanted:
            data, kind, status = (
                "".join(f"data: {json.dumps(e)}\n\n" for e in wanted["events"]),
                "text/event-stream",
                200,
            )
        else:
            data, kind, status = json.dumps(wanted["body"]), "application/json", wanted["status"]
        self.send_response(status)
        for name, value in {"content-type": kind, **wanted.get("headers", {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


ANSWER = {
    "id": "u",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "from the second"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
DELTA = {
    "id": "u",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}],
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Talkative)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def served(upstream: str, serve_module: Callable[..., Served]) -> Served:
    def provider(path: str) -> dict[str, Any]:
        return {"type": "openai_compatible", "base_url": f"http://{upstream}/{path}", "api_key": "env:HOUSE_KEY"}

    model = {"format": "Custom", "name": "m", "version": "1"}
    return serve_module(
        {
            "providers": {"first": provider("v1"), "second": provider("second")},
            "deployments": {
                "m": {"model": model, "provider": "first", "default": True},
                "two": {"model": model, "targets": [{"provider": "first"}, {"provider": "second", "priority": 1}]},
            },
        },
        HOUSE_KEY=SECRET,
    )


def ask(served: Served, wanted: dict[str, Any], **fields: Any) -> Answer:
    answer = served.chat(json.dumps(wanted), **fields)
    for fragment in FRAGMENTS:
        assert fragment.encode() not in answer.body, answer.body
        assert fragment not in str(answer.headers)
    return answer


def wordings(upstream: str) -> Iterator[tuple[str, str]]:
    for form in FORMS:
        yield form, f"The header said {form} and I am http://{upstream}/v1 (host {upstream})."


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 429, 500, 503, 504])
def test_no_status_shows_the_gateways_key_or_the_upstreams_address(served, upstream, status, stream):
    for form, words in wordings(upstream):
        error = {"message": words, "code": form, "type": form, "param": form}
        detail = [{"type": form, "loc": ["body", form], "msg": words, "input": {"a": [words]}}]
        for body in ({"error": error}, {"detail": detail}, {"message": words}, {"error": words}, [{"error": error}]):
            answer = ask(served, {"status": status, "body": body, "headers": {"x-said": form}}, stream=stream)
            assert answer.status >= 400
            assert upstream.encode() not in answer.body
            assert b"127.0.0.1" not in answer.body
            if status not in (429, 503) and answer.status not in (429, 503):
                assert "retry-after" not in answer.headers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_upstreams_other_words_still_reach_the_caller(served, stream):
    body = {"error": {"message": f"temperature must be below 2 (sent with {SECRET})", "code": "out_of_range"}}
    answer = ask(served, {"status": 400, "body": body}, stream=stream)
    assert (answer.status, answer.json["error"]["code"]) == (400, "out_of_range")
    assert answer.json["error"]["message"] == "temperature must be below 2 (sent with [redacted])"


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "after a delta"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_error_inside_a_200_shows_neither(served, upstream, stream, begun):
    for form, words in wordings(upstream):
        error = {"error": {"message": words, "code": 400, "type": form, "param": form}}
        wanted = {"events": [*([DELTA] if begun else []), error]} if stream else {"status": 200, "body": error}
        answer = ask(served, wanted, stream=stream)
        assert upstream.encode() not in answer.body
        assert b"error" in answer.body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [301, 307, 308])
def test_redirect_is_not_followed_and_not_shown(served, upstream, status, stream):
    headers = {"location": f"http://{upstream}/v1/{SECRET}"}
    answer = ask(served, {"status": status, "body": ANSWER, "headers": headers}, stream=stream)
    assert answer.status == 503
    assert upstream.encode() not in answer.body


COMPLAINTS: list[tuple[int, Any]] = [
    (401, {"error": {"message": f"Incorrect API key provided: {SECRET}.", "code": "invalid_api_key"}}),
    (403, {"error": {"message": "You have no access.", "type": "permission_error"}}),
    (407, {}),
    (400, {"error": {"message": f"Incorrect API key provided: {SECRET[:8]}*****{SECRET[-4:]}."}}),
    (400, {"error": {"message": "bad", "code": "invalid_api_key"}}),
    (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}]),
    (422, {"message": "Invalid authentication credentials"}),
    (400, {"error": "Missing API key"}),
    (200, {"error": {"message": "invalid x-api-key", "type": "authentication_error"}}),
]


@pytest.mark.parametrize(("status", "body"), COMPLAINTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_complaint_about_our_credential_is_503_and_the_next_target_is_asked(served, status, body, stream):
    wanted = {"status": status, "body": body}
    answer = ask(served, wanted, stream=stream)
    assert answer.status == 503
    assert answer.json["error"]["code"] == "ServiceUnavailable"
    assert int(answer.headers["retry-after"]) >= 1
    assert ask(served, wanted, model="two").json["choices"][0]["message"]["content"] == "from the second"


def test_operator_reads_of_it_in_the_log_and_no_secret_is_there(served):
    ask(served, {"status": 401, "body": {"error": {"message": f"Incorrect API key provided: {SECRET}."}}})
    eventually(
        lambda: "provider first does not accept the gateway's credential" in served.stderr(), "a line of the log"
    )
    log = served.stderr()
    for fragment in FRAGMENTS:
        assert fragment not in log
        for file in (served.data_dir / "journal").iterdir():
            assert fragment.encode() not in file.read_bytes()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_models_own_text_stays_as_it_is(served, stream):
    message = {"role": "assistant", "content": "Set the Bearer authorization header; sk-example-0123456789."}
    whole = {**ANSWER, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    chunk = {**DELTA, "choices": [{"index": 0, "finish_reason": "stop", "delta": message}]}
    answer = ask(served, {"events": [chunk]} if stream else {"status": 200, "body": whole}, stream=stream)
    assert b"sk-example-0123456789" in answer.body
