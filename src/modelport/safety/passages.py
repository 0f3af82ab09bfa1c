"""The texts of a request that reach the model: each is judged by itself, the parts of one message together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any, Final

from msgspec import Struct

from modelport.core.content import AudioPart, AudioUrlPart, ImagePart, Message, OpenMessage, Tool, ToolCall
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, NamedToolChoice, Request
from modelport.safety.argument_text import undone

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
        *("top_logprobs", "logit_bias", "parallel_tool_calls", "max_completion_tokens", "best_of"),
    )
)
"""Further fields of a request that no model reads."""
EFFORTS: Final = frozenset(("none", "minimal", "low", "medium", "high", "xhigh"))
MACHINE_MADE_ID: Final = re.compile(
    r"(?:(?:call|toolu|fc|function|chatcmpl|tool|id)[-_]){0,2}"
    r"(?:\d{1,20}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[A-Za-z]*\d)[0-9A-Za-z]{9,40})"
)
"""An id of a tool call that a host has made. Some templates show the model ids, so what else stands there is judged."""


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
        passages += _texts(Kind.CONTEXT, SEPARATOR.join([*words, *_further(wanted)]))
    passages += _texts(Kind.CALLER, SEPARATOR.join(_names(request)))
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
        yield from _of_call(kind, call)
    if isinstance(message, OpenMessage):
        parts = message.content if isinstance(message.content, tuple) else ()
        words = [*strings(message.extra), *(word for part in parts for word in _further(part))]
        yield from _texts(kind, SEPARATOR.join(words))


def _of_call(kind: Kind, call: ToolCall) -> Iterator[Passage]:
    """Its arguments as they are sent, and with their escapes undone: templates show models either."""
    name, arguments = call.function.name, call.function.arguments
    meant = undone(arguments)
    yield from _texts(kind, SEPARATOR.join((name, meant, *_further(call))))
    if meant != arguments:
        yield from _texts(kind, arguments)


def _of_tool(tool: Tool) -> Iterator[Passage]:
    function = tool.function
    words = [function.name, *strings(function.description), *strings(function.parameters), *_further(tool)]
    yield from _texts(Kind.UNTRUSTED, SEPARATOR.join(words))


def _names(request: ChatRequest) -> list[str]:
    """What should be a name, an id or a word, and is none that is known."""
    found: dict[str, None] = {}
    for message in request.messages:
        ids = [call.id for call in message.tool_calls or ()]
        if message.tool_call_id is not None:
            ids.append(message.tool_call_id)
        found.update(dict.fromkeys(id for id in ids if MACHINE_MADE_ID.fullmatch(id) is None))
    choice, effort = request.tool_choice, request.extra.get("reasoning_effort")
    if isinstance(choice, NamedToolChoice) and all(choice.name != tool.function.name for tool in request.tools):
        found[choice.name] = None
    return [*found, *(() if effort in EFFORTS else strings(effort))]


def _further(value: Struct) -> Iterator[str]:
    """The texts in the further fields of a part, a call, a tool or a format."""
    return strings(getattr(value, "extra", None))


def _extras(extra: Mapping[str, Any]) -> Iterator[Passage]:
    """Further fields: `prediction`, `documents`, templates … may hold text that the model reads."""
    for name, value in extra.items():
        if name not in LABELS and name != "reasoning_effort":
            yield from _texts(Kind.CALLER, SEPARATOR.join(strings(value)))


def _texts(kind: Kind, text: str | None) -> Iterator[Passage]:
    if text and not text.isspace():
        yield Passage(text, kind)


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, however deep: the names of its fields and their values, in order."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, dict):
            left += [part for item in reversed(value.items()) for part in reversed(item)]
        elif isinstance(value, list | tuple):
            left += reversed(value)
