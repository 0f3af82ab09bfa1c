"""What a safety filter is: it judges text, and knows nothing of policies, requests or answers.

What it finds is a Verdict; what follows from it, a policy decides (`modelport.safety.policy`). A filter is found by its
name: the module `modelport.safety.<name>` has `open_filter(parts: FilterParts) -> SafetyFilter`, which raises
FilterUnavailableError where something that it needs is missing. With `USES`, names of parts, it is opened with those
alone, and kept where they stay the same when the configuration changes; without, whenever any part changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Source, Verdict

Verdicts = tuple[Verdict, ...]
Progress = tuple[int, Verdicts]
"""Of a text that grows: code points that may be released, and what was found."""


class Question(Struct, frozen=True):
    """What a filter is asked: judge this text for these categories.

    `untrusted`: text that neither the caller nor the model wrote, such as a tool's result: indirect attacks hide there.
    `blocklists`: the lower-case names of those that count, where the categories hold `custom_blocklists`.
    `wants_safe`: a filter that scores a text says its score, too, where the severity is safe.
    """

    text: str
    source: Source
    categories: frozenset[Category]
    untrusted: bool = False
    blocklists: frozenset[str] = frozenset()
    wants_safe: bool = False


class FilterOutageError(Exception):
    """The filter could not judge: what runs elsewhere is down, slow or broken. The policy decides what follows."""


class UnreadableError(FilterOutageError):
    """The same because of the text: it will never be judged. The message says what its sender can do."""


class FilterUnavailableError(Exception):
    """The filter cannot be opened here; the message says what is missing and how to get it."""


class BlocklistEntry(Struct, frozen=True):
    """One entry of a blocklist: a text that is looked for, or a regular expression. `id`: the name that Azure's API
    knows it by."""

    id: str
    exact: str | None = None
    regex: str | None = None


class FilterParts(Struct, frozen=True, kw_only=True):
    """What a filter can be made of."""

    blocklists: Mapping[str, tuple[BlocklistEntry, ...]] = {}
    """By lower-case name."""
    windows: Mapping[str, int] = {}
    """By lower-case name of a blocklist: the fewest characters that policies hold back of a stream because of it."""
    adapters: Mapping[str, Any] = {}
    """What runs elsewhere, by the name of its port: `modelport.app.filters` says which there are."""

    def only(self, names: Collection[str]) -> FilterParts:
        """Those that are named: `blocklists`, `windows`, and adapters by the names of their ports."""
        return FilterParts(
            blocklists=self.blocklists if "blocklists" in names else {},
            windows=self.windows if "windows" in names else {},
            adapters={name: adapter for name, adapter in self.adapters.items() if name in names},
        )


class Classify(Protocol):
    """Judges pieces of text by models that run in a worker. The adapter `classify` of FilterParts."""

    async def scores(self, pieces: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """For each piece, the score of each head, 0 to 1. Raises FilterOutageError."""
        ...

    async def attack_scores(self, texts: Sequence[str]) -> Sequence[float]:
        """For each text, how sure a second model is that it is a prompt attack. Raises FilterOutageError."""
        ...


class ScoreImages(Protocol):
    """Judges pictures by a model that runs in a worker. The adapter `score_images` of FilterParts; absent where the
    model is not installed."""

    async def __call__(self, image: str) -> float | None:
        """How surely this data URL is a sexual picture, 0 to 1; None: it cannot be decoded. Raises
        FilterOutageError."""
        ...


class Ask(Protocol):
    """Asks a chat deployment of this server, as a caller of its own. The adapter `ask` of FilterParts."""

    async def __call__(self, deployment: str, body: Mapping[str, Any], timeout_seconds: float) -> Mapping[str, Any]:
        """`body` and answer as of OpenAI's chat completions; the call has its own record and is not filtered. Raises
        FilterOutageError."""
        ...


class SafetyFilter(Protocol):
    """One way of judging text, found by name in `modelport.safety`.

    `judge` holds the loop for about a millisecond: what takes longer, or runs elsewhere, is a NeedsWaiting whose
    `resume` gives the verdicts. Both raise FilterOutageError.
    """

    name: str
    version: str
    categories: frozenset[Category]
    annotate_only: frozenset[Category]
    """Categories that it does not find well enough to block by: the built-in policies annotate them instead."""

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]: ...


@runtime_checkable
class ImageFilter(Protocol):
    """A SafetyFilter that looks at the pictures of prompts, too."""

    name: str
    version: str
    image_categories: frozenset[Category]

    def judge_image(self, image: str) -> NeedsWaiting[Verdicts | None] | None:
        """`image`: an address or a data URL. None: it cannot be looked at. Verdicts have no span. `resume` raises
        FilterOutageError."""
        ...


@runtime_checkable
class StreamingFilter(Protocol):
    """A SafetyFilter that can follow a text as it grows. One without this judges a stream sentence by sentence."""

    def stream(self, question: Question, window_chars: int) -> TextStream:
        """For one text, of which nothing has come yet: the question's `text` is empty."""
        ...


class TextStream(Protocol):
    """Follows one text as it grows, so that no match of it ever leaves. Raises what `judge` raises."""

    def feed(self, text: str) -> Progress | NeedsWaiting[Progress]:
        """Takes the next piece; returns how many code points of all text so far may be released, and what was found,
        with spans in all text so far. NeedsWaiting: what it will give is about all that is fed before it is resumed,
        and the one before need not be resumed.

        Held back is only what may become a match: a match that is found is not, so who blocks releases no more than
        what stands before its `start`, which was held back until now.
        """
        ...

    def end(self) -> Progress | NeedsWaiting[Progress]:
        """All text has been fed: the same, for what was held back."""
        ...
