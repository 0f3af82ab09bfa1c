"""Tokens, and the one immutable line that each call leaves behind."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, astuple

WORKER_HOURS: Final = "worker_hours"
"""The operation of records that are no calls: the time in which a worker was there."""


class TokenUsage(Struct, frozen=True, omit_defaults=True):
    """Disjoint token classes: they add up to `total`. `input` excludes audio, images, and what was read from
    a cache or written to one; `output` excludes reasoning and audio output."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image: int = 0
    cache_write: int = 0
    """Input that was read, and kept in the cache for later calls. Some providers charge more for it."""

    @property
    def prompt(self) -> int:
        """What the wire calls `prompt_tokens`."""
        return self.input + self.cached_input + self.cache_write + self.audio_input + self.image

    @property
    def completion(self) -> int:
        """What the wire calls `completion_tokens`."""
        return self.output + self.reasoning + self.audio_output

    @property
    def total(self) -> int:
        """What the wire calls `total_tokens`."""
        return self.prompt + self.completion

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(*(a + b for a, b in zip(self.classes(), other.classes(), strict=True)))

    def classes(self) -> tuple[int, int, int, int, int, int, int, int]:
        """The classes in their declared order."""
        return (
            self.input,
            self.cached_input,
            self.output,
            self.reasoning,
            self.audio_input,
            self.audio_output,
            self.image,
            self.cache_write,
        )


class Ending(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    REFUSED = "refused"
    """Before anything was made: 4xx of ours or of the target, quota, filter."""
    FAILED = "failed"
    """The upstream or the engine broke, before or during the answer."""
    CANCELLED = "cancelled"
    """The client went away."""
    LOST = "lost"
    """The gateway died while the call ran; written by recovery, with the reserved amount."""


class UsageSource(StrEnum):
    """Where the counts come from."""

    REPORTED = "reported"
    COUNTED = "counted"
    """By us, one token a delta or by a tokenizer."""
    ESTIMATED = "estimated"
    """From byte lengths."""
    NONE = "none"
    """Nothing was made."""


class Pricing(StrEnum):
    """What is known of a call's cost."""

    PRICED = "priced"
    """From a price list, to the last digit."""
    UNPRICED = "unpriced"
    """No price is known, or nobody was asked: `cost` is None, which is not nothing."""
    ESTIMATED = "estimated"
    """At the upper price that is stated for models of unknown price, or for tokens that were estimated themselves."""
    FREE = "free"
    """Nothing was made, or a price list says that it costs nothing."""


class UsageRecord(Struct, frozen=True, kw_only=True):
    """One call, for ever. Times are unix seconds; durations seconds; no text of prompt or answer."""

    id: str
    started_at: float
    principal: str
    key_id: str | None
    surface: str
    operation: str
    streamed: bool
    requested_model: str | None
    deployment: str | None
    answered_model: str | None = None
    target: str | None = None
    status: int = 0
    ending: str = Ending.COMPLETED
    error_code: str | None = None
    usage: TokenUsage = TokenUsage()
    usage_source: str = UsageSource.NONE
    reserved_tokens: int = 0
    first_event_seconds: float | None = None
    duration_seconds: float = 0.0
    client_request_id: str | None = None
    snapshot: str | None = None
    spilled_from: str | None = None
    """The deployment that was asked for, and was full: `deployment` has answered in its place."""
    cost: str | None = None
    """What it cost in `currency`: a decimal number, exact. None: not known."""
    currency: str | None = None
    price_version: str | None = None
    """Which price list said so."""
    pricing: str = Pricing.UNPRICED
    project: str | None = None
    provider: str | None = None
    """The provider whose target has answered, or was asked last."""
    service_tier: str | None = None
    """In the target's word, the tier that it says it has used; else the one that was asked for. None: the usual one."""
    content_filter: str | None = None
    """What the content filter has found: `prompt.violence=medium! completion.hate=low`, in which `!` marks what was
    filtered. None: nothing, or it did not look."""


class UsageRow(UsageRecord, frozen=True, kw_only=True, array_like=True):
    """A record as journals hold it: its values alone, in the order of its fields. So a new field goes to the end."""

    def record(self) -> UsageRecord:
        """The same, to be encoded like any other."""
        return UsageRecord(**asdict(self))

    def __eq__(self, other: object) -> bool:
        return astuple(self) == astuple(other) if isinstance(other, UsageRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)
