"""Tokens of an issuer that is neither ours nor Entra: npm's oidc-provider, as any OpenID Connect issuer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from tests.served import Answer, Served, serve

HERE = Path(__file__).parents[1] / "oidc-provider"
AUDIENCE = "https://modelport.example"
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@contextlib.contextmanager
def issuing(algorithm: str) -> Iterator[str]:
    """Its address."""
    process = subprocess.Popen(["node", "issuer.mjs", algorithm], cwd=HERE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def serving(issuer: str, algorithm: str, folder: Path) -> Iterator[Served]:
    entry = {
        "issuer": issuer,
        "audiences": [AUDIENCE],
        "algorithms": [algorithm],
        "roles": [{"claim": "roles", "value": "modelport.user", "role": "Inference User"}],
    }
    deployed = {"model": {"name": "script"}, "provider": {"type": "scripted"}, "default": True}
    with serve({"deployments": {"script": deployed}, "auth": {"oidc": [entry]}}, folder / "data", under=()) as served:
        yield served


def token(issuer: str, name: str = "app", audience: str = AUDIENCE) -> str:
    """By the client credentials grant."""
    form = {
        "grant_type": "client_credentials",
        "client_id": name,
        "client_secret": f"secret-of-{name}-0123456789abcdef",
        "resource": audience,
        "scope": "inference",
    }
    with urllib.request.urlopen(f"{issuer}/token", urllib.parse.urlencode(form).encode(), timeout=30) as answer:
        return str(json.load(answer)["access_token"])


def call(served: Served, shown: str) -> Answer:
    return served.call("POST", "/v1/chat/completions", CHAT, headers={"authorization": f"Bearer {shown}"}, key=None)


@pytest.mark.check(12, 13)
@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_its_tokens_are_accepted_and_what_is_wrong_with_one_is_refused(algorithm: str, tmp_path: Path) -> None:
    with issuing(algorithm) as issuer, serving(issuer, algorithm, tmp_path) as served:
        good = token(issuer)
        assert call(served, good).status == 200
        assert served.journal()[-1].principal == "application:app"
        wrong = call(served, token(issuer, audience="https://other.example"))
        assert wrong.status == 401
        assert wrong.headers["www-authenticate"] == f'Bearer authorization_uri="{issuer}"'
        stranger = call(served, token(issuer, "stranger"))
        assert (stranger.status, stranger.json["error"]["code"]) == (401, "PermissionDenied")
        assert call(served, good[:-6] + "AAAAAA").status == 401
    with issuing(algorithm) as another, serving(issuer, algorithm, tmp_path / "other") as served:
        assert call(served, token(another)).status == 401


class Credential:
    """azure.core.credentials.TokenCredential over that issuer."""

    def __init__(self, issuer: str, audience: str) -> None:
        self.issuer, self.audience = issuer, audience

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        assert scopes == (f"{AUDIENCE}/.default",)
        return AccessToken(token(self.issuer, audience=self.audience), 2**40)


@pytest.mark.check(12, 13)
def test_azures_client_with_a_credential_of_it(tmp_path: Path) -> None:
    with issuing("RS256") as issuer, serving(issuer, "RS256", tmp_path) as served:

        def ask(audience: str) -> str:
            # The client of Azure sends tokens over http where it is told to.
            client = ChatCompletionsClient(
                f"{served.url}/models",
                Credential(issuer, audience),
                credential_scopes=[f"{AUDIENCE}/.default"],
                retry_total=0,
            )
            with client:
                answer = client.complete(messages=[UserMessage("Hi")], model="script", enforce_https=False)
                return str(answer.choices[0].message.content)

        assert ask(AUDIENCE)
        with pytest.raises(ClientAuthenticationError, match="Access token is missing, invalid, audience is incorrect"):
            ask("https://other.example")
