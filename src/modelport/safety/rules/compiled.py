"""Blocklists, ready to be looked for. One that has not changed is not compiled again."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Final
from weakref import WeakValueDictionary

from msgspec import Struct

from modelport.core.ports.safety import BlocklistEntry
from modelport.core.safety import Category
from modelport.safety.rules.literals import LiteralSet
from modelport.safety.rules.matching import RuleId, literal_of
from modelport.safety.rules.regexes import Regex, RegexSet

Entries = tuple[BlocklistEntry, ...]


class CompiledList(Struct, frozen=True, weakref=True):
    """The texts and the regular expressions of one list."""

    literals: LiteralSet
    regexes: RegexSet


_COMPILED: Final[WeakValueDictionary[tuple[str, Entries], CompiledList]] = WeakValueDictionary()
"""What some filter uses."""


def compiled(name: str, entries: Entries) -> CompiledList:
    """10,000 entries take a tenth of a second, unless a filter has the same list already."""
    found = _COMPILED.get((name, entries))
    if found is None:
        found = _COMPILED[name, entries] = compile_list(name, entries)
    return found


def compile_list(name: str, entries: Entries) -> CompiledList:
    """Compiles it anew."""

    def rule(entry: BlocklistEntry) -> RuleId:
        return RuleId(Category.CUSTOM_BLOCKLISTS, entry.id, name)

    return CompiledList(
        LiteralSet([literal_of(rule(entry), entry.exact) for entry in entries if entry.exact is not None]),
        RegexSet([Regex(rule(entry), entry.regex) for entry in entries if entry.regex is not None]),
    )


@lru_cache(maxsize=1)
def profanity() -> CompiledList:
    """The swear words that the package carries."""
    words = [literal_of(RuleId(Category.PROFANITY, word), word) for word in swear_words()]
    return CompiledList(LiteralSet(words), RegexSet([]))


def swear_words() -> list[str]:
    """One a line in their file, which comments begin."""
    text = files("modelport.safety.rules").joinpath("data/profanity.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
