"""Records as rows: costs to the last digit, and nothing that a database would refuse."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.usage import TokenUsage, UsageRecord
from modelport.stores.sql.batches import Batch, rows_of, summed, transposed
from modelport.stores.sql.columns import COST_COLUMNS, SUM_COLUMNS, TOKEN_COLUMNS
from modelport.stores.sql.rows import (
    HOUR_US,
    amount,
    bounded,
    day_of,
    fingerprint,
    first_day,
    in_larger,
    key_of,
    month_of,
    named_row,
    parts,
    record_of,
    row_of,
    series_of,
    unusual_parts,
)
from usage_records import NOON, record, unpriced

COSTS = st.decimals(min_value=0, max_value=999_999_999, places=27).map(lambda number: format(number, "f"))


@given(COSTS)
def test_a_cost_is_the_same_after_a_visit(cost: str) -> None:
    found = parts(cost)
    assert None not in found
    assert amount([part or 0 for part in found]) == Decimal(cost)


@given(st.lists(COSTS, max_size=50))
def test_sums_of_parts_are_parts_of_the_sum(costs: list[str]) -> None:
    columns = [sum(part or 0 for part in column) for column in zip(*map(parts, costs), strict=True)] or [0] * 4
    assert Fraction(amount(columns)) == sum(map(Fraction, costs))


@given(st.integers(0, 10**9 - 1), st.text("0123456789", max_size=27))
def test_no_part_grows_so_large_that_a_billion_of_them_overflow(units: int, decimals: str) -> None:
    for part in parts(f"{units}.{decimals}0"):
        assert part is not None
        assert 0 <= part < 10**9


@given(COSTS | st.sampled_from(["0", "00.5", "1E-9", "1_0.5", "+3", " 2 ", "\u0661.5", "5.", ".5"]))
def test_a_usual_cost_is_read_as_any_other(cost: str) -> None:
    assert tuple(parts(cost)) == tuple(unusual_parts(cost))


@pytest.mark.parametrize("cost", [None, "NaN", "Infinity", "-1", "1e400", "a lot", "", "."])
def test_what_is_no_amount_of_money_is_not_known(cost: str | None) -> None:
    assert parts(cost) == (None,) * 4


@given(st.integers())
def test_any_count_fits(count: int) -> None:
    assert abs(bounded(count)) <= 10**12
    if abs(count) <= 10**12:
        assert bounded(count) == count


@given(
    st.builds(
        record,
        started_at=st.integers(0, 4 * 10**15).map(lambda moment: moment / 1_000_000),
        requested_model=st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
        usage=st.builds(TokenUsage, *[st.integers(0, 10**9)] * 7),
        cost=st.none() | COSTS.map(lambda cost: format(Decimal(cost).normalize(), "f")),
        currency=st.sampled_from([None, "USD"]),
        status=st.integers(0, 599),
        streamed=st.booleans(),
    )
)
def test_a_record_is_the_same_after_a_visit(given_record: UsageRecord) -> None:
    row = {**named_row(given_record, 1), **series_of(given_record)}
    found = record_of(row)
    assert abs(found.started_at - given_record.started_at) < 0.000001
    assert key_of(found) == key_of(given_record)
    assert found == UsageRecord(
        **{name: getattr(given_record, name) for name in UsageRecord.__struct_fields__ if name != "started_at"},
        started_at=found.started_at,
    )


def test_series_differ_where_their_names_do() -> None:
    one, other = series_of(record(key_id=None, project="a")), series_of(record(key_id="a", project=None))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(series_of(record(key_id=None, project="a", requested_model="another")))


def test_a_callers_text_makes_no_series() -> None:
    assert series_of(record(requested_model="a", client_request_id="b")) == series_of(record())


def test_a_model_has_the_targets_name_where_nobody_has_answered() -> None:
    assert series_of(record(answered_model=None, target="house/org/large"))["model"] == "org/large"
    assert series_of(record(answered_model=None, target=None))["model"] is None


def test_sums_are_by_time_and_series() -> None:
    rows = [row_of(record(started_at=NOON + hours * 3600), hours % 2) for hours in range(30)]
    days = in_larger(summed(transposed(rows), HOUR_US), day_of)
    assert {place: sums[0] for place, sums in days.items()} == {
        (20778, 0): 6,
        (20778, 1): 6,
        (20779, 0): 9,
        (20779, 1): 9,
    }


def test_an_unpriced_call_adds_to_no_cost() -> None:
    (sums,) = summed(transposed([row_of(unpriced(), 1)]), 1).values()
    found = dict(zip(SUM_COLUMNS, sums, strict=True))
    assert (found["calls"], found["unpriced_calls"], found["cost_units"], found["cost_nanos"]) == (1, 1, 0, 0)


@given(st.integers(-10_000, 100_000))
def test_a_day_is_in_the_month_that_begins_before_it_and_ends_after_it(day: int) -> None:
    assert first_day(month_of(day)) <= day < first_day(month_of(day) + 1)


TEXTS = st.none() | st.text(max_size=8) | st.sampled_from(["x" * 512, "x" * 513, "a\0b"])
COUNTS = st.integers(0, 10**6) | st.sampled_from([10**12, 10**12 + 1, -(10**12) - 1, 10**30])
RECORDS = st.builds(
    record,
    id=st.text(max_size=40),
    started_at=st.integers(0, 4 * 10**15).map(lambda moment: moment / 1_000_000),
    requested_model=TEXTS,
    client_request_id=TEXTS,
    deployment=TEXTS,
    error_code=TEXTS,
    streamed=st.booleans(),
    usage=st.builds(TokenUsage, *[COUNTS] * len(TOKEN_COLUMNS)),
    reserved_tokens=COUNTS,
    cost=st.none() | COSTS | st.just("NaN"),
    currency=st.sampled_from([None, "USD"]),
    pricing=st.sampled_from(["priced", "unpriced", "estimated"]),
)


@given(st.lists(RECORDS, min_size=1, max_size=12))
def test_a_batch_has_the_rows_of_its_records(records: list[UsageRecord]) -> None:
    batch = Batch(records)
    numbers = list(range(len(records)))
    assert rows_of(batch.columns(numbers)) == [row_of(one, number) for number, one in enumerate(records)]
    by_key: dict[object, dict[str, str | None]] = {}
    for key, one in zip(batch.series_keys, records, strict=True):
        assert by_key.setdefault(key, series_of(one)) == series_of(one)


@given(st.lists(RECORDS, min_size=1, max_size=12), st.integers(1, 3))
def test_sums_of_a_batch_are_those_of_its_rows(records: list[UsageRecord], series: int) -> None:
    columns = Batch(records).columns([number % series for number in range(len(records))])
    expected: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(records):
        row = named_row(one, number % series)
        added = [1, int(row["cost_units"] is None), int(row["pricing"] == "estimated")]
        added += [row[name] or 0 for name in (*TOKEN_COLUMNS, *COST_COLUMNS)]
        place = (row["started_us"] // HOUR_US, number % series)
        expected[place] = [a + b for a, b in zip(expected.get(place, [0] * len(SUM_COLUMNS)), added, strict=True)]
    assert summed(columns, HOUR_US) == expected
