"""What every ledger promises, on SQLite and on PostgreSQL: each call once, sums that are exact, pages without gaps."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.control.usage import question
from modelport.core.usage import WORKER_HOURS, Pricing, TokenUsage, UsageRecord
from modelport.core.usage_reports import GROUPINGS, LedgerUnavailable, RecordsQuestion, UsageQuestion, UsageRow
from modelport.stores.shipping.tail import Position
from modelport.stores.sql.address import DatabaseAddress, address_of
from modelport.stores.sql.ledger import SqlLedger
from modelport.stores.sql.reports import SqlReports
from postgres_server import fresh_database, named_url, own_server
from usage_records import NOON, record, unpriced

HOUR, DAY = 3600, 86_400


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server."""
    if (named := named_url()) is not None:
        yield named
        return
    server = own_server()
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseAddress]:
    """An empty database."""
    if request.param == "sqlite":
        yield address_of(None, tmp_path)
        return
    with fresh_database(request.getfixturevalue("postgres")) as url:
        yield address_of(url, tmp_path)


@contextmanager
def kept(address: DatabaseAddress, *batches: list[UsageRecord]) -> Iterator[SqlReports]:
    with SqlLedger(address) as ledger:
        for batch in batches:
            ledger.take(batch)
    reports = SqlReports(address)
    try:
        yield reports
    finally:
        reports.close()


def only(rows: list[UsageRow]) -> UsageRow:
    assert len(rows) == 1
    return rows[0]


def every(reports: SqlReports) -> list[UsageRecord]:
    return list(reports.records(RecordsQuestion(limit=1000)).records)


# --- each call once ---------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_given(address: DatabaseAddress) -> None:
    given = [record(), unpriced(started_at=NOON + 1, key_id=None, deployment=None, target=None, answered_model=None)]
    with kept(address, given) as reports:
        assert every(reports) == given[::-1]


def test_a_call_counts_once_however_often_it_is_taken(address: DatabaseAddress) -> None:
    one, other = record(), record()
    with SqlLedger(address) as ledger:
        assert ledger.take([one, other, one]) == 2
        assert ledger.take([other]) == 0
        assert ledger.take([one, record(), other]) == 1
    with SqlLedger(address) as again:
        assert again.take([one, other]) == 0
        assert [found.id for found in again.missing([one, record(id="not-here"), other])] == ["not-here"]
    with kept(address) as reports:
        assert only(reports.report(UsageQuestion())).calls == 3
        assert len(every(reports)) == 3


def test_what_fails_halfway_leaves_nothing(address: DatabaseAddress) -> None:
    broken: Any = Position(1, 10, 10, None, 3)  # type: ignore[arg-type]
    with SqlLedger(address) as ledger:
        with pytest.raises(LedgerUnavailable):
            ledger.take([record(deployment="new")], "source", "0", broken)
        assert ledger.positions("source") == {}
    with kept(address) as reports:
        assert reports.report(UsageQuestion()) == []
        assert every(reports) == []


def test_the_position_is_kept_with_its_records(address: DatabaseAddress) -> None:
    first, second = Position(1, 100, 20, "ab", 4), Position(2, 50, 10, "cd", 9)
    with SqlLedger(address) as ledger:
        ledger.take([record()], "source", "0", first)
        ledger.take([record()], "source", "1", first)
        ledger.take([record()], "source", "0", second)
        ledger.take([record()], "other", "0", first)
        assert ledger.positions("source") == {"0": second, "1": first}
        assert ledger.positions("nobody") == {}


def test_several_fillers_at_once_lose_and_double_nothing(address: DatabaseAddress) -> None:
    everything = [record(deployment=f"d{number % 4}", started_at=NOON + number) for number in range(240)]
    failures: list[BaseException] = []

    def fill(seed: int) -> None:
        mine = list(everything)
        random.Random(seed).shuffle(mine)
        try:
            with SqlLedger(address) as ledger:
                for start in range(0, len(mine), 40):
                    for _ in range(50):
                        try:
                            ledger.take(mine[start : start + 40])
                            break
                        except LedgerUnavailable:
                            continue  # somebody else's: the next attempt sees what they have written
                    else:
                        raise AssertionError("never taken")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=fill, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with kept(address) as reports:
        assert {row.names["deployment"]: row.calls for row in reports.report(UsageQuestion(by=("deployment",)))} == {
            f"d{number}": 60 for number in range(4)
        }
        assert only(reports.report(UsageQuestion())).cost == Decimal("0.00125") * 240


