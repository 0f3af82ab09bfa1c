"""The price book: which price holds for a deployment's target on a day. The operator's own list comes first, then the
list that the package carries, for the host that the provider bills as. What neither knows has no price.

Nothing is ever fetched. A list is plain data, read elsewhere; this module finds prices in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from modelport.core.catalog import Deployment, Target
from modelport.core.pricing import EXACT, NONE, Price, Rates, ServiceTier, Tier, UnpricedPolicy

DAY_SECONDS: Final = 86_400
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
AZURE: Final = "azure"
DATA_ZONE: Final = "azure-datazone"
NO_HOST: Final = "none"
DATED_VERSION: Final = re.compile(r"\d{4}|\d{4}-\d{2}-\d{2}|\d{8}")
"""Versions that publishers put behind a model's name: `0613`, `2411`, `2024-11-20`. A mere `1` would find `gpt-5-1`."""
CLASSES: Final = (
    "input",
    "cached_input",
    "cache_write",
    "output",
    "reasoning",
    "audio_input",
    "audio_output",
    "image",
)
PAID_BY_THE_HOUR: Final = Rates(**dict.fromkeys(CLASSES, NONE))
UNKNOWN_MODEL: Final = Rates(
    input=Decimal(30),
    cache_write=Decimal("37.5"),
    output=Decimal(180),
    audio_input=Decimal(100),
    audio_output=Decimal(200),
)
"""What an unknown model is taken to cost at most, where the operator lets it be estimated and names no other figure:
the dearest chat models of the list that the package carries."""


class RateRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Money for a million tokens, and for a request."""

    input: Decimal | None = None
    cached_input: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None
    image: Decimal | None = None
    cache_write: Decimal | None = None
    request: Decimal | None = None

    def rates(self, exchange: Decimal | None = None) -> Rates:
        """In another currency if there is a rate for it."""
        given = {name: getattr(self, name) for name in (*CLASSES, "request")}
        if exchange is not None:
            given = {name: None if value is None else EXACT.multiply(value, exchange) for name, value in given.items()}
        return Rates(**given)


class TierRow(RateRow, frozen=True, kw_only=True, omit_defaults=True):
    """The same for prompts of more than `above` tokens."""

    above: int


class PriceRow(RateRow, frozen=True, kw_only=True, omit_defaults=True, rename={"valid_from": "from", "valid_to": "to"}):
    """One line of a price list. `valid_to` is the first day on which it holds no longer."""

    tiers: tuple[TierRow, ...] = ()
    per_hour: Decimal | None = None
    places: int = 1
    service_tier: ServiceTier = "standard"
    valid_from: date | None = None
    valid_to: date | None = None
    source: str = ""

    def holds_on(self, day: date) -> bool:
        """Whether this day is one of its."""
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)

    def price(self, currency: str, exchange: Decimal | None = None, *, is_estimate: bool = False) -> Price:
        """In `currency`, of which the exchange rate makes it."""
        tiers = sorted(self.tiers, key=lambda tier: tier.above)
        hour = self.per_hour
        return Price(
            currency=currency,
            rates=self.rates(exchange),
            tiers=tuple(Tier(tier.above, tier.rates(exchange)) for tier in tiers),
            per_hour=hour if hour is None or exchange is None else EXACT.multiply(hour, exchange),
            places=self.places,
            service_tier=self.service_tier,
            source=self.source,
            is_estimate=is_estimate,
        )


class OwnRow(PriceRow, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the operator's list: what it says of where it holds must all be so."""

    model: str | None = None
    format: str | None = None
    version: str | None = None
    provider: str | None = None
    deployment: str | None = None

    def fit(self, deployment: Deployment, target: Target) -> int | None:
        """How closely it is about this; None: it is not."""
        about = (
            (self.deployment, (deployment.name,), 16),
            (self.provider, (target.provider,), 8),
            (self.model, (deployment.model.name, target.model), 4),
            (self.version, (deployment.model.version,), 2),
            (self.format, (deployment.model.format,), 1),
        )
        found = 0
        for said, names, weight in about:
            if said is None:
                continue
            if said.lower() not in {name.lower() for name in names}:
                return None
            found += weight
        return found


class OwnList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The operator's list, in the book's currency. `exchange_rates`: how much of it one unit of another currency is."""

    currency: str = "USD"
    exchange_rates: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    hosts: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Provider name → whose prices it bills: a host of the carried list, or `none`."""
    estimate: RateRow | None = None
    prices: tuple[OwnRow, ...] = ()


