"""The filter: which lists a question is about, and what of them is in its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from modelport.core.ports.safety import (
    BlocklistEntry,
    FilterParts,
    FilterUnavailableError,
    Question,
    TextStream,
    Verdicts,
)
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import Category, Severity, Verdict
from modelport.safety.rules.compiled import CompiledList, Entries, compiled, profanity
from modelport.safety.rules.folding import FOLDED
from modelport.safety.rules.matching import Hit
from modelport.safety.rules.regexes import MAX_PROGRAMS, fault_of, program_size
from modelport.safety.rules.widths import longest_match
from modelport.safety.rules.window import RulesStream, search
from modelport.safety.slices import at_once

USES: Final = ("blocklists", "windows")
NAME: Final = "rules"
VERSION: Final = "1"
ENDLESS_SPACE: Final = re.compile(r"(?<!\\)(\\s| )([+*])")
"""White space of any length, in a pattern."""


def open_filter(parts: FilterParts) -> RulesFilter:
    """Raises FilterUnavailableError for entries that it cannot look for."""
    for name, entries in parts.blocklists.items():
        size = 0
        for entry in entries:
            if (fault := entry_fault(entry, parts.windows.get(name))) is not None:
                raise FilterUnavailableError(f"the entry {entry.id!r} of the blocklist {name!r} {fault}")
            size += program_size(entry.regex) if entry.regex is not None else 0
            if size > MAX_PROGRAMS:
                raise FilterUnavailableError(
                    f"the regular expressions of the blocklist {name!r} are too large together, from {entry.id!r} on"
                )
    return RulesFilter(parts.blocklists)


def entry_fault(entry: BlocklistEntry, window_chars: int | None) -> str | None:
    """What is wrong with an entry of a list for which so much of a stream is held back; None: nothing."""
    if entry.regex is None:
        is_empty = entry.exact is None or not FOLDED.apply(entry.exact).strip()
        return "has nothing but invisible characters" if is_empty else None
    if (fault := fault_of(entry.regex)) is not None:
        return fault
    if window_chars is not None and longest_match(entry.regex) > window_chars:
        return (
            f"can match more than the {window_chars} characters (window_chars) that are held back of a stream; "
            f"{bounded(entry.regex, window_chars)}, or let the content filter have `window_chars: whole`, which "
            "sends streamed answers in one piece"
        )
    return None


def bounded(pattern: str, window_chars: int) -> str:
    """What an operator may write instead, as a request."""
    found = ENDLESS_SPACE.sub(lambda space: f"{space[1]}{{{int(space[2] == '+')},9}}", pattern)
    return f"write {found}" if longest_match(found) <= window_chars else r"bound its repetitions (\s{1,9} for \s+)"


class RulesFilter:
    """A SafetyFilter and StreamingFilter over these lists. Immutable, so any number of calls may share it."""

    name = NAME
    version = VERSION
    categories = frozenset((Category.CUSTOM_BLOCKLISTS, Category.PROFANITY))
    annotate_only: frozenset[Category] = frozenset()

    def __init__(self, blocklists: Mapping[str, Entries]) -> None:
        """`blocklists`: by lower-case name."""
        self._lists = {name: compiled(name, entries) for name, entries in blocklists.items()}

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        """One verdict for each entry that is found. Raises FilterOutageError."""
        lists = self.lists(question)
        return at_once(search(question.text, lists, verdict_of)) if lists else ()

    def stream(self, question: Question, window_chars: int) -> TextStream:
        """For one text, of which nothing has come yet."""
        return RulesStream(self.lists(question), window_chars, verdict_of)

    def lists(self, question: Question) -> Sequence[CompiledList]:
        """What a question is about. A list that is not there has no entries."""
        found: list[CompiledList] = []
        if Category.CUSTOM_BLOCKLISTS in question.categories:
            found += [self._lists[name] for name in sorted(question.blocklists) if name in self._lists]
        if Category.PROFANITY in question.categories:
            found.append(profanity())
        return found


def verdict_of(hit: Hit, start: int, end: int) -> Verdict:
    """A match, in the words of content safety: it is found or not, so it is severe."""
    rule = hit.rule
    return Verdict(rule.category, Severity.HIGH, hit.score, start, end, NAME, VERSION, rule.blocklist, rule.entry)
