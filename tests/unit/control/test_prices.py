"""Which price holds: the operator's before the carried one, the closest before the general, and on which day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from modelport.config.carried import read_carried
from modelport.control.prices import Book, OwnList, OwnRow, PriceRow, RateRow, doubts, overlaps
from modelport.core.catalog import Deployment, Model, Sku, Target
from modelport.core.pricing import Price

CARRIED = read_carried()
DAY = date(2026, 11, 21)
AZURE = {"house": "https://contoso.openai.azure.com/openai/v1"}


def deployment(name: str = "chat", model: str = "gpt-4o", version: str = "1", **fields: Any) -> Deployment:
    target = Target(fields.pop("provider", "house"), fields.pop("upstream", "upstream-name"))
    nouns = Model(fields.pop("format", "OpenAI"), model, version)
    return Deployment(name=name, model=nouns, targets=(target,), **fields)


def own(*rows: OwnRow, **fields: Any) -> Book:
    return Book(CARRIED, OwnList(prices=rows, **fields), addresses=AZURE)


def row(price: str, **fields: Any) -> OwnRow:
    return OwnRow(input=Decimal(price), output=Decimal(price), **fields)


def found(book: Book, asked: Deployment, day: date = DAY, tier: Any = "standard") -> str | None:
    price = book.find(asked, asked.targets[0], day, tier)
    return None if price is None else str(price.rates.input)


def test_the_carried_list_holds_for_the_host_that_the_provider_is() -> None:
    assert found(Book(CARRIED, addresses=AZURE), deployment()) == "2.5"
    assert found(Book(CARRIED, addresses={"house": "https://api.openai.com/v1"}), deployment(upstream="gpt-4.1")) == "2"


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9000/v1", "https://notopenai.azure.com.example/v1", "https://evil-api.openai.com.x"]
)
def test_a_model_on_a_host_of_one_s_own_has_no_price_whatever_its_name(address: str) -> None:
    assert found(Book(CARRIED, addresses={"house": address}), deployment(upstream="gpt-4o")) is None
    assert found(Book(CARRIED), deployment(upstream="gpt-4o")) is None


def test_a_host_can_be_named_or_denied() -> None:
    assert found(Book(CARRIED, OwnList(hosts={"house": "azure"})), deployment()) == "2.5"
    assert found(Book(CARRIED, OwnList(hosts={"house": "none"}), addresses=AZURE), deployment()) is None


def test_on_azure_the_model_counts_and_elsewhere_the_name_that_is_sent() -> None:
    asked = deployment(model="gpt-4o", upstream="gpt-4o-mini")
    assert found(Book(CARRIED, addresses=AZURE), asked) == "2.5"
    assert found(Book(CARRIED, addresses={"house": "https://api.openai.com/v1"}), asked) == "0.15"


def test_a_dated_version_has_its_own_price_and_a_mere_number_finds_no_other_model() -> None:
    book = Book(CARRIED, addresses=AZURE)
    assert found(book, deployment(version="2024-05-13")) == "5"
    assert found(book, deployment(version="2024-11-20")) == "2.5"
    assert found(book, deployment(model="gpt-5", version="2")) == "1.25"


@pytest.mark.parametrize(
    ("sku", "price"),
    [
        ("GlobalStandard", "2.5"),
        ("DataZoneStandard", "2.75"),
        ("Standard", "2.75"),
        ("GlobalProvisionedManaged", None),
        ("GlobalManagedCompute", None),
    ],
)
def test_the_capacity_type_decides(sku: str, price: str | None) -> None:
    asked = deployment(version="2024-11-20", sku=Sku(sku))
    assert found(Book(CARRIED, addresses=AZURE), asked) == price


def test_a_tier_without_a_price_has_none_and_not_that_of_another() -> None:
    book = Book(CARRIED, addresses=AZURE)
    assert found(book, deployment(), tier="batch") is None
    assert found(book, deployment(model="gpt-4.1"), tier="batch") == "1"


def test_the_operator_s_list_goes_before_the_carried_one() -> None:
    assert found(own(row("7", model="GPT-4o")), deployment()) == "7"
    assert found(own(row("7", model="gpt-4.1")), deployment()) == "2.5"


def test_the_closest_row_wins_in_whatever_order_they_stand() -> None:
    rows = (
        row("1", model="gpt-4o"),
        row("2", model="gpt-4o", version="2024-11-20"),
        row("3", model="gpt-4o", provider="house"),
        row("4", deployment="Chat"),
        row("5", provider="house"),
    )
    for listed in (rows, rows[::-1]):
        book = own(*listed)
        assert found(book, deployment(version="2024-11-20")) == "4"
        assert found(book, deployment(name="other", version="2024-11-20")) == "3"
        assert found(book, deployment(name="other", provider="else", version="2024-11-20")) == "2"
        assert found(book, deployment(name="other", provider="else")) == "1"
        assert found(book, deployment(name="other", model="m")) == "5"


def test_a_row_holds_from_its_first_day_to_the_day_before_its_end() -> None:
    book = own(
        row("1", model="m", valid_to=date(2026, 1, 1)),
        row("2", model="m", valid_from=date(2026, 1, 1), valid_to=date(2027, 1, 1)),
        row("3", model="m", valid_from=date(2026, 6, 1)),
    )
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 5, 31), date(2026, 6, 1), date(2027, 1, 1)]
    assert [found(book, deployment(model="m"), day) for day in days] == ["1", "2", "2", "3", "3"]


def test_a_call_is_priced_by_the_utc_day_that_it_starts_in() -> None:
    asked = deployment(model="m")
    book = own(row("1", model="m", valid_to=date(2026, 1, 1)), row("2", model="m", valid_from=date(2026, 1, 1)))
    midnight = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    prices = [book.price(asked, asked.targets[0], midnight + offset) for offset in (-0.001, 0, -0.001, 86_399)]
    assert [price.rates.input for price in prices if price is not None] == [1, 2, 1, 2]


def test_what_is_found_is_found_again_as_the_same_object() -> None:
    asked = deployment()
    book = Book(CARRIED, addresses=AZURE)
    assert book.price(asked, asked.targets[0], 1.8e9) is book.price(asked, asked.targets[0], 1.8e9 + 60)


def test_another_currency_is_exact_or_unpriced() -> None:
    rates = {"USD": Decimal("0.9173")}
    priced = Book(CARRIED, OwnList(currency="EUR", exchange_rates=rates), currency="EUR", addresses=AZURE)
    assert found(priced, deployment()) == "2.29325"
    assert found(Book(CARRIED, OwnList(currency="EUR"), currency="EUR", addresses=AZURE), deployment()) is None


def test_an_unknown_price_is_none_and_an_estimate_says_that_it_is_one() -> None:
    asked = deployment(model="m")
    assert Book(CARRIED, unpriced="deny").find(asked, asked.targets[0], DAY) is None
    estimate = Book(CARRIED, unpriced="estimate").find(asked, asked.targets[0], DAY)
    assert estimate is not None and estimate.is_estimate
    stated = OwnList(estimate=RateRow(input=Decimal(1), output=Decimal(4)))
    chosen = Book(CARRIED, stated, unpriced="estimate").find(asked, asked.targets[0], DAY)
    assert isinstance(chosen, Price) and chosen.rates.output == 4


def test_the_stated_estimate_is_above_nearly_every_price_that_is_carried() -> None:
    estimate = Book(unpriced="estimate").find(deployment(), Target("p", "m"), DAY)
    assert estimate is not None and estimate.rates.input is not None and estimate.rates.output is not None
    rows = [row for host in CARRIED.hosts.values() for rows in host.models.values() for row in rows]
    dearer = [row for row in rows if row.output is not None and row.output > estimate.rates.output]
    assert len(dearer) < len(rows) / 50


def test_the_version_changes_with_every_price_and_with_nothing_else() -> None:
    versions = {
        Book(CARRIED).version,
        Book(CARRIED, unpriced="deny").version,
        Book(CARRIED, addresses=AZURE).version,
        own(row("1", model="m")).version,
        own(row("1.1", model="m")).version,
    }
    assert len(versions) == 5
    assert own(row("1", model="m")).version == own(row("1", model="m")).version


def test_the_carried_list_is_sound() -> None:
    assert {source.name for source in CARRIED.sources} == {"genai-prices", "litellm"}
    assert all("MIT" in source.licence and source.address.startswith("https://") for source in CARRIED.sources)
    for host, listed in CARRIED.hosts.items():
        for model, rows in listed.models.items():
            where = f"{host} {model}"
            assert model == model.lower(), where
            assert any(row.service_tier == "standard" for row in rows), where
            for each in rows:
                check(each, where)


def check(row: PriceRow, where: str) -> None:
    assert row.source in ("genai-prices", "litellm", "genai-prices+litellm"), where
    for rates in (row, *row.tiers):
        assert rates.input is not None and rates.input > 0, where
        assert rates.output is None or rates.output > 0, where
        assert rates.cached_input is None or rates.cached_input <= rates.input, where
    assert [tier.above for tier in row.tiers] == sorted({tier.above for tier in row.tiers}), where


def test_a_slip_is_doubted_and_two_rows_about_the_same_are_found() -> None:
    rows = (
        row("1", model="a", cached_input=Decimal(2)),
        row("1", model="b"),
        row("2", model="B", service_tier="batch"),
        row("3", model="c"),
        row("4", model="C"),
        row("3", model="c", valid_from=DAY),
    )
    assert sorted({index for index, _ in doubts(rows)}) == [0, 2]
    assert list(overlaps(rows)) == [(3, 4)]
