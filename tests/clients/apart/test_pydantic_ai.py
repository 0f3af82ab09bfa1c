"""pydantic-ai: the strictest reader of answers, on both OpenAI doors."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.azure import AzureProvider
from pydantic_ai.providers.openai import OpenAIProvider

from clients.deployments import EMBEDDED, RIEMANN
from clients.serving import Server

pytestmark = pytest.mark.check(123)


def made(kind: str, server: Server, deployment: str) -> Any:
    if kind == "azure":
        provider: Any = AzureProvider(azure_endpoint=server.url, api_version="2024-10-21", api_key=server.key)
    elif kind == "azure, v1":
        provider = AzureProvider(azure_endpoint=f"{server.url}/openai/v1/", api_key=server.key)
    else:
        provider = OpenAIProvider(base_url=f"{server.url}/openai/v1", api_key=server.key)
    return OpenAIChatModel(deployment, provider=provider)


KINDS = pytest.mark.parametrize("kind", ["azure", "azure, v1", "openai"])


@KINDS
@pytest.mark.parametrize("deployment", ["mistral-large", EMBEDDED])
def test_chat(server: Server, kind: str, deployment: str) -> None:
    agent = Agent(made(kind, server, deployment), model_settings={"max_tokens": 64})
    answer = asyncio.run(agent.run("Hello"))
    assert answer.output
    assert deployment == EMBEDDED or answer.output == RIEMANN
    assert answer.usage.output_tokens > 0


@KINDS
def test_stream(server: Server, kind: str) -> None:
    async def talk() -> str:
        async with Agent(made(kind, server, "mistral-large")).run_stream("Hello") as result:
            pieces = [piece async for piece in result.stream_text(delta=True)]
        return "".join(pieces)

    assert asyncio.run(talk()) == RIEMANN


@KINDS
def test_tools(server: Server, kind: str) -> None:
    agent = Agent(made(kind, server, "gpt-4o-tools"))
    asked: list[str] = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        asked.append(city)
        return "blue"

    assert asyncio.run(agent.run("What is the weather in Paris?")).output == "The tool answered: blue"
    assert asked == ["Paris"]


class Apples(pydantic.BaseModel):
    colour: str
    count: int


@KINDS
def test_a_typed_answer(server: Server, kind: str) -> None:
    from pydantic_ai import NativeOutput

    agent = Agent(made(kind, server, "gpt-4o-json"), output_type=NativeOutput(Apples))
    assert asyncio.run(agent.run("Hello")).output == Apples(colour="red", count=3)
