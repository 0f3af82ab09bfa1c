"""Reports of usage in words: what may be asked, and how answers are written."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.control import focus
from modelport.control.usage import as_csv, groupings, moment, question, read, shown
from modelport.core.usage import WORKER_HOURS, TokenUsage
from modelport.core.usage_reports import GROUPINGS, UsageQuestion, UsageQuestionError, UsageRow
from usage_records import NOON

NOW = NOON + 1800


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", NOW),
        ("today", NOON - 12 * 3600),
        ("yesterday", NOON - 36 * 3600),
        ("30m", NOON),
        ("24h", NOW - 86_400),
        (" 7D ", NOW - 7 * 86_400),
        ("2w", NOW - 14 * 86_400),
        ("2026-11-21", NOON - 12 * 3600),
        ("2026-11-21T12:00:00Z", NOON),
        ("2026-11-21T12:00:00", NOON),
        ("2026-11-21T13:00:00+01:00", NOON),
        ("2026-11-21T13:00:00 01:00", NOON),  # a plus sign that a query has turned into a space
        ("999999w", 0.0),
    ],
)
def test_times_are_read_as_people_write_them(text: str, meant: float) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["soon", "7", "7 years", "2026-13-01", "-3d", "", "2026-11-21T25:00", "٣d" * 9, "1e9"])
def test_another_word_is_refused_and_says_what_may_be_written(text: str) -> None:
    with pytest.raises(UsageQuestionError, match="24h, 7d, 4w"):
        moment(text, NOW)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(UsageQuestionError):
        assert moment(text, NOW) >= 0


def test_a_question_covers_whole_hours() -> None:
    asked = question("deployment, Day ,deployment", "2026-11-21T11:59:59Z", "2026-11-21T12:00:01Z", NOW)
    assert asked == UsageQuestion(by=("deployment", "day"), since=int(NOON) - 3600, until=int(NOON) + 3600)
    assert question("", None, "", NOW) == UsageQuestion()


def test_a_question_ends_after_it_begins() -> None:
    with pytest.raises(UsageQuestionError, match="after"):
        question("", "today", "yesterday", NOW)


@pytest.mark.parametrize("by", ["deployments", "deployment;day", "deployment,cost", "1"])
def test_an_unknown_grouping_is_refused_with_those_that_there_are(by: str) -> None:
    with pytest.raises(UsageQuestionError, match="deployment, key, principal"):
        groupings(by)


ROWS = st.builds(
    UsageRow,
    names=st.fixed_dictionaries(dict.fromkeys(GROUPINGS, st.none() | st.text(max_size=9))),
    calls=st.integers(0, 10**12),
    unpriced_calls=st.integers(0, 10**12),
    estimated_calls=st.integers(0, 10**12),
    tokens=st.builds(TokenUsage, *[st.integers(0, 10**15)] * 7),
    cost=st.none() | st.decimals(0, 10**9, places=18),
    currency=st.sampled_from([None, "USD"]),
)


@given(ROWS)
def test_a_row_is_the_same_after_a_visit_to_json(row: UsageRow) -> None:
    assert read(json.loads(json.dumps(shown(row))), GROUPINGS) == row


def row(**given: object) -> UsageRow:
    known = {
        "names": {"deployment": "gpt"},
        "calls": 3,
        "unpriced_calls": 1,
        "estimated_calls": 0,
        "tokens": TokenUsage(input=5, cached_input=4, output=3, reasoning=2),
        "cost": Decimal("0.000001250000000000"),
        "currency": "USD",
    }
    return UsageRow(**{**known, **given})  # type: ignore[arg-type]


def test_json_has_the_promised_names() -> None:
    assert shown(row()) == {
        "deployment": "gpt",
        "calls": 3,
        "input_tokens": 5,
        "cached_input_tokens": 4,
        "cache_write_tokens": 0,
        "output_tokens": 3,
        "reasoning_tokens": 2,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "image_tokens": 0,
        "cost": "0.00000125",
        "currency": "USD",
        "unpriced_calls": 1,
        "estimated_calls": 0,
    }


def test_a_cost_that_nobody_knows_is_no_zero() -> None:
    assert shown(row(cost=None))["cost"] is None
    (line,) = csv.DictReader(io.StringIO(as_csv([row(cost=None)], ["deployment"])))
    assert line["cost"] == ""
    assert shown(row(cost=Decimal(0)))["cost"] == "0"


def test_csv_has_headings_also_without_rows() -> None:
    assert as_csv([], ["deployment", "day"]).startswith("deployment,day,calls,input_tokens,")
    names = {"deployment": 'a "quoted", long\nname'}
    (line,) = csv.DictReader(io.StringIO(as_csv([row(names=names)], ["deployment"]), newline=""))
    assert line["deployment"] == names["deployment"]


@pytest.mark.parametrize(
    ("day", "until", "month", "following"),
    [
        ("2026-11-30", "2026-12-01", "2026-11-01", "2026-12-01"),
        ("2026-12-31", "2027-01-01", "2026-12-01", "2027-01-01"),
        ("2028-02-29", "2028-03-01", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_focus_charge_is_a_day_of_its_month(day: str, until: str, month: str, following: str) -> None:
    names = {**dict.fromkeys(focus.GROUPINGS), "day": day, "deployment": "gpt", "project": "research", "model": "large"}
    text = focus.as_focus([row(names=names)], "modelport", "local")
    (charge,) = csv.DictReader(io.StringIO(text))
    assert tuple(charge) == focus.COLUMNS
    assert charge["ChargePeriodStart"] == f"{day}T00:00:00Z"
    assert charge["ChargePeriodEnd"] == f"{until}T00:00:00Z"
    assert charge["BillingPeriodStart"] == f"{month}T00:00:00Z"
    assert charge["BillingPeriodEnd"] == f"{following}T00:00:00Z"
    assert charge["BilledCost"] == charge["EffectiveCost"] == charge["ListCost"] == "0.00000125"
    assert (charge["ConsumedQuantity"], charge["ConsumedUnit"]) == ("14", "Tokens")
    assert (charge["ResourceId"], charge["SubAccountId"], charge["SkuId"]) == ("gpt", "research", "large")
    assert charge["x_UnpricedCalls"] == "1"


def test_hours_of_a_worker_are_a_charge_without_tokens() -> None:
    names = {**dict.fromkeys(focus.GROUPINGS), "day": "2026-11-21", "deployment": "small", "operation": WORKER_HOURS}
    text = focus.as_focus([row(names=names, calls=0, tokens=TokenUsage(), cost=Decimal("1.2"))], "modelport", "local")
    (charge,) = csv.DictReader(io.StringIO(text))
    assert (charge["BilledCost"], charge["ResourceId"]) == ("1.2", "small")
    assert charge["ChargeDescription"] == "worker hours of small"
    assert charge["ConsumedQuantity"] == charge["ConsumedUnit"] == charge["PricingUnit"] == ""


def test_a_focus_charge_of_unknown_cost_is_empty() -> None:
    names = {**dict.fromkeys(focus.GROUPINGS), "day": "2026-11-21"}
    text = focus.as_focus([row(names=names, cost=None, currency=None)], "modelport", "local")
    (charge,) = csv.DictReader(io.StringIO(text))
    assert charge["BilledCost"] == charge["BillingCurrency"] == ""
