"""What every call tells the operator: its numbers and its line."""

from __future__ import annotations

from typing import Final

from modelport.core.operations import Operation
from modelport.core.ports.records import UnknownCaller
from modelport.core.record_forms import RecordForm
from modelport.core.usage import UsageRecord
from modelport.telemetry.logging import AccessLog
from modelport.telemetry.metrics import CompletedCalls, Metrics

COUNTED_AT_ONCE: Final = 1024
"""Completed calls of one kind wait so long for a scrape."""


class CallObserver:
    """core.ports.records.Observer: metrics, and the access line where there is an access log."""

    def __init__(self, metrics: Metrics, access: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._in_flight = metrics.in_flight
        self._access = access
        self._completed: dict[int, Completed] = {}

    def series(self, surface: str, operation: Operation, deployment: str) -> Completed:
        """core.ports.records.Observer"""
        counters = self._metrics.series(surface, operation, deployment)
        found = self._completed.get(id(counters))
        if found is None:
            found = self._completed[id(counters)] = Completed(counters, self._access)
        return found

    def call_started(self, operation: Operation, surface: str) -> None:
        """The caller is known, or found to be unknown."""
        in_flight = self._in_flight
        in_flight[operation] = in_flight.get(operation, 0) + 1

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        """The call's last word."""
        self._metrics.call_ended(record)
        if self._access is not None and (unknown is None or unknown.is_logged):
            self._access.write(record if unknown is None else (record, unknown))


class Completed:
    """core.ports.records.Series"""

    __slots__ = ("_access", "_counters", "in_flight")

    def __init__(self, counters: CompletedCalls, access: AccessLog | None) -> None:
        self._counters = counters
        self._access = access
        self.in_flight = 0
        counters.in_flight = lambda: self.in_flight

    def completed(
        self, form: RecordForm, values: bytes, seconds: float, prompt: int, completion: int, reserved: int
    ) -> None:
        """core.ports.records.Series"""
        self.in_flight -= 1
        waiting = self._counters.waiting
        waiting.append((seconds, prompt, completion, reserved))
        if len(waiting) >= COUNTED_AT_ONCE:
            self._counters.count()
        if self._access is not None:
            self._access.write(form.filled(values))
