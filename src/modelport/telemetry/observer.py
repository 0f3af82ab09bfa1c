"""What every call tells the operator: its numbers and its line."""

from __future__ import annotations

from modelport.core.operations import Operation
from modelport.core.usage import UsageRecord
from modelport.telemetry.logging import AccessLog
from modelport.telemetry.metrics import Metrics


class CallObserver:
    """core.ports.Observer: metrics, and the access line where there is an access log."""

    def __init__(self, metrics: Metrics, access: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._access = access

    def call_started(self, operation: Operation, surface: str) -> None:
        """The caller is known, or found to be unknown."""
        self._metrics.call_started(operation)

    def call_ended(self, record: UsageRecord) -> None:
        """The call's last word."""
        self._metrics.call_ended(record)
        if self._access is not None:
            self._access.write(record)
