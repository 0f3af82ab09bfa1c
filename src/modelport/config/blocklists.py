"""Entries of blocklists that cannot be looked for as the content filters want it."""

from __future__ import annotations

from collections.abc import Iterator

from modelport.config.faults import Path
from modelport.config.settings import Settings
from modelport.core.ports.safety import BlocklistEntry


def unusable_entries(settings: Settings) -> Iterator[tuple[Path, str]]:
    """What can never be found, and what can match more than a content filter holds back of a stream."""
    if not any(given.items for given in settings.blocklists.values()):
        return
    from modelport.safety.rules.filter import entry_fault  # the libraries that look for entries are loaded with it

    windows = windows_of(settings)
    for name, given in settings.blocklists.items():
        for index, item in enumerate(given.items):
            entry = BlocklistEntry("", item.exact, item.regex)
            if (fault := entry_fault(entry, windows.get(name.lower()))) is not None:
                yield ("blocklists", name, index, "exact" if item.regex is None else "regex"), fault


def windows_of(settings: Settings) -> dict[str, int]:
    """By lower-case name of a blocklist: the fewest characters that content filters hold back of a stream because of
    it. Absent: none looks for it in streams, or each waits for the whole answer."""
    windows: dict[str, int] = {}
    for policy in settings.content_filters.values():
        if policy.window_chars == "whole":
            continue
        for listed in policy.completion.blocklists:
            lower = listed.lower()
            windows[lower] = min(policy.window_chars, windows.get(lower, policy.window_chars))
    return windows
