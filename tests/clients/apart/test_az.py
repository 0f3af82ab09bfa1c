"""Azure's command line, as it is: it signs in at the development issuer and manages deployments."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.deployments import RIEMANN
from clients.environments import ENVIRONMENTS
from clients.serving import Server, environment_of

GROUP = ("-g", "my-group", "-n", "my-account")
ASK = """
import os, sys
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.identity import DefaultAzureCredential

client = ChatCompletionsClient(
    os.environ["AZURE_INFERENCE_ENDPOINT"], DefaultAzureCredential(),
    credential_scopes=["https://cognitiveservices.azure.com/.default"],
)
print(client.complete(messages=[UserMessage("Hello")], model=sys.argv[1]).choices[0].message.content)
"""
OID = """
import base64, json
from azure.identity import DefaultAzureCredential

claims = DefaultAzureCredential().get_token("https://cognitiveservices.azure.com/.default").token.split(".")[1]
print(json.loads(base64.urlsafe_b64decode(claims + "=="))["oid"])
"""


class Az:
    """The program with a configuration of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "IDENTITY_"))}
        programs = ENVIRONMENTS / "az" / "bin"
        self.environment = {
            **inherited,
            "PATH": f"{programs}:{inherited['PATH']}",
            "AZURE_CONFIG_DIR": str(folder),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "REQUESTS_CA_BUNDLE": str(server.ca_file),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The program's end."""
        program = str(ENVIRONMENTS / "az" / "bin" / "az")
        return subprocess.run([program, *arguments], env=self.environment, capture_output=True, text=True, timeout=120)

    def __call__(self, *arguments: str) -> Any:
        """What it prints, as JSON."""
        done = self.run(*arguments, "--only-show-errors")
        assert done.returncode == 0, (arguments, done.stderr[-3000:])
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="module")
def signed_in(keyless: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Az]:
    """The program, signed in as an identity of the issuer."""

    def sign_in(identity: str, secret: str | None = None) -> Az:
        az = Az(keyless, tmp_path_factory.mktemp(identity))
        known = environment_of(keyless, identity)
        file = Path(known["AZURE_FEDERATED_TOKEN_FILE"]).with_name(f"{identity}.secret")
        # Where to sign in az finds out from the server, or is told.
        told = (
            "--endpoint-active-directory", known["AZURE_AUTHORITY_HOST"],
            "--endpoint-active-directory-resource-id", "https://management.azure.com/",
        )  # fmt: skip
        more = told if identity == "operator" else ()
        az("cloud", "register", "-n", "modelport", "--endpoint-resource-manager", keyless.url, *more)
        az("cloud", "set", "-n", "modelport")
        az(
            "login", "--service-principal", "-u", known["AZURE_CLIENT_ID"], "-p", secret or file.read_text().strip(),
            "--tenant", known["AZURE_TENANT_ID"],
        )  # fmt: skip
        return az

    return sign_in


@pytest.fixture(scope="module")
def az(signed_in: Callable[..., Az]) -> Az:
    return signed_in("operator")


