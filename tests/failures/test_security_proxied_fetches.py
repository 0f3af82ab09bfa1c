"""What the server fetches through a proxy: keys of issuers, and tokens for upstreams."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.issuer import RunningIssuer, issuing
from tests.token_servers import token_world

import scripted_issuer
from http_proxy import HttpProxy, http_proxy
from scripted_issuer import ROLES
from served import Served, eventually, serve

SCRIPT = {"script": {"model": {"name": "script"}, "provider": {"type": "scripted"}, "default": True}}
CHAT = {"model": "script", "messages": [{"role": "user", "content": "Hi"}]}
NAME, PASSWORD = "gateway", "pass-of-the-proxy-7f3a"
BASIC = "Basic " + base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
NOWHERE = "http://127.0.0.1:9"
ENVIRONMENT = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), NOWHERE)


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    with http_proxy() as running:
        yield running


@pytest.fixture(scope="module")
def entra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIssuer]:
    with issuing(tmp_path_factory.mktemp("issuer") / "data") as running:
        yield running


def with_password(proxy: HttpProxy) -> str:
    return f"http://{NAME}:{PASSWORD}@127.0.0.1:{proxy.port}"


def shown_nowhere(served: Served) -> None:
    pages = [served.call("GET", path).body for path in ("/metrics", "/health/ready", "/admin/v1/providers")]
    for text in (served.stderr().encode(), *pages):
        assert PASSWORD.encode() not in text
        assert BASIC.encode() not in text


@pytest.mark.parametrize("has_password", [False, True])
def test_keys_and_description_come_through_the_issuers_proxy(
    proxy: HttpProxy, tmp_path: Path, has_password: bool
) -> None:
    with scripted_issuer.issuing() as issuer:
        said = "env:PROXY" if has_password else proxy.url
        auth = {"oidc": [issuer.entry(proxy=said)]}
        environment = {**ENVIRONMENT, "PROXY": with_password(proxy)}
        with serve({"deployments": SCRIPT, "auth": auth}, tmp_path / "data", **environment) as served:
            bearer = {"authorization": f"Bearer {issuer.token()}"}
            assert served.call("POST", "/models/chat/completions", CHAT, headers=bearer, key=None).status == 200
            shown_nowhere(served)
        described = f"{issuer.base}/{scripted_issuer.TENANT}/v2.0/.well-known/openid-configuration"
        assert proxy.targets[:2] == [described, f"{issuer.base}/keys"]
        assert set(proxy.authorizations) == {BASIC if has_password else None}
        assert len(issuer.fetches) == len(proxy.targets)


def test_keys_over_https_are_tunnelled_and_their_certificate_is_checked(
    proxy: HttpProxy, entra: RunningIssuer, tmp_path: Path
) -> None:
    known = entra.environment
    authority = known["AZURE_AUTHORITY_HOST"].rstrip("/")
    form = f"grant_type=client_credentials&client_id={known['AZURE_CLIENT_ID']}"
    secret = (entra.data_dir / "identity" / "developer.secret").read_text().strip()
    form += f"&client_secret={secret}&scope=https://cognitiveservices.azure.com/.default"
    path, headers = (
        f"/{known['AZURE_TENANT_ID']}/oauth2/v2.0/token",
        {"content-type": "application/x-www-form-urlencoded"},
    )
    _, answer = entra.ask(authority, "POST", path, headers, form)
    bearer = {"authorization": f"Bearer {answer['access_token']}"}
    entry: dict[str, Any] = {
        "issuer": f"{authority}/{known['AZURE_TENANT_ID']}/v2.0",
        "audiences": ["https://cognitiveservices.azure.com"],
        "roles": ROLES,
        "proxy": "env:PROXY",
    }
    for ca, status in (({}, 503), ({"ca": known["SSL_CERT_FILE"]}, 200)):
        config = {"deployments": SCRIPT, "auth": {"oidc": [{**entry, **ca}]}}
        name = f"data-{status}"
        with serve(config, tmp_path / name, **ENVIRONMENT, PROXY=with_password(proxy)) as served:
            found = served.call("POST", "/models/chat/completions", CHAT, headers=bearer, key=None)
            assert found.status == status, served.stderr()
            shown_nowhere(served)
    assert set(proxy.targets) == {urlsplit(authority).netloc}
    assert set(proxy.authorizations) == {BASIC}


def test_a_proxy_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    with scripted_issuer.issuing() as issuer:
        auth = {"oidc": [issuer.entry(proxy="env:PROXY")]}
        proxy = f"http://{NAME}:{PASSWORD}@127.0.0.1:9"
        with serve({"deployments": SCRIPT, "auth": auth}, tmp_path / "data", PROXY=proxy) as served:
            bearer = {"authorization": f"Bearer {issuer.token()}"}
            assert served.call("POST", "/models/chat/completions", CHAT, headers=bearer, key=None).status == 503
            eventually(lambda: "through the configured proxy" in served.stderr(), "the log says why")
            shown_nowhere(served)
        assert issuer.fetches == []


def test_tokens_of_oauth_come_through_the_providers_proxy(proxy: HttpProxy, tmp_path: Path) -> None:
    with token_world() as world:
        proxy.elsewhere["far.invalid:80"] = ("127.0.0.1", urlsplit(world.url).port or 0)
        credential = {
            "type": "oauth",
            "token_url": "http://far.invalid/token",
            "client_id": "us",
            "client_secret": "env:CLIENT_SECRET",
        }
        house = {"type": "openai_compatible", "base_url": "http://far.invalid/v1", "credential": credential}
        house["proxy"] = "env:PROXY"
        config = {
            "providers": {"house": house},
            "deployments": {"x": {"model": {"name": "x"}, "provider": "house", "default": True}},
        }
        environment = {**ENVIRONMENT, "PROXY": with_password(proxy), "CLIENT_SECRET": "secret-1"}
        with serve(config, tmp_path / "data", **environment) as served:
            assert served.chat().status == 200
            shown_nowhere(served)
        assert proxy.targets == ["http://far.invalid/token", "http://far.invalid/v1/chat/completions"]
        assert proxy.authorizations == [BASIC, BASIC]


def test_tokens_of_entra_come_through_the_providers_proxy(
    proxy: HttpProxy, entra: RunningIssuer, tmp_path: Path
) -> None:
    known = entra.environment
    credential = {
        "type": "client_secret",
        "tenant_id": known["AZURE_TENANT_ID"],
        "client_id": known["AZURE_CLIENT_ID"],
        "client_secret": "env:CLIENT_SECRET",
        "authority": known["AZURE_AUTHORITY_HOST"],
    }
    with token_world() as world:
        house = {"type": "openai_compatible", "base_url": f"{world.url}/v1", "credential": credential}
        house |= {"proxy": "env:PROXY", "ca_file": known["SSL_CERT_FILE"]}
        config = {
            "providers": {"house": house},
            "deployments": {"x": {"model": {"name": "x"}, "provider": "house", "default": True}},
        }
        secret = (entra.data_dir / "identity" / "developer.secret").read_text().strip()
        environment = {**ENVIRONMENT, "PROXY": with_password(proxy), "CLIENT_SECRET": secret}
        with serve(config, tmp_path / "data", under=(), **environment) as served:
            assert served.chat().status == 200, served.stderr()
            shown_nowhere(served)
    assert set(proxy.targets) == {urlsplit(credential["authority"]).netloc, f"{world.url}/v1/chat/completions"}
    assert set(proxy.authorizations) == {BASIC}
