"""A server that lets everybody in, asked under other names and from other pages: no route answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from served import Served
from served import serve as serve_process

CONFIG: dict[str, Any] = {
    "auth": {"anonymous": True},
    "server": {"allowed_hosts": ["Models.LAN"], "cors_origins": ["https://notes.example"]},
    "telemetry": {"public": True},
    "providers": {"up": {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}},
    "deployments": {
        "script": {
            "model": {"format": "Custom", "name": "script", "version": "1"},
            "provider": {"type": "scripted"},
            "default": True,
        },
        "remote": {"model": {"format": "Custom", "name": "remote", "version": "1"}, "provider": "up"},
    },
}
CHAT = {"messages": [{"role": "user", "content": "Hello!"}]}
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/", None),
    ("GET", "/health", None),
    ("GET", "/health/ready", None),
    ("GET", "/metrics", None),
    ("GET", "/info", None),
    ("GET", "/v1/models", None),
    ("GET", "/openai/deployments", None),
    ("GET", "/admin/v1/usage", None),
    ("GET", "/nowhere", None),
    ("PUT", "/v1/chat/completions", CHAT),
    ("OPTIONS", "/v1/chat/completions", None),
    ("POST", "/models/chat/completions", CHAT),
    ("POST", "/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {"model": "remote", **CHAT}),
    ("POST", "/openai/deployments/remote/chat/completions?api-version=2024-10-21", CHAT),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve_process(CONFIG, tmp_path_factory.mktemp("anonymous") / "data") as found:
        found.ready()
        yield found


@pytest.mark.parametrize("route", ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES])
@pytest.mark.parametrize(
    ("field", "value", "setting"),
    [("host", "evil.example:1", "server.allowed_hosts"), ("origin", "https://evil.example", "server.cors_origins")],
    ids=["host", "origin"],
)
def test_no_route_answers_to_strangers(
    served: Served, route: tuple[str, str, Any], field: str, value: str, setting: str
) -> None:
    before = len(served.journal())
    answer = raw_call(served, route, {field: value})
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert setting.encode() in answer
    assert b"access-control-allow-origin" not in answer
    assert len(served.journal()) == before


def raw_call(served: Served, route: tuple[str, str, Any], fields: dict[str, str]) -> bytes:
    """`http.client` writes a Host of its own."""
    method, path, body = route
    data = b"" if body is None else json.dumps(body).encode()
    own = {"host": f"localhost:{served.address[1]}", "connection": "close", "content-length": str(len(data))}
    head = "".join(f"{name}: {text}\r\n" for name, text in (own | fields).items())
    return served.exchange(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"host": "LOCALHOST."},
        {"host": "127.9.9.9"},
        {"host": "[::1]:80"},
        {"host": "models.lan"},
        {"origin": "https://notes.example"},
        {"host": "localhost", "origin": "http://localhost"},
    ],
)
@pytest.mark.parametrize("route", [ROUTES[1], ROUTES[11]], ids=["health", "chat"])
def test_this_machine_and_whom_the_operator_names_are_answered(
    served: Served, route: tuple[str, str, Any], fields: dict[str, str]
) -> None:
    assert raw_call(served, route, fields).startswith(b"HTTP/1.1 200 ")


def test_a_head_that_was_good_does_not_open_the_door_for_another(served: Served) -> None:
    with served.connect() as connection:
        for host, status in (("localhost", 503), ("evil.example", 403), ("localhost", 503)):
            body = b'{"model":"remote","messages":[{"role":"user","content":"Hi"}]}'
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            received = b""
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                data = connection.recv(65536)
                assert data
                received += data
            assert received.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"authorization": "Bearer unused"}),
        ("/models/chat/completions", {"api-key": "unused"}),
        ("/openai/deployments/script/chat/completions?api-version=2024-10-21", {"api-key": "unused"}),
    ],
)
def test_a_wrong_key_is_refused_and_says_that_none_is_needed(served: Served, path: str, fields: dict[str, str]) -> None:
    answer = raw_call(served, ("POST", path, {"model": "script", **CHAT}), fields)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"takes callers without a credential" in answer
    assert b"unused" not in answer


def test_a_client_that_must_send_some_key_has_one_of_its_own(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNUSED_KEY", "unused")
    with serve({**CONFIG, "keys": {"unused": {"key1": "env:UNUSED_KEY"}}}) as served:
        assert raw_call(served, ROUTES[11], {}).startswith(b"HTTP/1.1 200 ")
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client:
            assert client.models.list().data
        with (
            openai.OpenAI(base_url=f"{served.url}/v1", api_key="another", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError, match="takes callers without a credential"),
        ):
            client.models.list()


def test_a_server_with_keys_answers_to_every_name(serve: Callable[..., Any]) -> None:
    with serve({**CONFIG, "auth": {}}) as served:
        assert raw_call(served, ROUTES[1], {"host": "any.example"}).startswith(b"HTTP/1.1 200 ")
        fields = {"host": "any.example", "origin": "https://any.example", "api-key": served.key}
        assert raw_call(served, ROUTES[11], fields).startswith(b"HTTP/1.1 200 ")
