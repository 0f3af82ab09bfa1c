"""The texts of a request that reach the model: each is judged by itself, the parts of one message together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any, Final

from msgspec import Struct

from modelport.core.content import AudioPart, AudioUrlPart, ImagePart, Message, OpenMessage, Tool
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, Request

SEPARATOR: Final = "\n"
LABELS: Final = frozenset(
    (
        *(
            "user",
            "metadata",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "store",
            "model",
            "n",
            "logprobs",
        ),
        *("top_logprobs", "logit_bias", "parallel_tool_calls", "reasoning_effort", "max_completion_tokens", "best_of"),
    )
)
"""Further fields of a request that no model reads."""
MAX_DEPTH: Final = 64


class Kind(Enum):
    """Whose words they are: attacks are looked for where they can be."""

    CALLER = auto()
    """A jailbreak would stand here."""
    CONTEXT = auto()
    """What the application says, or the model has said."""
    UNTRUSTED = auto()
    """A tool's result or description: an indirect attack would stand here."""


class Passage(Struct, frozen=True):
    """One text that is judged as a whole."""

    text: str
    kind: Kind


class Prompt(Struct, frozen=True):
    """One prompt of a request. `not_scanned`: its parts that are no text. `has_token_ids`: it is, or holds, a list of
    numbers that only the model's own tokenizer could read."""

    passages: tuple[Passage, ...]
    images: tuple[str, ...] = ()
    """Addresses or data URLs."""
    has_audio: bool = False
    has_token_ids: bool = False

    @property
    def characters(self) -> int:
        """Of all text, in code points."""
        return sum(len(passage.text) for passage in self.passages)


def prompts_of(request: Request) -> list[Prompt]:
    """Several for text completions, of which each prompt has an answer of its own; else one."""
    if isinstance(request, ChatRequest):
        return [of_chat(request)]
    if isinstance(request, CompletionsRequest):
        more = [*_texts(Kind.CALLER, request.suffix), *_extras(request.extra)]
        return [
            Prompt((Passage(prompt, Kind.CALLER), *more))
            if isinstance(prompt, str)
            else Prompt(tuple(more), has_token_ids=True)
            for prompt in request.prompt
        ]
    extras = tuple(_extras(request.extra))
    if isinstance(request, EmbeddingsRequest):
        texts = [item for item in request.input if isinstance(item, str)]
        passages = tuple(Passage(text, Kind.CALLER) for text in texts if text)
        return [Prompt((*passages, *extras), has_token_ids=len(texts) < len(request.input))]
    passages = tuple(Passage(item.text, Kind.CALLER) for item in request.input if item.text)
    return [Prompt((*passages, *extras), images=tuple(item.image for item in request.input))]


def of_chat(request: ChatRequest) -> Prompt:
    """A conversation, its tools, and the form that its answer must have."""
    passages: list[Passage] = []
    images: list[str] = []
    has_audio = False
    for message in request.messages:
        passages += _of_message(message)
        if isinstance(message.content, tuple):
            images += [part.image_url.url for part in message.content if isinstance(part, ImagePart)]
            has_audio = has_audio or any(isinstance(part, AudioPart | AudioUrlPart) for part in message.content)
    for tool in request.tools:
        passages += _of_tool(tool)
    wanted = request.response_format
    if wanted is not None:
        named = wanted.json_schema
        words = [] if named is None else [named.name, *strings(named.description)]
        words += strings(wanted.wanted_schema)
        passages += _texts(Kind.CONTEXT, SEPARATOR.join(words))
    passages += _extras(request.extra)
    return Prompt(tuple(passages), tuple(images), has_audio)


def _of_message(message: Message) -> Iterator[Passage]:
    kind = {"user": Kind.CALLER, "tool": Kind.UNTRUSTED}.get(message.role, Kind.CONTEXT)
    yield from _texts(kind, message.text())
    if message.content is not None:
        yield from _texts(kind, message.refusal)
    yield from _texts(kind, message.reasoning_content)
    yield from _texts(kind, message.name)
    for call in message.tool_calls or ():
        yield from _texts(kind, f"{call.function.name}{SEPARATOR}{call.function.arguments}")
    if isinstance(message, OpenMessage):
        yield from _texts(kind, SEPARATOR.join(strings(message.extra)))


def _of_tool(tool: Tool) -> Iterator[Passage]:
    function = tool.function
    words = [function.name, *strings(function.description), *strings(function.parameters)]
    yield from _texts(Kind.UNTRUSTED, SEPARATOR.join(words))


def _extras(extra: Mapping[str, Any]) -> Iterator[Passage]:
    """Further fields: `prediction`, `documents`, templates … may hold text that the model reads."""
    for name, value in extra.items():
        if name not in LABELS:
            yield from _texts(Kind.CALLER, SEPARATOR.join(strings(value)))


def _texts(kind: Kind, text: str | None) -> Iterator[Passage]:
    if text and not text.isspace():
        yield Passage(text, kind)


def strings(value: Any, depth: int = MAX_DEPTH) -> Iterator[str]:
    """Every text in a JSON value: the names of its fields and their values."""
    if isinstance(value, str):
        if value:
            yield value
    elif depth and isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from strings(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from strings(item, depth - 1)
