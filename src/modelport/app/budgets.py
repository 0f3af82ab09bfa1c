"""The budgets of a server: kept in memory, filled from the journal, and told of in the log and at a webhook."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric

from modelport.config.settings import Settings
from modelport.core.budgets import Budget, BudgetCrossed, iso, percent_used, window_of
from modelport.core.catalog import Snapshot, Timeouts
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.ports import Address, Transport, UpstreamRequest
from modelport.core.pricing import plain
from modelport.stores.journal.replay import ended_since
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.telemetry.metrics import Source

WAITING_NOTICES: Final = 1000
ATTEMPT_SECONDS: Final = (0, 2, 10, 60)
"""Before each attempt to post a notice."""
LAST_WORDS_SECONDS: Final = 2.0
TIMEOUTS: Final = Timeouts(connect=5.0, first_event=10.0, between_events=10.0, whole=20.0)

_logger = logging.getLogger("modelport.budgets")


@asynccontextmanager
async def kept(
    settings: Settings, snapshot: Snapshot, journals: Path, transport: Transport, clock: Clock
) -> AsyncIterator[MemoryBudgets]:
    """The budgets, filled with what this day and month have used already. `journals` must have been recovered."""
    budgets = MemoryBudgets(settings.budgets.thresholds)
    wanted, now = budgets_of(snapshot), clock.now()
    if wanted:
        since = min(window_of(budget.per, now).begins_at for budget in wanted)
        await asyncio.to_thread(budgets.restore, wanted, ended_since(journals, since), now)
    notices = Notices(settings.prices.currency, clock)
    budgets.on_crossing(notices.tell)
    if settings.budgets.webhook is None:
        yield budgets
        return
    posting = asyncio.create_task(notices.post(settings.budgets.webhook, transport))
    try:
        yield budgets
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(notices.posted(), LAST_WORDS_SECONDS)
        posting.cancel()


def budgets_of(snapshot: Snapshot) -> tuple[Budget, ...]:
    """Every budget of a snapshot, once."""
    found = [budget for entry in snapshot.keys.values() for budget in entry.principal.budgets]
    found += [deployment.budget for deployment in snapshot.deployments.values() if deployment.budget is not None]
    return tuple(dict.fromkeys(found))


def budget_source(budgets: MemoryBudgets, snapshot: Snapshot, clock: Clock) -> Source:
    """`modelport_budget_*`."""
    wanted = budgets_of(snapshot)

    def families() -> Iterator[Metric]:
        now = clock.now()
        used = GaugeMetricFamily(
            "modelport_budget_used_ratio", "What is settled of a budget, in its day or month.", labels=("budget", "per")
        )
        for budget in wanted:
            used.add_metric((budget.subject, budget.per), percent_used(budget, *budgets.spent(budget, now)) / 100)
        yield used

    return families


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