class HostRows(Struct, frozen=True):
    """One host's prices, by lower-case model name, and the domains that it answers at."""

    domains: tuple[str, ...]
    models: Mapping[str, tuple[PriceRow, ...]]


class CarriedSource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where figures of the carried list come from."""

    name: str
    version: str
    licence: str
    address: str
    taken: date
    file: str | None = None
    written: date | None = None


class CarriedList(Struct, frozen=True, kw_only=True):
    """The list that the package carries (scripts/build_prices.py)."""

    made: date
    currency: str
    unit: Literal["1000000 tokens"]
    sources: tuple[CarriedSource, ...]
    hosts: Mapping[str, HostRows]
    digest: str = ""

    def host_of(self, address: str) -> str | None:
        """The host that answers at this URL, if it is one of the list's."""
        domain = (urlsplit(address).hostname or "").lower()
        for name, host in self.hosts.items():
            if any(domain == known or domain.endswith(f".{known}") for known in host.domains):
                return name
        return None


CARRIED_DECODER: Final = msgspec.json.Decoder(CarriedList)


def carried_list(raw: bytes) -> CarriedList:
    """Reads prices_data/prices.json."""
    return msgspec.structs.replace(CARRIED_DECODER.decode(raw), digest=sha256(raw).hexdigest())


