"""What the model says to a request, before anyone thinks of time: the events of one whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from modelport.core.errors import InvalidParameters, Offence
from modelport.core.events import ChoiceFinished, Event, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from modelport.core.requests import DEFAULTS, ChatRequest, CompletionsRequest
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_shape.open_fields import wire_message
from modelport.providers.scripted.calling import choose_calls
from modelport.providers.scripted.examples import NoExample, example
from modelport.providers.scripted.logprobs import chat_logprobs, completion_logprobs
from modelport.providers.scripted.script import Reply, ToolCallReply
from modelport.providers.scripted.tokens import prompt_tokens, tokens

QUOTED_LENGTH: Final = 200
Pieces = list[list[str]]
"""The text as it is sent: one list of tokens for each delta."""


class Asked(Struct, frozen=True):
    """One call: what is asked, and what decides about the answer besides the reply."""

    request: ChatRequest | CompletionsRequest
    model: str
    number: int
    """Of the call, counted from 1: ids of tool calls differ by it."""
    seed: int
    is_joined: bool
    """One delta for a text, for nobody sees how it comes."""


class SaidCall(Struct, frozen=True):
    """One tool call; its arguments in tokens."""

    id: str | None
    name: str
    arguments: list[str]


class Said(Struct, frozen=True):
    """One choice: text or calls."""

    pieces: Pieces
    calls: tuple[SaidCall, ...]
    reason: FinishReason


def composed(asked: Asked, reply: Reply) -> tuple[list[Event], TokenUsage]:
    """The deltas and ends of all choices, and what was used."""
    events: list[Event] = []
    written = thought = 0
    for choice in range(asked.request.choices):
        said = _said(asked, reply, choice)
        reasoning = [[token] for token in tokens(reply.reasoning or "")]
        for piece in _joined(reasoning, asked):
            events.append(ReasoningDelta("".join(piece), choice))
        events += _text_deltas(asked, reply, choice, said.pieces)
        for index, call in enumerate(said.calls):
            events += _call_deltas(asked, choice, index, call)
            written += len(tokens(call.name)) + len(call.arguments)
        events.append(ChoiceFinished(_ending(reply, said), choice))
        written += sum(map(len, said.pieces))
        thought += len(reasoning)
    return events, TokenUsage(input=prompt_tokens(asked.request), output=written, reasoning=thought)


def last_text(request: ChatRequest) -> str:
    """What the user said last."""
    for message in reversed(request.messages):
        if message.role == "user":
            return message.text()
    return request.messages[-1].text() if request.messages else ""


# --- what is said --------------------------------------------------------------------------------------------------


def _said(asked: Asked, reply: Reply, choice: int) -> Said:
    request = asked.request
    if reply.echo:
        return Said([[token] for token in tokens(_description(asked))], (), FinishReason.STOP)
    if isinstance(request, ChatRequest) and (calls := choose_calls(request, reply, last_text(request))):
        return _called(request, calls)
    text = _explicit(reply)
    if text is None:
        text = _default_text(request, choice)
    pieces = [tokens(chunk) for chunk in reply.chunks] if reply.chunks is not None else [[one] for one in tokens(text)]
    pieces, reason = _cut(pieces, request)
    return Said(pieces, (), reason)


def _ending(reply: Reply, said: Said) -> FinishReason:
    """The script's word, except that no answer without a call ends as one with a call does."""
    if reply.finish_reason is None or (reply.finish_reason is FinishReason.TOOL_CALLS and not said.calls):
        return said.reason
    return reply.finish_reason


def _explicit(reply: Reply) -> str | None:
    if reply.gives_json:
        return msgspec.json.encode(reply.json_value).decode()
    return reply.text_given


