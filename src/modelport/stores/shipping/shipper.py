"""Moves closed calls from the journals to the ledger, on a thread of its own, in a process of its own where calls are
served (`stores.ledger_process`): no caller ever waits for a database.

At least once from here, once in the ledger: it keeps the position in the transaction of the records, and knows each
record by its id, so that neither a kill nor a restored database loses or doubles one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol

from modelport.core.usage import UsageRecord
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.journal.files import FILE_MODE, JournalInUse, lock, make_directory, writers_in
from modelport.stores.shipping.retention import is_kept, removable
from modelport.stores.shipping.tail import Batch, Counter, Position, read_batch

LOGGER: Final = logging.getLogger("modelport.ledger")
POLL_SECONDS: Final = 1.0
BATCH_RECORDS: Final = 2_000
FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 30.0
CLEAN_SECONDS: Final = 60.0
KEEP_SECONDS: Final = 86_400.0
STOP_SECONDS: Final = 10.0


class Destination(Protocol):
    """A ledger that can be filled; `stores.sql.ledger.SqlLedger` is one. Everything raises LedgerUnavailable."""

    def positions(self, source: str) -> dict[str, Position]: ...

    def take(
        self, records: Sequence[UsageRecord], source: str = "", writer: str = "", position: Position | None = None
    ) -> int: ...

    def missing(self, records: Sequence[UsageRecord]) -> list[UsageRecord]: ...

    def prune(self, before: float) -> bool: ...

    def close(self) -> None: ...


class Shipper:
    """One for each data directory: a second one, of another process, stands by until the first is gone."""

    def __init__(
        self,
        directory: Path,
        opened: Callable[[], Destination],
        *,
        keep_seconds: float | None = KEEP_SECONDS,
        told: Callable[[Shipper], None] = lambda shipper: None,
        poll_seconds: float = POLL_SECONDS,
        batch_records: int = BATCH_RECORDS,
        keep_records_seconds: float | None = None,
    ) -> None:
        """`opened` connects to the ledger, and is asked again after each failure. `keep_seconds`: for so long a file
        stays after its last line; None: for ever. `keep_records_seconds`: the same for single calls in the ledger.
        `told` is called by the thread when the figures may have changed."""
        self.directory = directory
        self._opened = opened
        self._keep_seconds = keep_seconds
        self._on_change = told
        self._keep_records_seconds = keep_records_seconds
        self._pruned_at = float("-inf")
        self._poll_seconds = poll_seconds
        self._batch_records = batch_records
        self.shipped_records = 0
        self.damaged_lines = 0
        self.backlog_records = 0
        self.failure: Exception | None = None
        """Why the last attempt failed; None once an attempt succeeds again."""
        self._ledger: Destination | None = None
        self._positions: dict[str, Position] = {}
        self._source = ""
        self._lock: int | None = None
        self._ahead = Counter()
        self._shipped_ahead = 0
        self._retry_seconds = 0.0
        self._cleaned_at = float("-inf")
        self._asked = 0
        self.answered = 0
        """The last question after which all journals were gone through."""
        self._told = threading.Condition()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_failing(self) -> bool:
        """Whether calls wait in the journal because the ledger cannot be written."""
        return self.failure is not None

    def start(self) -> None:
        """Begins at once; returns at once."""
        self._thread = threading.Thread(target=self._run, name="ledger-shipper", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float | None = STOP_SECONDS) -> None:
        """Ships what there is, once, and ends. What cannot be shipped now waits for the next start."""
        self._stopping.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def ask(self, number: int) -> None:
        """A round at once, after which `answered` is at least this number. Numbers grow."""
        self._asked = number
        self._due.set()

    def catch_up(self, timeout_seconds: float) -> bool:
        """Waits until what the journals hold now is in the ledger. False: it could not be brought there in time."""
        with self._told:
            asked = self._asked + 1
            self.ask(asked)
            is_over = self._told.wait_for(lambda: self.answered >= asked or self._stopping.is_set(), timeout_seconds)
        return is_over and not self.is_failing

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.is_set()
            self._due.clear()
            asked = self._asked
            try:
                self.ship()
            except (LedgerUnavailable, OSError) as failure:
                self._failed(failure)
            except Exception as failure:  # the end of a task: the thread must not end with it
                LOGGER.exception("the ledger cannot be filled: %s", type(failure).__name__)
                self._failed(failure)
            else:
                self._succeeded()
            with self._told:
                self.answered = asked
                self._told.notify_all()
            self._on_change(self)
            if not is_last:
                self._due.wait(self._retry_seconds or self._poll_seconds)
        self._close()

    def ship(self) -> None:
        """One round over all journals. Raises LedgerUnavailable, OSError."""
        if not self._is_ours():
            return
        if self._ledger is None:
            self._source = source_id(self.directory)
            self._ledger = self._opened()
            self._positions = self._ledger.positions(self._source)
            self._ahead.start(self._positions)
            self._shipped_ahead = 0
        for writer in writers_in(self.directory):
            while not self._ship(self._ledger, writer):
                pass
        self._ahead.start(self._positions)
        self._shipped_ahead = self.backlog_records = 0
        if time.monotonic() - self._cleaned_at > CLEAN_SECONDS:
            self._cleaned_at = time.monotonic()
            self._clean(self._ledger)
        self._prune(self._ledger)

    def _ship(self, ledger: Destination, writer: str) -> bool:
        """One batch. True: it was the last."""
        before = self._positions.get(writer)
        batch: Batch = read_batch(self.directory, writer, before, self._batch_records)
        if batch.records:
            ledger.take(batch.records, self._source, writer, batch.position)
        if batch.position is not None:
            self._positions[writer] = batch.position
        self.shipped_records += len(batch.records)
        self._shipped_ahead += len(batch.records)
        if batch.damaged_lines:
            self.damaged_lines += batch.damaged_lines
            LOGGER.error("%d lines of the journal %r are damaged and were passed over", batch.damaged_lines, writer)
        if not batch.is_last:
            self._count_backlog()
            self._on_change(self)
        return batch.is_last

    def _clean(self, ledger: Destination) -> None:
        if self._keep_seconds is None:
            return
        until = time.time() - self._keep_seconds
        for writer, position in self._positions.items():
            for path in removable(self.directory, writer, position.number, until):
                if not is_kept(path, ledger.missing):
                    break  # the files after it stay too: what is left is one chain
                path.unlink()
                LOGGER.info("the journal file %s is in the ledger and was removed", path.name)

    def _prune(self, ledger: Destination) -> None:
        """One day's calls in a round, so that shipping goes on meanwhile; once there are no more, it waits."""
        is_due = time.monotonic() - self._pruned_at > CLEAN_SECONDS and not self._stopping.is_set()
        if self._keep_records_seconds is None or not is_due:
            return
        if not ledger.prune(time.time() - self._keep_records_seconds):
            self._pruned_at = time.monotonic()

    def _is_ours(self) -> bool:
        if self._lock is None:
            make_directory(self.directory)
            try:
                self._lock = lock(self.directory, "shipper")
            except JournalInUse:
                return False
        return True

    # --- how it fares -------------------------------------------------------------------------------------------------

    def _succeeded(self) -> None:
        if self.failure is not None:
            LOGGER.info("the ledger is written again")
        self.failure = None
        self._retry_seconds = 0.0

    def _failed(self, failure: Exception) -> None:
        if self.failure is None:
            LOGGER.warning("the ledger cannot be written, calls wait in the journal: %s", failure)
        self.failure = failure
        self._retry_seconds = min(LAST_RETRY_SECONDS, max(FIRST_RETRY_SECONDS, 2 * self._retry_seconds))
        self._close_ledger()
        try:
            self._count_backlog()
        except OSError as unreadable:
            LOGGER.warning("the journal cannot be read: %s", unreadable.strerror)

    def _count_backlog(self) -> None:
        for writer in writers_in(self.directory):
            self._ahead.count(self.directory, writer)
        self.backlog_records = max(0, self._ahead.closed - self._shipped_ahead)

    def _close_ledger(self) -> None:
        """The next attempt connects anew and asks how far it came: a commit may have arrived although it failed."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _close(self) -> None:
        self._close_ledger()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def source_id(directory: Path) -> str:
    """What this data directory is called in a database that several share. Made once. Raises OSError."""
    known = known_source_id(directory)
    if known is not None:
        return known
    path = directory / "source"
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "w") as file:
        file.write(token_hex(16))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return source_id(directory)


def known_source_id(directory: Path) -> str | None:
    """The same where it must not be made. None: nothing was ever shipped from here."""
    try:
        return (directory / "source").read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
