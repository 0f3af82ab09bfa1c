"""Paths, headers and addresses as attackers send them: none reaches what it should not, and none makes us call out."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served import KEY, Served, eventually, serve

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "extra_parameters": "pass-through",
    "server": {"cors_origins": ["https://portal.example"], "region": "East US 2"},
    "deployments": {
        "script": {"model": MODEL, "provider": {"type": "scripted", "dimensions": 4}, "default": True},
        "seeing": {
            "model": {**MODEL, "name": "Llama-3.2-11B-Vision-Instruct"},
            "provider": {"type": "scripted"},
        },
        "named": {"model": {**MODEL, "name": "<script>alert(1)</script>"}, "provider": {"type": "scripted"}},
    },
}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG)


# --- paths ---------------------------------------------------------------------------------------------------------

TRICKS = [
    "/models/../metrics",
    "/models/%2e%2e/metrics",
    "/./metrics",
    "/health/../metrics",
    "/health/..%2fmetrics",
    "/health/%2e%2e%2fmetrics",
    "/%6detrics",
    "/metrics/",
    "//metrics",
    "///metrics",
    "/metrics%00",
    "/metrics;x=1",
    "/metrics?x=/health",
    "/health/live/../../metrics",
    "/METRICS",
    "/metrics%2f",
    "/models\\..\\metrics",
    "/openai/v1/models/..%2f..%2fmetrics",
    "/openai/v1/models/%ff%fe",
    "/openai/v1/models/%",
    "/openai/v1/models/%zz",
    "/deployments/../info",
    "/deployments/%2e%2e/info",
    "/deployments/script%2finfo",
    "/openai/deployments/script%2fchat/completions",
    "/v1/models#/health",
    "http://localhost/metrics",
    "http://127.0.0.1:1/metrics",
    "/" + "a/" * 5_000,
    "/" + "%61" * 5_000,
]


@pytest.mark.parametrize("path", TRICKS)
def test_no_path_leads_around_the_credential(served: Served, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        answer = served.exchange(head.encode("latin-1"))
        assert re.match(rb"HTTP/1.1 (400|401|404|405) ", answer), answer[:200]
        assert b"modelport_" not in answer
        assert b"model_name" not in answer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["metrics", "models", "openai", "v1", "health", "..", ".", "", "%2e%2e", "info", "%00", "x", "{name}"]
        ),
        max_size=5,
    )
)
def test_no_path_of_known_words_is_a_fault_or_leads_around_the_credential(served: Served, words: list[str]) -> None:
    answer = served.call("GET", "/" + "/".join(words), key=None)
    assert answer.status in (200, 401, 404, 405)
    if answer.status == 200:
        assert answer.body in (b"healthy", b'{"status":"ok"}') or answer.json == {"status": "ready"}


# --- headers -------------------------------------------------------------------------------------------------------

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def header_names(answer: bytes) -> list[bytes]:
    head = answer.partition(b"\r\n\r\n")[0]
    return [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]


@pytest.mark.parametrize(
    "path",
    [
        "/deployments/a%0d%0ax-evil:%201/chat/completions",
        "/openai/deployments/a%0d%0ax-evil:%201/chat/completions?api-version=2024-02-01",
        "/openai/deployments/%0aSet-Cookie:%20x/chat/completions",
        "/models/chat/completions?api-version=%0d%0ax-evil:1",
    ],
)
def test_an_encoded_line_break_in_the_address_makes_no_header(served: Served, path: str) -> None:
    answer = served.exchange(served.request(path, CHAT, connection="close"))
    assert re.match(rb"HTTP/1.1 (400|404) ", answer)
    assert not {b"x-evil", b"set-cookie"} & set(header_names(answer))
    json.loads(answer.partition(b"\r\n\r\n")[2])


ECHOED = [
    b"x-ms-client-request-id",
    b"x-ms-model-mesh-model-name",
    b"azureml-model-deployment",
    b"extra-parameters",
    b"origin",
    b"host",
    b"traceparent",
    b"accept",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(ECHOED),
    value=st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0")),
    path=st.sampled_from(["/models/chat/completions", "/chat/completions"]),
)
def test_odd_bytes_in_a_header_stay_inside_it(served: Served, name: bytes, value: bytes, path: str) -> None:
    request = served.request(path, CHAT, connection="close")
    if name == b"host":
        request = request.replace(b"host: localhost\r\n", b"")
    answer = served.exchange(request.replace(b"\r\n", b"\r\n" + name + b": " + value + b"\r\n", 1))
    assert re.match(rb"HTTP/1.1 (200|400|404) ", answer), answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    head.decode("ascii")
    json.loads(body)
    assert all(re.fullmatch(rb"[a-z0-9-]+", found) for found in header_names(answer))


def test_a_client_request_id_comes_back_only_if_it_is_plain(served: Served) -> None:
    plain = served.call("POST", "/models/chat/completions", CHAT, headers={"x-ms-client-request-id": "a1-B2_c3"})
    assert plain.headers["x-ms-client-request-id"] == "a1-B2_c3"
    for odd in ("two words", "ünï", "x" * 2000, "\t"):
        answer = served.call("POST", "/models/chat/completions", CHAT, headers={"x-ms-client-request-id": odd})
        assert answer.status == 200
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-ms-client-request-id"])
        assert answer.headers["x-ms-client-request-id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("name", ["a\r\nx-evil: 1", "ключ", "a, b", "\x00", "x" * 5_000, "", "\ud83d\ude00"])
def test_names_of_dropped_parameters_stay_inside_their_header(served: Served, name: str) -> None:
    body = json.dumps({**CHAT, name: 1}).encode()
    request = served.request("/models/chat/completions", body, connection="close", extra_parameters="drop")
    answer = served.exchange(request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-evil" not in header_names(answer)
    assert b"x-modelport-dropped-parameters" in header_names(answer)
    answer.partition(b"\r\n\r\n")[0].decode("ascii")


def test_the_page_escapes_what_others_wrote(served: Served) -> None:
    for host in ('"><script>alert(1)</script>', "evil' onload=alert(1)", "localhost"):
        head = f"GET / HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n"
        answer = served.exchange(head.encode()).decode()
        assert "<script>alert" not in answer
        if host == "localhost":
            assert "default-src 'none'" in answer
        else:
            assert answer.startswith("HTTP/1.1 400 ")


def test_only_the_configured_origin_may_read_answers_in_a_browser(served: Served) -> None:
    for origin in (
        "https://evil.example",
        "https://portal.example.evil.example",
        "null",
        "https://PORTAL.example.",
        "*",
    ):
        for method in ("GET", "OPTIONS"):
            answer = served.call(method, "/v1/models", headers={"origin": origin})
            assert "access-control-allow-origin" not in answer.headers
    answer = served.call("GET", "/v1/models", headers={"origin": "https://portal.example"})
    assert answer.headers["access-control-allow-origin"] == "https://portal.example"


# --- calls to elsewhere --------------------------------------------------------------------------------------------


class Canary:
    """A listener that nobody may call; it hangs up at once on who does."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.calls = 0
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


