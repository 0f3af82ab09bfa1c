"""Tokens as attackers and misconfigured clients send them, to a real server. Each is refused for the right reason."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from scripted_issuer import AUDIENCE, MANAGEMENT, TENANT, TokenIssuer, claims_of, issuing, jwk, private_key, signed
from served import Answer, Served, eventually

LEEWAY = 60
FREE = {"tokens_per_minute": None, "requests_per_minute": None}
CONFIG: dict[str, Any] = {
    "deployments": {
        "script": {"model": {"name": "script"}, "provider": {"type": "scripted"}, "default": True, "limits": FREE},
        "serverless": {"model": {"name": "script"}, "provider": {"type": "scripted"}, "key_only": True},
    },
}
OTHER_TENANT = "ffffffff-4d5e-6f70-8192-a3b4c5d6e7f8"
CHAT = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def served(issuer: TokenIssuer, serve_module: Callable[..., Served]) -> Served:
    entry = issuer.entry(algorithms=["RS256", "ES256"])
    return serve_module({**CONFIG, "auth": {"oidc": [entry], "failures_per_minute": None}})


def call(served: Served, token: str, path: str = "/models/chat/completions") -> Answer:
    method, body = ("POST", CHAT) if path.endswith("completions") else ("GET", None)
    return served.call(method, path, body, headers={"authorization": f"Bearer {token}"}, key=None)


def reason(served: Served, answer: Answer) -> str:
    """What the log says of a refusal."""
    id = answer.headers["x-request-id"]
    found: list[str] = []

    def is_logged() -> bool:
        found[:] = [line for line in served.stderr().splitlines() if id in line]
        return bool(found)

    eventually(is_logged, "the line of the refusal")
    line = json.loads(found[0])
    return str(line.get("reason") or line["message"].split(": ")[1].split()[1])


@pytest.mark.check(12)
def test_a_good_token_is_its_application(served: Served, issuer: TokenIssuer) -> None:
    for version in (issuer.url, f"{issuer.base}/{TENANT}/v2.0"):
        for audience in (AUDIENCE, f"{AUDIENCE}/", "https://ml.azure.com", ["other", AUDIENCE]):
            answer = call(served, issuer.token(iss=version, aud=audience))
            assert answer.status == 200, answer.body
    assert served.journal()[-1].principal == "application:99999999-8888-7777-6666-555555555555"


@pytest.mark.check(13)
def test_the_answer_says_where_a_token_comes_from_and_what_is_asked_of_it(served: Served, issuer: TokenIssuer) -> None:
    for changed in ({"aud": "https://graph.microsoft.com"}, {"exp": int(time.time()) - 3600}):
        answer = call(served, issuer.token(**changed))
        assert answer.status == 401
        assert answer.json["statusCode"] == 401
        assert "audience is incorrect (https://cognitiveservices.azure.com)" in answer.json["message"]
        where = f'Bearer authorization_uri="{issuer.base}/{TENANT}"'
        assert answer.headers["www-authenticate"] == where
    assert served.call("POST", "/models/chat/completions", CHAT, key=None).headers["www-authenticate"] == where
    root = call(served, issuer.token(aud="other"), "/chat/completions")
    assert "auth token validation failed" in root.json["error"]["message"].lower()


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def public_pem(kid: str) -> bytes:
    return (
        private_key(kid)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def hs256(claims: dict[str, Any], secret: bytes) -> str:
    """Signed with what everybody knows."""
    signer = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed_part = forged({"alg": "HS256", "kid": "one", "typ": "JWT"}, claims).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(signer.sign(signed_part.encode(), secret)).rstrip(b"=").decode()
    return f"{signed_part}.{signature}"


def wrong_tokens(issuer: TokenIssuer) -> dict[str, tuple[str, str]]:
    """By what is wrong: the token and the reason."""
    good, now = claims_of(issuer.url), int(time.time())
    modulus = json.dumps(issuer.keys[0]).encode()
    return {
        "none": (forged({"alg": "none", "kid": "one"}, good), "algorithm"),
        "None": (forged({"alg": "nOnE"}, good, b"x"), "algorithm"),
        "public key as a secret": (hs256(good, public_pem("one")), "algorithm"),
        "published key as a secret": (hs256(good, modulus), "algorithm"),
        "another RSA algorithm": (signed(good, algorithm="RS512"), "algorithm"),
        "curve algorithm, RSA key": (forged({"alg": "ES256", "kid": "one"}, good, b"x" * 64), "unknown_key_id"),
        "a key of its own": (forged({"alg": "RS256", "kid": "one", "jwk": issuer.keys[0]}, good, b"x"), "signature"),
        "critical extension": (
            forged({"alg": "RS256", "kid": "one", "crit": ["b64"], "b64": False}, good),
            "malformed",
        ),
        "another key": (signed(good, "one", key=private_key("stranger")), "signature"),
        "changed claims": (
            ".".join([*issuer.token().split(".")[:1], *issuer.token(aud="x", oid="y").split(".")[1:]][:2])
            + "."
            + issuer.token().split(".")[2],
            "audience",
        ),
        "no signature": (issuer.token().rpartition(".")[0] + ".", "signature"),
        "audience": (issuer.token(aud="https://graph.microsoft.com"), "audience"),
        "longer audience": (issuer.token(aud=f"{AUDIENCE}.evil.example"), "audience"),
        "no audience": (issuer.token(aud=None), "audience"),
        "ARM's audience": (issuer.token(aud=f"{MANAGEMENT}/"), "audience"),
        "GUID that is not listed": (issuer.token(aud="7d312290-28c8-473c-a0ed-8e53749b6d6d"), "audience"),
        "issuer": (issuer.token(iss="https://login.example/"), "unknown_issuer"),
        "issuer without slash": (issuer.token(iss=issuer.url.rstrip("/")), "unknown_issuer"),
        "tenant's issuer": (issuer.token(iss=f"{issuer.base}/{OTHER_TENANT}/"), "unknown_issuer"),
        "tenant": (issuer.token(tid=OTHER_TENANT), "tenant"),
        "no tenant": (issuer.token(tid=None), "tenant"),
        "expired": (issuer.token(exp=now - LEEWAY - 1), "expired"),
        "no expiry": (issuer.token(exp=None), "claims"),
        "odd expiry": (issuer.token(exp=None, **{"exp ": 1}), "claims"),
        "text as expiry": (forged({"alg": "RS256", "kid": "one"}, {**good, "exp": "9999999999"}, b"x"), "claims"),
        "not yet": (issuer.token(nbf=now + LEEWAY + 30), "not_yet_valid"),
        "nobody": (issuer.token(oid=None, sub=None), "claims"),
        "unknown key": (signed(good, "another"), "unknown_key_id"),
        "deep": ("eyJ" + base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=") + ".e30.x", "malformed"),
        "no JSON": ("eyJub3QganNvbg.eyJub3QganNvbg.x", "malformed"),
    }


@pytest.mark.check(13)
def test_wrong_tokens_are_refused_and_only_the_log_says_why(served: Served, issuer: TokenIssuer) -> None:
    for wrong, (token, expected) in wrong_tokens(issuer).items():
        answer = call(served, token)
        assert answer.status == 401, (wrong, answer.body)
        assert reason(served, answer) == expected, wrong
        for part in token.split("."):
            assert not part or len(part) < 12 or part not in served.stderr()


def test_management_takes_its_own_audience_and_no_other(served: Served, issuer: TokenIssuer) -> None:
    path = "/subscriptions?api-version=2022-01-01"
    for audience in (MANAGEMENT, f"{MANAGEMENT}/"):
        assert call(served, issuer.token(aud=audience), path).status == 200
        assert call(served, issuer.token(aud=audience), "/%73UBscriptions?api-version=1").status == 200
    for audience in (AUDIENCE, "https://management.core.windows.net/"):
        for spelt in (path, "/%73ubscriptions?api-version=1", "//SUBSCRIPTIONS?api-version=1"):
            answer = call(served, issuer.token(aud=audience), spelt)
            assert answer.status == 401
            assert reason(served, answer) == "audience"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_without_a_role_may_do_nothing(served: Served, issuer: TokenIssuer) -> None:
    token = issuer.token(roles=["Somebody else's"])
    for path in ("/models/chat/completions", "/v1/models", "/v1/chat/completions"):
        answer = call(served, token, path)
        assert answer.status == 401
        assert answer.json["error"]["code"] == "PermissionDenied"
    assert call(served, issuer.token(roles=None, aud=MANAGEMENT), "/subscriptions?api-version=1").status == 403
    answer = call(served, issuer.token(roles=None, groups=None, hasgroups=True))
    assert "assign app roles" in answer.json["error"]["message"]
    eventually(lambda: "group_overage" in served.stderr(), "the log's word about groups")


def test_a_large_token_works_and_a_larger_one_is_too_large(served: Served, issuer: TokenIssuer) -> None:
    groups = [f"00000000-0000-0000-0000-{number:012}" for number in range(290)]
    token = issuer.token(groups=groups)
    assert 15_000 < len(token) < 17_000
    assert call(served, token).status == 200
    assert call(served, issuer.token(groups=groups * 3)).status == 431


def test_a_deployment_that_is_key_only_refuses_tokens_and_says_so(served: Served, issuer: TokenIssuer) -> None:
    body = {**CHAT, "model": "serverless"}
    bearer = {"authorization": f"Bearer {issuer.token()}"}
    for path in ("/models/chat/completions", "/deployments/serverless/chat/completions"):
        answer = served.call("POST", path, body, headers=bearer, key=None)
        assert answer.status == 401
        assert "api-key: KEY" in answer.json["error"]["message"]
        assert served.call("POST", path, body).status == 200
    assert served.call("GET", "/deployments/serverless/info", headers=bearer, key=None).status == 401


def test_a_key_beside_a_bad_token_is_enough(served: Served, issuer: TokenIssuer) -> None:
    headers = {"authorization": f"Bearer {issuer.token(aud='other')}"}
    assert served.call("POST", "/models/chat/completions", CHAT, headers=headers).status == 200


def test_keys_rotate_while_calls_run(issuer: TokenIssuer, served: Served) -> None:
    statuses: list[int] = []
    stop = threading.Event()
    tokens = [issuer.token()]

    def calls() -> None:
        while not stop.is_set():
            statuses.append(call(served, tokens[-1]).status)
            time.sleep(0.01)

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    issuer.keys = [jwk("one"), jwk("two")]
    rotated = issuer.token("two")
    eventually(lambda: call(served, rotated).status == 200, "the new key is known")  # within some seconds
    tokens.append(rotated)
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    issuer.keys = [jwk("one")]
    assert set(statuses) == {200}


def test_a_flood_of_unknown_keys_fetches_seldom(issuer: TokenIssuer, served: Served) -> None:
    before = issuer.key_fetches
    unknown = [signed(claims_of(issuer.url, jti=str(number)), "stranger") for number in range(100)]
    with ThreadPoolExecutor(10) as pool:
        assert {answer.status for answer in pool.map(partial(call, served), unknown)} == {401}
    assert issuer.key_fetches - before <= 2


@pytest.mark.parametrize(
    "answer",
    [
        (302, {"location": "/other"}, b""),
        (307, {"location": "http://localhost:9/keys"}, b""),
        (301, {"location": "file:///etc/hostname"}, b""),
        (200, {"refresh": "0;url=/other"}, b"{}"),
        (200, {"content-encoding": "gzip"}, gzip.compress(b" " * 20_000_000)),
        (200, {"content-encoding": "gzip"}, b"not packed"),
        (200, {}, b'{"keys": ' + b"[" * 200_000),
        (200, {}, b'{"keys": [' + b" " * 1024 * 1024 + b"]}"),
        (200, {}, b"not JSON"),
        (500, {}, b"{}"),
    ],
    ids=[
        "redirect",
        "to another host",
        "to a file",
        "refresh",
        "packed",
        "wrongly packed",
        "deep",
        "larger than 1 MB",
        "no JSON",
        "broken",
    ],
)
def test_key_sets_that_cannot_be_used(serve: Callable[..., Any], answer: tuple[int, dict[str, str], bytes]) -> None:
    with issuing() as issuer:
        issuer.answers["/keys"] = answer
        with serve({**CONFIG, "auth": {"oidc": [issuer.entry()]}}) as served:
            refused = call(served, issuer.token())
            assert refused.status == 503
            assert refused.headers["retry-after"]
            assert reason(served, refused) == "issuer_unreachable"
            assert "/other" not in issuer.fetches
            assert served.call("POST", "/models/chat/completions", CHAT).status == 200
            stores = served.call("GET", "/health/ready").json["stores"]
            assert served.metric("modelport_issuer_failing", issuer=issuer.url) == 1
            assert [one["state"] for one in stores if one["name"] == f"issuer {issuer.url}"] == ["degraded"]


def test_an_address_that_fails_too_often(issuer: TokenIssuer, serve: Callable[..., Any]) -> None:
    with serve({**CONFIG, "auth": {"oidc": [issuer.entry()], "failures_per_minute": 5}}) as served:
        good = issuer.token()
        assert call(served, good).status == 200
        answers = [call(served, issuer.token(jti=str(number), aud="x")) for number in range(8)]
        statuses = [answer.status for answer in answers]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        assert reason(served, answers[statuses.index(429)]) == "throttled"
        answer = served.call("POST", "/models/chat/completions", CHAT, key="a-wrong-key")
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert call(served, good).status == 200
        assert call(served, good, "/v1/models").status == 200
        assert served.call("POST", "/models/chat/completions", CHAT).status == 200
        assert served.metric("modelport_authentication_failures_total", reason="throttled") >= 1
        for path in ("/health", "/health/live", "/health/ready", "/", "/metadata/endpoints"):
            assert served.call("GET", path, key="a-wrong-key").status == 200
        assert "stores" not in served.call("GET", "/health/ready", key="a-wrong-key").json
        assert served.call("GET", "/admin/v1/deployments", key="a-wrong-key").status == 429
        assert served.call("GET", "/admin/v1/deployments").status == 200


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            found = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if found.startswith(("127.", "0.")) else found


@pytest.mark.parametrize("terminated", [False, True])
def test_over_http_a_token_counts_on_loopback_alone(
    issuer: TokenIssuer, serve: Callable[..., Any], terminated: bool
) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    tls = {"terminated_upstream": True} if terminated else {}
    config = {**CONFIG, "server": {"host": "0.0.0.0", "tls": tls}, "auth": {"oidc": [issuer.entry()]}}
    with serve(config) as served:
        port, token = served.address[1], issuer.token()
        near, far = replace(served, url=f"http://127.0.0.1:{port}"), replace(served, url=f"http://{address}:{port}")
        forwarded = {"authorization": f"Bearer {token}", "x-forwarded-proto": "https", "forwarded": "proto=https"}
        for _ in range(2):  # who is known on loopback is not known elsewhere by that
            assert call(near, token).status == 200
            answer = far.call("POST", "/models/chat/completions", CHAT, headers=forwarded, key=None)
            assert answer.status == (200 if terminated else 401)
            assert call(far, token, "/v1/models").status == answer.status
        assert far.call("POST", "/models/chat/completions", CHAT).status == 200
        if not terminated:
            assert reason(served, answer) == "token_over_http"
            assert "Use https" in answer.json["message"]


def test_a_change_of_roles_counts_for_tokens_that_are_known(served: Served, issuer: TokenIssuer) -> None:
    token = issuer.token(roles=None, oid="22222222-2222-3333-4444-555555555555")
    assert call(served, token).status == 401
    assignment = {"user": "22222222-2222-3333-4444-555555555555", "role": "Inference User"}
    assert served.call("PUT", "/admin/v1/role_assignments/her", {"settings": assignment}).status == 201
    assert call(served, token).status == 200
    assert served.call("DELETE", "/admin/v1/role_assignments/her").status == 204
    assert call(served, token).status == 401


def test_no_token_is_left_anywhere(served: Served, issuer: TokenIssuer) -> None:
    good, bad = issuer.token(roles=["Administrator"]), issuer.token(aud="other")
    known = [good, bad]
    for token in known:
        for path in (
            "/models/chat/completions",
            "/v1/models",
            "/admin/v1/deployments",
            f"/unknown?access_token={token}",
        ):
            answer = call(served, token, path)
            assert token not in answer.body.decode()
    bearer = {"authorization": f"Bearer {good}"}
    created = served.call("PUT", "/admin/v1/projects/canary", {"settings": {}}, headers=bearer, key=None)
    assert created.status == 201, created.body
    audit = served.call("GET", "/admin/v1/audit", headers=bearer, key=None)
    assert b"application:99999999" in audit.body
    metrics = served.call("GET", "/metrics").body
    commands = b"".join(file.read_bytes() for file in readable(Path("/proc").glob("[0-9]*/cmdline")))
    files = b"".join(file.read_bytes() for file in readable(served.data_dir.rglob("*")))
    for token in known:
        for part in (token, token.rpartition(".")[2], token.split(".")[1]):
            for place in (audit.body, metrics, commands, files, served.stderr().encode()):
                assert part.encode() not in place


def readable(files: Iterable[Path]) -> Iterator[Path]:
    """Those that are there and can be read."""
    for file in files:
        with contextlib.suppress(OSError):
            if file.is_file():
                file.open("rb").close()
                yield file


def test_processes_know_issuers_and_follow_a_new_configuration(issuer: TokenIssuer, serve: Callable[..., Any]) -> None:
    config = {**CONFIG, "server": {"workers": 2}, "auth": {"oidc": [issuer.entry()]}}
    with serve(config) as served, issuing("/second") as second:
        assert {call(served, issuer.token()).status for _ in range(8)} == {200}
        assert call(served, second.token()).status == 401
        file = served.data_dir.parent / f"{served.data_dir.name}.yaml"
        file.write_text(json.dumps({**config, "auth": {"oidc": [second.entry()]}}))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: call(served, second.token()).status == 200, "the second issuer is known")
        eventually(
            lambda: {call(served, issuer.token()).status for _ in range(8)} == {401}, "the first one is known no longer"
        )
        assert {call(served, second.token()).status for _ in range(8)} == {200}
