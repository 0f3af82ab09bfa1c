"""A pytest plugin that writes which acceptance check each test proves, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

PROPERTY = "checks"


def name_checks(items: Iterable[pytest.Item]) -> None:
    """Gives every test marked `check(...)` its numbers as a property, which its reports carry: they may come from
    another process."""
    for item in items:
        numbers = sorted({number for mark in item.iter_markers("check") for number in mark.args})
        if numbers:
            item.user_properties.append((PROPERTY, numbers))


class Recorder:
    """Collects the outcome of every test that proves a check; written once, at the end of the session."""

    def __init__(self, target: Path, client: str) -> None:
        self._target = target
        self._client = client
        self._outcomes: dict[str, str] = {}
        self._checks: dict[str, list[int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        numbers = dict(report.user_properties).get(PROPERTY)
        if not numbers:
            return
        self._checks[report.nodeid] = list(numbers)
        if report.failed:
            self._outcomes[report.nodeid] = "failed"
        elif report.skipped:
            self._outcomes.setdefault(report.nodeid, "skipped")
        elif report.when == "call":
            self._outcomes.setdefault(report.nodeid, "passed")

    def pytest_sessionfinish(self) -> None:
        rows = [
            {"test": test, "checks": numbers, "client": self._client, "outcome": self._outcomes.get(test, "not run")}
            for test, numbers in sorted(self._checks.items())
        ]
        self._target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