class Book:
    """core.pricing.PriceBook over both lists. What it has found for a day it remembers for that day."""

    def __init__(
        self,
        carried: CarriedList | None = None,
        own: OwnList | None = None,
        *,
        currency: str = "USD",
        unpriced: UnpricedPolicy = "allow",
        addresses: Mapping[str, str] | None = None,
        run_here: Collection[str] = (),
    ) -> None:
        """`run_here`: providers whose workers are ours; their hours are metered, so their calls cost nothing beside."""
        self._carried = carried
        self._own = own if own is not None else OwnList(currency=currency)
        self.currency = currency
        self.unpriced: UnpricedPolicy = unpriced
        self._hosts = {**self._known_hosts(addresses or {}), **self._own.hosts}
        self._run_here = frozenset(run_here)
        self.version = self._digest()
        self._day = -1
        self._found: dict[tuple[str, str, str, str], Price | None] = {}

    def price(
        self, deployment: Deployment, target: Target, started_at: float, tier: ServiceTier = "standard"
    ) -> Price | None:
        """The price that holds for a call which starts at this moment."""
        day = int(started_at // DAY_SECONDS)
        if day != self._day:
            self._day, self._found = day, {}
        key = (deployment.name, target.provider, target.model, tier)
        try:
            return self._found[key]
        except KeyError:
            price = self.find(deployment, target, date.fromordinal(EPOCH_ORDINAL + day), tier)
            if price is not None and price.per_hour is not None and target.provider in self._run_here:
                price = Price(currency=price.currency, rates=PAID_BY_THE_HOUR, source=price.source)
            self._found[key] = price
            return price

    def worker_hour(self, deployment: Deployment, target: Target, started_at: float) -> Price | None:
        """What an hour of the worker behind this target costs, all its places together; None: it has no such price."""
        tier: ServiceTier = "batch" if deployment.sku.is_batch else "standard"
        day = date.fromordinal(EPOCH_ORDINAL + int(started_at // DAY_SECONDS))
        price = self.find(deployment, target, day, tier)
        return replace(price, places=1) if price is not None and price.per_hour is not None else None

    @property
    def has_hours(self) -> bool:
        """Whether anything is priced by the hour."""
        return any(row.per_hour is not None for row in self._own.prices)

    def find(self, deployment: Deployment, target: Target, day: date, tier: ServiceTier = "standard") -> Price | None:
        """The same for any day, without remembering."""
        found = self._own_price(deployment, target, day, tier) or self._carried_price(deployment, target, day, tier)
        if found is None and self.unpriced == "estimate":
            given = self._own.estimate
            rates = UNKNOWN_MODEL if given is None else given.rates()
            return Price(currency=self.currency, rates=rates, source="upper estimate", is_estimate=True)
        return found

    def host(self, provider: str) -> str | None:
        """Whose prices of the carried list hold for this provider."""
        host = self._hosts.get(provider)
        return None if host == NO_HOST else host

    def _own_price(self, deployment: Deployment, target: Target, day: date, tier: ServiceTier) -> Price | None:
        best: tuple[int, date, OwnRow] | None = None
        for row in self._own.prices:
            if row.service_tier != tier or not row.holds_on(day):
                continue
            fit = row.fit(deployment, target)
            if fit is None:
                continue
            since = row.valid_from or date.min
            if best is None or (fit, since) > best[:2]:
                best = (fit, since, row)
        return best[2].price(self.currency) if best is not None else None

    def _carried_price(self, deployment: Deployment, target: Target, day: date, tier: ServiceTier) -> Price | None:
        host = self.host(target.provider)
        if self._carried is None or host is None:
            return None
        exchange = None
        if self._carried.currency != self.currency:
            exchange = self._own.exchange_rates.get(self._carried.currency)
            if exchange is None:
                return None
        for rows in self._candidates(host, deployment, target):
            holding = [row for row in rows if row.service_tier == tier and row.holds_on(day)]
            if holding:
                return holding[-1].price(self.currency, exchange)
        return None

    def _candidates(self, host: str, deployment: Deployment, target: Target) -> Iterator[Sequence[PriceRow]]:
        """What the host's list says of this model, by its fullest name first. Where upstream names are deployments'
        own, the model's nouns decide; elsewhere the name that is sent decides."""
        assert self._carried is not None
        name, version = deployment.model.name.lower(), deployment.model.version.lower()
        names = [f"{name}-{version}", name] if DATED_VERSION.fullmatch(version) else [name]
        hosts = [host]
        if host == AZURE:
            sku = deployment.sku.name
            if "Provisioned" in sku or "Managed" in sku:
                return  # paid by the hour, whatever the tokens
            if sku.startswith("DataZone"):
                hosts = [DATA_ZONE] if deployment.model.format.lower() == "openai" else [AZURE]
            elif sku == "Standard":
                hosts = [DATA_ZONE, AZURE]
        else:
            names = [target.model.lower().rsplit("/", 1)[-1]] if target.model else names
        for each in hosts:
            models = self._carried.hosts[each].models if each in self._carried.hosts else {}
            for candidate in names:
                if candidate in models:
                    yield models[candidate]
                    break

    def _known_hosts(self, addresses: Mapping[str, str]) -> dict[str, str]:
        if self._carried is None:
            return {}
        found = {provider: self._carried.host_of(address) for provider, address in addresses.items()}
        return {provider: host for provider, host in found.items() if host is not None}

    def _digest(self) -> str:
        said = msgspec.json.encode(
            {
                "carried": self._carried.digest if self._carried is not None else None,
                "own": self._own,
                "currency": self.currency,
                "unpriced": self.unpriced,
                "hosts": self._hosts,
                "run_here": sorted(self._run_here),
            },
            order="deterministic",
        )
        return sha256(said).hexdigest()[:12]


def doubts(rows: Sequence[OwnRow]) -> Iterator[tuple[int, str]]:
    """What looks like a slip in a list, by row: no fault, for there are prices like these."""
    standard = {nouns(row): row for row in rows if row.service_tier == "standard"}
    for index, row in enumerate(rows):
        for rates in (row, *row.tiers):
            if rates.cached_input is not None and rates.input is not None and rates.cached_input > rates.input:
                yield index, "cached input costs more than input that is not cached"
            if rates.cache_write is not None and rates.input is not None and rates.cache_write < rates.input:
                yield index, "writing to the cache costs less than input that is not kept"
        full = standard.get(nouns(row))
        if row.service_tier == "batch" and full is not None:
            for name in ("input", "output"):
                less, whole = getattr(row, name), getattr(full, name)
                if less is not None and whole is not None and less > whole:
                    yield index, f"{name} costs more in a batch than without one"


def overlaps(rows: Sequence[OwnRow]) -> Iterator[tuple[int, int]]:
    """Pairs of rows, by index, that say two things of the same on the same day, from the same day on."""
    first: dict[tuple[object, ...], int] = {}
    for index, row in enumerate(rows):
        other = first.setdefault((*nouns(row), row.service_tier, row.valid_from), index)
        if other != index:
            yield other, index


def nouns(row: OwnRow) -> tuple[str | None, ...]:
    """What a row is about."""
    said = (row.deployment, row.provider, row.model, row.version, row.format)
    return tuple(None if name is None else name.lower() for name in said)
