"""llama-index with its Azure AI Inference model: asks `/info` first, then chats."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.azure_inference import AzureAIEmbeddingsModel
from llama_index.llms.azure_inference import AzureAICompletionsModel

from clients.deployments import EMBEDDED, EMBEDDED_TEXTS, RIEMANN
from clients.serving import Server

pytestmark = pytest.mark.check(119)
HELLO = [ChatMessage(role="user", content="Hello")]


def made(server: Server, deployment: str) -> AzureAICompletionsModel:
    return AzureAICompletionsModel(
        endpoint=server.models, credential=server.key, model_name=deployment, api_version="2024-05-01-preview"
    )


def test_the_model_information_comes_first(server: Server) -> None:
    model = AzureAICompletionsModel(endpoint=server.root_of("gpt-4o"), credential=server.key)
    assert model.metadata.model_name == "gpt-4o"
    assert model.chat(HELLO).message.content


@pytest.mark.parametrize("deployment", ["mistral-large", EMBEDDED])
def test_chat(server: Server, deployment: str) -> None:
    answer = made(server, deployment).chat(HELLO, max_tokens=32).message.content
    assert answer
    assert deployment == EMBEDDED or answer == RIEMANN


def test_stream(server: Server) -> None:
    assert "".join(piece.delta or "" for piece in made(server, "mistral-large").stream_chat(HELLO)) == RIEMANN


def test_the_asynchronous_chat_and_stream(server: Server) -> None:
    async def talk() -> tuple[str | None, str]:
        model = made(server, "mistral-large")
        whole = await model.achat(HELLO)
        pieces = await model.astream_chat(HELLO)
        return whole.message.content, "".join([piece.delta or "" async for piece in pieces])

    assert asyncio.run(talk()) == (RIEMANN, RIEMANN)


def test_tools(server: Server) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"blue in {city}"

    model = made(server, "gpt-4o-tools")
    answer = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="Weather in Paris?")
    (call,) = model.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})


def test_embeddings(server: Server) -> None:
    model = AzureAIEmbeddingsModel(endpoint=server.models, credential=server.key, model_name=EMBEDDED_TEXTS)
    assert len(model.get_text_embedding("a")) == 384
    assert len(model.get_text_embedding_batch(["a", "b"])) == 2