def parts(url: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": f"look at {url}"},
        {"type": "image_url", "image_url": {"url": url}},
    ]


FIELDS = [
    "base_url",
    "api_base",
    "endpoint",
    "url",
    "callback",
    "webhook",
    "proxy",
    "provider",
    "api_key",
    "api_type",
    "custom_llm_provider",
    "region",
    "azure_endpoint",
    "data_sources",
    "file_url",
    "target",
    "server",
    "upstream",
    "model_list",
]
HEADERS = [
    "x-ms-original-url",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "forwarded",
    "x-host",
    "referer",
    "destination",
    "x-portkey-custom-host",
    "x-base-url",
    "api-base",
    "x-target",
    "via",
]


def test_no_field_header_or_path_makes_the_server_call_out(served: Served, canary: Canary) -> None:
    url = f"http://{canary.address}/picture.png"
    chats: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": parts(url)}], "model": "seeing"},
        {"messages": [{"role": "user", "content": parts(url.replace("http", "ftp"))}], "model": "seeing"},
        {"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}]},
        {**CHAT, "response_format": schema_format({"$ref": url})},
        {**CHAT, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}]},
        {
            **CHAT,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$schema": url, "$id": url}}}],
        },
        {**CHAT, "data_sources": [{"type": "azure_search", "parameters": {"endpoint": url}}]},
        {**CHAT, **dict.fromkeys(FIELDS, url)},
        {**CHAT, "model": url},
        {**CHAT, "model": f"script@{canary.address}"},
        {**CHAT, "model": f"script#{url}"},
    ]
    for path in ("/models/chat/completions", "/chat/completions", "/v1/chat/completions"):
        for body in chats:
            assert served.call("POST", path, body).status in (200, 400, 404, 422)
        for name in HEADERS:
            assert served.call("POST", path, CHAT, headers={name: url}).status == 200
        assert served.call("POST", path, CHAT, headers={"host": canary.address}).status == 200
    images = {"input": [{"image": url}, {"image": f"file://{Path(__file__)}"}]}
    assert served.call("POST", "/models/images/embeddings", images).status in (200, 400, 422)
    for line in (f"POST {url}", f"CONNECT {canary.address}", f"GET //{canary.address}/", f"GET /@{canary.address}"):
        head = f"{line} HTTP/1.1\r\nhost: {canary.address}\r\napi-key: {KEY}\r\nconnection: close\r\n\r\n"
        assert re.match(rb"HTTP/1.1 4\d\d ", served.exchange(head.encode()))
    assert canary.calls == 0


def tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.embedded
def test_an_embedded_model_never_calls_out(weights: Path, tmp_path: Path, canary: Canary) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    with serve({"engine": {"slots": 1, "context": 2048}}, data_dir) as served:
        states = served.call("GET", "/health/ready").json["deployments"]
        eventually(lambda: served.call("GET", "/health/ready").status == 200, "models that are ready")
        url = f"http://{canary.address}/schema.json"
        file = f"file://{Path(__file__)}"
        for place in (url, file):
            referring = {"type": "object", "properties": {"a": {"$ref": place}}, "required": ["a"]}
            for schema in ({"$ref": place}, referring, {"$schema": place, "type": "string"}):
                body = {**CHAT, "max_tokens": 8, "response_format": schema_format(schema)}
                answer = served.call("POST", "/v1/chat/completions", body)
                assert answer.status in (200, 400, 422), answer.body
            function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"$ref": place}}}}
            body = {
                **CHAT,
                "max_tokens": 8,
                "tools": [{"type": "function", "function": function}],
                "tool_choice": "required",
            }
            assert served.call("POST", "/v1/chat/completions", body).status in (200, 400, 422)
            picture = {"model": image_deployment(states), "input": [{"image": place}]}
            answer = served.call("POST", "/models/images/embeddings", picture)
            assert answer.status in (400, 422), answer.body
        assert canary.calls == 0


def image_deployment(states: list[dict[str, Any]]) -> str:
    """The embedded deployment that takes pictures."""
    return str(next(state["name"] for state in states if "conse" in state["name"]))