def test_a_record_comes_back_with_its_tier_and_its_cache_writes(address: DatabaseAddress) -> None:
    kinds = [record(service_tier="priority"), record(service_tier="\x00"), record(usage=TokenUsage(cache_write=9))]
    with kept(address, kinds) as reports:
        found = {one.id: one for one in every(reports)}
    assert [found[one.id].service_tier for one in kinds] == ["priority", "\ufffd", None]
    assert found[kinds[2].id].usage == TokenUsage(cache_write=9)


def test_nonsense_from_outside_does_not_stop_it(address: DatabaseAddress) -> None:
    strange = [
        record(requested_model="a\x00b", client_request_id="\x00" * 3),
        record(requested_model="x" * 100_000, answered_model="y" * 100_000),
        record(usage=TokenUsage(input=10**30, output=-5)),
        record(cost="1e400", started_at=NOON + 2),
        record(cost="NaN"),
        record(requested_model="\U0001f600 ☃ \x1b[31m ' \" ; DROP TABLE usage_records; --"),
    ]
    with kept(address, strange) as reports:
        row = only(reports.report(UsageQuestion()))
        assert (row.calls, row.unpriced_calls) == (6, 2)
        assert row.tokens.input == 10**12 + 5 * 7
        assert len(every(reports)) == 6


# --- sums -------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([None, "a", "b"])


def test_hours_of_workers_cost_and_are_no_calls(address: DatabaseAddress) -> None:
    hours = [
        record(operation=WORKER_HOURS, deployment="small", usage=TokenUsage(), cost=cost, pricing=Pricing.PRICED)
        for cost in ("0.7", "0.5")
    ]
    call = record(deployment="small", cost="0", pricing=Pricing.FREE)
    with kept(address, [*hours, call]) as reports:
        (row,) = reports.report(UsageQuestion(by=("deployment",)))
        assert (row.calls, row.unpriced_calls, row.cost, row.tokens) == (1, 0, Decimal("1.2"), call.usage)
        by_operation = {row.names["operation"]: row for row in reports.report(UsageQuestion(by=("operation",)))}
    assert (by_operation[WORKER_HOURS].calls, by_operation[WORKER_HOURS].cost) == (0, Decimal("1.2"))


AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=24).map(lambda number: format(number, "f"))


@st.composite
def calls(draw: st.DrawFn) -> UsageRecord:
    pricing = draw(st.sampled_from(list(Pricing)))
    is_known = pricing is not Pricing.UNPRICED
    return record(
        started_at=NOON
        + draw(st.integers(-3 * DAY, 3 * DAY) | st.integers(-90 * DAY, 90 * DAY))
        + draw(st.sampled_from([0.0, 0.000001, 0.999999])),
        principal=draw(st.sampled_from(["alice", "bob"])),
        key_id=draw(NAMES),
        project=draw(NAMES),
        deployment=draw(NAMES),
        provider=draw(NAMES),
        usage=TokenUsage(*(draw(st.integers(0, 10**6)) for _ in TokenUsage.__struct_fields__)),
        pricing=pricing.value,
        cost=draw(AMOUNTS) if is_known else None,
        currency=draw(st.sampled_from(["USD", "EUR"])) if is_known else None,
    )


