"""Base URLs, deployments and API versions: what finds its deployment, and what is told that it does not."""

from __future__ import annotations

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.ai.inference.models import SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from .deployments import RIEMANN
from .serving import Server
from .wire import send

MESSAGES = [{"role": "user", "content": "Explain Riemann's conjecture in 1 paragraph"}]
DATED = [
    "2023-05-15", "2024-02-01", "2024-04-01-preview", "2024-05-01-preview", "2024-06-01", "2024-08-01-preview",
    "2024-10-21", "2024-12-01-preview", "2025-02-01-preview", "2025-03-01-preview", "2025-04-01", "2025-04-01-preview",
    "2025-05-01", "2025-05-01-preview", "2025-05-15-preview", "2025-08-28", "preview", "latest", None,
]  # fmt: skip


@pytest.mark.check(1)
def test_the_documented_call_finds_its_deployment(server: Server) -> None:
    with ChatCompletionsClient(endpoint=server.models, credential=AzureKeyCredential(server.key)) as client:
        response = client.complete(
            messages=[
                SystemMessage(content="You are a helpful assistant."),
                UserMessage(content="Explain Riemann's conjecture in 1 paragraph"),
            ],
            model="mistral-large",
        )
    assert response.choices[0].message.content == RIEMANN
    assert response.choices[0].finish_reason == "stop"
    assert response.model == "Mistral-large-2411"


@pytest.mark.check(2)
async def test_the_documented_call_finds_its_deployment_asynchronously(server: Server) -> None:
    async with AsyncChatCompletionsClient(endpoint=server.models, credential=AzureKeyCredential(server.key)) as client:
        response = await client.complete(messages=[UserMessage(content="Hello")], model="mistral-large")
    assert response.choices[0].message.content == RIEMANN


@pytest.mark.check(15)
def test_an_unknown_model_is_not_found_by_name(server: Server) -> None:
    with (
        ChatCompletionsClient(endpoint=server.models, credential=AzureKeyCredential(server.key)) as client,
        pytest.raises(ResourceNotFoundError) as caught,
    ):
        client.complete(messages=[UserMessage("Hello")], model="no-such-model")
    assert caught.value.error.code == "unknown_model"
    assert "no-such-model" in caught.value.error.message


@pytest.mark.check(16)
def test_no_model_among_several_is_refused_and_the_header_heals_it(secure: Server) -> None:
    with ChatCompletionsClient(
        endpoint=secure.models, credential=AzureKeyCredential(secure.key), connection_verify=str(secure.ca_file)
    ) as client:
        with pytest.raises(HttpResponseError) as caught:
            client.complete(messages=[UserMessage("Hello")])
        assert caught.value.status_code == 400
        assert caught.value.error.code == "no_model_name"
        response = client.complete(
            messages=[UserMessage("Hello")], headers={"x-ms-model-mesh-model-name": "Mistral-large"}
        )
    assert response.choices[0].message.content == RIEMANN


@pytest.mark.check(17)
def test_the_root_form_ignores_the_model_and_a_header_picks(server: Server) -> None:
    url = f"{server.root_of('gpt-4o')}/chat/completions?api-version=2024-05-01-preview"
    ignored = send("POST", url, {"messages": MESSAGES, "model": "no-such-model"}, server.bearer)
    assert ignored.status == 200
    assert ignored.json()["model"] == "gpt-4o"
    url = f"{server.url}/chat/completions"
    default = send("POST", url, {"messages": MESSAGES, "model": "mistral-large", "max_tokens": 4}, server.bearer)
    assert default.json()["model"] == "Meta-Llama-3.1-405B-Instruct"
    picked = send("POST", url, {"messages": MESSAGES}, {**server.bearer, "azureml-model-deployment": "mistral-large"})
    assert picked.json()["model"] == "Mistral-large-2411"


@pytest.mark.check(18)
@pytest.mark.parametrize("path", ["/openai/deployments/no-such-model/chat/completions", "/openai/v1/chat/completions"])
def test_an_unknown_azure_openai_deployment_is_not_found(server: Server, path: str) -> None:
    body = {"messages": MESSAGES, "model": "no-such-model"}
    reply = send("POST", f"{server.url}{path}?api-version=2024-06-01", body, server.bearer)
    assert reply.status == 404
    assert reply.error_code() == "DeploymentNotFound"
    assert reply.json()["error"]["message"].startswith("The API deployment for this resource does not exist.")


@pytest.mark.check(19)
@pytest.mark.parametrize("path", ["/models/nothing", "/openai/nothing", "/nothing/at/all", "/openai/v1/nothing"])
def test_an_unknown_path_is_not_found(server: Server, path: str) -> None:
    reply = send("POST", f"{server.url}{path}?api-version=2024-05-01-preview", {}, server.bearer)
    assert reply.status == 404
    assert reply.error_code() == "404"
    assert reply.json()["error"]["message"].startswith("Resource not found")


@pytest.mark.check(20)
@pytest.mark.parametrize(
    "path",
    [
        "/models/chat/completions", "/models/embeddings", "/chat/completions", "/embeddings", "/images/embeddings",
        "/openai/deployments/gpt-4o/chat/completions", "/openai/v1/chat/completions", "/v1/chat/completions",
    ],
)  # fmt: skip
def test_get_on_a_post_route_is_not_allowed(server: Server, path: str) -> None:
    reply = send("GET", f"{server.url}{path}?api-version=2024-05-01-preview", headers=server.bearer)
    assert reply.status == 405
    assert "POST" in reply.headers["allow"]
    assert reply.json()["detail"] == "Method Not Allowed"
    assert reply.json()["error"] == {"code": "405", "message": "Method Not Allowed"}


@pytest.mark.check(21)
def test_a_trailing_slash_after_the_base_does_no_harm(server: Server) -> None:
    with ChatCompletionsClient(endpoint=server.models + "/", credential=AzureKeyCredential(server.key)) as client:
        assert client.complete(messages=[UserMessage("Hello")], model="mistral-large").choices
    reply = send("POST", f"{server.url}/models//chat/completions", {"messages": MESSAGES, "model": "mistral-large"},
                 server.bearer)  # fmt: skip
    assert reply.status == 200


@pytest.mark.check(22)
def test_the_api_models_form_is_the_models_form(server: Server) -> None:
    with ChatCompletionsClient(
        endpoint=f"{server.url}/api/models", credential=AzureKeyCredential(server.key), model="MISTRAL-LARGE"
    ) as client:
        assert client.complete(messages=[UserMessage("Hello")]).choices[0].message.content == RIEMANN


@pytest.mark.check(23)
@pytest.mark.parametrize("version", DATED)
@pytest.mark.parametrize("base", ["/models", "/openai/deployments/gpt-4o", "/openai/v1", "/deployments/gpt-4o"])
def test_every_api_version_in_use_is_accepted(server: Server, base: str, version: str | None) -> None:
    query = f"?api-version={version}" if version else ""
    body = {"messages": MESSAGES, "model": "gpt-4o"}
    assert send("POST", f"{server.url}{base}/chat/completions{query}", body, server.bearer).status == 200


def test_the_owner_less_route_of_the_openai_client_is_an_alias(server: Server) -> None:
    url = f"{server.url}/openai/v1/deployments/gpt-4o/chat/completions?api-version=preview"
    assert send("POST", url, {"messages": MESSAGES, "model": "gpt-4o"}, server.bearer).status == 200
