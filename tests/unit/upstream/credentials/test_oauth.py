"""What a token server is asked, and what its answers mean."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from modelport.core.ports.providers import Address
from modelport.upstream.credentials.oauth import ClientCredentials, read_token
from modelport.upstream.credentials.source import TokenFault

SECRET = "s3cret/+ä"
ASKED = ClientCredentials(
    token_url="https://issuer.example:8443/realms/a/token?x=1", client_id="us", client_secret=SECRET,
    more=[("scope", "https://models.example/.default"), ("audience", "models")], ca_file="/ca.pem",
)  # fmt: skip


def test_by_form() -> None:
    assert ASKED.address == Address("https://issuer.example:8443", ca_file="/ca.pem")
    sent = ASKED.request()
    assert (sent.method, sent.path) == ("POST", "/realms/a/token?x=1")
    assert parse_qs(sent.body.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["https://models.example/.default"],
        "audience": ["models"],
        "client_id": ["us"],
        "client_secret": [SECRET],
    }
    assert "authorization" not in {name.lower() for name, _ in sent.headers}
    assert SECRET not in repr(ASKED)


def test_by_header() -> None:
    sent = ClientCredentials("https://i.example", "u:s", SECRET, "client_secret_basic").request()
    assert sent.path == "/"
    kind, _, pair = dict(sent.headers)["Authorization"].partition(" ")
    assert (kind, base64.b64decode(pair).decode()) == ("Basic", "u%3As:s3cret%2F%2B%C3%A4")
    assert b"client_secret" not in sent.body


@pytest.mark.parametrize(
    ("more", "seconds"),
    [({"expires_in": 60}, 60), ({"expires_in": "60"}, 60), ({}, 300), ({"expires_in": "soon"}, 300),
     ({"expires_in": 1e300, "token_type": "bearer"}, 2_592_000)],
)  # fmt: skip
def test_a_token(more: dict[str, Any], seconds: float) -> None:
    token = read_token(200, json.dumps({"access_token": "abc", "token_type": "Bearer", **more}).encode())
    assert (token.value, token.seconds) == ("abc", seconds)
    assert "abc" not in repr(token)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": "invalid_client", "error_description": "bad\nsecret"}, "400 invalid_client: bad secret"),
        (503, "<html>", "503 without a JSON object"),
        (200, [], "200 without a JSON object"),
        (200, {}, "holds no access_token"),
        (200, {"access_token": "a b"}, "holds no access_token"),
        (200, {"access_token": "a\r\nx: y"}, "holds no access_token"),
        (200, {"access_token": "a" * 16_385}, "holds no access_token"),
        (200, {"access_token": "a", "token_type": "DPoP"}, "type DPoP"),
        (200, {"access_token": "a", "expires_in": 0}, "has expired"),
        (200, {"access_token": "a", "expires_in": float("nan")}, "without a JSON object"),
    ],
)
def test_no_token(status: int, body: Any, words: str) -> None:
    with pytest.raises(TokenFault, match=words):
        read_token(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())