def python(program: str, environment: dict[str, str], *arguments: str) -> str:
    """What a program prints; with what it ended, where it failed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    return done.stdout if done.returncode == 0 else done.stderr


def deployment(az: Az, verb: str, name: str, *more: str) -> Any:
    return az("cognitiveservices", "account", "deployment", verb, *GROUP, "--deployment-name", name, *more)


MODEL = ("--model-name", "gpt-4o", "--model-version", "2024-08-06", "--model-format", "OpenAI",
         "--sku-name", "GlobalStandard", "--sku-capacity", "5")  # fmt: skip


def test_it_is_signed_in(az: Az, keyless: Server) -> None:
    (account,) = az("account", "list")
    assert (account["state"], account["cloudName"], account["user"]["type"]) == (
        "Enabled",
        "modelport",
        "servicePrincipal",
    )
    assert account["tenantId"] == keyless.environment["AZURE_TENANT_ID"]


def test_the_life_of_a_deployment(az: Az) -> None:
    made = deployment(az, "create", "made-by-az", *MODEL)
    assert (made["name"], made["properties"]["provisioningState"]) == ("made-by-az", "Succeeded")
    assert deployment(az, "show", "made-by-az")["sku"]["capacity"] == 5
    listed = az("cognitiveservices", "account", "deployment", "list", *GROUP)
    assert "made-by-az" in [found["name"] for found in listed]
    deployment(az, "delete", "made-by-az")
    refused = az.run("cognitiveservices", "account", "deployment", "show", *GROUP, "--deployment-name", "made-by-az")
    assert refused.returncode == 3
    assert "made-by-az" in refused.stderr


def test_keys_usage_and_models(az: Az) -> None:
    pair = az("cognitiveservices", "account", "keys", "list", *GROUP)
    assert set(pair) == {"key1", "key2"}
    changed = az("cognitiveservices", "account", "keys", "regenerate", *GROUP, "--key-name", "key1")
    assert (changed["key1"] != pair["key1"], changed["key2"]) == (True, pair["key2"])
    assert az("cognitiveservices", "account", "list-usage", *GROUP)
    assert az("cognitiveservices", "usage", "list", "-l", "local")
    models = az("cognitiveservices", "account", "list-models", *GROUP)
    assert "gpt-4o" in [model["name"] for model in models]
    assert az("cognitiveservices", "model", "list", "-l", "local")
    assert az("cognitiveservices", "account", "show", *GROUP)["properties"]["provisioningState"] == "Succeeded"


def test_default_azure_credential_by_its_token(az: Az, keyless: Server) -> None:
    deployment(az, "create", "made-by-az", *MODEL)
    shown = az("account", "get-access-token", "--resource", "https://cognitiveservices.azure.com")
    assert (shown["tokenType"], shown["tenant"]) == ("Bearer", keyless.environment["AZURE_TENANT_ID"])
    variables = {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential", "AZURE_INFERENCE_ENDPOINT": keyless.models}
    said = python(ASK, {**az.environment, **variables}, "made-by-az")
    assert said.strip()
    assert "Traceback" not in said
    deployment(az, "delete", "made-by-az")


def test_who_may_not_is_told_so(signed_in: Callable[..., Az]) -> None:
    developer = signed_in("developer")
    create = ("cognitiveservices", "account", "deployment", "create", *GROUP, "--deployment-name", "x", *MODEL)
    refused = developer.run(*create)
    assert refused.returncode != 0
    assert "AuthorizationFailed" in refused.stderr
    with pytest.raises(AssertionError, match="AADSTS7"):
        signed_in("developer", "guessed")


def test_a_role_is_assigned_and_taken_away(az: Az, keyless: Server) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "IDENTITY_"))}
    guest = {**inherited, **environment_of(keyless, "guest"), "AZURE_INFERENCE_ENDPOINT": keyless.models}
    assert "PermissionDenied" in python(ASK, guest, "mistral-large")
    account = az("cognitiveservices", "account", "show", *GROUP)["id"]
    given = (
        "--assignee-object-id",
        python(OID, guest).strip(),
        "--role",
        "Cognitive Services User",
        "--scope",
        account,
    )
    made = az("role", "assignment", "create", *given, "--assignee-principal-type", "ServicePrincipal")
    assert made["name"] in [found["name"] for found in az("role", "assignment", "list", "--scope", account)]
    assert python(ASK, guest, "mistral-large") == RIEMANN + "\n"
    az("role", "assignment", "delete", *given)
    assert az("role", "assignment", "list", "--scope", account) == []
    assert "PermissionDenied" in python(ASK, guest, "mistral-large")


def test_a_reader_of_usage_is_one_while_the_role_is_assigned(az: Az, signed_in: Callable[..., Az]) -> None:
    developer = signed_in("developer")
    token = developer("account", "get-access-token")["accessToken"]
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    scope = az("cognitiveservices", "account", "show", *GROUP)["id"]
    who = ("--assignee-object-id", claims["oid"])
    usage = ("cognitiveservices", "account", "list-usage", *GROUP)
    assert developer.run(*usage).returncode != 0
    create = ("role", "assignment", "create", "--role", "Cognitive Services Usages Reader", "--scope", scope, *who)
    made = az(*create, "--assignee-principal-type", "ServicePrincipal")
    assert (made["principalId"], made["scope"]) == (claims["oid"], scope)
    assert developer(*usage)
    again = az(*create, "--assignee-principal-type", "ServicePrincipal")
    assert again["id"] == made["id"]
    (listed,) = az("role", "assignment", "list", "--scope", scope, *who, "--fill-principal-name", "false")
    assert (listed["id"], listed["roleDefinitionName"]) == (made["id"], "Cognitive Services Usages Reader")
    assert made["id"] in [found["id"] for found in az("role", "assignment", "list", "--scope", scope)]
    names = [found["roleName"] for found in az("role", "definition", "list")]
    assert "Cognitive Services OpenAI User" in names
    az("role", "assignment", "delete", *who, "--role", "Cognitive Services Usages Reader", "--scope", scope)
    assert developer.run(*usage).returncode != 0
