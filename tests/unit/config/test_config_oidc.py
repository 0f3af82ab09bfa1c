"""Issuers in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.app.snapshot import token_issuers
from modelport.config.faults import ConfigError
from modelport.config.load import read
from modelport.config.preflight import problems

TENANT = "0F1A2B3C-4d5e-6f70-8192-a3b4c5d6e7f8"
ENTRA = "https://login.microsoftonline.com"


def written(tmp_path: Path, entry: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(f"auth: {{oidc: [{entry}]}}\n")
    return path


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (f"{{issuer: {ENTRA}/common/v2.0, audiences: [a]}}", "names no tenant by its id"),
        (f"{{issuer: {ENTRA}/contoso.onmicrosoft.com/v2.0, audiences: [a]}}", "names no tenant by its id"),
        ("{issuer: http://login.example/, audiences: [a]}", "use https"),
        ("{issuer: https://i.example/, audiences: []}", "audiences"),
        ("{issuer: https://i.example/, audiences: [https://management.azure.com/]}", "without being listed"),
        ("{issuer: https://i.example/, audiences: [a], algorithms: [HS256]}", "algorithms"),
        ("{issuer: https://i.example/, audiences: [a], algorithms: [none]}", "algorithms"),
        ("{issuer: https://i.example/, audiences: [a], leeway: 3600}", "leeway"),
        ("{issuer: https://i.example/, audiences: [a], proxy: proxy.example}", "must start with http:// or https://"),
        ("{issuer: https://i.example/, audiences: [a], proxy: 'socks5://p:1'}", "must start with http:// or https://"),
        ("{issuer: https://i.example/, audiences: [a], proxy: 'http://u:p@p:1'}", "write env:NAME or file:PATH"),
        ("{issuer: https://i.example/, audiences: [a], proxy: 'env:NO_SUCH'}", "NO_SUCH is not set"),
    ],
)
def test_what_no_issuer_can_be(tmp_path: Path, entry: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, entry), {})
    assert said in str(caught.value)


def test_a_proxy_is_an_address_or_a_secret_that_holds_one(tmp_path: Path) -> None:
    entries = "{issuer: https://i.example/, audiences: [a], proxy: 'http://p.example:3128'}"
    entries += ", {issuer: https://j.example/, audiences: [a], proxy: 'env:PROXY'}"
    settings = read(written(tmp_path, entries), {"PROXY": "http://u:secret@p.example:3128"}).settings
    found = [issuer.proxy for issuer in token_issuers(settings)]
    assert found == ["http://p.example:3128", "http://u:secret@p.example:3128"]
    assert "secret@" not in settings.model_dump_json()
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, entries), {"PROXY": "u:secret@p.example"})
    assert "the value from env:PROXY must be the http:// or https:// address of a proxy" in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "issuer", [f"{ENTRA}/{TENANT}/v2.0", f"https://sts.windows.net/{TENANT}/", f"{ENTRA}/{TENANT.lower()}"]
)
def test_a_tenant_of_entra_has_two_issuers(tmp_path: Path, issuer: str) -> None:
    settings = read(written(tmp_path, f"{{issuer: '{issuer}', audiences: [https://ml.azure.com/]}}"), {}).settings
    (found,) = token_issuers(settings)
    tenant = TENANT.lower()
    assert found.accepted == {f"https://sts.windows.net/{tenant}/", f"{ENTRA}/{tenant}/v2.0"}
    assert found.tenant == tenant
    assert found.authorization_uri == f"{ENTRA}/{tenant}"
    assert found.audiences == {"https://ml.azure.com"}
    assert found.algorithms == {"RS256"}


def test_another_issuer_is_itself_alone(tmp_path: Path) -> None:
    entry = "{issuer: http://127.0.0.1:8081/realms/house, audiences: [modelport], algorithms: [ES256, PS256]}"
    (found,) = token_issuers(read(written(tmp_path, entry), {}).settings)
    assert found.accepted == {"http://127.0.0.1:8081/realms/house"}
    assert found.tenant is None
    assert found.algorithms == {"ES256", "PS256"}


def test_one_issuer_in_two_entries(tmp_path: Path) -> None:
    tenant = TENANT.lower()
    one = f"{{issuer: {ENTRA}/{tenant}/v2.0, audiences: [a]}}"
    other = f"{{issuer: 'https://sts.windows.net/{tenant}/', audiences: [b]}}"
    with pytest.raises(ConfigError) as caught:
        read(written(tmp_path, f"{one}, {other}"), {})
    assert "auth.oidc[1].issuer: its tokens are those of auth.oidc[0]" in str(caught.value)


def test_an_authority_that_cannot_be_read_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name, said in (("missing.pem", "No such file"), ("empty.pem", "no PEM certificate")):
        entry = f"{{issuer: 'https://i.example/', audiences: [a], ca: {name}}}"
        settings = read(written(tmp_path, entry), {}).settings
        found = [problem for problem in problems(settings) if problem.path[:2] == ("auth", "oidc")]
        assert [problem.path for problem in found] == [("auth", "oidc", 0, "ca")]
        assert said in found[0].what
