"""Worker hours: every hour once, to the millisecond, whatever happens to the worker, the clock or the journal."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.app.worker_hours import COVERED_SECONDS, WorkerHours, served_by
from modelport.control.prices import Book, OwnList, OwnRow
from modelport.core.catalog import Deployment, Model, Snapshot, Target
from modelport.core.record_forms import RecordForm
from modelport.core.usage import WORKER_HOURS, Ending, Pricing, TokenUsage, UsageRecord
from modelport.stores.journal import FileJournal, ended_calls, verify

HOUR = 3600
NOON = 1_763_726_400.0
TARGET = Target("embedded.small", "small")
SMALL = Deployment(name="small", model=Model("Custom", "small-model"), targets=(TARGET,))
TWIN = Deployment(name="twin", model=Model("Custom", "twin-model"), targets=(TARGET,))


class SettableClock:
    def __init__(self, time: float = NOON) -> None:
        self.time = time
        self.wall_is_ahead = 0.0

    def now(self) -> float:
        return self.time + self.wall_is_ahead

    def monotonic(self) -> float:
        return self.time - NOON + 77.0


class Notes:
    """A journal that remembers."""

    def __init__(self) -> None:
        self.opened: list[UsageRecord] = []
        self.closed: list[UsageRecord] = []
        self.is_full = False

    def open(self, record: UsageRecord) -> None:
        if self.is_full:
            raise OSError("full")
        self.opened.append(record)

    def close(self, record: UsageRecord) -> None:
        self.closed.append(record)

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        raise NotImplementedError

    close_formed = open_formed

    def flush(self) -> None:
        if self.is_full:
            raise OSError("full")


def row(price: str, **fields: Any) -> OwnRow:
    return OwnRow(**{"deployment": "small", "per_hour": Decimal(price), "places": 4, **fields})


def meter(journal: Any, clock: SettableClock, *rows: OwnRow, deployments: tuple[Deployment, ...] = (SMALL,)) -> Any:
    book = Book(None, OwnList(prices=rows or (row("1.20"),)), run_here={TARGET.provider})
    snapshot = Snapshot(id="s", deployments={deployment.name: deployment for deployment in deployments})
    return WorkerHours(journal, book, served_by(snapshot, {TARGET.provider: "w"}), clock, "s")


def test_each_hour_of_a_worker_is_one_record() -> None:
    notes, clock = Notes(), SettableClock(NOON - 600)
    hours = meter(notes, clock)
    hours.running("w", True)
    while clock.time < NOON + 2 * HOUR + 900:
        clock.time += 60
        hours.tick()
    hours.running("w", False)
    assert [(record.started_at, record.duration_seconds, record.cost) for record in notes.closed] == [
        (NOON - 600, 600.0, "0.2"),
        (NOON, 3600.0, "1.2"),
        (NOON + HOUR, 3600.0, "1.2"),
        (NOON + 2 * HOUR, 900.0, "0.3"),
    ]
    assert len({record.id for record in notes.closed}) == 4
    one = notes.closed[0]
    assert (one.principal, one.key_id, one.operation, one.surface) == ("operator", None, WORKER_HOURS, "engine")
    assert (one.deployment, one.answered_model, one.target) == ("small", "small-model", "embedded.small/small")
    assert (one.ending, one.pricing, one.usage, one.currency) == (
        Ending.COMPLETED,
        Pricing.PRICED,
        TokenUsage(),
        "USD",
    )


@given(
    st.floats(0, 2 * HOUR),
    st.lists(st.tuples(st.booleans(), st.floats(0, 3 * HOUR), st.floats(-2 * HOUR, 2 * HOUR)), max_size=8),
)
def test_the_records_are_the_worker_s_time_whatever_the_other_clock_does(
    begin: float, steps: list[tuple[bool, float, float]]
) -> None:
    notes, clock = Notes(), SettableClock(NOON + begin)
    hours = meter(notes, clock)
    lived = 0.0
    is_running = False
    for toggles, seconds, ahead in [*steps, (False, 0.0, 0.0)]:
        if toggles:
            is_running = not is_running
            hours.running("w", is_running)
        clock.time += seconds
        clock.wall_is_ahead = ahead
        lived += seconds if is_running else 0.0
        hours.tick()
    hours.stop()
    assert sum(record.duration_seconds for record in notes.closed) == pytest.approx(lived, abs=0.001 * 60)
    for record in notes.closed:
        assert record.started_at // HOUR == (record.started_at + max(0.0, record.duration_seconds - 0.001)) // HOUR
        exact = Decimal("1.20") * round(record.duration_seconds * 1000) / 3_600_000
        assert abs(Decimal(record.cost or "-1") - exact) <= Decimal("5e-13")


def test_a_worker_that_several_deployments_share_is_paid_once() -> None:
    notes, clock = Notes(), SettableClock()
    hours = meter(notes, clock, row("5", deployment="twin"), row("2"), deployments=(TWIN, SMALL))
    hours.running("w", True)
    clock.time += HOUR / 2
    hours.stop()
    assert [(record.deployment, record.cost) for record in notes.closed] == [("twin", "2.5")]


def test_a_new_price_holds_from_its_day_on() -> None:
    midnight = NOON + 12 * HOUR
    notes, clock = Notes(), SettableClock(midnight - HOUR)
    day = datetime.fromtimestamp(midnight, UTC).date()
    hours = meter(notes, clock, row("1", valid_to=day), row("3", valid_from=day))
    hours.running("w", True)
    clock.time += 1.5 * HOUR
    hours.stop()
    assert [record.cost for record in notes.closed] == ["1", "1.5"]


def test_a_worker_without_a_price_by_the_hour_leaves_nothing() -> None:
    notes, clock = Notes(), SettableClock()
    hours = meter(notes, clock, OwnRow(deployment="small", input=Decimal(1), output=Decimal(2)))
    hours.running("w", True)
    hours.running("another", True)
    clock.time += 2 * HOUR
    hours.tick()
    hours.stop()
    assert notes.opened == notes.closed == []


def test_a_worker_that_costs_nothing_is_recorded_as_free() -> None:
    notes, clock = Notes(), SettableClock()
    hours = meter(notes, clock, row("0"))
    hours.running("w", True)
    clock.time += 10
    hours.stop()
    assert [(record.cost, record.pricing) for record in notes.closed] == [("0", Pricing.FREE)]


def test_what_is_open_covers_the_next_minutes_and_never_more_than_its_hour() -> None:
    notes, clock = Notes(), SettableClock()
    hours = meter(notes, clock)
    hours.running("w", True)
    while clock.time < NOON + HOUR - 1:
        clock.time += 60
        hours.tick()
        still_open = notes.opened[-1]
        passed = clock.time - still_open.started_at
        assert passed < still_open.duration_seconds <= passed + COVERED_SECONDS
        assert still_open.duration_seconds <= HOUR
        assert (still_open.ending, still_open.pricing) == (Ending.LOST, Pricing.ESTIMATED)


def test_a_full_disk_costs_no_hour() -> None:
    notes, clock = Notes(), SettableClock()
    notes.is_full = True
    hours = meter(notes, clock)
    hours.running("w", True)
    clock.time += HOUR
    hours.tick()
    notes.is_full = False
    clock.time += HOUR / 2
    hours.stop()
    assert [record.cost for record in notes.closed] == ["1.2", "0.6"]


def test_hours_of_a_killed_owner_are_charged_up_to_where_they_were_covered(tmp_path: Path) -> None:
    directory, clock = tmp_path / "journal", SettableClock()
    killed = FileJournal(directory, "0")
    hours = meter(killed, clock)
    hours.running("w", True)
    clock.time += 60
    hours.tick()
    killed._sync.stop()
    os.close(killed._lock)
    with FileJournal(directory, "0") as found:
        assert found.recovered.lost_calls == 1
    (record,) = ended_calls(directory)
    assert (record.ending, record.duration_seconds, record.cost) == (Ending.LOST, 180.0, "0.06")
    assert record.usage.total == 0
    assert verify(directory).faults == ()


def test_calls_cost_nothing_beside_the_hours_of_a_worker_of_ours_and_a_share_of_another_s() -> None:
    rows = (row("7.20", places=2), row("7.20", places=2, deployment="far"))
    book = Book(None, OwnList(prices=rows), run_here={TARGET.provider})
    elsewhere = Target("house", "m")
    far = Deployment(name="far", model=SMALL.model, targets=(elsewhere,))
    used = TokenUsage(input=5, output=5, audio_output=1)
    ours, theirs = book.price(SMALL, TARGET, NOON), book.price(far, elsewhere, NOON)
    assert ours is not None and theirs is not None
    assert ours.total(used, milliseconds=2500) == 0
    assert ours.bound(10**6, 10**6) == 0
    assert theirs.total(used, milliseconds=2500) == Decimal("0.0025")
    assert book.version != Book(None, OwnList(prices=rows)).version


def test_a_new_price_counts_from_the_next_record_on() -> None:
    notes, clock = Notes(), SettableClock(NOON)
    hours = meter(notes, clock)
    hours.running("w", True)
    dearer = Book(None, OwnList(prices=(row("2.40"),)), run_here={TARGET.provider})
    hours.follow(dearer, served_by(Snapshot(id="t", deployments={SMALL.name: SMALL}), {TARGET.provider: "w"}), "t")
    clock.time += HOUR
    hours.tick()
    clock.time += HOUR
    hours.tick()
    assert [(record.cost, record.snapshot) for record in notes.closed] == [("1.2", "t"), ("2.4", "t")]
