"""The budgets of a server: where they are kept, what they begin with, and who is told of them.

One process keeps them in its memory; several share a store, as their quota does. Either way what the running day and
month have used already is read from the ledger.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from modelport.app.budget_notices import Notices
from modelport.app.ledger import ledger_name
from modelport.app.owner import Ledger, Owner
from modelport.app.quota import OWNER_SECONDS, store_of
from modelport.config.settings import Settings
from modelport.core.budgets import Budget, Period, Window, percent_used, window_of
from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock
from modelport.core.ports.providers import Transport
from modelport.core.ports.states import StoreState
from modelport.core.pricing import EXACT, NONE
from modelport.core.usage import WORKER_HOURS
from modelport.core.usage_reports import LedgerUnavailable, TooManyRows, UsageQuestion
from modelport.stores.budgets import ANSWER_SECONDS, Bank, Seed, SharedBudgets
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.telemetry.sources import counter

FILE: Final = "budgets.sqlite"
LAST_WORDS_SECONDS: Final = 2.0
FIRST_ATTEMPT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
GROUPINGS: Final = {"key": "principal", "project": "project", "deployment": "deployment"}
"""What the ledger calls a budget's kind of subject."""

UNREAD: Final = "the ledger does not say what was used; calls of budgets are refused until it does"
ALONE: Final = "calls spend what is held here, then budgets do as was declared"

_logger = logging.getLogger("modelport.budgets")


@asynccontextmanager
async def kept(
    settings: Settings, snapshot: Snapshot, owner: Owner, transport: Transport, clock: Clock
) -> AsyncIterator[KeptBudgets]:
    """The budgets of this process, and those who are told of them. `start` and `close` are the caller's."""
    found = KeptBudgets(settings, budgets_of(snapshot), owner, clock)
    notices = Notices(settings.prices.currency, clock)
    found.budgets.on_crossing(notices.tell)
    if settings.budgets.webhook is None:
        yield found
        return
    posting = asyncio.create_task(notices.post(settings.budgets.webhook, transport))
    try:
        yield found
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(notices.posted(), LAST_WORDS_SECONDS)
        posting.cancel()


class KeptBudgets:
    """The port's implementation, and what belongs to it."""

    def __init__(self, settings: Settings, wanted: tuple[Budget, ...], owner: Owner, clock: Clock) -> None:
        self._wanted = wanted
        self._clock = clock
        self._seeds = LedgerSeeds(owner.ledger, settings)
        self._store = store_of(settings)
        self._restoring: set[asyncio.Task[None]] = set()
        bank = open_budget_bank(settings) or owner.budget_bank
        self.budgets: MemoryBudgets | SharedBudgets
        if bank is None:
            self.budgets = MemoryBudgets(settings.budgets.thresholds)
        else:
            self.budgets = SharedBudgets(
                bank,
                self._seeds,
                clock,
                thresholds=settings.budgets.thresholds,
                on_outage=settings.budgets.on_store_outage,
                answer_seconds=OWNER_SECONDS if bank is owner.budget_bank else ANSWER_SECONDS,
            )

    async def start(self) -> None:
        """After the owner. What was used already is known afterwards, or asked for again and again."""
        if isinstance(self.budgets, SharedBudgets):
            await self.budgets.start(self._wanted)
        elif self._wanted:
            await asyncio.wait({self._restore(self.budgets, self._wanted)}, timeout=FIRST_ATTEMPT_SECONDS)

    async def prepare(self, wanted: tuple[Budget, ...]) -> None:
        """Reads what new budgets have used before they count, so that no call waits for it or is refused. Where the
        ledger does not answer soon, `follow` asks again."""
        known = {key_of(budget) for budget in self._wanted}
        new = tuple(budget for budget in wanted if key_of(budget) not in known)
        if new and isinstance(self.budgets, MemoryBudgets):
            await asyncio.wait({self._restore(self.budgets, new)}, timeout=FIRST_ATTEMPT_SECONDS)
            read = [budget for budget in new if key_of(budget) not in self.budgets.unread]
            self._wanted = (*self._wanted, *read)

    def follow(self, wanted: tuple[Budget, ...]) -> None:
        """These are the budgets from now on. What a new one has used already is read before its calls are answered."""
        known = {key_of(budget) for budget in self._wanted}
        new = tuple(budget for budget in wanted if key_of(budget) not in known)
        self._wanted = wanted
        if new and isinstance(self.budgets, MemoryBudgets):
            self._restore(self.budgets, new)

    async def close(self) -> None:
        """Before the owner: gives back what is held."""
        for restoring in self._restoring:
            restoring.cancel()
        if isinstance(self.budgets, SharedBudgets):
            await self.budgets.close()

    def states(self) -> list[StoreState]:
        """How the store is; nothing where there are no budgets."""
        if not self._wanted:
            return []
        name = f"budgets ({self._store})"
        if not isinstance(self.budgets, SharedBudgets):
            reason = UNREAD if self.budgets.unread else None
        elif self.budgets.is_unread:
            reason = UNREAD
        else:
            reason = ALONE if self.budgets.is_degraded else None
        return [StoreState(name, "ready" if reason is None else "degraded", reason)]

    def source(self) -> Iterator[Metric]:
        """`modelport_budget_*`."""
        now = self._clock.now()
        used = GaugeMetricFamily(
            "modelport_budget_used_ratio", "What is settled of a budget, in its day or month.", labels=("budget", "per")
        )
        for budget in self._wanted:
            spent = self.budgets.spent(budget, now)
            used.add_metric((budget.subject, budget.per), percent_used(budget, *spent) / 100)
        yield used
        if self._wanted and isinstance(self.budgets, SharedBudgets):
            yield from store_metrics(self.budgets)

    def _restore(self, budgets: MemoryBudgets, wanted: tuple[Budget, ...]) -> asyncio.Task[None]:
        budgets.unread |= {key_of(budget) for budget in wanted}
        task = asyncio.create_task(self._restored(budgets, wanted), name="budgets")
        self._restoring.add(task)
        task.add_done_callback(self._restoring.discard)
        return task

    async def _restored(self, budgets: MemoryBudgets, wanted: tuple[Budget, ...]) -> None:
        """Until the ledger has told."""
        has_failed = False
        while not budgets.unread.isdisjoint(map(key_of, wanted)):
            try:
                now = self._clock.now()
                spans = {(kind_of(budget), budget.per) for budget in wanted}
                used = {span: await self._seeds.used_by_all(span[0], window_of(span[1], now)) for span in spans}
                for budget in wanted:
                    of_all = used[kind_of(budget), budget.per]
                    budgets.restore(budget, *of_all.get(budget.subject.partition(":")[2], (NONE, 0)), now)
                budgets.unread -= {key_of(budget) for budget in wanted}
            except LedgerUnavailable as failure:
                if not has_failed:
                    _logger.warning("calls of budgets are refused until the ledger says what was used: %s", failure)
                has_failed = True
                await asyncio.sleep(RETRY_SECONDS)


