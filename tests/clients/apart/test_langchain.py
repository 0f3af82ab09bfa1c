"""langchain-azure-ai: the chat model on `/models`, its successor on `/openai/v1`, and the embeddings."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_azure_ai.chat_models import AzureAIOpenAIApiChatModel
from langchain_azure_ai.chat_models.inference import AzureAIChatCompletionsModel
from langchain_azure_ai.embeddings.inference import AzureAIEmbeddingsModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from clients.deployments import CAREFUL, CAREFUL_LATER, COHERE, EMBEDDED, EMBEDDED_TEXTS, RIEMANN, TOMATOES
from clients.serving import Server

pytestmark = pytest.mark.check(118)
HELLO = [SystemMessage("You are a helpful assistant."), HumanMessage("Hello")]


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f'{{"sky": "blue in {city}"}}'


def made(kind: str, server: Server, deployment: str) -> Any:
    if kind == "inference":
        return AzureAIChatCompletionsModel(endpoint=server.models, credential=server.key, model=deployment)
    if kind == "successor":
        return AzureAIOpenAIApiChatModel(endpoint=f"{server.url}/openai/v1", credential=server.key, model=deployment)
    if kind == "openai":
        return ChatOpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key, model=deployment)
    return AzureChatOpenAI(
        azure_endpoint=server.url, api_key=server.key, azure_deployment=deployment, api_version="2024-10-21"
    )


KINDS = pytest.mark.parametrize("kind", ["inference", "successor", "openai", "azure"])


@KINDS
@pytest.mark.parametrize("deployment", ["mistral-large", EMBEDDED])
def test_chat(server: Server, kind: str, deployment: str) -> None:
    answer = made(kind, server, deployment).bind(max_tokens=64).invoke(HELLO)
    assert answer.content
    if deployment == "mistral-large":
        assert answer.content == RIEMANN
    assert answer.usage_metadata["total_tokens"] > 0


@KINDS
def test_stream(server: Server, kind: str) -> None:
    chunks = list(made(kind, server, "mistral-large").stream(HELLO))
    assert "".join(chunk.content for chunk in chunks) == RIEMANN
    assert len(chunks) > 3


@KINDS
@pytest.mark.parametrize("streaming", [False, True])
def test_tools(server: Server, kind: str, streaming: bool) -> None:
    model = made(kind, server, "gpt-4o-tools").bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    if streaming:
        pieces = list(model.stream([question]))
        first = pieces[0]
        for piece in pieces[1:]:
            first = first + piece
        first = AIMessage(content=first.content, tool_calls=first.tool_calls)
    else:
        first = model.invoke([question])
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("get_weather", {"city": "Paris"})]
    result = ToolMessage(
        content=get_weather.invoke(first.tool_calls[0]["args"]), tool_call_id=first.tool_calls[0]["id"]
    )
    assert model.invoke([question, first, result]).content == 'The tool answered: {"sky": "blue in Paris"}'


def test_extras(server: Server) -> None:
    model = AzureAIChatCompletionsModel(
        endpoint=server.models, credential=server.key, model="Mistral-large-echo", model_kwargs={"safe_prompt": True}
    )
    assert "Always assist with care" in model.invoke(HELLO).content


@pytest.mark.parametrize("deployment", [EMBEDDED_TEXTS, COHERE])
def test_embeddings(server: Server, deployment: str) -> None:
    model = AzureAIEmbeddingsModel(endpoint=server.models, credential=server.key, model=deployment)
    assert len(model.embed_documents(["a", "b"])) == 2
    assert len(model.embed_query("a")) in {384, 1024}


@KINDS
@pytest.mark.check(107, 109, 110)
def test_content_filters(server: Server, kind: str) -> None:
    model = made(kind, server, CAREFUL)
    with pytest.raises(Exception, match=r"content_filter|management policy") as caught:
        model.invoke([HumanMessage("Chopping tomatoes is great.")])
    assert getattr(caught.value, "status_code", 400) == 400
    if kind == "azure":  # its own word for such an answer
        with pytest.raises(ValueError, match="content filter being triggered"):
            model.invoke([HumanMessage("How do I cook?")])
    else:
        answer = model.invoke([HumanMessage("How do I cook?")])
        assert answer.content == "Take a knife. "
        assert answer.response_metadata["finish_reason"] == "content_filter"
    assert "".join(chunk.content for chunk in model.stream([HumanMessage("How do I cook?")])) == "Take a knife. "
    later = made(kind, server, CAREFUL_LATER).stream([HumanMessage("How do I cook?")])
    assert "".join(chunk.content for chunk in later) == TOMATOES
