"""azure-ai-inference, every beta before the last; each in its own environment."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json

import pytest
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, models
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from clients.deployments import EMBEDDED_LLAMA, EMBEDDED_TEXTS, LANGUAGES, LLAMA, RIEMANN, SCRIPTED_LLAMA
from clients.printed import run_python
from clients.serving import Server

BETA = int(importlib.metadata.version("azure-ai-inference").removeprefix("1.0.0b"))
MESSAGES = [
    models.SystemMessage(content="You are a helpful assistant."),
    models.UserMessage(content="How many languages are in the world?"),
]
with_format_classes = pytest.mark.skipif(BETA not in {4, 5, 6}, reason="only b4 to b6 have the format classes")


def client_of(server: Server, deployment: str) -> ChatCompletionsClient:
    return ChatCompletionsClient(endpoint=server.root_of(deployment), credential=AzureKeyCredential(server.key))


@pytest.mark.check(4)
def test_a_chat_at_the_root_form(server: Server) -> None:
    with client_of(server, SCRIPTED_LLAMA) as client:
        response = client.complete(messages=MESSAGES)
    assert response.choices[0].message.content == LANGUAGES
    assert response.choices[0].finish_reason == "stop"
    assert response.usage.total_tokens == response.usage.prompt_tokens + response.usage.completion_tokens


@pytest.mark.check(4)
@pytest.mark.skipif(BETA == 1, reason="b1 knows no model parameter")
def test_a_chat_on_the_models_form(server: Server) -> None:
    with ChatCompletionsClient(endpoint=server.models, credential=AzureKeyCredential(server.key)) as client:
        assert client.complete(messages=MESSAGES, model="mistral-large").choices[0].message.content == RIEMANN


@pytest.mark.check(4)
def test_a_chat_with_the_embedded_model(server: Server) -> None:
    with client_of(server, EMBEDDED_LLAMA) as client:
        response = client.complete(messages=MESSAGES, max_tokens=16, temperature=0)
    assert response.choices[0].message.content


@pytest.mark.check(4, 76)
def test_a_stream(server: Server) -> None:
    with client_of(server, SCRIPTED_LLAMA) as client:
        updates = list(client.complete(messages=MESSAGES, stream=True))
    assert "".join(update.choices[0].delta.content for update in updates) == LANGUAGES
    assert updates[-1].choices[0].finish_reason == "stop"
    # b1 and b2 have no place for usage in an update; later ones read it from the last chunk.
    if BETA > 3:
        assert updates[-1].usage.total_tokens > 0


@pytest.mark.check(4, 76)
def test_the_asynchronous_client(server: Server) -> None:
    async def talk() -> tuple[str, str]:
        async with AsyncChatCompletionsClient(
            endpoint=server.root_of(SCRIPTED_LLAMA), credential=AzureKeyCredential(server.key)
        ) as client:
            whole = await client.complete(messages=MESSAGES)
            updates = await client.complete(messages=MESSAGES, stream=True)
            text = "".join([update.choices[0].delta.content async for update in updates])
            return whole.choices[0].message.content, text

    assert asyncio.run(talk()) == (LANGUAGES, LANGUAGES)


@pytest.mark.check(4, 83)
def test_a_death_in_mid_stream_is_an_exception(server: Server) -> None:
    with client_of(server, "dies-in-mid-stream") as client, pytest.raises(HttpResponseError):
        list(client.complete(messages=MESSAGES, stream=True))


@pytest.mark.check(56, 64)
def test_an_extra_is_passed_through(server: Server) -> None:
    with client_of(server, "Mistral-large-echo") as client:
        answer = client.complete(messages=MESSAGES, model_extras={"safe_mode": True}).choices[0].message.content
    assert "Always assist with care, respect, and truth." in answer


@pytest.mark.check(42)
def test_the_text_format_of_this_version(server: Server) -> None:
    if BETA <= 3:
        formats = ["text"]
    elif BETA <= 6:
        text = models.ChatCompletionsResponseFormatText()
        formats = [text, {"type": text}]
    else:
        formats = ["text"]
    with client_of(server, SCRIPTED_LLAMA) as client:
        for form in formats:
            assert client.complete(messages=MESSAGES, response_format=form).choices[0].message.content == LANGUAGES


@pytest.mark.check(43)
def test_the_json_format_of_this_version_is_refused_for_a_llama(server: Server) -> None:
    form = models.ChatCompletionsResponseFormatJSON() if BETA in {4, 5, 6} else "json_object"
    with client_of(server, LLAMA) as client, pytest.raises(HttpResponseError) as caught:
        client.complete(messages=MESSAGES, response_format=form)
    assert caught.value.status_code == 422
    offending = json.loads(caught.value.response._content.decode("utf-8"))["detail"]
    assert [".".join(entry["loc"]) for entry in offending] == ["body.response_format"]


@with_format_classes
@pytest.mark.check(43)
def test_the_printed_handler_names_the_parameter(server: Server) -> None:
    root = server.root_of(SCRIPTED_LLAMA)
    printed = run_python("api-client", "api-json", endpoint=root, key=server.key)
    assert printed.startswith("Looks like the model doesn't support the parameter 'body.response_format' with value '")
    assert "json_object" in printed


@with_format_classes
@pytest.mark.check(27, 30, 42)
@pytest.mark.parametrize("deployment", [SCRIPTED_LLAMA, EMBEDDED_LLAMA])
def test_the_printed_parameters(server: Server, deployment: str) -> None:
    names = ["llama-client", "llama-chat", "llama-parameters"]
    assert "Model: Meta-Llama-3.1-405B-Instruct" in run_python(
        *names, endpoint=server.root_of(deployment), key=server.key
    )


@pytest.mark.check(4)
def test_embeddings(server: Server) -> None:
    with EmbeddingsClient(endpoint=server.root_of(EMBEDDED_TEXTS), credential=AzureKeyCredential(server.key)) as client:
        answer = client.embed(input=["a", "b"])
    assert [item.index for item in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == 384


@pytest.mark.check(96)
def test_the_model_information(server: Server) -> None:
    with client_of(server, SCRIPTED_LLAMA) as client:
        info = client.get_model_info()
    assert (info.model_name, info.model_provider_name) == ("Meta-Llama-3.1-405B-Instruct", "Meta")


@pytest.mark.skipif(BETA == 1, reason="b1's samples differ")
@pytest.mark.check(4)
def test_the_printed_samples(server: Server) -> None:
    names = ["llama-client", "llama-info", "llama-chat", "llama-stream", "llama-extras", "llama-safety"]
    printed = run_python(*names, endpoint=server.root_of(SCRIPTED_LLAMA), key=server.key)
    assert printed.count(LANGUAGES) == 3
