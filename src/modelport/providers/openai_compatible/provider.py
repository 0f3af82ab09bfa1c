"""An OpenAI-compatible upstream: the codec, an address, and a token where the upstream wants one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from modelport.core.errors import ModelportError
from modelport.core.ports.providers import Address, Transport
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.dialects.openai_chat.upstream import UpstreamCodec, UpstreamFacts
from modelport.providers.openai_compatible.credential import CredentialSettings, fetch_of
from modelport.providers.openai_compatible.endpoints import ENDPOINTS, UNKNOWN, Endpoint
from modelport.providers.openai_compatible.settings import Settings
from modelport.upstream.credentials.source import TokenSource

UNAUTHORIZED = 401


class OpenAICompatible(UpstreamCodec):
    """core.ports.providers.Provider."""

    def __init__(self, address: Address, facts: UpstreamFacts, headers: tuple[tuple[str, str], ...]) -> None:
        super().__init__(facts, headers=headers)
        self.address = address


class WithToken(OpenAICompatible):
    """The same with an access token for a key: core.ports.providers.Readiness and BackgroundWork, too."""

    def __init__(
        self,
        name: str,
        credential: CredentialSettings,
        address: Address,
        facts: UpstreamFacts,
        headers: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(address, facts, headers)
        self.name = name
        self._credential = credential
        self._other_headers = headers
        self._token = b""
        self._source: TokenSource | None = None

    def start(self, transport: Transport) -> None:
        """core.ports.providers.BackgroundWork"""
        fetch = fetch_of(self._credential, self.address, transport)
        self._source = TokenSource(self.name, fetch, self._take)
        self._source.start()

    async def stop(self) -> None:
        """core.ports.providers.BackgroundWork"""
        if self._source is not None:
            await self._source.stop()

    @property
    def state(self) -> Literal["ready", "degraded", "gone"]:
        """core.ports.providers.BackgroundWork"""
        return self._source.state if self._source is not None else "ready"

    def readiness(self) -> Refusal | NeedsWaiting[None] | None:
        """core.ports.providers.Readiness"""
        assert self._source is not None  # started before the first call
        return self._source.readiness()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        """core.ports.providers.Codec. The words of the upstream never hold the token."""
        if status == UNAUTHORIZED and self._source is not None:
            self._source.refused()
        return super().failure(status, headers, body.replace(self._token, b"[redacted]") if self._token else body)

    def _take(self, token: str) -> None:
        self._token = token.encode()
        self._headers = (("authorization", f"Bearer {token}"), *self._other_headers)
        self._encoders.clear()  # each holds the headers


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
    facts, headers = _facts(settings, endpoint.facts), _headers(settings, endpoint)
    if settings.credential is not None:
        return WithToken(name, settings.credential, address, facts, headers)
    return OpenAICompatible(address, facts, headers)


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
