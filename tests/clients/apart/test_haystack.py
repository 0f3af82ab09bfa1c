"""haystack's chat generators and embedders."""

from __future__ import annotations

from typing import Any

import pytest
from haystack.components.embedders import AzureOpenAITextEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import AzureOpenAIChatGenerator, OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret

from clients.deployments import EMBEDDED, EMBEDDED_TEXTS, RIEMANN
from clients.serving import Server

pytestmark = pytest.mark.check(124)
HELLO = [ChatMessage.from_user("Hello")]


def made(kind: str, server: Server, deployment: str, **settings: Any) -> Any:
    key = Secret.from_token(server.key)
    if kind == "azure":
        return AzureOpenAIChatGenerator(
            azure_endpoint=server.url, api_key=key, azure_deployment=deployment, azure_ad_token=None, **settings
        )
    return OpenAIChatGenerator(api_base_url=f"{server.url}/openai/v1", api_key=key, model=deployment, **settings)


KINDS = pytest.mark.parametrize("kind", ["azure", "openai"])


@KINDS
@pytest.mark.parametrize("deployment", ["mistral-large", EMBEDDED])
def test_chat(server: Server, kind: str, deployment: str) -> None:
    generator = made(kind, server, deployment, generation_kwargs={"max_tokens": 32})
    (answer,) = generator.run(HELLO)["replies"]
    assert answer.text
    assert deployment == EMBEDDED or answer.text == RIEMANN


@KINDS
def test_stream(server: Server, kind: str) -> None:
    pieces: list[str] = []
    generator = made(kind, server, "mistral-large", streaming_callback=lambda chunk: pieces.append(chunk.content))
    (answer,) = generator.run(HELLO)["replies"]
    assert "".join(pieces) == RIEMANN
    assert answer.text == RIEMANN


@pytest.mark.parametrize("kind", ["azure", "openai"])
def test_embeddings(server: Server, kind: str) -> None:
    key = Secret.from_token(server.key)
    embedder: Any
    if kind == "azure":
        embedder = AzureOpenAITextEmbedder(
            azure_endpoint=server.url, api_key=key, azure_deployment=EMBEDDED_TEXTS, azure_ad_token=None
        )
    else:
        embedder = OpenAITextEmbedder(api_base_url=f"{server.url}/openai/v1", api_key=key, model=EMBEDDED_TEXTS)
    assert len(embedder.run("a")["embedding"]) == 384
