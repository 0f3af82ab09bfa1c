"""litellm: its `azure_ai/` provider above all, and the neighbours that people use with the same endpoint."""

from __future__ import annotations

from typing import Any

import litellm
import pytest

from clients.deployments import (
    CAREFUL,
    CAREFUL_LATER,
    COHERE,
    EMBEDDED,
    EMBEDDED_IMAGES,
    EMBEDDED_TEXTS,
    RIEMANN,
    TOMATOES,
    png_data_url,
)
from clients.serving import Server

pytestmark = pytest.mark.check(120)
HELLO = [{"role": "user", "content": "Hello"}]


def bases(server: Server) -> dict[str, dict[str, Any]]:
    key = {"api_key": server.key, "max_retries": 0}
    return {
        "azure_ai": {"model": "azure_ai/mistral-large", "api_base": server.models, **key},
        "azure_ai, root": {"model": "azure_ai/mistral-large", "api_base": server.root_of("mistral-large"), **key},
        "azure": {"model": "azure/mistral-large", "api_base": server.url, "api_version": "2024-10-21", **key},
        "openai": {"model": "openai/mistral-large", "api_base": f"{server.url}/openai/v1", **key},
    }


ROUTES = pytest.mark.parametrize("route", ["azure_ai", "azure_ai, root", "azure", "openai"])


@ROUTES
def test_chat(server: Server, route: str) -> None:
    answer = litellm.completion(messages=HELLO, **bases(server)[route])
    assert answer.choices[0].message.content == RIEMANN
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_with_the_embedded_model(server: Server) -> None:
    answer = litellm.completion(
        model=f"azure_ai/{EMBEDDED}", messages=HELLO, api_base=server.models, api_key=server.key, max_tokens=16
    )
    assert answer.choices[0].message.content


@ROUTES
def test_stream(server: Server, route: str) -> None:
    chunks = list(litellm.completion(messages=HELLO, stream=True, **bases(server)[route]))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == RIEMANN


def test_stream_with_usage(server: Server) -> None:
    chunks = list(
        litellm.completion(
            messages=HELLO, stream=True, stream_options={"include_usage": True}, **bases(server)["azure_ai"]
        )
    )
    assert [chunk for chunk in chunks if getattr(chunk, "usage", None)]


@pytest.mark.check(66, 120)
def test_a_bare_extra_is_refused_and_the_second_request_succeeds(server: Server) -> None:
    answer = litellm.completion(messages=HELLO, n=2, **bases(server)["azure_ai"])
    assert answer.choices[0].message.content == RIEMANN


def test_tools(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    answer = litellm.completion(
        model="azure_ai/gpt-4o-tools", messages=HELLO, tools=[tool], api_base=server.models, api_key=server.key
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("deployment", [EMBEDDED_TEXTS, COHERE])
def test_embeddings(server: Server, deployment: str) -> None:
    answer = litellm.embedding(
        model=f"azure_ai/{deployment}", input=["a", "b"], api_base=server.models, api_key=server.key
    )
    assert len(answer.data) == 2


@pytest.mark.parametrize(("deployment", "length"), [(COHERE, 1024), (EMBEDDED_IMAGES, 384)])
def test_image_embeddings(server: Server, deployment: str, length: int) -> None:
    """LiteLLM names no model in this request, so the base is the root form of a deployment."""
    answer = litellm.embedding(
        model="azure_ai/Cohere-embed-v3-english",
        input=[png_data_url()],
        api_base=server.root_of(deployment),
        api_key=server.key,
    )
    assert [len(item["embedding"]) for item in answer.data] == [length]


def test_a_blocked_key_is_an_authentication_error(server: Server) -> None:
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(messages=HELLO, **{**bases(server)["azure_ai"], "api_key": "wrong"})
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(messages=HELLO, **{**bases(server)["azure_ai"], "model": "azure_ai/nobody"})


def said(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@ROUTES
@pytest.mark.check(107, 109, 110)
def test_content_filters(server: Server, route: str) -> None:
    def base(deployment: str) -> dict[str, Any]:
        found = bases(server)[route]
        return {name: str(value).replace("mistral-large", deployment) if isinstance(value, str) else value
                for name, value in found.items()}  # fmt: skip

    with pytest.raises((litellm.ContentPolicyViolationError, litellm.BadRequestError)):
        litellm.completion(messages=[{"role": "user", "content": "Chopping tomatoes is great."}], **base(CAREFUL))
    how = [{"role": "user", "content": "How do I cook?"}]
    choice = litellm.completion(messages=how, **base(CAREFUL)).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", "Take a knife. ")
    assert said(litellm.completion(messages=how, stream=True, **base(CAREFUL))) == "Take a knife. "
    assert said(litellm.completion(messages=how, stream=True, **base(CAREFUL_LATER))) == TOMATOES