def _default_text(request: ChatRequest | CompletionsRequest, choice: int) -> str:
    if isinstance(request, CompletionsRequest):
        prompt = request.prompt[choice // (request.n or 1)]
        return f" You wrote: {_quoted(prompt)}" if isinstance(prompt, str) else f" You wrote {len(prompt)} tokens."
    last = request.messages[-1] if request.messages else None
    told = "The tool answered" if last is not None and last.role == "tool" else "Hello! You said"
    text = f"{told}: {_quoted(last.text() if last is not None and last.role == 'tool' else last_text(request))}"
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return text
    if wanted.wanted_schema is None:
        return msgspec.json.encode({"answer": text}).decode()
    return msgspec.json.encode(_example(wanted.wanted_schema, "response_format")).decode()


def _quoted(text: str) -> str:
    return text if len(text) <= QUOTED_LENGTH else text[:QUOTED_LENGTH] + "…"


def _cut(pieces: Pieces, request: ChatRequest | CompletionsRequest) -> tuple[Pieces, FinishReason]:
    """As far as `max_tokens` and `stop` let it go."""
    limit = _token_limit(request)
    reason = FinishReason.STOP
    if limit is not None and sum(map(len, pieces)) > limit:
        pieces, reason = _first_tokens(pieces, limit), FinishReason.LENGTH
    text = "".join(token for piece in pieces for token in piece)
    found = [place for place in (text.find(stop) for stop in request.stop if stop) if place >= 0]
    if found:
        return _first_characters(pieces, min(found)), FinishReason.STOP
    return pieces, reason


def _token_limit(request: ChatRequest | CompletionsRequest) -> int | None:
    if request.max_tokens is None and isinstance(request.extra.get("max_completion_tokens"), int):
        limit: int = request.extra["max_completion_tokens"]
        return limit
    return request.max_tokens


def _first_tokens(pieces: Pieces, count: int) -> Pieces:
    result: Pieces = []
    for piece in pieces:
        result.append(piece[:count])
        count -= len(result[-1])
    return [piece for piece in result if piece]


def _first_characters(pieces: Pieces, count: int) -> Pieces:
    result: Pieces = []
    for piece in pieces:
        kept = []
        for token in piece:
            kept.append(token[:count])
            count -= len(kept[-1])
        result.append([token for token in kept if token])
    return [piece for piece in result if piece]


# --- tool calls ----------------------------------------------------------------------------------------------------


def _called(request: ChatRequest, calls: Sequence[ToolCallReply]) -> Said:
    """The calls as far as `max_tokens` lets them go; one whose name does not fit is not begun."""
    left = _token_limit(request)
    said: list[SaidCall] = []
    for call in calls:
        name, arguments = tokens(call.name), tokens(_arguments_text(request, call))
        if left is not None and len(name) + len(arguments) > left:
            if len(name) <= left:
                said.append(SaidCall(call.id, call.name, arguments[: left - len(name)]))
            return Said([], tuple(said), FinishReason.LENGTH)
        left = None if left is None else left - len(name) - len(arguments)
        said.append(SaidCall(call.id, call.name, arguments))
    return Said([], tuple(said), FinishReason.TOOL_CALLS)


def _arguments_text(request: ChatRequest, call: ToolCallReply) -> str:
    if isinstance(call.arguments, str):
        return call.arguments or "{}"
    arguments: Any = call.arguments
    if arguments is None:
        found = next((tool.function for tool in request.tools if tool.function.name == call.name), None)
        schema = found.parameters if found is not None else None
        arguments = _example(schema, "tools") if schema else {}
    return msgspec.json.encode(arguments).decode()


def _call_deltas(asked: Asked, choice: int, index: int, call: SaidCall) -> list[Event]:
    id = call.id or f"call_{asked.number:x}x{asked.seed & 0xFFFF:x}x{choice}x{index}"
    events: list[Event] = [ToolCallDelta(index, id, call.name, "", choice)]
    pieces = [[token] for token in call.arguments]
    return events + [ToolCallDelta(index, arguments="".join(piece), choice=choice) for piece in _joined(pieces, asked)]


def _example(schema: Any, parameter: str) -> Any:
    try:
        return example(schema)
    except NoExample as exc:
        raise InvalidParameters([Offence("invalid_value", ("body", parameter), str(exc), schema)]) from exc


# --- deltas --------------------------------------------------------------------------------------------------------


def _joined(pieces: Pieces, asked: Asked) -> Pieces:
    if not asked.is_joined:
        return pieces
    everything = [token for piece in pieces for token in piece]
    return [everything] if everything else []


def _text_deltas(asked: Asked, reply: Reply, choice: int, pieces: Pieces) -> list[Event]:
    request = asked.request
    events: list[Event] = []
    offset = 0
    if isinstance(request, CompletionsRequest) and request.echo:
        prompt = request.prompt[choice // (request.n or 1)]
        events.append(TextDelta(prompt if isinstance(prompt, str) else "", choice, 0))
        offset = len(prompt) if isinstance(prompt, str) else 0
    for piece in _joined(pieces, asked):
        logprobs = None
        if reply.logprobs and isinstance(request, CompletionsRequest) and request.logprobs is not None:
            logprobs = completion_logprobs(piece, request.logprobs, offset, asked.seed)
        elif reply.logprobs and request.extra.get("logprobs") is True:
            top = request.extra.get("top_logprobs")
            logprobs = chat_logprobs(piece, top if isinstance(top, int) else 0, asked.seed)
        text = "".join(piece)
        offset += len(text)
        if text:
            events.append(TextDelta(text, choice, len(piece), logprobs))
    return events


def _description(asked: Asked) -> str:
    """Exactly what was asked, as JSON."""
    request = asked.request
    told: dict[str, Any] = {
        "operation": str(request.operation),
        "model": asked.model,
        "stream": request.stream,
        "include_usage": request.include_usage,
    }
    if isinstance(request, ChatRequest):
        told["messages"] = [wire_message(message) for message in request.messages]
    else:
        told["prompt"] = request.prompt
    defaults = DEFAULTS[type(request)].items()
    told["parameters"] = {name: sent for name, default in defaults if (sent := getattr(request, name)) != default}
    told["extra"] = request.extra
    return msgspec.json.encode(told).decode()
