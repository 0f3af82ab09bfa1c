"""The ledger of this installation: filled by a process of its own, asked from threads. SQLAlchemy is imported by those
alone, at their first use, so that a process that only serves never has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from modelport.config.faults import ConfigError, Fault
from modelport.config.settings import Settings
from modelport.core.ports.states import StoreState
from modelport.core.usage_reports import LedgerUnavailable, RecordsPage, RecordsQuestion, UsageQuestion, UsageRow
from modelport.stores.journal.files import writers_in
from modelport.stores.ledger_process.parent import ShipperProcess
from modelport.stores.shipping.shipper import known_source_id
from modelport.stores.shipping.tail import Counter, Position
from modelport.stores.sql.address import DatabaseAddress, DatabaseAddressError, address_of, check_driver

if TYPE_CHECKING:
    from modelport.stores.sql.audit import Audit
    from modelport.stores.sql.reports import SqlReports

FRESH_SECONDS: Final = 5.0
"""For so long a question waits for what has just ended to arrive in the ledger."""
HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 24 * HOUR_SECONDS


class LocalLedger:
    """The ledger in the process that fills it."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError, DriverMissing."""
        from modelport.telemetry.sources import (
            ledger_source,
        )  # with it comes prometheus_client

        self._address = database_address(settings)
        check_driver(self._address)
        keep_hours, keep_days = settings.ledger.keep_journal_hours, settings.ledger.keep_days
        self.shipper = ShipperProcess(
            settings.server.data_dir / "journal",
            self._address,
            keep_seconds=None if keep_hours is None else keep_hours * HOUR_SECONDS,
            keep_records_seconds=None if keep_days is None else keep_days * DAY_SECONDS,
        )
        self.source = ledger_source(self.shipper)
        self._reports: SqlReports | None = None
        self._opening = threading.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ships until the end of the block, and what is there then. Enter it before the journal is opened."""
        self.shipper.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.shipper.stop)
            if self._reports is not None:
                self._reports.close()

    def states(self) -> list[StoreState]:
        """Calls are answered either way: they wait in the journal."""
        name = f"ledger ({self._address.kind})"
        waiting = self.shipper.backlog_records
        backlog = f"{waiting} calls wait in the journal"
        if self.shipper.is_failing:
            return [StoreState(name, "degraded", f"it cannot be written; {backlog}")]
        return [StoreState(name, "ready", backlog if waiting else None)]

    async def report(self, question: UsageQuestion) -> list[UsageRow]:
        """With all that has ended by now. Raises LedgerUnavailable, TooManyRows."""
        return await asyncio.to_thread(self._report, question)

    async def records(self, question: RecordsQuestion) -> RecordsPage:
        """Single calls. Raises LedgerUnavailable, UsageQuestionError."""
        return await asyncio.to_thread(self._records, question)

    def _report(self, question: UsageQuestion) -> list[UsageRow]:
        if not self.shipper.catch_up(FRESH_SECONDS) and question.is_complete:
            raise LedgerUnavailable("not every call that has ended is in the ledger yet")
        return self._reader().report(question)

    def _records(self, question: RecordsQuestion) -> RecordsPage:
        if question.before is None:
            self.shipper.catch_up(FRESH_SECONDS)
        return self._reader().records(question)

    def _reader(self) -> SqlReports:
        with self._opening:
            if self._reports is None:
                from modelport.stores.sql.reports import SqlReports

                self._reports = SqlReports(self._address)
            return self._reports


class LedgerAtRest:
    """The ledger without a server: read where it lies. For commands."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError, DriverMissing."""
        self._address = database_address(settings)
        check_driver(self._address)
        self._journals = settings.server.data_dir / "journal"

    def report(self, question: UsageQuestion) -> list[UsageRow]:
        """What is in the ledger. Raises LedgerUnavailable, TooManyRows."""
        from modelport.stores.sql.reports import SqlReports

        if self._address.path is not None and not self._address.path.exists():
            return []
        reports = SqlReports(self._address)
        try:
            return reports.report(question)
        finally:
            reports.close()

    def waiting_records(self) -> int:
        """How many calls of this data directory are not in the ledger yet. Raises LedgerUnavailable, OSError."""
        from modelport.stores.sql.reports import SqlReports

        source = known_source_id(self._journals)
        positions: dict[str, Position] = {}
        if source is not None and (self._address.path is None or self._address.path.exists()):
            reports = SqlReports(self._address)
            try:
                positions = reports.positions(source)
            finally:
                reports.close()
        ahead = Counter()
        ahead.start(positions)
        for writer in writers_in(self._journals):
            ahead.count(self._journals, writer)
        return ahead.closed

    def audit(self) -> Audit:
        """Whether everything balances. Raises LedgerUnavailable, OSError."""
        from modelport.stores.sql.audit import audit

        return audit(self._address, self._journals, known_source_id(self._journals))


def ledger_name(settings: Settings) -> str | None:
    """Two servers with the same name have the same ledger. None: nothing was ever written to it from here."""
    address = database_address(settings)
    if address.kind != "sqlite":
        return address.shown
    source = known_source_id(settings.server.data_dir / "journal")
    return None if source is None else f"sqlite:{source}"


def database_address(settings: Settings) -> DatabaseAddress:
    """Where the ledger is. Raises ConfigError."""
    secret = settings.database_url
    try:
        return address_of(None if secret is None else secret.reveal(), settings.server.data_dir)
    except DatabaseAddressError as error:
        origin = "configuration" if secret is None else secret.origin
        raise ConfigError([Fault(origin, None, "database_url", str(error))]) from None
