"""The operator's price list: a YAML file → rows, or a ConfigError that names every fault with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from msgspec import structs
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from modelport.config.budgets import Currency
from modelport.config.carried import read_carried
from modelport.config.document import Document, read_file
from modelport.config.faults import ConfigError, Fault, Path, dotted
from modelport.config.messages import Explainer
from modelport.config.section import Count, Name, Section, Version, Word, exact, refuse, shown
from modelport.config.stored import STORED
from modelport.control.prices import (
    CLASSES,
    NO_HOST,
    OwnList,
    OwnRow,
    RateRow,
    TierRow,
    doubts,
    overlaps,
)
from modelport.core.pricing import ServiceTier

RATES: Final = (*CLASSES, "request")


def _day(value: Any) -> Any:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise refuse(f"{shown(value)} is not a day like 2027-01-31") from None


Amount = Annotated[Decimal, Field(ge=0, max_digits=24, decimal_places=12), BeforeValidator(exact)]
Day = Annotated[date, BeforeValidator(_day)]


class RateSettings(Section):
    """Money for a million tokens of each class, and for a request."""

    input: Amount | None = None
    cached_input: Amount | None = None
    cache_write: Amount | None = None
    """For input that is kept in the provider's cache. Absent: calls that write there are unpriced."""
    output: Amount | None = None
    reasoning: Amount | None = None
    audio_input: Amount | None = None
    audio_output: Amount | None = None
    image: Amount | None = None
    request: Amount | None = None
    """For each call that made something."""

    def rates(self) -> dict[str, Decimal | None]:
        """By class."""
        return {name: getattr(self, name) for name in RATES}


class TierSettings(RateSettings):
    """The prices of calls with longer prompts."""

    above: Count
    """Tokens of prompt."""


class PriceEntry(RateSettings):
    """One price, and what it is the price of."""

    model: Word | None = None
    """The deployment's `model.name`, or what the provider calls the model."""
    format: Word | None = None
    version: Version | None = None
    provider: Word | None = None
    """Only where this provider answers."""
    deployment: Name | None = None
    """Only for this deployment."""
    tiers: Annotated[tuple[TierSettings, ...], Field(max_length=16)] = ()
    per_hour: Amount | None = None
    """For an hour of the worker, instead of tokens."""
    places: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Calls that share the worker's hour."""
    service_tier: ServiceTier = "standard"
    valid_from: Annotated[Day | None, Field(alias="from")] = None
    valid_to: Annotated[Day | None, Field(alias="to")] = None
    """The first day on which it holds no longer."""
    source: Annotated[str, Field(max_length=256)] = ""

    @model_validator(mode="after")
    def _is_a_price_of_something(self) -> PriceEntry:
        if self.model is None and self.deployment is None and self.provider is None:
            raise refuse("names no model, deployment or provider")
        rates = [value for value in self.rates().values() if value is not None]
        if self.per_hour is not None and (rates or self.tiers):
            raise refuse("has both per_hour and prices of tokens or requests; keep one of them")
        if self.per_hour is None and not rates:
            raise refuse("has no price")
        if self.valid_from is not None and self.valid_to is not None and self.valid_to <= self.valid_from:
            raise refuse("ends before it begins")
        if len({tier.above for tier in self.tiers}) < len(self.tiers):
            raise refuse("has two tiers from the same length on")
        return self

    def row(self) -> OwnRow:
        """The book's own form."""
        return OwnRow(
            **self.rates(),
            tiers=tuple(TierRow(above=tier.above, **tier.rates()) for tier in self.tiers),
            per_hour=self.per_hour,
            places=self.places,
            service_tier=self.service_tier,
            valid_from=self.valid_from,
            valid_to=self.valid_to,
            source=self.source,
            model=self.model,
            format=self.format,
            version=self.version,
            provider=self.provider,
            deployment=self.deployment,
        )


