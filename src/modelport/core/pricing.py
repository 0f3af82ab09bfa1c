"""What a call costs: decimal prices by class of token, and arithmetic that is exact to the last digit or raises.

Prices are for a million tokens, as publishers write them. Nothing here is a float. A class of token without a price
makes a call unpriced, never cheaper: an unknown price is not zero.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import cached_property
from typing import Final, Literal

from msgspec import Struct

from modelport.core.usage import TokenUsage

ServiceTier = Literal["standard", "batch", "flex", "priority"]
UnpricedPolicy = Literal["allow", "deny", "estimate"]

NONE: Final = Decimal(0)
PER_MILLION: Final = -6
HOUR_MILLISECONDS: Final = 3_600_000
WORKER_TIME_STEP: Final = Decimal("1e-12")
"""A share of an hour need not be a decimal number: it is rounded to this, half to even."""
EXACT: Final = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])
"""Raises instead of rounding. A hundred digits are far beyond any sum of money times any number of tokens."""
ROUNDED: Final = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow, DivisionByZero])


class Rates(Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """Money for a million tokens of each class. None: not stated. Then cached input and images cost what input costs,
    and reasoning what output costs; sound, writing to a cache, input and output without a price make the call that uses
    them unpriced."""

    input: Decimal | None = None
    cached_input: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    image: Decimal | None = None
    cache_write: Decimal | None = None
    request: Decimal | None = None
    """For each call that made something, on top of its tokens; not per million."""

    @cached_property
    def by_class(self) -> tuple[Decimal | None, ...]:
        """In the order of `TokenUsage.classes`."""
        return (
            self.input,
            self.input if self.cached_input is None else self.cached_input,
            self.output,
            self.output if self.reasoning is None else self.reasoning,
            self.audio_input,
            self.audio_output,
            self.input if self.image is None else self.image,
            self.cache_write,
        )

    @cached_property
    def dearest(self) -> tuple[Decimal | None, Decimal | None, Decimal | None, Decimal | None]:
        """What a token can cost at most: of a prompt without and with sound, of an answer without and with sound."""
        read, cached, written, reasoned, heard, spoken, seen, kept = self.by_class
        return (
            most(read, cached, seen, kept),
            most(read, cached, seen, kept, heard),
            most(written, reasoned),
            most(written, reasoned, spoken),
        )

    def bound(self, prompt: int, completion: int, *, hears: bool = True, speaks: bool = True) -> Decimal | None:
        """The most that so many tokens can cost, whatever their classes. `hears`, `speaks`: sound may be among them.
        None: a class that they must be of has no price."""
        mute_prompt, any_prompt, mute_completion, any_completion = self.dearest
        read = any_prompt if hears else mute_prompt
        written = any_completion if speaks else mute_completion
        total = NONE
        if prompt:
            if read is None:
                return None
            total = EXACT.fma(prompt, read, total)
        if completion:
            if written is None:
                return None
            total = EXACT.fma(completion, written, total)
        total = EXACT.scaleb(total, PER_MILLION)
        return total if self.request is None else EXACT.add(total, self.request)


class Tier(Struct, frozen=True):
    """Prices of a whole call whose prompt has more tokens than `above`."""

    above: int
    rates: Rates


class Cost(Struct, frozen=True, kw_only=True):
    """What one call costs, by what it is for. The parts are exact and add up to `total`."""

    currency: str
    input: Decimal = NONE
    cached_input: Decimal = NONE
    output: Decimal = NONE
    reasoning: Decimal = NONE
    audio_input: Decimal = NONE
    audio_output: Decimal = NONE
    image: Decimal = NONE
    cache_write: Decimal = NONE
    request: Decimal = NONE
    worker_time: Decimal = NONE

    def parts(self) -> tuple[Decimal, ...]:
        """All of them, in the declared order."""
        return (
            self.input,
            self.cached_input,
            self.output,
            self.reasoning,
            self.audio_input,
            self.audio_output,
            self.image,
            self.cache_write,
            self.request,
            self.worker_time,
        )

    @property
    def total(self) -> Decimal:
        """The sum of the parts."""
        return summed(self.parts())


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model costs somewhere, from a day on, as somebody said."""

    currency: str = "USD"
    rates: Rates = Rates()
    tiers: tuple[Tier, ...] = ()
    """By rising `above`; the last one that a prompt is above of holds for the whole call."""
    per_hour: Decimal | None = None
    """An hour of the worker that runs the model, instead of tokens: a call costs the time that it held a place."""
    places: int = 1
    """Calls that one worker runs at the same time; they share its hour."""
    service_tier: ServiceTier = "standard"
    source: str = ""
    is_estimate: bool = False
    """Not this model's price, but the upper one that is stated for models of unknown price."""

    def rates_for(self, prompt: int) -> Rates:
        """The rates of a call with so many tokens of prompt."""
        found = self.rates
        for tier in self.tiers:
            if prompt <= tier.above:
                break
            found = tier.rates
        return found

    def cost(self, usage: TokenUsage, *, is_made: bool = True, milliseconds: int = 0) -> Cost | None:
        """The cost of one call; None: it has tokens of a class without a price. `is_made`: something was made, so that
        a price by request is due."""
        if self.per_hour is not None:
            return Cost(currency=self.currency, worker_time=self.worker_time(milliseconds) if is_made else NONE)
        rates = self.rates_for(usage.prompt)
        amounts = []
        for tokens, rate in zip(usage.classes(), rates.by_class, strict=True):
            if tokens and rate is None:
                return None
            amounts.append(for_tokens(tokens, rate))
        request = rates.request if is_made and rates.request is not None else NONE
        read, cached, written, reasoned, heard, spoken, seen, kept = amounts
        return Cost(
            currency=self.currency,
            input=read,
            cached_input=cached,
            output=written,
            reasoning=reasoned,
            audio_input=heard,
            audio_output=spoken,
            image=seen,
            cache_write=kept,
            request=request,
        )

    def total(self, usage: TokenUsage, *, is_made: bool = True, milliseconds: int = 0) -> Decimal | None:
        """`cost(…).total`, in a third of the time: what every call is charged with."""
        if self.per_hour is not None:
            return self.worker_time(milliseconds) if is_made else NONE
        rates = self.rates_for(usage.prompt) if self.tiers else self.rates
        total = NONE
        for tokens, rate in zip(usage.classes(), rates.by_class, strict=True):
            if tokens:
                if rate is None:
                    return None
                total = EXACT.fma(tokens, rate, total)
        total = EXACT.scaleb(total, PER_MILLION)
        return EXACT.add(total, rates.request) if is_made and rates.request is not None else total

    def bound(
        self, prompt: int, completion: int, *, hears: bool = True, speaks: bool = True, milliseconds: int = 0
    ) -> Decimal | None:
        """The most that a call of at most this size can cost. None: a class of token that it may need has no price."""
        if self.per_hour is not None:
            return self.worker_time(milliseconds)
        return self.rates_for(prompt).bound(prompt, completion, hears=hears, speaks=speaks)

    def worker_time(self, milliseconds: int) -> Decimal:
        """A place's share of the worker's hour."""
        assert self.per_hour is not None
        share = ROUNDED.divide(
            ROUNDED.multiply(self.per_hour, Decimal(milliseconds)), Decimal(HOUR_MILLISECONDS * self.places)
        )
        return share.quantize(WORKER_TIME_STEP, context=ROUNDED)


def for_tokens(tokens: int, rate: Decimal | None) -> Decimal:
    """Exactly."""
    if not tokens or rate is None:
        return NONE
    return EXACT.scaleb(EXACT.multiply(Decimal(tokens), rate), PER_MILLION)


def summed(amounts: tuple[Decimal, ...]) -> Decimal:
    """Exactly."""
    total = NONE
    for amount in amounts:
        if amount:
            total = EXACT.add(total, amount)
    return total


def most(*rates: Decimal | None) -> Decimal | None:
    """The dearest of those that are known."""
    return max((rate for rate in rates if rate is not None), default=None)


def plain(amount: Decimal) -> str:
    """As people write it, every digit and no exponent: `0.0000125`, `3`, `0`."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
