"""Tells of budgets that reach a threshold: in the log, and at a webhook."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from modelport.core.budgets import BudgetCrossed, iso
from modelport.core.catalog import Timeouts
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.ports.providers import Address, Transport, UpstreamRequest
from modelport.core.pricing import plain

WAITING_NOTICES: Final = 1000
ATTEMPT_SECONDS: Final = (0, 2, 10, 60)
"""Before each attempt to post a notice."""
TIMEOUTS: Final = Timeouts(connect=5.0, first_event=10.0, between_events=10.0, whole=20.0)

_logger = logging.getLogger("modelport.budgets")


class Notices:
    """Tells of budgets that reach a threshold. Telling never waits; posting is a task of its own."""

    def __init__(self, currency: str, clock: Clock) -> None:
        self._currency = currency
        self._clock = clock
        self._waiting: asyncio.Queue[dict[str, Any]] | None = None

    def tell(self, crossed: BudgetCrossed) -> None:
        """A line of the log, and a notice for the webhook if there is one."""
        said = self.worded(crossed)
        _logger.warning(
            "%s has reached %d%% of its %s budget for %s: %s %s, %d tokens",
            crossed.subject,
            crossed.percent,
            "daily" if crossed.per == "day" else "monthly",
            crossed.window,
            said["spent"],
            self._currency,
            crossed.spent_tokens,
        )
        if self._waiting is None:
            return
        try:
            self._waiting.put_nowait(said)
        except asyncio.QueueFull:
            _logger.error("a notice of a budget was dropped: too many wait for the webhook")

    def worded(self, crossed: BudgetCrossed) -> dict[str, Any]:
        """What is posted."""
        return {
            "event": "budget.threshold",
            "time": iso(self._clock.now()),
            "budget": crossed.subject,
            "per": crossed.per,
            "window": crossed.window,
            "percent": crossed.percent,
            "amount": None if crossed.amount is None else plain(crossed.amount),
            "spent": plain(crossed.spent),
            "currency": self._currency,
            "tokens": crossed.tokens,
            "spent_tokens": crossed.spent_tokens,
        }

    async def post(self, webhook: str, transport: Transport) -> None:
        """Posts what is told, in order, until it is cancelled."""
        self._waiting = asyncio.Queue(WAITING_NOTICES)
        parts = urlsplit(webhook)
        address = Address(base_url=f"{parts.scheme}://{parts.netloc}")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        while True:
            said = await self._waiting.get()
            try:
                await self._posted(said, address, path, transport)
            finally:
                self._waiting.task_done()

    async def posted(self) -> None:
        """Returns when nothing waits to be posted."""
        if self._waiting is not None:
            await self._waiting.join()

    async def _posted(self, said: dict[str, Any], address: Address, path: str, transport: Transport) -> None:
        request = UpstreamRequest(
            path=path, body=msgspec.json.encode(said), headers=(("content-type", "application/json"),)
        )
        failure = ""
        for seconds in ATTEMPT_SECONDS:
            await asyncio.sleep(seconds)
            try:
                async with transport.send(address, request, TIMEOUTS) as answer:
                    if 200 <= answer.status < 300:
                        return
                    failure = f"status {answer.status}"
            except ModelportError as error:
                failure = error.message
        _logger.error("a notice of a budget could not be posted: %s", failure)
