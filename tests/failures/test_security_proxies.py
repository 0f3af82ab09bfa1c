"""Callers behind proxies, and callers who only say so: whose failures count for whom, and who is written down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripted_issuer import TokenIssuer, issuing
from served import KEY, Answer, Served, eventually, until

CHAT = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/models/chat/completions"
MODEL = {"model": {"name": "script"}, "provider": {"type": "scripted"}, "default": True}
FREE = {"tokens_per_minute": None, "requests_per_minute": None}
FAILURES = 5


def config(issuer: TokenIssuer, trusted: list[str], **server: Any) -> dict[str, Any]:
    return {
        "deployments": {"script": {**MODEL, "limits": FREE}},
        "server": {"trusted_proxies": trusted, **server},
        "auth": {"oidc": [issuer.entry()], "failures_per_minute": FAILURES},
    }


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def behind(issuer: TokenIssuer, serve_module: Callable[..., Served]) -> Served:
    """Behind a proxy on this machine, and another before that."""
    tls = {"terminated_upstream": True}
    return serve_module(config(issuer, ["127.0.0.1", "10.0.0.0/8"], tls=tls))


@pytest.fixture(scope="module")
def alone(issuer: TokenIssuer, serve_module: Callable[..., Served]) -> Served:
    """Its proxy is elsewhere, so this machine is none."""
    return serve_module(config(issuer, ["10.0.0.0/8"]))


def call(served: Served, forwarded: str, path: str = PATH, *, key: str | None = None, token: str = "") -> Answer:
    headers = {"x-forwarded-for": forwarded} | ({"authorization": f"Bearer {token}"} if token else {})
    method, body = ("POST", CHAT) if path == PATH else ("GET", None)
    return served.call(method, path, body, headers=headers, key=key)


def empties(served: Served, forwarded: Callable[[int], str]) -> Answer:
    """More failures than one address may have; the last answer."""
    answers = [call(served, forwarded(number), key=f"wrong-{number}") for number in range(FAILURES + 1)]
    return answers[-1]


@pytest.mark.parametrize(
    ("attacker", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("192.0.2.3, 10.0.0.7", "192.0.2.4, 10.0.0.7"),
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
        ("[2001:db8:0:3::1]:9, ::ffff:10.0.0.7", "[2001:db8:0:4::1]:9"),
        ("192.0.2.5:4711", "192.0.2.6:4711"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/models"])
def test_one_who_fails_too_often_holds_up_nobody_else(
    behind: Served, issuer: TokenIssuer, attacker: str, other: str, path: str
) -> None:
    assert empties(behind, lambda number: attacker).status == 429
    assert call(behind, attacker, path, token=issuer.token(jti=f"a{attacker}{path}")).status == 429
    assert call(behind, other, path, token=issuer.token(jti=f"b{other}{path}")).status == 200
    assert call(behind, other, path, key="wrong").status == 401
    assert call(behind, attacker, path, key=KEY).status == 200


def test_what_a_client_writes_before_its_proxy_changes_nothing(behind: Served) -> None:
    for spoofed in ("198.51.100.{}, ", "10.0.0.{}, ", "garbage{},", "{}" + "x" * 5000 + ","):
        answer = empties(behind, lambda number, spoofed=spoofed: spoofed.format(number) + "192.0.2.20")  # type: ignore[misc]
        assert answer.status == 429
    assert call(behind, "192.0.2.20, 192.0.2.21", key="wrong").status == 401


def test_lines_are_joined_in_their_order(behind: Served) -> None:
    def ask(number: int) -> bytes:
        fields = [f"X-Forwarded-For: 198.51.100.{number}", "x-forwarded-for: 192.0.2.30", "X-FORWARDED-FOR: 10.0.0.9"]
        lines = [
            f"POST {PATH} HTTP/1.1",
            "Host: x",
            *fields,
            "Api-Key: wrong",
            "Content-Length: 2",
            "Connection: close",
        ]
        return behind.exchange(("\r\n".join(lines) + "\r\n\r\n{}").encode())

    assert [ask(number).split()[1] for number in range(FAILURES + 1)] == [b"401"] * FAILURES + [b"429"]


def test_callers_share_a_connection_of_the_proxy_and_nothing_else(behind: Served) -> None:
    def ask(forwarded: str) -> bytes:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {forwarded}\r\nApi-Key: wrong\r\n"
        connection.sendall(head.encode() + b"Content-Length: 2\r\n\r\n{}")
        return until(connection, b"}").split()[1]

    with behind.connect() as connection:
        assert [ask("192.0.2.40") for _ in range(FAILURES + 1)][-1] == b"429"
        assert ask("192.0.2.41") == b"401"
        assert ask("192.0.2.40") == b"429"


def test_malformed_words_of_a_proxy_count_for_the_proxy(behind: Served) -> None:
    assert empties(behind, lambda number: f"unknown{number}").status == 429
    assert call(behind, "192.0.2.50", key="wrong").status == 401


def test_who_is_no_trusted_proxy_escapes_nothing_by_a_header(alone: Served, issuer: TokenIssuer) -> None:
    known = issuer.token()
    assert call(alone, "192.0.2.60", token=known).status == 200
    assert empties(alone, lambda number: f"192.0.2.{number}").status == 429
    assert call(alone, "198.51.100.99", token=issuer.token(jti="new")).status == 429
    assert call(alone, "198.51.100.99", token=known).status == 200


def test_a_flood_of_one_address_has_few_lines_and_all_are_counted(behind: Served) -> None:
    flooding, began = "192.0.2.65", time.monotonic()
    assert empties(behind, lambda number: flooding).status == 429
    counted = behind.metric("modelport_authentication_failures_total", reason="throttled")
    paths = [PATH, "/v1/models", "/admin/v1/keys", "/health/ready"] * 25
    statuses = [call(behind, flooding, path, key=f"wrong-{number}").status for number, path in enumerate(paths)]
    assert statuses == [429, 429, 429, 200] * 25
    assert empties(behind, lambda number: "192.0.2.66").status == 429
    last = call(behind, "192.0.2.67", key="wrong")
    line_of(behind, last.headers["x-request-id"])
    lines = [line for line in behind.stderr().splitlines() if '"reason":"throttled' in line or "429 throttled" in line]
    assert 1 <= len([line for line in lines if flooding in line]) <= 1 + (time.monotonic() - began) / 10
    assert len([line for line in lines if "192.0.2.66" in line]) == 1
    assert behind.metric("modelport_authentication_failures_total", reason="throttled") == counted + 101


@pytest.mark.parametrize(("trusted", "address"), [("127.0.0.1", "192.0.2.70"), ("10.0.0.0/8", "127.0.0.1")])
def test_the_log_and_the_audit_name_the_client(
    issuer: TokenIssuer, serve: Callable[..., Any], trusted: str, address: str
) -> None:
    headers = {"x-forwarded-for": "198.51.100.1, 192.0.2.70"}
    with serve(config(issuer, [trusted])) as served:
        call_refused = served.call("POST", PATH, CHAT, headers=headers, key="wrong")
        assert json.loads(line_of(served, call_refused.headers["x-request-id"]))["address"] == address
        refused = served.call("GET", "/v1/models", headers=headers, key="wrong")
        assert f"address={address}" in line_of(served, refused.headers["x-request-id"])
        assert served.call("PUT", "/admin/v1/projects/p", {"settings": {}}, headers=headers).status == 201
        assert served.call("PUT", "/admin/v1/projects/q", {"settings": {}}, headers=headers, key=None).status == 401
        entries = served.call("GET", "/admin/v1/audit").json["value"]
        assert {entry["name"]: entry["source"] for entry in entries} == {"p": address, "q": address}
        assert "198.51.100.1" not in served.stderr()


def line_of(served: Served, id: str) -> str:
    found: list[str] = []

    def is_logged() -> bool:
        found[:] = [line for line in served.stderr().splitlines() if id in line]
        return bool(found)

    eventually(is_logged, "the line of the refusal")
    return found[0]


@pytest.mark.parametrize("is_terminated", [False, True])
def test_a_proxy_on_this_machine_makes_no_http_of_others_safe(
    issuer: TokenIssuer, serve: Callable[..., Any], is_terminated: bool
) -> None:
    tls = {"terminated_upstream": is_terminated}
    with serve(config(issuer, ["127.0.0.1"], tls=tls)) as served:
        token, expected = issuer.token(), 200 if is_terminated else 401
        for path in (PATH, "/v1/models", PATH):  # who is known from here is not thereby known from elsewhere
            assert call(served, "127.0.0.1", path, token=token).status == 200
            for forwarded in ("192.0.2.80", "127.0.0.1, 192.0.2.80", "unknown", "::ffff:192.0.2.80"):
                assert call(served, forwarded, path, token=token).status == expected
            headers = {
                "authorization": f"Bearer {token}",
                "x-forwarded-for": "192.0.2.80",
                "x-forwarded-proto": "https",
            }
            method, body = ("POST", CHAT) if path == PATH else ("GET", None)
            answer = served.call(method, path, body, headers=headers, key=None)
            assert answer.status == expected
            assert served.call(method, path, body, headers={**headers, "api-key": KEY}, key=None).status == 200
        if not is_terminated:
            assert "token_over_http" in line_of(served, answer.headers["x-request-id"])


def test_on_a_connection_where_a_token_is_known_another_clients_is_looked_at(
    issuer: TokenIssuer, serve: Callable[..., Any]
) -> None:
    with serve(config(issuer, ["127.0.0.1"])) as served, served.connect() as connection:
        body = json.dumps(CHAT).encode()

        def ask(forwarded: str) -> bytes:
            head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            head += f"X-Forwarded-For: {forwarded}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = until(connection, b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].split()[0])
            while len(answer.partition(b"\r\n\r\n")[2]) < length:
                answer += connection.recv(65536)
            return answer.split()[1]

        token = issuer.token()
        addresses = ["127.0.0.1"] * 3 + ["192.0.2.90"] * 2 + ["127.0.0.1", "192.0.2.90"]
        assert [ask(address) for address in addresses] == [b"200"] * 3 + [b"401"] * 2 + [b"200", b"401"]
