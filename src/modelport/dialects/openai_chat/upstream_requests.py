"""What is asked, in OpenAI's wire shape, for an upstream: standard fields first, then the extras as they were sent."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from modelport.core.content import Message
from modelport.core.ports.providers import UpstreamRequest
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    NamedToolChoice,
    Request,
)
from modelport.dialects.openai_shape.open_fields import wire, wire_message

MaxTokensName = Literal["max_tokens", "max_completion_tokens"]

_OURS: Final = frozenset({"model", "messages", "prompt", "input", "stream", "stream_options", "encoding_format"})
"""No extra replaces these."""


class UpstreamFacts(Struct, frozen=True, kw_only=True):
    """How one host's dialect differs from the others'. The defaults suit most."""

    chat_path: str = "/chat/completions"
    """Paths may hold `{model}`: the upstream's name of the model."""
    completions_path: str = "/completions"
    embeddings_path: str = "/embeddings"
    image_embeddings_path: str = "/images/embeddings"
    query: str = ""
    """Without the question mark: `api-version=…`."""
    max_tokens_name: MaxTokensName | None = None
    """The only spelling that it takes; None: either, as it was sent."""
    asks_stream_usage: bool = True
    """Does it know `stream_options`? Some refuse it and report usage all the same."""
    asks_running_usage: bool = False
    """Does each event say what was used until then?"""
    embeddings_format: Literal["base64", "float"] | None = "base64"
    """How vectors are asked for; None: not asked, the host sends what it sends."""
    has_developer_role: bool = False
    """Otherwise such turns are sent as `system`."""
    takes_reasoning: bool = True
    """May earlier turns carry `reasoning_content`?"""
    takes_security_context: bool = False
    """Only Azure does; nobody else is told who the end user is."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Parameters that it spells in its own way: (ours, its)."""


def encode(
    request: Request, model: str, facts: UpstreamFacts, headers: tuple[tuple[str, str], ...] = ()
) -> UpstreamRequest:
    """The upstream's own request, for its own name of the model."""
    match request:
        case ChatRequest():
            path, body = facts.chat_path, _chat(request, model, facts)
        case CompletionsRequest():
            path, body = facts.completions_path, _completions(request, model, facts)
        case EmbeddingsRequest():
            path, body = facts.embeddings_path, _vectors(request, list(request.input), model, facts)
        case ImageEmbeddingsRequest():
            path, body = facts.image_embeddings_path, _vectors(request, list(request.input), model, facts)
    for ours, theirs in facts.renamed:
        if ours in body:
            body[theirs] = body.pop(ours)
    for name, value in request.extra.items():
        if name not in _OURS:
            body.setdefault(_spelled(name, facts), value)
    if "{model}" in path:
        path = path.replace("{model}", quote(model, safe=""))
    accepted = "text/event-stream" if request.stream else "application/json"
    return UpstreamRequest(
        path=f"{path}?{facts.query}" if facts.query else path,
        body=msgspec.json.encode(body),
        headers=(("Content-Type", "application/json"), ("Accept", accepted), *headers),
        streamed=request.stream,
    )


def _spelled(extra: str, facts: UpstreamFacts) -> str:
    if extra in ("max_tokens", "max_completion_tokens"):
        return facts.max_tokens_name or extra
    return extra


def _chat(request: ChatRequest, model: str, facts: UpstreamFacts) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": [_message(message, facts) for message in request.messages]}
    _put_sampling(body, request, facts)
    if request.response_format is not None:
        body["response_format"] = wire(request.response_format)
    if request.tools:
        body["tools"] = [wire(tool) for tool in request.tools]
    if isinstance(request.tool_choice, NamedToolChoice):
        body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice.name}}
    elif request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.modalities is not None:
        body["modalities"] = request.modalities
    if request.user_security_context is not None and facts.takes_security_context:
        body["user_security_context"] = request.user_security_context
    return body


def _message(message: Message, facts: UpstreamFacts) -> Any:
    if message.role == "developer" and not facts.has_developer_role:
        message = msgspec.structs.replace(message, role="system")
    if message.reasoning_content is not None and not facts.takes_reasoning:
        message = msgspec.structs.replace(message, reasoning_content=None)
    if message.content is None and not message.tool_calls:
        message = msgspec.structs.replace(message, content="")  # null and absence are refused by many
    return wire_message(message)


def _completions(request: CompletionsRequest, model: str, facts: UpstreamFacts) -> dict[str, Any]:
    prompt = request.prompt[0] if len(request.prompt) == 1 else request.prompt
    body: dict[str, Any] = {"model": model, "prompt": prompt}
    _put_sampling(body, request, facts)
    for name in ("n", "best_of", "suffix", "logprobs"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.echo:
        body["echo"] = True
    return body


def _put_sampling(body: dict[str, Any], request: ChatRequest | CompletionsRequest, facts: UpstreamFacts) -> None:
    for name in ("frequency_penalty", "presence_penalty", "temperature", "top_p", "seed"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        spelling = facts.max_tokens_name if isinstance(request, ChatRequest) else None
        body[spelling or "max_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.stream:
        body["stream"] = True
        options = dict(request.stream_extra)
        if facts.asks_stream_usage:
            # Asked for whatever the caller wants: the gateway counts what is made.
            options = {"include_usage": True, **options}
        if facts.asks_running_usage:
            options["continuous_usage_stats"] = True
        if options:
            body["stream_options"] = options


def _vectors(
    request: EmbeddingsRequest | ImageEmbeddingsRequest, items: list[Any], model: str, facts: UpstreamFacts
) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "input": items}
    if facts.embeddings_format is not None:
        body["encoding_format"] = facts.embeddings_format
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.input_type is not None:
        body["input_type"] = request.input_type
    return body
