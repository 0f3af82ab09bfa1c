"""The hours of the workers that run models here, as records of their own beside those of calls.

A worker that has a price by the hour leaves one record for each hour of UTC, or part of one, in which its process was
there: loading, answering or idle. Its calls cost nothing beside that, so the records' sum is the time times the price.
The line that opens a record is renewed every minute and covers a minute more, so that a killed owner's record is short
of nothing and long by two minutes at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from modelport.app.owner import LocalOwner, Owner
from modelport.app.snapshot import OPERATOR
from modelport.control.prices import Book
from modelport.core.catalog import Deployment, Snapshot, Target
from modelport.core.clock import Clock
from modelport.core.ports.records import Journal
from modelport.core.pricing import Price, plain
from modelport.core.usage import WORKER_HOURS, Ending, Pricing, UsageRecord
from modelport.dialects.fresh_ids import uuid
from modelport.stores.journal import FileJournal

HOUR_SECONDS: Final = 3_600
TICK_SECONDS: Final = 60.0
COVERED_SECONDS: Final = 120.0
"""From now on: what a record is charged with that is never closed."""
SURFACE: Final = "engine"

Served = Mapping[str, Sequence[tuple[Deployment, Target]]]
"""Worker → what it answers for, in the configuration's order."""


class Piece(Struct, frozen=True):
    """A worker's time within one hour, that still runs."""

    id: str
    started_at: float
    since: float
    """The same moment of the monotonic clock."""
    deployment: Deployment | None = None
    target: Target | None = None
    price: Price | None = None
    """None: nobody has said what an hour costs, and nothing is written."""

    @property
    def longest_seconds(self) -> float:
        """Until the hour is over."""
        return HOUR_SECONDS - self.started_at % HOUR_SECONDS


class WorkerHours:
    """Meters the workers of one supervisor into a journal."""

    def __init__(self, journal: Journal, book: Book, served: Served, clock: Clock, snapshot: str) -> None:
        self._journal = journal
        self._book = book
        self._served = served
        self._clock = clock
        self._snapshot = snapshot
        self._pieces: dict[str, Piece] = {}

    def follow(self, book: Book, served: Served, snapshot: str) -> None:
        """Prices and deployments from now on. A record that is open ends at the price that it began with."""
        self._book, self._served, self._snapshot = book, served, snapshot

    @property
    def open_ids(self) -> set[str]:
        """The records that are open."""
        return {piece.id for piece in self._pieces.values()}

    def running(self, worker: str, is_running: bool) -> None:
        """A worker's process has begun or ended."""
        if is_running:
            self._begin(worker, self._clock.now(), self._clock.monotonic())
        else:
            self._proceed(worker)
            piece = self._pieces.pop(worker, None)
            if piece is not None:
                self._end(piece, self._clock.monotonic() - piece.since)
        self._flush()

    def tick(self) -> None:
        """Ends the hours that are over, and covers the next minutes of those that are not."""
        for worker in list(self._pieces):
            self._proceed(worker)
            piece = self._pieces[worker]
            self._cover(piece)
        self._flush()

    def stop(self) -> None:
        """Ends all."""
        for worker in list(self._pieces):
            self.running(worker, False)

    async def run(self) -> None:
        """Ticks for ever, also when an hour begins."""
        while True:
            now = self._clock.now()
            await asyncio.sleep(min(TICK_SECONDS, HOUR_SECONDS - now % HOUR_SECONDS + 0.01))
            self.tick()

    def _begin(self, worker: str, started_at: float, since: float) -> None:
        piece = Piece(uuid(), started_at, since)
        for deployment, target in self._served.get(worker, ()):
            price = self._book.worker_hour(deployment, target, started_at)
            if price is not None:
                piece = Piece(piece.id, started_at, since, deployment, target, price)
                break
        self._pieces[worker] = piece
        self._cover(piece)

    def _proceed(self, worker: str) -> None:
        """Over the ends of hours, by the monotonic clock: setting the other one changes nobody's bill."""
        now = self._clock.monotonic()
        while (piece := self._pieces.get(worker)) is not None and now - piece.since >= piece.longest_seconds:
            seconds = piece.longest_seconds
            self._end(piece, seconds)
            self._begin(worker, round(piece.started_at + seconds), piece.since + seconds)

    def _cover(self, piece: Piece) -> None:
        if piece.price is not None:
            passed = self._clock.monotonic() - piece.since
            seconds = min(piece.longest_seconds, passed + COVERED_SECONDS)
            with suppress(OSError):  # a journal that takes no lines is told of elsewhere, and asked again
                self._journal.open(self._record(piece, seconds, Ending.LOST, Pricing.ESTIMATED))

    def _end(self, piece: Piece, seconds: float) -> None:
        if piece.price is not None:
            self._journal.close(self._record(piece, seconds, Ending.COMPLETED, Pricing.PRICED))

    def _record(self, piece: Piece, seconds: float, ending: Ending, pricing: Pricing) -> UsageRecord:
        assert piece.price is not None and piece.deployment is not None and piece.target is not None
        milliseconds = round(max(0.0, seconds) * 1000)
        cost = piece.price.worker_time(milliseconds)
        return UsageRecord(
            id=piece.id,
            started_at=piece.started_at,
            principal=OPERATOR,
            key_id=None,
            surface=SURFACE,
            operation=WORKER_HOURS,
            streamed=False,
            requested_model=None,
            deployment=piece.deployment.name,
            answered_model=piece.deployment.model.name,
            target=f"{piece.target.provider}/{piece.target.model}",
            status=200 if ending is Ending.COMPLETED else 0,
            ending=ending,
            duration_seconds=milliseconds / 1000,
            snapshot=self._snapshot,
            cost=plain(cost),
            currency=self._book.currency,
            price_version=self._book.version,
            pricing=pricing if cost else Pricing.FREE,
            provider=piece.target.provider,
        )

    def _flush(self) -> None:
        with suppress(OSError):  # the lines stay queued
            self._journal.flush()


