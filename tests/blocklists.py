"""Blocklists for tests, and what the rules filter finds with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from modelport.core.ports.safety import BlocklistEntry, Progress, Question, TextStream
from modelport.core.ports.stages import NeedsWaiting, Refusal, passed
from modelport.core.safety import Category, Source, Verdict
from modelport.safety.rules.filter import RulesFilter

Value = TypeVar("Value")
BLOCKLISTS = frozenset({Category.CUSTOM_BLOCKLISTS})


def entries(*exact: str, regexes: Sequence[str] = ()) -> tuple[BlocklistEntry, ...]:
    """Entries that are named by their texts."""
    texts = [BlocklistEntry(text, exact=text) for text in exact]
    return (*texts, *(BlocklistEntry(pattern, regex=pattern) for pattern in regexes))


def rules(*exact: str, regexes: Sequence[str] = ()) -> RulesFilter:
    """The filter with one list, `house`."""
    return RulesFilter({"house": entries(*exact, regexes=regexes)})


def question(text: str, *lists: str, categories: frozenset[Category] = BLOCKLISTS) -> Question:
    """About these lists; `house` where none is named."""
    return Question(text, Source.PROMPT, categories, blocklists=frozenset(lists or ("house",)))


def settled(outcome: Value | NeedsWaiting[Value]) -> Value:
    """What a filter says, now or in a while."""

    async def resumed(waiting: NeedsWaiting[Value]) -> Value | Refusal:
        return await waiting.resume()

    return passed(asyncio.run(resumed(outcome))) if isinstance(outcome, NeedsWaiting) else outcome


def judged(found: RulesFilter, text: str) -> tuple[Verdict, ...]:
    """Its verdicts of a text."""
    return settled(found.judge(question(text)))


def matches(found: RulesFilter, text: str) -> list[tuple[str | None, str]]:
    """Entry, and the words of the text as they came."""
    return [(verdict.entry, text[verdict.start : verdict.end]) for verdict in judged(found, text)]


class SettledStream:
    """A TextStream that is waited for."""

    def __init__(self, stream: TextStream) -> None:
        self.stream = stream

    def feed(self, text: str) -> Progress:
        return settled(self.stream.feed(text))

    def end(self) -> Progress:
        return settled(self.stream.end())


def streamed(found: RulesFilter, window_chars: int = 1000) -> SettledStream:
    """A stream that is looked through for the list."""
    return SettledStream(found.stream(question(""), window_chars))
