"""semantic-kernel's Azure AI Inference connector, which insists on https."""

from __future__ import annotations

import asyncio

import pytest
from semantic_kernel.connectors.ai.azure_ai_inference import (
    AzureAIInferenceChatCompletion,
    AzureAIInferenceChatPromptExecutionSettings,
    AzureAIInferenceTextEmbedding,
)
from semantic_kernel.contents import ChatHistory

from clients.deployments import COHERE, RIEMANN
from clients.serving import Server

pytestmark = pytest.mark.check(121)


def history() -> ChatHistory:
    made = ChatHistory(system_message="You are a helpful assistant.")
    made.add_user_message("Hello")
    return made


def test_chat_and_stream(secure: Server) -> None:
    async def talk() -> tuple[str, str]:
        service = AzureAIInferenceChatCompletion(
            ai_model_id="mistral-large", api_key=secure.key, endpoint=secure.models
        )
        async with service.client:
            settings = AzureAIInferenceChatPromptExecutionSettings(max_tokens=2000, temperature=0.5)
            whole = await service.get_chat_message_content(history(), settings)
            pieces = service.get_streaming_chat_message_content(history(), settings)
            return str(whole), "".join([str(piece) async for piece in pieces])

    assert asyncio.run(talk()) == (RIEMANN, RIEMANN)


def test_extras(secure: Server) -> None:
    async def talk() -> str:
        service = AzureAIInferenceChatCompletion(
            ai_model_id="Mistral-large-echo", api_key=secure.key, endpoint=secure.models
        )
        async with service.client:
            settings = AzureAIInferenceChatPromptExecutionSettings(extra_parameters={"safe_prompt": True})
            return str(await service.get_chat_message_content(history(), settings))

    assert "Always assist with care" in asyncio.run(talk())


def test_embeddings(secure: Server) -> None:
    async def embed() -> tuple[int, int]:
        service = AzureAIInferenceTextEmbedding(ai_model_id=COHERE, api_key=secure.key, endpoint=secure.models)
        async with service.client:
            vectors = await service.generate_embeddings(["a", "b"])
            return len(vectors), len(vectors[0])

    assert asyncio.run(embed()) == (2, 1024)
