"""`modelport identity serve` as a process: genuine credentials, over sockets, and callers that it does not believe."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest
from tests import warm_start
from tests.issuer import RunningIssuer, issuing

SCOPE = "https://cognitiveservices.azure.com/.default"
PROGRAM = """
import sys
from azure.identity import DefaultAzureCredential
print(DefaultAzureCredential().get_token(sys.argv[1]).token)
"""


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningIssuer]:
    arguments = ["--imds", "--role", "Inference User", "--group", "g1", "--token-version", "2"]
    with issuing(tmp_path_factory.mktemp("issuer") / "data", *arguments) as running:
        yield running


def token_of(issuer: RunningIssuer, *names: str, **more: str) -> dict[str, Any]:
    """The claims of the token that an unmodified `DefaultAzureCredential()` gets in this environment."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, SCOPE],
        env={**issuer.client(*names), **more},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    claims: dict[str, Any] = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    assert (claims["aud"], claims["roles"], claims["groups"]) == (
        SCOPE.removesuffix("/.default"),
        ["Inference User"],
        ["g1"],
    )
    assert claims["iss"].endswith(f"/{issuer.environment['AZURE_TENANT_ID']}/v2.0")
    return claims


def test_workload_identity(issuer: RunningIssuer) -> None:
    names = ["AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"]
    assert token_of(issuer, *names)["azpacr"] == "2"


def test_managed_identity_of_app_service(issuer: RunningIssuer) -> None:
    claims = token_of(issuer, "IDENTITY_ENDPOINT", "IDENTITY_HEADER")
    assert claims["azp"] == issuer.environment["AZURE_CLIENT_ID"]


def test_managed_identity_of_a_virtual_machine(issuer: RunningIssuer) -> None:
    credential = {"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}
    claims = token_of(issuer, "AZURE_POD_IDENTITY_AUTHORITY_HOST", **credential)
    assert claims["azp"] == issuer.environment["AZURE_CLIENT_ID"]


def test_the_printed_environment_is_in_a_file_and_works_as_a_whole(issuer: RunningIssuer) -> None:
    file = issuer.data_dir / "identity" / "developer.sh"
    shown = subprocess.run(
        ["sh", "-c", '. "$0"; env -0', str(file)], env={}, capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split("=", 1) for line in shown.split("\0") if line)
    assert {name: found[name] for name in issuer.environment} == issuer.environment
    assert token_of(issuer, *issuer.environment)["azpacr"] == "2"


def test_only_this_machine_s_programs_are_answered(issuer: RunningIssuer) -> None:
    managed = issuer.environment["IDENTITY_ENDPOINT"].removesuffix("/msi/token")
    authority = issuer.environment["AZURE_AUTHORITY_HOST"]
    path = f"/metadata/identity/oauth2/token?{urlencode({'resource': 'https://x'})}"
    port = urlsplit(managed).port
    good = {"Metadata": "true"}
    assert issuer.ask(managed, "GET", path, good)[0] == 200
    assert issuer.ask(managed, "GET", path, {**good, "Host": f"localhost:{port}"})[0] == 200
    assert issuer.ask(managed, "GET", path, {})[0] == 400
    # The name of an attacker's site, bound to this address.
    for host in ("attacker.example", f"attacker.example:{port}", "127.0.0.1", f"127.0.0.1.attacker.example:{port}"):
        status, document = issuer.ask(managed, "GET", path, {**good, "Host": host})
        assert (status, "access_token" in document) == (421, False)
    for address in (managed, authority):
        assert issuer.ask(address, "GET", "/", {"Origin": "https://attacker.example"})[0] == 403
    assert issuer.ask(authority, "POST", "/x/oauth2/v2.0/token", {}, "a=" + "b" * 70_000)[0] == 413
    assert issuer.ask(managed, "GET", "/msi/token?resource=x", {"X-IDENTITY-HEADER": "guess"})[0] == 401


def test_another_machine_cannot_be_listened_for(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        done = warm_start.run(["identity", "serve", "--host", host, "--data-dir", str(tmp_path / "d")], os.environ)
        assert done.returncode == 7
        assert not (tmp_path / "d").exists()


def test_secrets_are_private_and_shown_nowhere(issuer: RunningIssuer) -> None:
    folder = issuer.data_dir / "identity"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    process = Path(f"/proc/{issuer.pid}")
    shown = issuer.log.read_bytes() + (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    for name in ("developer.secret", "assertion-key", "identity-header", "developer.federated-token"):
        assert (folder / name).read_bytes().strip() not in shown
    assert b"eyJ" not in issuer.log.read_bytes()