def served_by(snapshot: Snapshot, worker_of: Mapping[str, str]) -> Served:
    """`worker_of`: provider name → the worker behind it."""
    found: dict[str, list[tuple[Deployment, Target]]] = {}
    for deployment in snapshot.deployments.values():
        for target in deployment.targets:
            worker = worker_of.get(target.provider)
            if worker is not None:
                found.setdefault(worker, []).append((deployment, target))
    return found


def has_hours(snapshot: Snapshot) -> bool:
    """Whether there is anything to meter."""
    return isinstance(snapshot.prices, Book) and snapshot.prices.has_hours


@asynccontextmanager
async def metered(
    owner: Owner, journal: Journal, snapshot: Snapshot, worker_of: Mapping[str, str], clock: Clock
) -> AsyncIterator[WorkerHours | None]:
    """Meters the workers that this process owns, if it does, until the end of the block; end them before."""
    book = snapshot.prices
    if not isinstance(owner, LocalOwner) or not isinstance(book, Book):
        yield None
        return
    hours = WorkerHours(journal, book, served_by(snapshot, worker_of), clock, snapshot.id)
    owner.supervisor.watch(hours.running)
    ticking = asyncio.create_task(hours.run(), name="worker hours")
    try:
        yield hours
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        hours.stop()


@asynccontextmanager
async def metered_by_owner(
    owner: LocalOwner, journals: Path, snapshot: Snapshot, worker_of: Mapping[str, str], clock: Clock
) -> AsyncIterator[WorkerHours | None]:
    """The same where calls are answered elsewhere: in a journal of the owner's own, if there is anything to meter. The
    workers are ended with the block."""
    if not has_hours(snapshot):
        yield None
        return
    async with FileJournal.opened(journals) as journal, metered(owner, journal, snapshot, worker_of, clock) as hours:
        try:
            yield hours
        finally:
            await owner.supervisor.close()
