"""Ways to show a token, and to be taken for somebody else, at a real server with two issuers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripted_issuer import TokenIssuer, claims_of, issuing
from served import KEY, Answer, Served

FREE = {"tokens_per_minute": None, "requests_per_minute": None}
SCRIPT = {"model": {"name": "script"}, "provider": {"type": "scripted"}, "limits": FREE}
PATH = "/models/chat/completions"
TEAM, READER = "team-key-4d1f", "reader-key-9c2e"
APPLICATION = "application:99999999-8888-7777-6666-555555555555"


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    """Its role `Inference User` is one."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def staff() -> Iterator[TokenIssuer]:
    """Its group `admins` administers."""
    with issuing("/staff") as issuer:
        yield issuer


@pytest.fixture(scope="module")
def served(issuer: TokenIssuer, staff: TokenIssuer, serve_module: Callable[..., Served]) -> Served:
    rule = {"claim": "roles", "value": "Inference User", "role": "Inference User"}
    admins = {"claim": "groups", "value": "admins", "role": "Administrator"}
    oidc = [issuer.entry(roles=[rule]), staff.entry(roles=[admins])]
    config = {
        "deployments": {"script": {**SCRIPT, "default": True}, "Team-A": SCRIPT, "team-b": SCRIPT, "teams": SCRIPT},
        "keys": {
            "team": {"key1": "env:TEAM", "deployments": ["team-?"]},
            "reader": {"key1": "env:READER", "role": "Usage Reader"},
        },
        "role_assignments": {"team": {"role": "Administrator", "key": "reader"}}
        | {"her": {"role": "Administrator", "user": "Alice", "issuer": staff.url}},
        "auth": {"oidc": oidc, "failures_per_minute": None},
    }
    return serve_module(config, TEAM=TEAM, READER=READER)


def call(served: Served, *lines: bytes, path: str = PATH, model: str | None = None) -> tuple[int, str]:
    """A request with these lines in its head: the status, and who it was if it was let in."""
    named = {"model": model} if model is not None else {}
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **named}).encode()
    head = [f"POST {path} HTTP/1.1".encode(), b"Host: x", b"Connection: close", b"Content-Length: %d" % len(body)]
    answer = served.exchange(b"\r\n".join([*head, *lines]) + b"\r\n\r\n" + body)
    status = int(answer.split()[1])
    return status, served.journal()[-1].principal if status == 200 else ""


def bearer(token: str, form: bytes = b"Authorization: Bearer %b") -> bytes:
    return form % token.encode()


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"Authorization: Bearer %b", 200),
        (b"authorization: bearer %b", 200),
        (b"AUTHORIZATION: BEARER   %b", 200),
        (b"Authorization: Bearer \t%b \t", 200),
        (b"Authorization: Bearer\t%b", 401),
        (b"Authorization: Bearer\xa0%b", 401),
        (b"Authorization: Bearer %b\xa0", 401),
        (b"Authorization: Bearer %b\x85", 401),
        (b"Authorization: Bearer \xe2\x80\x8b%b", 401),
        (b"Authorization: Bearer %b=", 401),
        (b"Authorization: Bearer %b.iv.tag", 401),
        (b"Authorization: Bearer Bearer %b", 401),
        (b"Authorization: Bearer wrong, Bearer %b", 401),
        (b'Authorization: Bearer "%b"', 401),
        (b"Authorization: Bearer token=%b", 401),
        (b"Authorization: %b", 401),
        (b"Authorization: Basic %b", 401),
        (b"Authorization: DPoP %b", 401),
        (b"api-key: %b", 401),
        (b"api-key: Bearer %b", 401),
        (b"Ocp-Apim-Subscription-Key: %b", 401),
        (b"Proxy-Authorization: Bearer %b", 401),
        (b"X-Ms-Token-Aad-Access-Token: %b", 401),
        (b"X-Forwarded-Authorization: Bearer %b", 401),
        (b"Cookie: Authorization=Bearer %b", 401),
        (b"Authorization : Bearer %b", 400),
        (b"Authorization: Bearer\r\n %b", 400),
        (b"Authorization: Bearer %b\0", 400),
    ],
)
def test_forms(served: Served, issuer: TokenIssuer, form: bytes, status: int) -> None:
    expected = (status, APPLICATION if status == 200 else "")
    for _ in range(2):
        assert call(served, bearer(issuer.token(), form)) == expected


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "api-key", "code"])
def test_a_token_in_the_address_opens_nothing(served: Served, issuer: TokenIssuer, name: str) -> None:
    assert call(served, path=f"{PATH}?{name}={issuer.token()}") == (401, "")