class PriceList(Section):
    """A price list of your own. It goes before the one that the package carries."""

    currency: Currency | None = None
    """Of every price in this file; the configuration's `prices.currency`."""
    exchange_rates: dict[Currency, Amount] = Field(default_factory=dict)
    """How much of `currency` one unit of another one is: `{USD: "0.92"}` for the carried list."""
    hosts: dict[Name, Word] = Field(default_factory=dict)
    """Provider name → whose prices of the carried list it bills, or `none`. Absent: found by its address."""
    estimate: RateSettings | None = None
    """What a model of unknown price is taken to cost at most, where `prices.unpriced` is `estimate`."""
    prices: Annotated[tuple[PriceEntry, ...], Field(max_length=10_000)] = ()

    def own(self, currency: str) -> OwnList:
        """The book's own form."""
        return OwnList(
            currency=currency,
            exchange_rates=self.exchange_rates,
            hosts=self.hosts,
            estimate=RateRow(**self.estimate.rates()) if self.estimate is not None else None,
            prices=tuple(entry.row() for entry in self.prices),
        )


def read_prices(file: FilePath, currency: str | None = None) -> tuple[OwnList, tuple[str, ...]]:
    """The list, and what looks like a slip in it. `currency` is the one that it must be in. Raises ConfigError."""
    return parse_prices(read_file(file), str(file), currency)


def with_prices(own: OwnList | None, stored: Sequence[Mapping[str, Any]], currency: str) -> OwnList:
    """The list with the control plane's prices. Raises ConfigError where two are about the same."""
    rows = tuple(PriceEntry.model_validate(entry).row() for entry in stored)
    first = own if own is not None else PriceList().own(currency)
    found = structs.replace(first, prices=(*first.prices, *rows))
    if same := next(overlaps(found.prices), None):
        what = "two prices are about the same model, deployment or provider, from the same day on"
        raise ConfigError([Fault(STORED, None, f"prices[{same[1]}]", what)])
    return found


def parse_prices(document: Document, source: str, currency: str | None = None) -> tuple[OwnList, tuple[str, ...]]:
    """The same for a document that is read already."""

    def place(path: Path) -> tuple[str, int | None]:
        for length in range(len(path), -1, -1):
            if path[:length] in document.lines:
                return source, document.lines[path[:length]]
        return source, 1

    explainer = Explainer(document.data, place)
    try:
        given = PriceList.model_validate(document.data)
    except ValidationError as exc:
        told = {fault.key for fault in document.faults}
        found = [fault for _, fault in explainer.explain(exc, PriceList) if fault.key not in told]
        raise ConfigError(in_order([*document.faults, *found])) from None
    faults = [*document.faults, *(explainer.fault(path, what) for path, what in findings(given, currency))]
    if faults:
        raise ConfigError(in_order(faults))
    own = given.own(given.currency or currency or "USD")
    slips = (f"{explainer.fault(('prices', index), what)}" for index, what in dict.fromkeys(doubts(own.prices)))
    return own, tuple(slips)


def findings(given: PriceList, currency: str | None) -> Iterator[tuple[Path, str]]:
    """What no single value shows."""
    if currency is not None and given.currency is not None and given.currency != currency:
        yield ("currency",), f"{given.currency} is not the configuration's prices.currency, {currency}"
    known: Mapping[str, object] = read_carried().hosts if given.hosts else {}
    for provider, host in given.hosts.items():
        if host not in known and host != NO_HOST:
            yield ("hosts", provider), f"{shown(host)} is not one of {', '.join([*known, NO_HOST])}"
    own = given.own(currency or "USD")
    for first, second in overlaps(own.prices):
        yield ("prices", second), f"is about the same, from the same day on, as {dotted(('prices', first))}"


def in_order(faults: list[Fault]) -> list[Fault]:
    """As they stand in the file."""
    return sorted(faults, key=lambda fault: fault.line or 0)