class LedgerSeeds:
    """stores.budgets.Seeds: from the roll-ups, once everything that has ended is in them."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._settings = settings
        self._currency = settings.prices.currency

    def ledger(self) -> str | None:
        """Seeds"""
        return ledger_name(self._settings)

    async def used(self, subject: str, window: Window) -> Seed:
        """Seeds"""
        kind, _, name = subject.partition(":")
        amount, tokens = (await self.used_by_all(kind, window)).get(name, (NONE, 0))
        ledger = self.ledger()
        if ledger is None:
            raise LedgerUnavailable("it has never been written")
        return Seed(ledger, amount, tokens)

    async def used_by_all(self, kind: str, window: Window) -> dict[str, tuple[Decimal, int]]:
        """Money and tokens by the names of all subjects of this kind, in lower case. Raises LedgerUnavailable."""
        grouping = GROUPINGS[kind]
        question = UsageQuestion(
            by=(grouping, "operation"), since=int(window.begins_at), until=int(window.ends_at), is_complete=True
        )
        try:
            rows = await self._ledger.report(question)
        except TooManyRows:
            raise LedgerUnavailable("it has too many names to add up") from None
        found: dict[str, tuple[Decimal, int]] = {}
        for row in rows:
            if row.names["operation"] == WORKER_HOURS:
                continue
            name = (row.names[grouping] or "").lower()
            amount, tokens = found.get(name, (NONE, 0))
            if row.cost is not None and row.currency in (None, self._currency):
                amount = EXACT.add(amount, row.cost)
            found[name] = amount, tokens + row.tokens.total
        return found


def kind_of(budget: Budget) -> str:
    """`key`, `project` or `deployment`."""
    return budget.subject.partition(":")[0]


def key_of(budget: Budget) -> tuple[str, Period]:
    """What its account is called."""
    return budget.subject, budget.per


def open_budget_bank(settings: Settings) -> Bank | None:
    """The store that processes share; None: there is none. After `open_quota`, which tells what is wrong with it."""
    bank: Bank
    match store_of(settings):
        case "sqlite":
            bank = importlib.import_module("modelport.stores.sqlite_budgets").SqliteBudgetBank(
                settings.server.data_dir / FILE
            )
            return bank
        case "redis" if settings.redis_url is not None:
            bank = importlib.import_module("modelport.stores.redis.budgets").RedisBudgetBank(
                settings.redis_url.reveal()
            )
            return bank
        case _:
            return None


def budgets_of(snapshot: Snapshot) -> tuple[Budget, ...]:
    """Every budget of a snapshot, once."""
    found = [budget for entry in snapshot.keys.values() for budget in entry.principal.budgets]
    found += snapshot.project_budgets.values()
    found += [deployment.budget for deployment in snapshot.deployments.values() if deployment.budget is not None]
    return tuple(dict.fromkeys(found))


def store_metrics(budgets: SharedBudgets) -> Iterator[Metric]:
    """`modelport_budget_store_*`."""
    yield GaugeMetricFamily(
        "modelport_budget_store_degraded", "Processes that go on without the store.", budgets.is_degraded
    )
    yield counter("modelport_budget_store_messages", "Messages to the store.", budgets.exchanges)
    yield counter("modelport_budget_store_failures", "Messages not answered in time.", budgets.failures)
    yield counter(
        "modelport_budget_store_refusals", "Calls refused because the store is gone.", budgets.refused_for_outage
    )
