"""An OpenAI-compatible upstream: the codec, and an address."""

from __future__ import annotations

import msgspec

from modelport.core.ports.providers import Address
from modelport.dialects.openai_chat.upstream import UpstreamCodec, UpstreamFacts
from modelport.providers.openai_compatible.endpoints import ENDPOINTS, UNKNOWN, Endpoint
from modelport.providers.openai_compatible.settings import Settings


class OpenAICompatible(UpstreamCodec):
    """core.ports.providers.Provider."""

    def __init__(self, address: Address, facts: UpstreamFacts, headers: tuple[tuple[str, str], ...]) -> None:
        super().__init__(facts, headers=headers)
        self.address = address


def open(settings: Settings, name: str) -> OpenAICompatible:
    """The provider called `name` in the configuration. Opens no connection."""
    endpoint = ENDPOINTS[settings.host] if settings.host is not None else UNKNOWN
    base_url = settings.base_url or endpoint.base_url
    assert base_url is not None  # Settings has seen to it
    address = Address(
        base_url=base_url.rstrip("/"),
        unix_socket=str(settings.unix_socket) if settings.unix_socket is not None else None,
        verify_tls=settings.verify_tls,
        ca_file=str(settings.ca_file) if settings.ca_file is not None else None,
        proxy=settings.proxy.get_secret_value() if settings.proxy is not None else None,
    )
    return OpenAICompatible(address, _facts(settings, endpoint.facts), _headers(settings, endpoint))


def _facts(settings: Settings, known: UpstreamFacts) -> UpstreamFacts:
    paths = settings.paths
    said = {
        "chat_path": paths.chat,
        "completions_path": paths.completions,
        "embeddings_path": paths.embeddings,
        "image_embeddings_path": paths.image_embeddings,
        "query": f"api-version={settings.api_version}" if settings.api_version is not None else None,
        "max_tokens_name": settings.max_tokens_name,
        "asks_stream_usage": settings.stream_usage,
        "embeddings_format": settings.embeddings_format,
    }
    return msgspec.structs.replace(known, **{key: value for key, value in said.items() if value is not None})


def _headers(settings: Settings, endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """The operator's own headers replace ours, whatever their case."""
    headers = dict(endpoint.headers)
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        if (settings.auth or endpoint.auth) == "bearer":
            headers["authorization"] = f"Bearer {key}"
        else:
            headers["api-key"] = key
    if settings.organization is not None:
        headers["openai-organization"] = settings.organization.get_secret_value()
    for name, value in settings.headers.items():
        headers[name.lower()] = value.get_secret_value()
    return tuple(headers.items())
