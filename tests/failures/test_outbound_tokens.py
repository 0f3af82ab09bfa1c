"""Providers with access tokens: a token server that is down, upstreams that refuse, Entra by its own library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.issuer import RunningIssuer, issuing
from tests.token_servers import TokenWorld, token_world

from served import Served, eventually, serve

SECRET = "secret-of-the-client-4471"


@pytest.fixture
def world() -> Iterator[TokenWorld]:
    with token_world() as running:
        yield running


def config(world: TokenWorld, **credential: Any) -> dict[str, Any]:
    asked = credential or {
        "type": "oauth",
        "token_url": f"{world.url}/token",
        "client_id": "us",
        "client_secret": "env:CLIENT_SECRET",
        "scope": "models",
    }
    house = {"type": "openai_compatible", "base_url": f"{world.url}/v1", "credential": asked}
    return {
        "providers": {"house": house},
        "deployments": {"x": {"model": {"name": "x"}, "provider": "house", "default": True}},
    }


def shown_nowhere(served: Served, world: TokenWorld) -> None:
    files = [path.read_bytes() for path in served.data_dir.rglob("*") if path.is_file()]
    pages = [served.call("GET", path).body for path in ("/metrics", "/admin/v1/audit", "/admin/v1/providers")]
    for text in (served.stderr().encode(), *files, *pages):
        assert SECRET.encode() not in text
        assert b"opaque-token" not in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_token_is_fetched_before_the_first_call(world: TokenWorld, tmp_path: Path, workers: str) -> None:
    with serve(config(world), tmp_path / "data", CLIENT_SECRET=SECRET, MODELPORT_WORKERS=workers) as served:
        eventually(lambda: world.issued == int(workers), "every worker has a token")
        assert [served.chat().status for _ in range(8)] == [200] * 8
        assert set(world.shown) <= {f"Bearer opaque-token-{number + 1}" for number in range(int(workers))}
        assert world.issued == int(workers)
        form = {"grant_type": "client_credentials", "scope": "models", "client_id": "us", "client_secret": SECRET}
        assert world.forms[0] == {name: [value] for name, value in form.items()}
        shown_nowhere(served, world)


def test_a_token_server_that_is_down_and_comes_back(world: TokenWorld, tmp_path: Path) -> None:
    world.token_status = 503
    with serve(config(world), tmp_path / "data", CLIENT_SECRET=SECRET) as served:
        refused = served.chat()
        assert (refused.status, world.shown) == (503, [])
        assert "token server issues no token" in refused.json["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
        asked = len(world.forms)
        assert {served.chat().status for _ in range(20)} == {503}
        assert len(world.forms) <= asked + 3  # calls do not make it ask more often
        assert {"name": "token of house", "state": "gone", "reason": None} in served.call("GET", "/health/ready").json[
            "stores"
        ]
        assert served.metric("modelport_provider_token_failing", provider="house") == 1
        world.token_status = 200
        eventually(lambda: served.chat().status == 200, "the token server is asked again")
        assert served.metric("modelport_provider_token_failing", provider="house") == 0
        assert "provider house: no new token: the token server answered 503" in served.stderr()
        shown_nowhere(served, world)


def test_the_next_token_comes_while_calls_go_on(world: TokenWorld, tmp_path: Path) -> None:
    world.seconds = 3
    with serve(config(world), tmp_path / "data", CLIENT_SECRET=SECRET) as served:
        assert served.chat().status == 200
        eventually(lambda: world.issued >= 2, "the next one is fetched without a call")
        eventually(lambda: served.chat().status == 200 and world.shown[-1] != "Bearer opaque-token-1", "it is shown")


def test_an_upstream_that_refuses_the_token_gets_a_new_one(world: TokenWorld, tmp_path: Path) -> None:
    with serve(config(world), tmp_path / "data", CLIENT_SECRET=SECRET) as served:
        assert served.chat().status == 200
        world.accepted = {"opaque-token-2"}  # the first one was revoked
        refused = served.chat()
        assert refused.status == 503
        assert b"opaque-token" not in refused.body
        assert served.chat().status == 200
        assert world.shown[-1] == "Bearer opaque-token-2"
        world.accepted = set()  # now it refuses all: that does not make a request for a token of every call
        assert {served.chat().status for _ in range(10)} == {503}
        assert world.issued == 2
        assert "does not accept the gateway's credential" in served.stderr()
        shown_nowhere(served, world)


def test_the_credential_changes_while_the_server_runs(world: TokenWorld, tmp_path: Path) -> None:
    file = {"deployments": {"script": {"model": {"name": "s"}, "provider": {"type": "scripted"}}}}
    with serve(file, tmp_path / "data") as served:
        provider = config(world)["providers"]["house"]
        provider["credential"]["client_secret"] = SECRET
        path = "/admin/v1/providers/late"
        assert served.call("PUT", path, {"settings": provider}).status == 201
        deployment = {"model": {"name": "late", "format": "Custom"}, "provider": "late"}
        assert served.call("PUT", "/admin/v1/deployments/late", {"settings": deployment}).status == 201
        assert served.chat(model="late").status == 200
        assert world.issued == 1
        settings = {"settings": {"credential": {"scope": "others"}}}
        assert served.call("PATCH", path, settings).status == 200
        assert served.chat(model="late").status == 200
        assert (world.issued, world.forms[-1]["scope"], world.forms[-1]["client_secret"]) == (2, ["others"], [SECRET])
        assert world.shown[-1] == "Bearer opaque-token-2"
        shown_nowhere(served, world)
    with serve(file, tmp_path / "data", MODELPORT_WORKERS="2") as again:  # the secret was stored
        assert again.chat(model="late").status == 200
        assert world.forms[-1]["client_secret"] == [SECRET]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIssuer]:
    with issuing(tmp_path_factory.mktemp("issuer") / "data", "--imds") as running:
        yield running


@pytest.mark.parametrize("kind", ["managed_identity", "workload_identity", "client_secret"])
def test_entra(issuer: RunningIssuer, world: TokenWorld, tmp_path: Path, kind: str) -> None:
    """By azure-identity as it is, at the development issuer."""
    known, more = issuer.environment, {}
    environment = {"SSL_CERT_FILE": known["SSL_CERT_FILE"]}
    match kind:
        case "managed_identity":
            environment |= {name: known[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        case "workload_identity":
            environment |= {name: value for name, value in known.items() if name.startswith("AZURE_")}
        case "client_secret":
            environment["CLIENT_SECRET"] = (issuer.data_dir / "identity" / "developer.secret").read_text().strip()
            more = {"tenant_id": known["AZURE_TENANT_ID"], "client_id": known["AZURE_CLIENT_ID"]}
            more |= {"client_secret": "env:CLIENT_SECRET", "authority": known["AZURE_AUTHORITY_HOST"]}
    with serve(config(world, type=kind, **more), tmp_path / "data", under=(), **environment) as served:
        answer = served.chat()
        assert answer.status == 200, served.stderr()
        token = world.shown[-1].removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        assert (claims["aud"], claims["appid"]) == ("https://cognitiveservices.azure.com", known["AZURE_CLIENT_ID"])
        assert token not in served.stderr()


def test_entra_that_is_not_there(world: TokenWorld, tmp_path: Path) -> None:
    absent = {"IDENTITY_ENDPOINT": "http://127.0.0.1:9/msi/token", "IDENTITY_HEADER": "header-of-nobody"}
    with serve(config(world, type="managed_identity"), tmp_path / "data", under=(), **absent) as served:
        assert served.call("GET", "/health/live", key=None).status == 200
        eventually(lambda: "provider house: no new token" in served.stderr(), "the log says why")
        assert "header-of-nobody" not in served.stderr()