def expected(records: list[UsageRecord], asked: UsageQuestion) -> dict[tuple[Any, ...], list[Any]]:
    """The slow way: one call after the other, in decimals."""
    sums: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, 0, TokenUsage(), Fraction(0)])
    for one in records:
        hour = round(one.started_at * 1_000_000) // (HOUR * 1_000_000) * HOUR
        if hour < (asked.since or 0) or (asked.until is not None and hour >= asked.until):
            continue
        names = {
            "deployment": one.deployment,
            "key": one.key_id,
            "principal": one.principal,
            "project": one.project,
            "model": one.answered_model,
            "provider": one.provider,
            "surface": one.surface,
            "operation": one.operation,
            "day": hour // DAY,
        }
        found = sums[(*(names[name] for name in asked.by), one.currency)]
        found[0] += 1
        found[1] += one.cost is None
        found[2] += one.pricing == Pricing.ESTIMATED
        found[3] += one.usage
        found[4] += Fraction(one.cost or 0)
    for names_of, currencies in group(sums).items():
        if None in currencies and len(currencies) == 2:
            (other,) = currencies - {None}
            bare = sums.pop((*names_of, None))
            sums[(*names_of, other)] = [a + b for a, b in zip(sums[(*names_of, other)], bare, strict=True)]
    return dict(sums)


def group(sums: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], set[Any]]:
    found: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    for key in sums:
        found[key[:-1]].add(key[-1])
    return found


def test_a_report_is_the_sum_of_its_calls(address: DatabaseAddress) -> None:
    seen: list[UsageRecord] = []

    @settings(max_examples=25, deadline=None)
    @given(
        records=st.lists(calls(), max_size=30),
        by=st.lists(st.sampled_from(GROUPINGS), unique=True, max_size=3).map(tuple),
        hours=st.tuples(
            st.none() | st.integers(-80, 80) | st.integers(-2200, 2200),
            st.none() | st.integers(0, 160) | st.integers(0, 4000),
        ),
    )
    def check(records: list[UsageRecord], by: tuple[str, ...], hours: tuple[int | None, int | None]) -> None:
        since = None if hours[0] is None else int(NOON) + hours[0] * HOUR
        until = None if hours[1] is None else (since or int(NOON)) + hours[1] * HOUR
        asked = UsageQuestion(by=by, since=since, until=until)
        found = {}
        seen.extend(records)
        with kept(address, records) as reports:
            for row in reports.report(asked):
                names = [day_number(value) if name == "day" else value for name, value in row.names.items()]
                sums = [row.calls, row.unpriced_calls, row.estimated_calls, row.tokens, cost_of(row)]
                found[(*names, row.currency)] = sums
        wanted = {}
        for key, sums in expected(seen, asked).items():
            is_known = sums[4] or not sums[1]
            wanted[key if is_known else (*key[:-1], None)] = [*sums[:4], sums[4] if is_known else None]
        assert found == wanted

    check()


def cost_of(row: UsageRow) -> Fraction | None:
    return None if row.cost is None else Fraction(row.cost)


def day_number(text: str | None) -> int:
    assert text is not None
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // DAY


def test_a_group_without_any_price_has_no_cost_and_one_with_some_has_theirs(address: DatabaseAddress) -> None:
    given = [
        unpriced(deployment="a"),
        unpriced(deployment="b"),
        record(deployment="b"),
        record(deployment="c", cost="0"),
    ]
    with kept(address, given) as reports:
        rows = {row.names["deployment"]: row for row in reports.report(UsageQuestion(by=("deployment",)))}
    assert (rows["a"].cost, rows["a"].unpriced_calls) == (None, 1)
    assert (rows["b"].cost, rows["b"].unpriced_calls, rows["b"].calls) == (Decimal("0.00125"), 1, 2)
    assert (rows["c"].cost, rows["c"].unpriced_calls) == (0, 0)


