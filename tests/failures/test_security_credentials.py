"""Credentials as attackers send them: odd bytes, near misses, hashes. None is a fault, and none opens the door."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from served import KEY, Served, eventually

LONG = "A" * 64
TWIN, OTHER_TWIN = LONG + "-first", LONG + "-other"
EXPIRED = "a-key-of-last-year"
MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}, "default": True}},
    "keys": {
        "twin": {"key1": "env:TWIN"},
        "other-twin": {"key1": "env:OTHER_TWIN", "key2": "env:SECOND"},
        "past": {"key1": "env:EXPIRED", "expires": "2020-01-01T00:00:00Z"},
    },
}
PATHS = ["/models/chat/completions", "/chat/completions", "/openai/deployments/script/chat/completions", "/v1/models"]


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, TWIN=TWIN, OTHER_TWIN=OTHER_TWIN, SECOND="second-key", EXPIRED=EXPIRED)


@pytest.fixture(scope="module")
def connection(served: Served) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(*served.address, timeout=30)) as connection:
        yield connection


HEADER_VALUE = st.binary(max_size=200).map(
    lambda value: value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
)
NEAR_MISSES = st.sampled_from(
    [
        b"Bearer",
        b"Bearer ",
        b"Bearer\t" + b"x",
        b"Basic " + KEY.encode(),
        b"Bearer Bearer " + KEY.encode() + b"x",
        b"Bearer " + KEY.encode() + b"'--",
        b"' OR '1'='1",
        b"Bearer " + b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        b"Bearer " + hashlib.sha256(KEY.encode()).hexdigest().encode(),
        b"Bearer ../../etc/passwd",
        b"Bearer %00",
        b"Bearer " + b"\xff\xfe",
        b"x" * 8000,
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["authorization", "api-key", "ocp-apim-subscription-key"]),
    value=HEADER_VALUE | NEAR_MISSES,
    path=st.sampled_from(PATHS),
)
def test_no_header_is_a_fault_and_no_odd_one_opens_the_door(
    connection: http.client.HTTPConnection, name: str, value: bytes, path: str
) -> None:
    method = "GET" if path == "/v1/models" else "POST"
    connection.putrequest(method, path, skip_accept_encoding=True)
    connection.putheader("content-length", "2")
    connection._output(name.encode() + b": " + value)  # type: ignore[attr-defined]  # putheader refuses odd bytes
    connection.endheaders(b"{}")
    response = connection.getresponse()
    body = response.read()
    assert response.status in (400, 401), (response.status, body)
    assert b'"error"' in body
    if response.will_close:
        connection.close()


def who(served: Served, **headers: str) -> str | None:
    """The principal that a call was recorded under; None: it was turned away."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = served.call("POST", PATHS[0], body, headers=sent, key=None)
    if answer.status == 401:
        return None
    assert answer.status == 200
    return served.journal()[-1].principal


def test_keys_with_a_long_common_beginning_are_different_callers(served: Served) -> None:
    assert who(served, api_key=TWIN) == "twin"
    assert who(served, authorization=f"Bearer {OTHER_TWIN}") == "other-twin"
    assert who(served, api_key=TWIN) == "twin"
    for wrong in (LONG, TWIN[:-1], TWIN + "x", TWIN.lower(), LONG + "-fIrst", LONG + "-"):
        assert who(served, api_key=wrong) is None


def test_both_keys_of_a_name_are_that_caller(served: Served) -> None:
    assert who(served, api_key="second-key") == who(served, api_key=OTHER_TWIN) == "other-twin"


def test_an_expired_key_is_no_key(served: Served) -> None:
    assert who(served, api_key=EXPIRED) is None


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "blake2b"])
def test_the_hash_of_a_key_is_no_key(served: Served, algorithm: str) -> None:
    digest = hashlib.new(algorithm, KEY.encode())
    assert who(served, api_key=digest.hexdigest()) is None
    assert who(served, authorization=f"Bearer {digest.hexdigest()}") is None


def test_any_valid_credential_among_those_shown_is_enough(served: Served) -> None:
    assert who(served, api_key="wrong", authorization=f"Bearer {KEY}") == "operator"
    assert who(served, api_key=KEY, authorization="Bearer wrong") == "operator"
    assert who(served, ocp_apim_subscription_key=KEY) == "operator"
    assert who(served, authorization=f"bEaReR   {KEY}") == "operator"
    assert who(served, authorization=KEY) is None
    assert who(served, api_key="", authorization="Bearer ") is None


@pytest.mark.parametrize("place", ["?api-key={key}", "?subscription-key={key}", "?key={key}", "?access_token={key}"])
def test_a_key_in_the_address_opens_nothing(served: Served, place: str) -> None:
    answer = served.call("GET", "/v1/models" + place.format(key=KEY), key=None)
    assert answer.status == 401
    assert KEY not in served.stderr()


JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "absent"),
        ({"authorization": f"Token {KEY}"}, "malformed"),
        ({"authorization": KEY}, "malformed"),
        ({"api-key": ""}, "malformed"),
        ({"api-key": "nobodys-key-5d"}, "unknown_key"),
        ({"authorization": "Bearer nobodys-key-5d"}, "unknown_key"),
        ({"ocp-apim-subscription-key": EXPIRED}, "expired_key: past/key1"),
        ({"authorization": f"Bearer {JWT}"}, "tokens_not_accepted"),
    ],
)
@pytest.mark.parametrize("path", ["/models/chat/completions", "/v1/chat/completions", "/v1/models"])
def test_the_log_says_why_a_caller_is_unknown_and_never_the_key(
    served: Served, headers: dict[str, str], reason: str, path: str
) -> None:
    method = "GET" if path == "/v1/models" else "POST"
    body = {"messages": [{"role": "user", "content": "Hi"}]} if method == "POST" else None
    answer = served.call(method, path, body, headers=headers, key=None)
    assert answer.status == 401
    assert reason.encode() not in answer.body
    id = answer.headers["x-request-id"]

    def lines() -> list[str]:
        return [line for line in served.stderr().splitlines() if id in line]

    eventually(lines, "the refusal's line")
    assert len(lines()) == 1
    assert reason in lines()[0]
    for secret in (KEY, "nobodys-key-5d", EXPIRED, JWT, JWT[:20]):
        assert secret not in lines()[0]
