"""What every call tells the operator: its numbers and its line."""

from __future__ import annotations

from modelport.core.operations import Operation
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.telemetry.logging import AccessLog
from modelport.telemetry.metrics import CompletedCalls, Metrics


class CallObserver:
    """core.ports.Observer: metrics, and the access line where there is an access log."""

    def __init__(self, metrics: Metrics, access: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._access = access

    def series(self, surface: str, operation: Operation, deployment: str) -> Completed:
        """core.ports.Observer"""
        return Completed(self._metrics.series(surface, operation, deployment), self._access)

    def call_started(self, operation: Operation, surface: str) -> None:
        """The caller is known, or found to be unknown."""
        self._metrics.call_started(operation)

    def call_ended(self, record: UsageRecord) -> None:
        """The call's last word."""
        self._metrics.call_ended(record)
        if self._access is not None:
            self._access.write(record)


class Completed:
    """core.ports.Series"""

    __slots__ = ("_access", "_counters")

    def __init__(self, counters: CompletedCalls, access: AccessLog | None) -> None:
        self._counters = counters
        self._access = access

    def completed(self, record: bytes, usage: TokenUsage, reserved_tokens: int, duration_seconds: float) -> None:
        """core.ports.Series"""
        self._counters.add(usage, reserved_tokens, duration_seconds)
        if self._access is not None:
            self._access.write(record)
