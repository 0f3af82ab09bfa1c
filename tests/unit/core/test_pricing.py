"""What a call costs: exact to the last digit, each token once, and never less than it is for want of a price."""

from __future__ import annotations

from decimal import Decimal, Inexact, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.pricing import EXACT, NONE, Cost, Price, Rates, Tier, for_tokens, plain
from modelport.core.usage import TokenUsage

CLASSES = TokenUsage.__struct_fields__
amounts = st.decimals(min_value=0, max_value=10_000, places=9, allow_nan=False, allow_infinity=False)
tokens = st.integers(min_value=0, max_value=2**40)
usages = st.builds(TokenUsage, **dict.fromkeys(CLASSES, tokens))
full_rates = st.builds(Rates, **dict.fromkeys((*CLASSES, "request"), amounts))
prices = st.builds(
    Price,
    rates=full_rates,
    tiers=st.lists(st.builds(Tier, above=tokens, rates=full_rates), max_size=3, unique_by=lambda tier: tier.above).map(
        lambda found: tuple(sorted(found, key=lambda tier: tier.above))
    ),
)
flat_prices = st.builds(Price, rates=full_rates)


def fraction(value: Decimal) -> tuple[int, int]:
    return value.as_integer_ratio()


@given(prices, usages)
def test_the_parts_add_up_to_what_is_charged(price: Price, usage: TokenUsage) -> None:
    cost = price.cost(usage)
    assert cost is not None
    total = NONE
    for part in cost.parts():
        total = EXACT.add(total, part)
    assert cost.total == total == price.total(usage)


@given(flat_prices, usages, usages)
def test_two_calls_cost_as_much_as_their_tokens_together(price: Price, one: TokenUsage, other: TokenUsage) -> None:
    apart = [price.total(usage, is_made=False) for usage in (one, other)]
    assert None not in apart
    assert EXACT.add(*apart) == price.total(one + other, is_made=False)  # type: ignore[arg-type]


@given(usages, st.sampled_from(CLASSES), amounts)
def test_no_class_is_charged_in_another_s_place(usage: TokenUsage, name: str, rate: Decimal) -> None:
    others = {other: NONE for other in CLASSES if other != name}
    cost = Price(rates=Rates(**{name: rate}, **others)).cost(usage)
    assert cost is not None
    assert cost.total == getattr(cost, name) == for_tokens(getattr(usage, name), rate)


@given(flat_prices, usages, st.sampled_from(CLASSES), st.integers(min_value=1, max_value=10_000))
def test_more_tokens_never_cost_less(price: Price, usage: TokenUsage, name: str, more: int) -> None:
    counts = dict(zip(CLASSES, usage.classes(), strict=True))
    longer = TokenUsage(**{**counts, name: counts[name] + more})
    before, after = price.total(usage), price.total(longer)
    assert before is not None and after is not None
    assert before <= after


@given(prices, usages)
def test_a_cost_is_a_decimal_of_its_rates_and_nothing_is_rounded(price: Price, usage: TokenUsage) -> None:
    rates = price.rates_for(usage.prompt)
    numerator, denominator = 0, 10**15
    for count, rate in zip((*usage.classes(),), rates.by_class, strict=True):
        assert rate is not None
        above, below = fraction(rate)
        numerator += count * above * (denominator // 10**6) // below
    assert rates.request is not None
    above, below = fraction(rates.request)
    numerator += above * denominator // below
    total = price.total(usage)
    assert total is not None
    exact_above, exact_below = fraction(total)
    assert exact_above * denominator == numerator * exact_below


@given(prices, usages, st.booleans(), st.booleans())
def test_a_bound_is_never_below_the_cost(price: Price, usage: TokenUsage, hears: bool, speaks: bool) -> None:
    counts = dict(zip(CLASSES, usage.classes(), strict=True))
    counts["audio_input"] *= hears
    counts["audio_output"] *= speaks
    made = TokenUsage(**counts)
    bound, cost = price.bound(made.prompt, made.completion, hears=hears, speaks=speaks), price.total(made)
    assert bound is not None and cost is not None
    assert cost <= bound


@given(st.decimals(min_value=0, max_value=10**12, allow_nan=False, places=12))
def test_an_amount_is_written_with_every_digit_and_no_exponent(amount: Decimal) -> None:
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text.upper()
    assert "." not in text or not text.endswith(("0", "."))


def test_what_is_not_stated_costs_what_it_is_a_kind_of() -> None:
    price = Price(rates=Rates(input=Decimal(2), output=Decimal(8)))
    cost = price.cost(TokenUsage(input=1, cached_input=1, image=1, output=1, reasoning=1))
    assert cost == Cost(
        currency="USD",
        input=Decimal("0.000002"),
        cached_input=Decimal("0.000002"),
        image=Decimal("0.000002"),
        output=Decimal("0.000008"),
        reasoning=Decimal("0.000008"),
    )


@pytest.mark.parametrize("name", ["input", "output", "audio_input", "audio_output", "cache_write"])
def test_a_class_without_a_price_makes_the_call_unpriced_and_not_cheaper(name: str) -> None:
    rates = {"input": Decimal(2), "output": Decimal(8)}
    rates.pop(name, None)
    price = Price(rates=Rates(**rates))
    usage = TokenUsage(**{name: 1})
    assert price.cost(usage) is None
    assert price.total(usage) is None
    assert price.total(TokenUsage()) == 0


def test_sound_that_may_come_is_in_the_bound_and_other_sound_is_not() -> None:
    price = Price(rates=Rates(input=Decimal(2), output=Decimal(8), audio_input=Decimal(40), audio_output=Decimal(80)))
    assert price.bound(10, 10, hears=False, speaks=False) == Decimal("0.0001")
    assert price.bound(10, 10, hears=True, speaks=True) == Decimal("0.0012")
    assert Price(rates=Rates(input=Decimal(2))).bound(10, 10) is None


def test_a_tier_holds_for_the_whole_call_and_only_above_its_length() -> None:
    longer = Tier(200_000, Rates(input=Decimal("2.5"), output=Decimal(15)))
    price = Price(rates=Rates(input=Decimal("1.25"), output=Decimal(10)), tiers=(longer,))
    assert price.total(TokenUsage(input=200_000, output=1000)) == Decimal("0.26")
    assert price.total(TokenUsage(input=200_001, output=1000)) == Decimal("0.5150025")
    assert price.total(TokenUsage(input=150_000, cached_input=50_001)) == Decimal("0.5000025")


def test_a_request_is_charged_once_and_only_where_something_was_made() -> None:
    price = Price(rates=Rates(input=Decimal(1), request=Decimal("0.005")))
    assert price.total(TokenUsage(input=1_000_000)) == Decimal("1.005")
    assert price.total(TokenUsage(), is_made=False) == 0


def test_an_hour_of_a_worker_is_shared_by_its_places_and_rounded_as_stated() -> None:
    price = Price(per_hour=Decimal("1.20"), places=4)
    assert price.total(TokenUsage(output=5), milliseconds=3_600_000) == Decimal("0.3")
    assert price.total(TokenUsage(output=5), milliseconds=1) == Decimal("0.000000083333")
    assert price.total(TokenUsage(), is_made=False, milliseconds=1000) == 0
    assert price.bound(10, 10, milliseconds=3_600_000) == Decimal("0.3")


@given(usages, flat_prices)
def test_the_process_wide_precision_of_decimals_changes_nothing(usage: TokenUsage, price: Price) -> None:
    with localcontext() as context:
        context.prec = 3
        coarse = price.total(usage)
    assert coarse == price.total(usage)


def test_what_cannot_be_exact_raises() -> None:
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))
