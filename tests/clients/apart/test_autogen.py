"""autogen-ext's Azure AI chat client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_core.models import AssistantMessage, FunctionExecutionResult, FunctionExecutionResultMessage, UserMessage
from autogen_core.tools import FunctionTool
from autogen_ext.models.azure import AzureAIChatCompletionClient
from azure.core.credentials import AzureKeyCredential

from clients.deployments import EMBEDDED, RIEMANN
from clients.serving import Server

pytestmark = pytest.mark.check(122)
ABLE = {"json_output": True, "function_calling": True, "vision": False, "family": "unknown", "structured_output": True}
HELLO = UserMessage(content="Hello", source="user")


def made(server: Server, deployment: str) -> Any:
    return AzureAIChatCompletionClient(
        model=deployment, endpoint=server.models, credential=AzureKeyCredential(server.key), model_info=ABLE
    )


def test_chat_and_stream(server: Server) -> None:
    async def talk() -> tuple[Any, str]:
        client = made(server, "mistral-large")
        whole = await client.create([HELLO])
        pieces = [piece async for piece in client.create_stream([HELLO])]
        await client.close()
        return whole, "".join(piece for piece in pieces if isinstance(piece, str))

    whole, streamed = asyncio.run(talk())
    assert whole.content == RIEMANN
    assert whole.finish_reason == "stop"
    assert whole.usage.completion_tokens > 0
    assert streamed == RIEMANN


def test_chat_with_the_embedded_model(server: Server) -> None:
    async def talk() -> Any:
        client = made(server, EMBEDDED)
        try:
            return await client.create([HELLO], extra_create_args={"max_tokens": 16})
        finally:
            await client.close()

    assert asyncio.run(talk()).content


def test_tools(server: Server) -> None:
    async def get_weather(city: str) -> str:
        return f"blue in {city}"

    async def talk() -> tuple[Any, Any]:
        client = made(server, "gpt-4o-tools")
        tools = [FunctionTool(get_weather, description="The weather of a city.")]
        first = await client.create([HELLO], tools=tools)
        (call,) = first.content
        result = FunctionExecutionResult(content="blue", call_id=call.id, name=call.name, is_error=False)
        messages = [
            HELLO,
            AssistantMessage(content=[call], source="assistant"),
            FunctionExecutionResultMessage(content=[result]),
        ]
        second = await client.create(messages, tools=tools)
        await client.close()
        return call, second

    call, second = asyncio.run(talk())
    assert call.name == "get_weather"
    assert second.content == "The tool answered: blue"
