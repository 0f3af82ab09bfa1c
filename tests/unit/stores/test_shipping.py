"""From the journal to the ledger: whole writes, in order, however the files stand; and what becomes of the files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st

from modelport.core.record_forms import RecordForm
from modelport.core.usage import UsageRecord
from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.journal import FileJournal, verify
from modelport.stores.journal.files import files_of
from modelport.stores.journal.reading import parts_of
from modelport.stores.journal.writes import Write
from modelport.stores.shipping.shipper import Shipper
from modelport.stores.shipping.tail import Counter, Position, read_batch, stands
from usage_records import journaled, record


class Kept:
    """A ledger in memory, which can be made to fail."""

    def __init__(self) -> None:
        self.records: dict[str, UsageRecord] = {}
        self.places: dict[str, Position] = {}
        self.is_gone = False
        self.opened = 0
        self.taken = 0

    def __call__(self) -> Kept:
        self._check()
        self.opened += 1
        return self

    def positions(self, source: str) -> dict[str, Position]:
        self._check()
        return dict(self.places)

    def take(
        self, records: Sequence[UsageRecord], source: str = "", writer: str = "", position: Position | None = None
    ) -> int:
        self._check()
        before = len(self.records)
        for one in records:
            self.records.setdefault(one.id, one)
        if position is not None:
            self.places[writer] = position
        self.taken += len(records)
        return len(self.records) - before

    def missing(self, records: Sequence[UsageRecord]) -> list[UsageRecord]:
        self._check()
        return [one for one in records if one.id not in self.records]

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.is_gone:
            raise LedgerUnavailable("the database cannot be used")


@pytest.fixture
def ledger() -> Kept:
    return Kept()


def shipper(directory: Path, ledger: Kept, **given: object) -> Shipper:
    return Shipper(directory, ledger, **given)  # type: ignore[arg-type]


def read_all(directory: Path, limit: int, writer: str = "0") -> list[UsageRecord]:
    found: list[UsageRecord] = []
    position: Position | None = None
    while True:
        batch = read_batch(directory, writer, position, limit)
        assert len(batch.records) <= limit
        assert batch.damaged_lines == 0
        found += batch.records
        position = batch.position
        if batch.is_last:
            return found


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
@pytest.mark.parametrize("rotate_bytes", [1, 5_000, 10**9])
def test_every_ended_call_is_read_once_in_order(tmp_path: Path, limit: int, rotate_bytes: int) -> None:
    given = [record() for _ in range(20)]
    journaled(tmp_path, given, rotate_bytes=rotate_bytes)
    assert read_all(tmp_path, limit) == given


def test_reading_goes_on_where_it_stopped_while_somebody_writes(tmp_path: Path) -> None:
    given = [record() for _ in range(60)]
    found: list[UsageRecord] = []
    position: Position | None = None
    with FileJournal(tmp_path, rotate_bytes=4_000) as journal:
        for number, one in enumerate(given):
            journal.open(one)
            journal.close(one)
            journal.flush()
            if number % 3 == 0:
                batch = read_batch(tmp_path, "0", position, 2)
                found += batch.records
                position = batch.position
        while not (batch := read_batch(tmp_path, "0", position, 2)).is_last or batch.records:
            found += batch.records
            position = batch.position
    assert found == given


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_a_batch_ends_where_a_write_ends(tmp_path: Path, limit: int) -> None:
    given = [record() for _ in range(40)]
    with FileJournal(tmp_path) as journal:
        for number, one in enumerate(given):
            journal.open(one)
            journal.close(one)
            if number % 5 == 4:
                journal.flush()
    (path,) = files_of(tmp_path, "0")
    ends = {part.offset_bytes for part in parts_of(path)}
    found: list[UsageRecord] = []
    position: Position | None = None
    while True:
        batch = read_batch(tmp_path, "0", position, limit)
        found += batch.records
        position = batch.position
        assert position is not None
        assert position.offset_bytes in ends
        assert stands(tmp_path, "0", position)
        assert position.sequence == 1 + 2 * len(found)
        if batch.is_last:
            break
        assert limit <= len(batch.records) < limit + 5
    assert found == given


@settings(max_examples=60, deadline=None)
@given_by(share=st.floats(min_value=0, max_value=1))
def test_what_has_no_seal_yet_is_not_taken_and_comes_with_it(share: float, tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("journal")
    given = [record() for _ in range(9)]
    with FileJournal(directory) as journal:
        for one in given:
            journal.close(one)
            if journal.queued_lines == 3:
                journal.flush()
    (path,) = files_of(directory, "0")
    whole, parts = path.read_bytes(), [part for part in parts_of(path) if isinstance(part, Write)]
    cut = round(share * len(whole))
    path.write_bytes(whole[:cut])
    batch = read_batch(directory, "0", None, 100)
    sealed = sum(len(part.closings()) for part in parts if part.offset_bytes <= cut)
    assert list(batch.records) == given[:sealed]
    assert (batch.is_last, batch.damaged_lines) == (True, 0)
    path.write_bytes(whole)
    again = read_batch(directory, "0", batch.position, 100)
    assert list(again.records) == given[sealed:]
    assert again.damaged_lines == 0


def test_a_damaged_write_is_counted_once_and_costs_no_other(tmp_path: Path) -> None:
    given = [record() for _ in range(6)]
    journaled(tmp_path, given)
    (path,) = files_of(tmp_path, "0")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[9] = lines[9].replace(b'["close"', b'["clone"')  # the end of the third call
    path.write_bytes(b"".join(lines))
    position, found, damaged = None, [], 0
    for _ in range(12):
        batch = read_batch(tmp_path, "0", position, 1)
        position = batch.position
        found += batch.records
        damaged += batch.damaged_lines
    assert found == [*given[:2], *given[3:]]
    assert damaged == 2


def test_a_closing_that_nobody_understands_is_counted_and_costs_no_other(tmp_path: Path) -> None:
    given = [record() for _ in range(3)]
    with FileJournal(tmp_path) as journal:
        journal.close(given[0])
        form = RecordForm(b'["x",{}]', ())
        journal.open_formed("x", form, b"[]")
        journal.close_formed("x", form, b"[]")
        journal.close(given[1])
        journal.flush()
        journal.close(given[2])
    batch = read_batch(tmp_path, "0", None, 100)
    assert (list(batch.records), batch.damaged_lines) == (given, 1)
    assert [fault.line for fault in verify(tmp_path).faults] == [5, 6]


def test_a_file_that_broke_off_and_has_a_follower_is_passed(tmp_path: Path) -> None:
    given = [record() for _ in range(4)]
    journaled(tmp_path, given[:2])
    (path,) = files_of(tmp_path, "0")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'["begin",', b'["began",', 1) + b'["half a line')
    journaled(tmp_path, given[2:])  # damage in the middle: it goes on in a file of its own
    assert len(files_of(tmp_path, "0")) == 2
    batch = read_batch(tmp_path, "0", None, 100)
    assert list(batch.records) == given
    assert batch.damaged_lines == 2


def test_another_journal_in_the_place_of_the_known_one_is_read_from_its_beginning(tmp_path: Path) -> None:
    journaled(tmp_path, [record() for _ in range(5)])
    position = read_batch(tmp_path, "0", None, 100).position
    for path in files_of(tmp_path, "0"):
        path.unlink()
    assert read_batch(tmp_path, "0", position, 100).records == ()
    given = [record() for _ in range(5)]
    journaled(tmp_path, given)
    assert list(read_batch(tmp_path, "0", position, 100).records) == given


@pytest.mark.parametrize("rotate_bytes", [1, 5_000, 10**9])
def test_the_backlog_is_counted_without_decoding(tmp_path: Path, rotate_bytes: int) -> None:
    counter = Counter()
    counter.start({})
    for start in range(0, 30, 10):
        journaled(tmp_path, [record(requested_model='\n["close",') for _ in range(10)], rotate_bytes=rotate_bytes)
        counter.count(tmp_path, "0")
        counter.count(tmp_path, "0")
        assert counter.closed == start + 10


# --- shipping ---------------------------------------------------------------------------------------------------------


def test_all_writers_journals_arrive(tmp_path: Path, ledger: Kept) -> None:
    one, other = [record() for _ in range(5)], [record() for _ in range(4)]
    journaled(tmp_path, one)
    journaled(tmp_path, other, writer="1")
    shipping = shipper(tmp_path, ledger, batch_records=2)
    shipping.ship()
    assert set(ledger.records) == {kept.id for kept in one + other}
    assert (shipping.shipped_records, shipping.backlog_records, ledger.taken) == (9, 0, 9)


def test_a_restart_sends_nothing_again(tmp_path: Path, ledger: Kept) -> None:
    journaled(tmp_path, [record() for _ in range(5)])
    for _ in range(2):
        shipping = shipper(tmp_path, ledger)
        shipping.start()
        assert shipping.catch_up(10)
        shipping.stop()
    assert ledger.taken == 5


def test_a_ledger_from_a_backup_gets_again_what_it_has_forgotten(tmp_path: Path, ledger: Kept) -> None:
    given = [record() for _ in range(6)]
    journaled(tmp_path, given[:3])
    shipper_once(tmp_path, ledger)
    backup = dict(ledger.records), dict(ledger.places)
    journaled(tmp_path, given[3:])
    shipper_once(tmp_path, ledger)
    ledger.records, ledger.places = backup
    shipper_once(tmp_path, ledger)
    assert list(ledger.records) == [one.id for one in given]


def shipper_once(directory: Path, ledger: Kept) -> None:
    shipping = shipper(directory, ledger)
    shipping.start()
    shipping.stop()


def test_while_the_ledger_is_gone_the_backlog_grows_and_then_drains(tmp_path: Path, ledger: Kept) -> None:
    ledger.is_gone = True
    shipping = shipper(tmp_path, ledger, poll_seconds=0.01)
    shipping.start()
    for number in range(1, 4):
        journaled(tmp_path, [record() for _ in range(10)])
        assert not shipping.catch_up(10)
        assert shipping.is_failing
        assert shipping.backlog_records == 10 * number
    ledger.is_gone = False
    assert shipping.catch_up(10)
    assert (shipping.backlog_records, shipping.is_failing, len(ledger.records)) == (0, False, 30)
    ledger.is_gone = True
    journaled(tmp_path, [record() for _ in range(5)])
    assert not shipping.catch_up(10)
    assert shipping.backlog_records == 5
    shipping.stop()


def test_the_end_ships_what_is_left(tmp_path: Path, ledger: Kept) -> None:
    shipping = shipper(tmp_path, ledger, poll_seconds=3600)
    shipping.start()
    assert shipping.catch_up(10)
    journaled(tmp_path, [record()])
    shipping.stop()
    assert len(ledger.records) == 1


def test_a_second_process_stands_by_until_the_first_is_gone(tmp_path: Path, ledger: Kept) -> None:
    first, second = shipper(tmp_path, ledger), shipper(tmp_path, ledger)
    first.ship()
    journaled(tmp_path, [record()])
    second.ship()
    assert ledger.records == {}
    first.start()
    first.stop()
    journaled(tmp_path, [record()])
    second.ship()
    assert len(ledger.records) == 2


# --- what becomes of the files ----------------------------------------------------------------------------------------


def aged(directory: Path, seconds: float) -> None:
    for path in files_of(directory, "0"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_shipped_file_is_removed_when_it_is_old_and_not_the_last(tmp_path: Path, ledger: Kept) -> None:
    given = [record() for _ in range(12)]
    journaled(tmp_path, given, rotate_bytes=4_000)
    last = files_of(tmp_path, "0")[-1]
    assert len(files_of(tmp_path, "0")) > 2
    shipper_once(tmp_path, ledger)
    assert len(files_of(tmp_path, "0")) > 2
    aged(tmp_path, 90_000)
    shipper_once(tmp_path, ledger)
    assert files_of(tmp_path, "0") == [last]
    assert verify(tmp_path).faults == ()
    journaled(tmp_path, [record()])
    shipper_once(tmp_path, ledger)
    assert (len(ledger.records), ledger.taken) == (13, 13)


def test_a_file_stays_that_the_ledger_does_not_have(tmp_path: Path, ledger: Kept) -> None:
    given = [record() for _ in range(12)]
    journaled(tmp_path, given, rotate_bytes=4_000)
    shipper_once(tmp_path, ledger)
    aged(tmp_path, 90_000)
    before = files_of(tmp_path, "0")
    del ledger.records[given[0].id]
    shipper_once(tmp_path, ledger)
    assert files_of(tmp_path, "0") == before


def test_a_damaged_file_stays(tmp_path: Path, ledger: Kept) -> None:
    journaled(tmp_path, [record() for _ in range(12)], rotate_bytes=4_000)
    first = files_of(tmp_path, "0")[0]
    first.write_bytes(first.read_bytes().replace(b'"alice"', b'"malice"', 1))
    before = files_of(tmp_path, "0")
    aged(tmp_path, 90_000)
    shipping = shipper(tmp_path, ledger)
    shipping.start()
    shipping.stop()
    assert files_of(tmp_path, "0") == before
    assert shipping.damaged_lines == 2


def test_nothing_is_removed_that_is_to_be_kept(tmp_path: Path, ledger: Kept) -> None:
    journaled(tmp_path, [record() for _ in range(12)], rotate_bytes=4_000)
    aged(tmp_path, 90_000)
    before = files_of(tmp_path, "0")
    for given in ({"keep_seconds": None}, {"keep_seconds": 100_000.0}):
        shipping = shipper(tmp_path, ledger, **given)
        shipping.start()
        shipping.stop()
        assert files_of(tmp_path, "0") == before
