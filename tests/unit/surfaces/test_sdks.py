"""The genuine Python SDKs at every base form, unmodified: only endpoint and key are ours."""

from __future__ import annotations

import pytest
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from openai import AzureOpenAI, NotFoundError, OpenAI

from modelport.core.errors import InvalidParameters, Offence

from .doubles import KEY, VECTORS, Served

BASES = ["/models", "/models/", "/api/models", "", "/deployments/mistral-large", "/openai/deployments/mistral-large"]
CREDENTIAL = AzureKeyCredential(KEY)
QUESTION = [UserMessage("Hi")]


@pytest.mark.parametrize("base", BASES)
def test_azure_ai_inference_chats_whole_and_streamed(served: Served, base: str) -> None:
    with ChatCompletionsClient(served.url + base, CREDENTIAL) as client:
        answer = client.complete(messages=QUESTION, model="mistral-large")
        assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("Hello", 5)
        updates = list(client.complete(messages=QUESTION, model="mistral-large", stream=True))
    assert "".join(c.delta.content or "" for update in updates for c in update.choices or []) == "Hello"


async def test_azure_ai_inference_chats_asynchronously(served: Served) -> None:
    async with AsyncChatCompletionsClient(f"{served.url}/models", CREDENTIAL) as client:
        stream = await client.complete(messages=QUESTION, model="mistral-large", stream=True)
        text = "".join([c.delta.content or "" async for update in stream for c in update.choices or []])
    assert text == "Hello"


def test_azure_ai_inference_embeds(served: Served) -> None:
    served.gateway.script = VECTORS
    with EmbeddingsClient(f"{served.url}/models", CREDENTIAL) as client:
        answer = client.embed(input=["a", "b"], model="embed")
    assert [item.embedding for item in answer.data] == [[1.0], [2.0]]


@pytest.mark.parametrize(("base", "kind"), [("", ChatCompletionsClient), ("/deployments/embed", EmbeddingsClient)])
def test_load_client_finds_out_which_client_it_takes(served: Served, base: str, kind: type) -> None:
    with load_client(served.url + base, CREDENTIAL) as client:
        assert type(client) is kind


def test_azure_ai_inference_says_that_azure_openai_has_no_info(served: Served) -> None:
    client = ChatCompletionsClient(f"{served.url}/openai/deployments/mistral-large", CREDENTIAL)
    with client, pytest.raises(ResourceNotFoundError) as missing:
        client.get_model_info()
    assert "not supported" in missing.value.message


def test_azure_ai_inference_reads_our_refusals(served: Served) -> None:
    stranger = ChatCompletionsClient(f"{served.url}/models", AzureKeyCredential("wrong"))
    with stranger, pytest.raises(ClientAuthenticationError):
        stranger.complete(messages=QUESTION, model="mistral-large")
    with ChatCompletionsClient(f"{served.url}/models", CREDENTIAL) as client:
        with pytest.raises(ResourceNotFoundError) as unknown:
            client.complete(messages=QUESTION, model="none")
        assert unknown.value.error.code == "unknown_model"
        offence = Offence("parameter_not_supported", ("body", "response_format"), "no", "json_object")
        served.gateway.refusal = InvalidParameters([offence])
        with pytest.raises(HttpResponseError) as refused:
            client.complete(messages=QUESTION, model="mistral-large")
        assert refused.value.status_code == 422
        assert refused.value.response.json()["detail"][0]["loc"] == ["body", "response_format"]


def test_openai_chats_streams_and_lists(served: Served) -> None:
    with OpenAI(base_url=f"{served.url}/openai/v1", api_key=KEY, max_retries=0) as client:
        chat(client)
        assert [model.id for model in client.models.list()] == ["embed", "Mistral-large"]
        assert client.models.retrieve("embed").owned_by == "Mistral AI"
        with pytest.raises(NotFoundError) as unknown:
            client.models.retrieve("none")
        assert unknown.value.code == "DeploymentNotFound"


def test_azure_openai_chats_streams_lists_and_embeds(served: Served) -> None:
    with AzureOpenAI(azure_endpoint=served.url, api_key=KEY, api_version="2024-10-21", max_retries=0) as client:
        chat(client)
        assert [model.id for model in client.models.list()] == ["embed", "Mistral-large"]
        served.gateway.script = VECTORS
        vectors = client.embeddings.create(model="embed", input=["a", "b"])
        assert [item.embedding for item in vectors.data] == [[1.0], [2.0]]


def test_azure_openai_with_a_v1_base_url_works_too(served: Served) -> None:
    base_url = f"{served.url}/openai/v1/"
    with AzureOpenAI(base_url=base_url, api_key=KEY, api_version="preview", max_retries=0) as client:
        chat(client)


def chat(client: OpenAI) -> None:
    question = [{"role": "user", "content": "Hi"}]
    answer = client.chat.completions.create(model="mistral-large", messages=question)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Hello"
    stream = client.chat.completions.create(model="mistral-large", messages=question, stream=True)  # type: ignore[arg-type]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"
