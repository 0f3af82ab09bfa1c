"""What follows from verdicts: a policy's rules decide what is filtered, and how the wire says so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from modelport.core.ports.safety import SafetyFilter
from modelport.core.safety import HARMS, Category, ContentFilterPolicy, Rule, Severity, SidePolicy, Verdict

OUTAGE: Final = {"code": "content_filter_error", "message": "The contents are not filtered"}
IMAGE_NOT_SCANNED: Final = "image_not_scanned"
IMAGE_PARTLY_SCANNED: Final = "image_partly_scanned"
"""Filters have looked at a picture, but not for every harm of the policy."""
AUDIO_NOT_SCANNED: Final = "audio_not_scanned"
NOT_SCANNED: Final = (IMAGE_NOT_SCANNED, IMAGE_PARTLY_SCANNED, AUDIO_NOT_SCANNED)
"""What else `results` may name: what no filter has looked at in a part of a prompt."""


class Findings:
    """What the filters have found in one prompt, or in one choice of an answer, and what the policy makes of it."""

    __slots__ = ("_entries", "_failed", "_judged", "_severities", "_side", "is_blocked", "not_scanned", "unreadable")

    def __init__(self, side: SidePolicy, judged: Collection[Category]) -> None:
        """`judged`: the categories that some filter looks for in texts; of the others is said what is found, and never
        that they are safe."""
        self._side = side
        self._judged = judged
        self._severities: dict[Category, Severity] = {}
        self._entries: dict[str, None] = {}
        self._failed: set[Category] = set()
        self.is_blocked = False
        self.not_scanned: set[str] = set()
        self.unreadable = ""
        """Why some of a prompt will never be judged; empty: all of it can be."""

    @property
    def has_failed(self) -> bool:
        """Whether a filter did not answer."""
        return bool(self._failed)

    def fail(self, categories: Iterable[Category]) -> None:
        """A filter did not answer for these: of what is not found, nothing is said."""
        self._failed.update(categories)

    def add(self, verdicts: Iterable[Verdict]) -> int | None:
        """Takes them into account; returns where the first one that blocks begins."""
        first: int | None = None
        for verdict in verdicts:
            if self._blocks(verdict):
                self.is_blocked = True
                first = verdict.start if first is None else min(first, verdict.start)
        return first

    def _blocks(self, verdict: Verdict) -> bool:
        category = verdict.category
        if category is Category.CUSTOM_BLOCKLISTS:
            name = self._side.blocklists.get((verdict.blocklist or "").lower())
            if name is not None:
                self._entries[name] = None
            return name is not None
        rule = self._side.rules.get(category)
        if rule is None:
            return False
        self._severities[category] = max(verdict.severity, self._severities.get(category, Severity.SAFE))
        return rule.blocks and verdict.severity >= rule.threshold

    def merge(self, other: Findings) -> None:
        """Adds what another has found under the same policy."""
        for category, severity in other._severities.items():
            self._severities[category] = max(severity, self._severities.get(category, Severity.SAFE))
        self._entries |= other._entries
        self.is_blocked |= other.is_blocked
        self._failed |= other._failed

    def results(self) -> dict[str, Any]:
        """`content_filter_results`, per category that was judged."""
        found: dict[str, Any] = {}
        for category in Category:
            rule, severity = self._side.rules.get(category), self._severities.get(category, Severity.SAFE)
            is_known = severity > Severity.SAFE or (category in self._judged and category not in self._failed)
            if rule is not None and is_known:
                found[category] = result(category, rule, severity)
        lists = Category.CUSTOM_BLOCKLISTS
        if lists in self._judged and self._side.blocklists and (self._entries or lists not in self._failed):
            details = [{"id": name, "filtered": True} for name in self._entries]
            found[lists] = {"filtered": bool(details), "details": details}
        for name in NOT_SCANNED:
            if name in self.not_scanned:
                found[name] = {"filtered": False, "detected": True}
        if self.has_failed:
            found["error"] = OUTAGE
        return found


def result(category: Category, rule: Rule, severity: Severity) -> dict[str, Any]:
    """One category of `content_filter_results`."""
    is_filtered = rule.blocks and severity >= rule.threshold
    if category in HARMS:
        return {"filtered": is_filtered, "severity": severity.word}
    return {"filtered": is_filtered, "detected": severity > Severity.SAFE}


def honest(policy: ContentFilterPolicy, filters: Mapping[str, SafetyFilter]) -> ContentFilterPolicy:
    """A built-in policy for these filters: what one of them does not find well enough is annotated, not blocked."""
    weak = frozenset[Category]().union(*(found.annotate_only for found in filters.values()))

    def side(given: SidePolicy) -> SidePolicy:
        rules = {
            category: replace(rule, blocks=False) if category in weak else rule
            for category, rule in given.rules.items()
        }
        return replace(given, rules=rules)

    return replace(policy, prompt=side(policy.prompt), completion=side(policy.completion))
