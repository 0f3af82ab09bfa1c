"""Code without keys, as it is: `DefaultAzureCredential()` against a server over TLS and the issuer beside it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .deployments import LANGUAGES, RIEMANN, SCRIPTED, SCRIPTED_LLAMA
from .printed import run_python
from .serving import Server, environment_of, running

WAYS = {
    "workload identity": (
        "AZURE_AUTHORITY_HOST",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
    ),
    "managed identity of App Service": ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
    "managed identity of a virtual machine": ("AZURE_POD_IDENTITY_AUTHORITY_HOST",),
}
TRUST = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
COMPLETE = """
from azure.ai.inference.models import SystemMessage, UserMessage

response = client.complete(
    messages=[
        SystemMessage(content="You are a helpful assistant."),
        UserMessage(content="Explain Riemann's conjecture in 1 paragraph"),
    ],
    model="mistral-large"
)

print(response.choices[0].message.content)
"""
AIO = """
import asyncio, os
from azure.ai.inference.aio import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.identity.aio import DefaultAzureCredential

async def main():
    async with DefaultAzureCredential() as credential:
        async with ChatCompletionsClient(
            endpoint=os.environ["AZURE_INFERENCE_ENDPOINT"],
            credential=credential,
            credential_scopes=["https://cognitiveservices.azure.com/.default"],
        ) as client:
            response = await client.complete(messages=[UserMessage(content="Hello")], model="mistral-large")
            print(response.choices[0].message.content)
            chunks = await client.complete(messages=[UserMessage(content="Hi")], model="mistral-large", stream=True)
            print("".join([c.choices[0].delta.content or "" async for c in chunks if c.choices]))

asyncio.run(main())
"""
PLAIN = """
import os
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.identity import DefaultAzureCredential

client = ChatCompletionsClient(
    os.environ["AZURE_INFERENCE_ENDPOINT"], DefaultAzureCredential(),
    credential_scopes=["https://cognitiveservices.azure.com/.default"],
)
answer = client.complete(messages=[UserMessage("Hello")], model="mistral-large", enforce_https=False)
print(answer.choices[0].message.content)
"""
OPENAI = """
import os
from azure.identity import DefaultAzureCredential, get_bearer_token_provider
from openai import AzureOpenAI, OpenAI

provider = get_bearer_token_provider(DefaultAzureCredential(), "https://cognitiveservices.azure.com/.default")
root = os.environ["AZURE_INFERENCE_ENDPOINT"].removesuffix("/models")
for client in (
    AzureOpenAI(azure_endpoint=root, azure_ad_token_provider=provider, api_version="2024-10-21"),
    OpenAI(base_url=root + "/openai/v1", api_key=provider),
):
    answer = client.chat.completions.create(model="Mistral-large", messages=[{"role": "user", "content": "Hello"}])
    print(answer.choices[0].message.content)
"""
MANAGE = """
import json, os, sys
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

client = CognitiveServicesManagementClient(
    DefaultAzureCredential(), "s", base_url=os.environ["AZURE_INFERENCE_ENDPOINT"].removesuffix("/models"),
    credential_scopes=["https://management.azure.com/.default"],
)
at = ("group", "account")
model = {"format": "OpenAI", "name": "gpt-4o", "version": "2024-08-06"}
wanted = {"sku": {"name": "GlobalStandard", "capacity": 5}, "properties": {"model": model}}
try:
    made = client.deployments.begin_create_or_update(*at, "made-keyless", wanted).result()
    found = made.properties.provisioning_state, client.deployments.get(*at, "made-keyless").sku.capacity
    listed = "made-keyless" in [deployment.name for deployment in client.deployments.list(*at)]
    pair = client.accounts.list_keys(*at)
    usages = [usage.unit for usage in client.accounts.list_usages(*at).value]
    client.deployments.begin_delete(*at, "made-keyless").result()
    print(json.dumps([*found, listed, bool(pair.key1 and pair.key2), bool(usages)]))
except HttpResponseError as error:
    print(json.dumps([error.status_code, error.error.code]))
"""


def run(server: Server, program: str, variables: dict[str, str]) -> str:
    """What the program prints, with these variables and none of Azure's besides."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "IDENTITY_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, "AZURE_INFERENCE_ENDPOINT": server.models, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.check(12)
def test_the_sample_of_the_endpoint(keyless: Server) -> None:
    printed = run_python("endpoint-entra", endpoint=keyless.models, environment=keyless.environment, more=COMPLETE)
    assert printed == RIEMANN + "\n"


@pytest.mark.check(12)
def test_the_sample_of_the_api(keyless: Server) -> None:
    """It names no scope: the client asks for its own."""
    root = keyless.root_of("Mistral-large")
    printed = run_python("api-entra", "api-extras", endpoint=root, environment=keyless.environment)
    assert printed == RIEMANN + "\n"


@pytest.mark.check(12)
def test_the_samples_of_the_llama_family(keyless: Server) -> None:
    names = ["entra", "info", "chat", "stream", "extras", "safety"]
    root = keyless.root_of(SCRIPTED_LLAMA)
    printed = run_python(*(f"llama-{name}" for name in names), endpoint=root, environment=keyless.environment)
    assert printed.startswith("Model name: Meta-Llama-3.1-405B-Instruct\n")
    assert printed.count(LANGUAGES) == 3


@pytest.mark.check(12)
@pytest.mark.parametrize("way", WAYS)
def test_asynchronous_clients(keyless: Server, way: str) -> None:
    variables = {name: keyless.environment[name] for name in (*WAYS[way], *TRUST)}
    if "virtual machine" in way:
        variables["AZURE_TOKEN_CREDENTIALS"] = "ManagedIdentityCredential"
    assert run(keyless, AIO, variables) == f"{RIEMANN}\n{RIEMANN}\n"


def test_the_openai_client(keyless: Server) -> None:
    assert run(keyless, OPENAI, keyless.environment) == f"{RIEMANN}\n{RIEMANN}\n"


def test_the_management_client(keyless: Server) -> None:
    printed = run(keyless, MANAGE, environment_of(keyless, "operator"))
    assert printed == '["Succeeded", 5, true, true, true]\n'
    refused = run(keyless, MANAGE, keyless.environment)
    assert refused == '[403, "AuthorizationFailed"]\n'


def test_clients_of_azure_are_told_where_to_sign_in(keyless: Server) -> None:
    authority, tenant = (keyless.environment[f"AZURE_{name}"] for name in ("AUTHORITY_HOST", "TENANT_ID"))
    context = ssl.create_default_context(cafile=str(keyless.ca_file))
    with urllib.request.urlopen(f"{keyless.url}/metadata/endpoints", context=context) as answer:
        assert json.load(answer)["authentication"]["loginEndpoint"] == authority
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{keyless.url}/subscriptions", context=context)
    with refused.value:
        assert refused.value.code == 401
        assert f'authorization_uri="{authority}/{tenant}"' in refused.value.headers["www-authenticate"]


@pytest.mark.check(12)
def test_over_http_on_this_machine(keyless: Server) -> None:
    """A server with a data directory of its own has the entry that the issuer printed in its configuration."""
    assert keyless.data_dir is not None
    entry = json.loads((Path(keyless.data_dir) / "identity" / "oidc.json").read_text())
    deployments = {"Mistral-large": SCRIPTED["Mistral-large"]}
    with running({"deployments": deployments, "auth": {"oidc": [entry]}}) as plain:
        assert run(plain, PLAIN, keyless.environment) == RIEMANN + "\n"
