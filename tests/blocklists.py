"""Blocklists for tests, and what the rules filter finds with them."""

from __future__ import annotations

from collections.abc import Sequence

from modelport.core.ports.safety import BlocklistEntry, Question, TextStream
from modelport.core.safety import Category, Source, Verdict
from modelport.safety.rules.filter import RulesFilter

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


def judged(found: RulesFilter, text: str) -> tuple[Verdict, ...]:
    """Its verdicts of a text that is judged at once."""
    verdicts = found.judge(question(text))
    assert isinstance(verdicts, tuple)
    return verdicts


def matches(found: RulesFilter, text: str) -> list[tuple[str | None, str]]:
    """Entry, and the words of the text as they came."""
    return [(verdict.entry, text[verdict.start : verdict.end]) for verdict in judged(found, text)]


def streamed(found: RulesFilter, window_chars: int = 1000) -> TextStream:
    """A stream that is looked through for the list."""
    return found.stream(question(""), window_chars)
