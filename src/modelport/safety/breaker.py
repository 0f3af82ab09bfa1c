"""Stops asking a service that keeps failing, and tries it again after a while."""

from __future__ import annotations

from typing import Final

from modelport.core.clock import Clock
from modelport.core.ports.safety import FilterOutageError

FAILURES: Final = 5
"""In a row, that open the breaker."""
OPEN_SECONDS: Final = 10.0


class Breaker:
    """One for each service. After OPEN_SECONDS one question is let through; its outcome decides."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._opened_at = 0.0

    def require_closed(self) -> None:
        """Raises FilterOutageError while it is open."""
        if self._failures < FAILURES:
            return
        now = self._clock.monotonic()
        if now - self._opened_at < OPEN_SECONDS:
            raise FilterOutageError("the service keeps failing and is not asked for a moment")
        self._opened_at = now  # the others wait for the outcome of this question

    def failed(self) -> None:
        """A question had no usable answer."""
        self._failures += 1
        self._opened_at = self._clock.monotonic()

    def succeeded(self) -> None:
        """A question was answered."""
        self._failures = 0
