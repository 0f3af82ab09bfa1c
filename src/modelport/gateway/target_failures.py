"""A target has failed: nothing of what it said may tell where it is or how it is asked."""

from __future__ import annotations

import logging
from typing import Final

from modelport.core.catalog import Target
from modelport.core.clock import Clock
from modelport.core.errors import CredentialRefused, ModelportError
from modelport.core.ports.dispatch import TargetFailed
from modelport.core.redaction import Redactor
from modelport.core.requests import Request
from modelport.core.sent_values import with_sent_values

SECONDS_BETWEEN_LINES: Final = 60.0
_logger = logging.getLogger("modelport.upstream")


class TargetFailures:
    """What is done with an error of a target before it is used."""

    def __init__(self, redactor: Redactor, clock: Clock) -> None:
        self.redactor = redactor
        self._clock = clock
        self._logged: dict[str, float] = {}

    def take(self, target: Target, error: ModelportError, request: Request) -> TargetFailed:
        """The outcome for `dispatch`; secrets and addresses are out of the error, and a 422 shows what was sent. A
        complaint about the gateway's own credential is logged, once a minute for each provider."""
        self.redactor.clean(error)
        if isinstance(error, CredentialRefused):
            now = self._clock.monotonic()
            if now - self._logged.get(target.provider, -SECONDS_BETWEEN_LINES) >= SECONDS_BETWEEN_LINES:
                self._logged[target.provider] = now
                _logger.error(
                    "provider %s does not accept the gateway's credential; its calls are answered 503. Check its "
                    "api_key or credential. It said: %d %s",
                    target.provider,
                    error.upstream_status,
                    self.redactor.all_out(error.upstream_words) or "nothing",
                )
        return TargetFailed(target, with_sent_values(error, request))
