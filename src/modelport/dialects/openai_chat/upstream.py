"""The OpenAI dialect towards an upstream: how it is asked, how its answers and its errors are read. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from modelport.core.catalog import Target
from modelport.core.errors import ModelportError
from modelport.core.ports.providers import Codec, Decoder, UpstreamRequest
from modelport.core.requests import ChatRequest, Request
from modelport.dialects.openai_chat.upstream_answers import decoder
from modelport.dialects.openai_chat.upstream_failures import failure
from modelport.dialects.openai_chat.upstream_requests import MaxTokensName, UpstreamEncoder, UpstreamFacts
from modelport.dialects.openai_chat.upstream_simple import usual_answer

__all__ = ["MaxTokensName", "UpstreamCodec", "UpstreamFacts"]

ENCODERS_LIMIT: Final = 1024
"""Kinds of requests of which a codec keeps the encoder."""


class UpstreamCodec(Codec):
    """core.ports.providers.Codec. `headers` go with each request and may hold the credential."""

    def __init__(
        self,
        facts: UpstreamFacts = UpstreamFacts(),  # noqa: B008  frozen
        *,
        headers: tuple[tuple[str, str], ...] = (),
        engine: bool = False,
    ) -> None:
        self._facts = facts
        self._headers = headers
        self._is_engine = engine
        """A worker of ours answers: it may be loading or full, and when it breaks, the model did."""
        self._encoders: dict[tuple[type, str, str | None, bool], UpstreamEncoder] = {}

    def __repr__(self) -> str:
        return f"UpstreamCodec({self._facts!r})"

    def encode(self, request: Request, target: Target) -> UpstreamRequest:
        """core.ports.providers.Codec"""
        kind = type(request), target.model, target.max_tokens_name, request.stream
        encoder = self._encoders.get(kind)
        if encoder is None:
            if len(self._encoders) >= ENCODERS_LIMIT:
                self._encoders.clear()
            encoder = self._encoders[kind] = self._encoder(request, target)
        return encoder.encode(request)

    def _encoder(self, request: Request, target: Target) -> UpstreamEncoder:
        facts = self._facts
        if target.max_tokens_name is not None and facts.max_tokens_name is None:
            facts = replace(facts, max_tokens_name=target.max_tokens_name)
        return UpstreamEncoder(request, target.model, facts, self._headers)

    def ignored(self, request: Request) -> tuple[str, ...]:
        """core.ports.providers.Codec"""
        if not isinstance(request, ChatRequest):
            return ()
        if request.user_security_context is None and self._facts.takes_reasoning:
            return ()
        names = []
        if request.user_security_context is not None and not self._facts.takes_security_context:
            names.append("user_security_context")
        if not self._facts.takes_reasoning and any(turn.reasoning_content is not None for turn in request.messages):
            names.append("messages.reasoning_content")
        return tuple(names)

    def decoder(self, request: Request) -> Decoder:
        """core.ports.providers.Codec"""
        return decoder(request, engine=self._is_engine)

    whole_answer = staticmethod(usual_answer)
    """core.ports.providers.Codec"""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        """core.ports.providers.Codec"""
        return failure(status, headers, body, engine=self._is_engine)
