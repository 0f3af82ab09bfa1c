"""One row per known host: where it is, how it wants the key, and where its dialect differs. Facts only that change
what is sent; a host without a row works through `base_url`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

from modelport.dialects.openai_chat.upstream import UpstreamFacts

Auth = Literal["bearer", "api-key"]


class Endpoint(Struct, frozen=True, kw_only=True):
    """A known host. `base_url` None: everybody has their own."""

    base_url: str | None = None
    auth: Auth = "bearer"
    facts: UpstreamFacts = UpstreamFacts()
    headers: tuple[tuple[str, str], ...] = ()


UNKNOWN: Final = Endpoint()
_PLAIN: Final = UpstreamFacts(takes_reasoning=False)
"""Refuses fields of a message that OpenAI does not document."""

ENDPOINTS: Final[Mapping[str, Endpoint]] = MappingProxyType(
    {
        "openai": Endpoint(
            base_url="https://api.openai.com/v1",
            facts=UpstreamFacts(
                max_tokens_name="max_completion_tokens", has_developer_role=True, takes_reasoning=False
            ),
        ),
        "azure_openai": Endpoint(
            auth="api-key",
            facts=UpstreamFacts(has_developer_role=True, takes_reasoning=False, takes_security_context=True),
        ),
        "azure_inference": Endpoint(
            auth="api-key",
            facts=UpstreamFacts(
                query="api-version=2024-05-01-preview",
                asks_stream_usage=False,
                takes_reasoning=False,
                takes_security_context=True,
            ),
            headers=(("extra-parameters", "pass-through"),),
        ),
        "vllm": Endpoint(base_url="http://127.0.0.1:8000/v1"),
        "llama_server": Endpoint(base_url="http://127.0.0.1:8080/v1"),
        "ollama": Endpoint(base_url="http://127.0.0.1:11434/v1"),
        "together": Endpoint(base_url="https://api.together.xyz/v1"),
        "groq": Endpoint(base_url="https://api.groq.com/openai/v1", facts=_PLAIN),
        "deepseek": Endpoint(base_url="https://api.deepseek.com/v1", facts=_PLAIN),
        "mistral": Endpoint(
            base_url="https://api.mistral.ai/v1",
            facts=UpstreamFacts(
                max_tokens_name="max_tokens",
                asks_stream_usage=False,
                embeddings_format="float",
                takes_reasoning=False,
                renamed=(("seed", "random_seed"),),
            ),
        ),
        "openrouter": Endpoint(base_url="https://openrouter.ai/api/v1"),
        "fireworks": Endpoint(base_url="https://api.fireworks.ai/inference/v1"),
        "cerebras": Endpoint(base_url="https://api.cerebras.ai/v1", facts=_PLAIN),
        "nvidia": Endpoint(base_url="https://integrate.api.nvidia.com/v1", facts=_PLAIN),
        "xai": Endpoint(base_url="https://api.x.ai/v1", facts=_PLAIN),
    }
)
