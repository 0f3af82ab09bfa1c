"""Plays the script: finds the reply, keeps its pauses, fails or hangs where it says so, and counts what came of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from modelport.core.catalog import Target
from modelport.core.errors import InvalidParameters, ModelportError, Offence
from modelport.core.events import Answered, ChoiceFinished, Embedding, Event, UsageReported
from modelport.core.ports.providers import OpeningProvider
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    Request,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_failures import failure
from modelport.dialects.openai_chat.upstream_usage import usage_report
from modelport.providers.scripted.compose import Asked, composed, last_text
from modelport.providers.scripted.script import (
    DIMENSIONS_LIMIT,
    EmbeddingReply,
    FaultReply,
    Reply,
    Script,
    Settings,
    loaded,
)
from modelport.providers.scripted.tokens import prompt_tokens
from modelport.providers.scripted.vectors import unit, vector

_UNSCRIPTED: Final = Reply()
_WITHOUT_EFFECT: Final = (
    *("frequency_penalty", "presence_penalty", "temperature", "top_p", "seed"),
    *("modalities", "user_security_context", "suffix", "best_of", "input_type"),
)
_HEEDED_EXTRAS: Final = frozenset({"n", "logprobs", "top_logprobs", "max_completion_tokens", "parallel_tool_calls"})


@dataclass(slots=True)
class Stats:
    """What came of the calls so far. `calls` is the sum of the others and of those under way."""

    calls: int = 0
    completed: int = 0
    failed: int = 0
    """Ended by a fault of the script, or refused."""
    cancelled: int = 0
    """The caller went away first."""


class Scripted(OpeningProvider):
    """core.ports.providers.OpeningProvider."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._matches = [0] * len(script.replies)
        self.stats = Stats()

    async def open(self, request: Request, target: Target) -> AsyncGenerator[Event, None]:
        """core.ports.providers.OpeningProvider"""
        self.stats.calls += 1
        number = self.stats.calls
        try:
            reply = self._reply(request, target)
            async with aclosing(self._played(request, target, reply, number)) as events:
                async for event in events:
                    yield event
        except ModelportError:
            self.stats.failed += 1
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.stats.cancelled += 1
            raise
        self.stats.completed += 1

    def ignored(self, request: Request) -> tuple[str, ...]:
        """core.ports.providers.OpeningProvider"""
        given = (name for name in _WITHOUT_EFFECT if getattr(request, name, None) is not None)
        return (*given, *(name for name in request.extra if name not in _HEEDED_EXTRAS))

    def _reply(self, request: Request, target: Target) -> Reply:
        """The first that fits. Those that wait for their nth call count the calls that reach them."""
        text = _searched(request)
        for place, reply in enumerate(self._script.replies):
            if not (reply.suits(request.operation) and _fits(reply, request, target, text)):
                continue
            self._matches[place] += 1
            if reply.match.call is None or reply.match.call == self._matches[place]:
                return reply
        return _UNSCRIPTED

    async def _played(self, request: Request, target: Target, reply: Reply, number: int) -> AsyncGenerator[Event, None]:
        if reply.delay_seconds:
            await asyncio.sleep(reply.delay_seconds)
        if reply.fault is not None and reply.fault_after_chunks is None:
            raise _raised(reply.fault)
        events, usage = self._answer(request, target, reply, number)
        sent = 0
        for place, event in enumerate(events):
            is_chunk = not isinstance(event, ChoiceFinished)
            if is_chunk or place == len(events) - 1:
                await _mishap(reply, sent, is_last=not is_chunk)
            if sent == 0:
                yield Answered(answered_model=target.model)
            elif is_chunk and (request.stream or reply.delay_between_chunks_seconds):
                # The loop has a turn between two chunks: a caller that went away is noticed.
                await asyncio.sleep(reply.delay_between_chunks_seconds)
            sent += is_chunk
            yield event
        if not isinstance(events[-1], ChoiceFinished):
            await _mishap(reply, sent, is_last=True)
        if usage is not None:
            yield usage

    def _answer(
        self, request: Request, target: Target, reply: Reply, number: int
    ) -> tuple[list[Event], UsageReported | None]:
        events: list[Event]
        if isinstance(request, ChatRequest | CompletionsRequest):
            is_joined = not request.stream and not _is_paced(reply)
            asked = Asked(request, target.model, number, self._script.seed, is_joined)
            events, used = composed(asked, reply)
        else:
            events, used = self._vectors(request, reply), TokenUsage(input=prompt_tokens(request))
        if isinstance(reply.usage, dict):
            return events, usage_report(reply.usage)
        return events, None if reply.usage == "none" else UsageReported(used)

    def _vectors(self, request: EmbeddingsRequest | ImageEmbeddingsRequest, reply: Reply) -> list[Event]:
        shape = reply.embedding or EmbeddingReply(dimensions=self._script.dimensions)
        dimensions = request.dimensions or shape.dimensions
        if dimensions > DIMENSIONS_LIMIT:
            what = f"at most {DIMENSIONS_LIMIT} dimensions can be had"
            raise InvalidParameters([Offence("less_than_equal", ("body", "dimensions"), what, dimensions)])
        if shape.vector is not None:
            same = unit((shape.vector * dimensions)[:dimensions] if request.dimensions else shape.vector)
            return [Embedding(index, same) for index in range(len(request.input))]
        seed = self._script.seed
        return [Embedding(index, vector(seed, _content(item), dimensions)) for index, item in enumerate(request.input)]


def open(settings: Settings, name: str) -> Scripted:
    """The provider called `name` in the configuration. Raises ScriptFault when its script cannot be read."""
    return Scripted(loaded(settings))


async def _mishap(reply: Reply, sent: int, *, is_last: bool) -> None:
    """Hangs or fails when the script says so at this point; at the latest before the answer would end."""
    if reply.hang_after_chunks is not None and (sent >= reply.hang_after_chunks or is_last):
        await asyncio.Event().wait()
    if reply.fault_after_chunks is not None and (sent >= reply.fault_after_chunks or is_last):
        raise _raised(reply.fault or FaultReply())


def _raised(fault: FaultReply) -> ModelportError:
    """What the same answer of a real upstream would become."""
    error = {"message": fault.message, "code": fault.code, "param": fault.param}
    headers = {"retry-after": str(fault.retry_after)} if fault.retry_after is not None else {}
    return failure(fault.status, headers, msgspec.json.encode({"error": error}), engine=fault.engine)


def _is_paced(reply: Reply) -> bool:
    """Does it matter where one chunk ends?"""
    mishaps = reply.fault_after_chunks is not None or reply.hang_after_chunks is not None
    return mishaps or reply.delay_between_chunks_seconds > 0


def _fits(reply: Reply, request: Request, target: Target, text: str) -> bool:
    match = reply.match
    return (
        (match.operation is None or match.operation == request.operation)
        and (match.model is None or fnmatchcase(target.model, match.model))
        and (match.contains is None or match.contains.casefold() in text.casefold())
        and (match.regex is None or re.search(match.regex, text) is not None)
    )


def _searched(request: Request) -> str:
    """What `contains` and `regex` look at."""
    if isinstance(request, ChatRequest):
        return last_text(request)
    items: tuple[Any, ...] = request.prompt if isinstance(request, CompletionsRequest) else request.input
    return "\n".join(item if isinstance(item, str) else getattr(item, "text", None) or "" for item in items)


def _content(item: Any) -> str:
    """What a vector is made from."""
    if isinstance(item, str):
        return item
    if isinstance(item, tuple):
        return ",".join(map(str, item))
    return f"{item.image}\0{item.text or ''}"