def test_a_refused_call_makes_no_zero_of_what_is_unknown(address: DatabaseAddress) -> None:
    refused: dict[str, Any] = {"usage": TokenUsage(), "cost": "0", "pricing": Pricing.FREE.value, "status": 429}
    given = [
        *[unpriced(deployment="house"), record(deployment="house", **refused)],
        *[record(deployment="refused", **refused)],
        *[unpriced(deployment="both"), record(deployment="both"), record(deployment="both", **refused)],
        *[unpriced(deployment="days", started_at=NOON - 40 * DAY), record(deployment="days", **refused)],
    ]
    with kept(address, given) as reports:
        rows = {row.names["deployment"]: row for row in reports.report(UsageQuestion(by=("deployment",)))}
        (total,) = reports.report(UsageQuestion())
        only_unknown = only(reports.report(UsageQuestion(since=int(NOON) - 41 * DAY, until=int(NOON) - 39 * DAY)))
    found = {name: (row.calls, row.unpriced_calls, row.cost, row.currency) for name, row in rows.items()}
    assert found == {
        "house": (2, 1, None, None),
        "refused": (1, 0, 0, "USD"),
        "both": (3, 1, Decimal("0.00125"), "USD"),
        "days": (2, 1, None, None),
    }
    assert (total.cost, total.unpriced_calls, total.currency) == (Decimal("0.00125"), 3, "USD")
    assert (only_unknown.cost, only_unknown.unpriced_calls) == (None, 1)


def test_currencies_are_never_added_to_each_other(address: DatabaseAddress) -> None:
    with kept(address, [record(), record(currency="EUR"), unpriced()]) as reports:
        rows = reports.report(UsageQuestion())
    assert [(row.currency, row.calls) for row in rows] == [(None, 1), ("EUR", 1), ("USD", 1)]


def test_the_last_digit_survives_a_long_sum(address: DatabaseAddress) -> None:
    given = [record(cost="0.100000000000000001", started_at=NOON + number) for number in range(1000)]
    with kept(address, given) as reports:
        assert only(reports.report(UsageQuestion())).cost == Decimal("100.000000000000001000")


def test_an_hour_is_counted_from_its_first_to_its_last_microsecond(address: DatabaseAddress) -> None:
    first, last = NOON, NOON + HOUR - 0.000001
    with kept(address, [record(started_at=first), record(started_at=last), record(started_at=NOON + HOUR)]) as reports:
        asked = question("", "2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z", NOON)
        assert only(reports.report(asked)).calls == 2


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_hold_every_call_once_the_latest_first(address: DatabaseAddress) -> None:
    given = [record(started_at=NOON + number // 5) for number in range(53)]  # five share each moment
    with kept(address, given) as reports:
        found: list[UsageRecord] = []
        place: str | None = None
        while True:
            page = reports.records(RecordsQuestion(limit=7, before=place))
            assert len(page.records) <= 7
            found += page.records
            place = page.next
            if place is None:
                break
    assert sorted(one.id for one in found) == sorted(one.id for one in given)
    assert [one.started_at for one in found] == sorted((one.started_at for one in given), reverse=True)


def test_a_page_keeps_to_its_hours(address: DatabaseAddress) -> None:
    given = [record(started_at=NOON + hours * HOUR) for hours in range(5)]
    with kept(address, given) as reports:
        page = reports.records(RecordsQuestion(since=int(NOON) + HOUR, until=int(NOON) + 3 * HOUR))
    assert [one.id for one in page.records] == [given[2].id, given[1].id]


# --- opening ----------------------------------------------------------------------------------------------------------


def test_a_database_that_nobody_has_filled_has_no_usage(address: DatabaseAddress) -> None:
    with kept(address) as reports:
        assert reports.report(UsageQuestion(by=("day",))) == []
        assert reports.records(RecordsQuestion()).records == ()


def test_whoever_opens_it_at_once_finds_it_made(address: DatabaseAddress) -> None:
    failures: list[BaseException] = []

    def opened() -> None:
        try:
            SqlLedger(address).close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=opened) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with kept(address, [record()]) as reports:
        assert len(every(reports)) == 1


def test_an_unreachable_server_is_told_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    address = address_of("postgresql://user:s3cret@127.0.0.1:1/books", tmp_path)
    with pytest.raises(LedgerUnavailable) as failure:
        SqlLedger(address)
    assert "s3cret" not in str(failure.value)
    assert "s3cret" not in repr(address)
    assert "127.0.0.1:1/books" in str(failure.value)