def test_of_several_credentials_the_first_that_is_valid_counts(
    served: Served, issuer: TokenIssuer, staff: TokenIssuer
) -> None:
    user, wrong = bearer(issuer.token()), bearer(issuer.token(aud="other"))
    admin, key = bearer(staff.token(groups=["admins"])), b"api-key: " + TEAM.encode()
    assert call(served, user, wrong) == (200, APPLICATION)
    assert call(served, wrong, user) == (401, "")  # of a header's lines the first
    for lines in ((key, admin), (admin, key)):
        assert call(served, *lines, model="team-b") == (200, "team")
        assert call(served, *lines, model="script") == (404, "")
    assert call(served, b"api-key: wrong", user) == (200, APPLICATION)
    assert call(served, b"Ocp-Apim-Subscription-Key: " + TEAM.encode(), admin, model="team-b") == (200, "team")
    assert call(served, b"api-key: " + KEY.encode(), wrong) == (200, "operator")


@pytest.mark.parametrize(
    ("model", "status"),
    [
        *((model, 200) for model in ("team-b", "TEAM-B", "team-a", "Team-A")),
        *((model, 404) for model in ("script", "teams", "team-", "team-ab", "team-?", "team-*", "*", "team-[ab]")),
        *((model, 404) for model in ("team-b ", " team-b", "team-b\0", "\uff34eam-b", "team%2Db", "./team-b")),
    ],
)
def test_a_pattern_covers_what_it_says_whatever_a_caller_spells(served: Served, model: str, status: int) -> None:
    assert call(served, b"api-key: " + TEAM.encode(), model=model)[0] == status


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/openai/deployments/script/chat/completions?api-version=2024-06-01", b"x-a: b"),
        ("/deployments/script/chat/completions", b"x-a: b"),
        (PATH, b"x-ms-model-mesh-model-name: script"),
        ("/chat/completions", b"azureml-model-deployment: script"),
    ],
)
def test_no_other_place_for_a_name_escapes_the_scope(served: Served, path: str, line: bytes) -> None:
    assert call(served, b"api-key: " + TEAM.encode(), line, path=path, model="team-b") == (404, "")


def administers(served: Served, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    answer: Answer = served.call("GET", "/admin/v1/keys", headers=headers, key=None)
    return answer.status


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"groups": ["other", "admins"]}, 200),
        ({"groups": "admins"}, 200),  # a rule's claim may be the value itself
        ({"groups": ["Admins"]}, 401),
        ({"groups": ["admins "]}, 401),
        ({"groups": ["admins*"]}, 401),
        ({"groups": "other admins"}, 401),
        ({"groups": {"admins": True}}, 401),
        ({"groups": [["admins"]]}, 401),
        ({"roles": ["admins", "Administrator"]}, 401),
        ({"scp": "admins"}, 401),
        ({"groups.0": "admins"}, 401),
        ({"sub": "Alice"}, 200),
        ({"sub": "alice"}, 401),
        ({"sub": "Alice", "oid": "Bob"}, 401),
        ({"sub": "Bob", "oid": "Alice"}, 200),
        ({"sub": ["Alice"], "oid": "x"}, 401),
        ({"sub": "operator", "oid": "operator"}, 401),
        ({"sub": "reader", "oid": "reader"}, 401),
        ({"sub": "reader/key1", "appid": "reader"}, 401),
        ({"sub": "key:reader", "oid": "key:reader"}, 401),
    ],
)
def test_claims_are_what_their_own_issuer_says(
    served: Served, issuer: TokenIssuer, staff: TokenIssuer, claims: dict[str, Any], status: int
) -> None:
    nothing: dict[str, Any] = {"roles": None, "groups": None, "oid": None, "appid": None, "idtyp": None}
    given: dict[str, Any] = nothing | claims
    assert administers(served, staff.token(**given)) == status
    assert administers(served, issuer.token(**given)) == 401  # the other issuer's words mean nothing here


def test_the_operators_words_in_a_token_are_no_role(served: Served, issuer: TokenIssuer, staff: TokenIssuer) -> None:
    for roles in (["Administrator"], ["Owner"], ["8e3af657-a8ff-443c-a75c-2fe8c4bcb635"], "Administrator"):
        for token in (issuer.token(roles=roles), staff.token(roles=roles)):
            assert administers(served, token) == 401
            assert call(served, bearer(token))[0] == 401


def test_no_unsigned_claim_is_a_fault_and_each_is_a_failure(served: Served, issuer: TokenIssuer) -> None:
    def part(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    good = json.dumps({**claims_of(issuer.url), "exp": "@", "nbf": 0})
    before = served.metric("modelport_authentication_failures_total")
    for number in ("9" * 400, "-" + "9" * 5000, "1e400", "1e308", "NaN"):
        odd = good.replace('"@"', number)
        token = f"{part(json.dumps({'alg': 'RS256', 'kid': 'one'}))}.{part(odd)}.x"
        assert call(served, bearer(token)) == (401, "")
        assert administers(served, token) == 401
    assert served.metric("modelport_authentication_failures_total") == before + 10
    assert "unhandled" not in served.stderr()
