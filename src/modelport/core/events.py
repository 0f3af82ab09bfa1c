"""What an answer is made of. A whole answer is the same stream, folded (gateway/fold.py).

Order that every decoder keeps: deltas of a choice, then its ChoiceFinished; UsageReported at most once, after the last
delta; nothing after the end. An embeddings answer is a row of Embedding events and one UsageReported.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from modelport.core.usage import TokenUsage


class FinishReason(StrEnum):
    """Why a choice ended. Azure's clients know these four and no other."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"


class ExtraFields(Struct, frozen=True):
    """Fields of an answer that nothing here reads, by the object in which they came. They are passed on unchanged."""

    answer: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    """Of the message or the delta."""


def merge_fields(known: dict[str, Any], more: dict[str, Any], *, lists_grow: bool) -> dict[str, Any]:
    """Adds later fields to earlier ones: objects are merged, null changes nothing, other values replace the earlier
    one. `lists_grow`: lists are deltas, so the later is appended. Changes `known` and nothing that it was given."""
    for name, value in more.items():
        earlier = known.get(name)
        if isinstance(value, list) and lists_grow:
            if isinstance(earlier, list):
                earlier.extend(value)
            else:
                known[name] = list(value)
        elif isinstance(value, dict) and isinstance(earlier, dict):
            known[name] = {**earlier, **value}
        elif value is not None or name not in known:
            known[name] = value
    return known


class TextDelta(Struct, frozen=True):
    """Text of one choice. `tokens`: how many tokens made it, where the source says; `logprobs`: in the wire shape of
    the operation (chat: `{"content": […]}`, completions: the legacy arrays), for just this text. Fields that came
    without a text have one that is empty."""

    text: str
    choice: int = 0
    tokens: int | None = None
    logprobs: dict[str, Any] | None = None
    extra: ExtraFields | None = None


class RefusalDelta(Struct, frozen=True):
    """Text in which the model says that it will not answer."""

    text: str
    choice: int = 0


class ReasoningDelta(Struct, frozen=True):
    """What a reasoning model thinks before it answers."""

    text: str
    choice: int = 0


class ToolCallDelta(Struct, frozen=True):
    """A fragment of a tool call. The first of each `index` has `id` and `name`; later ones only `arguments`. `extra`:
    further fields of the call, those of its function under `function`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0
    extra: dict[str, Any] | None = None


class ChoiceFinished(Struct, frozen=True):
    """This choice has no more deltas. `extra`: further fields that came with its end."""

    reason: FinishReason
    choice: int = 0
    extra: ExtraFields | None = None


class NumberList(Struct, frozen=True):
    """A vector as its host has written it: a JSON list of numbers without white space, at least one, all within
    float32."""

    json: bytes


Vector = bytes | NumberList
"""Little-endian float32 bytes, or a text that has not been read yet."""


class Embedding(Struct, frozen=True):
    """One vector."""

    index: int
    vector: Vector


class UsageReported(Struct, frozen=True):
    """The source's counts, as far as they agree with each other. A side (prompt, completion) that is 0 has not been
    counted. `service_tier`: in the source's word, which of its tiers it charges for."""

    usage: TokenUsage
    service_tier: str | None = None
    is_sure: bool = True
    """False: some of the counts had to be explained."""
    total: int = 0
    """All that is known, where neither side is."""


class Answered(Struct, frozen=True):
    """What the source says of itself; the first event, if the source says anything. `extra`: further fields of an
    answer that is vectors."""

    answered_model: str | None = None
    upstream_id: str | None = None
    extra: dict[str, Any] = {}


class TextOffsets(Struct, frozen=True):
    """Which text an annotation is about, in code points from the beginning of the prompt: `start` to `end`; all before
    `check` has been judged."""

    check: int
    start: int
    end: int


class Annotation(Struct, frozen=True):
    """What a content filter says of the prompt, or of a choice. `results`: its verdicts per category, in the spelling
    of the wire."""

    results: dict[str, Any]
    choice: int | None = None
    """None: of the prompt."""
    prompt: int = 0
    """Which of the prompts, where it is of one."""
    is_notable: bool = True
    """False: a surface leaves it out whose documented answers have no annotations."""
    offsets: TextOffsets | None = None
    """Of an asynchronous filter, whose annotations come while the text goes on."""
    is_last: bool = True
    """It goes with the end of its choice, which follows; False: it stands by itself."""
    is_bare: bool = False
    """One that stands by itself is written exactly as Azure does, without a `delta`, an id or a model."""


Event = (
    Answered
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ToolCallDelta
    | ChoiceFinished
    | Embedding
    | UsageReported
    | Annotation
)
