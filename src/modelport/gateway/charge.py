"""What one call costs, and at most can cost: the prices in force at its start, for the places that may answer it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot, Target
from modelport.core.content import AudioPart, AudioUrlPart
from modelport.core.ports.money import PriceBook
from modelport.core.pricing import NONE, Price, ServiceTier, plain
from modelport.core.requests import ChatRequest, Request
from modelport.core.usage import Ending, Pricing, TokenUsage, UsageSource

USUAL: Final = frozenset({"auto", "default", "standard", "on_demand"})
TIERS: Final[Mapping[str, ServiceTier]] = {
    **dict.fromkeys(USUAL, "standard"),
    "batch": "batch",
    "flex": "flex",
    "priority": "priority",
}
"""What the words of `service_tier` are charged as, in a request and in an answer; another one is charged as standard,
as an estimate."""
NO_WORD: Final = "unknown"
WORD_CHARACTERS: Final = 64


class Priced(Struct, frozen=True):
    """What a record says of money."""

    pricing: str = Pricing.UNPRICED
    amount: Decimal | None = None
    currency: str | None = None
    version: str | None = None
    service_tier: str | None = None
    """The word that decided, if it was not a usual one."""

    @property
    def cost(self) -> str | None:
        """Every digit."""
        return None if self.amount is None else plain(self.amount)

    @property
    def fields(self) -> dict[str, str | None]:
        """Those of a record."""
        return {
            "cost": self.cost,
            "currency": self.currency,
            "price_version": self.version,
            "pricing": self.pricing,
            "service_tier": self.service_tier,
        }


NOT_PRICED: Final = Priced()
SOUNDS: Final = (AudioPart, AudioUrlPart)


class Charge:
    """The prices of one call. Without a price book everything is unpriced."""

    __slots__ = ("_asked", "_book", "_deployment", "_hears", "_is_batch", "_speaks", "_started_at")

    def __init__(self, snapshot: Snapshot, deployment: Deployment, request: Request, started_at: float) -> None:
        self._book: PriceBook | None = snapshot.prices
        self._deployment = deployment
        self._started_at = started_at
        asked = request.extra.get("service_tier")
        self._asked = asked if asked is None or isinstance(asked, str) else NO_WORD
        self._is_batch = deployment.sku.is_batch
        self._hears = isinstance(request, ChatRequest) and has_sound(request)
        self._speaks = isinstance(request, ChatRequest) and "audio" in (request.modalities or ())

    @property
    def is_unpriced(self) -> bool:
        """Whether nobody can say what any call of this kind costs."""
        book, targets = self._book, self._deployment.targets
        return book is None or all(
            book.price(self._deployment, target, self._started_at, self._tier(self._asked)[0]) is None
            for target in targets
        )

    @property
    def denies_unpriced(self) -> bool:
        """Whether a budget of money refuses what has no price. It does too where nothing at all has one."""
        return self._book is None or self._book.unpriced == "deny"

    def of(
        self,
        usage: TokenUsage,
        source: str,
        ending: str,
        target: Target | None,
        duration_seconds: float,
        said: str | None = None,
    ) -> Priced:
        """What the call has cost: what its target charges for what was made, in the tier that it has `said` it used."""
        book = self._book
        if book is None:
            return NOT_PRICED
        if not usage.total and ending != Ending.COMPLETED:
            return nothing_made(book)
        word = self._asked if said is None else said
        tier, is_stated = self._tier(word)
        shown = None if word is None or word in USUAL else word[:WORD_CHARACTERS]
        place = target or self._deployment.targets[0]
        price = book.price(self._deployment, place, self._started_at, tier)
        if price is None and tier == "flex":  # it is never dearer
            price, is_stated = book.price(self._deployment, place, self._started_at, "standard"), False
        amount = price.total(usage, milliseconds=round(duration_seconds * 1000)) if price is not None else None
        if price is None or amount is None:
            return Priced(Pricing.UNPRICED, version=book.version, service_tier=shown)
        if price.is_estimate or not is_stated or (source != UsageSource.REPORTED and price.per_hour is None):
            pricing = Pricing.ESTIMATED
        else:
            pricing = Pricing.PRICED if amount else Pricing.FREE
        return Priced(pricing, amount, book.currency, book.version, shown)

    def _tier(self, word: str | None) -> tuple[ServiceTier, bool]:
        """What is charged, and whether that is known."""
        if self._is_batch:
            return "batch", True
        tier: ServiceTier | None = "standard" if word is None else TIERS.get(word)
        return tier or "standard", tier is not None

    def bound(self, prompt: int, completion: int) -> Priced:
        """The most that it can cost with so many tokens, whichever target answers. Unpriced if one has no price."""
        book = self._book
        if book is None:
            return NOT_PRICED
        tier, _ = self._tier(self._asked)
        if tier == "flex":  # the target may decide otherwise
            tier = "standard"
        dearest = NONE
        for target in self._deployment.targets:
            price = book.price(self._deployment, target, self._started_at, tier)
            amount = self._bound(price, prompt, completion) if price is not None else None
            if amount is None:
                return Priced(Pricing.UNPRICED, version=book.version)
            dearest = max(dearest, amount)
        return Priced(Pricing.ESTIMATED, dearest, book.currency, book.version)

    def _bound(self, price: Price, prompt: int, completion: int) -> Decimal | None:
        longest = round(self._deployment.timeouts.whole * 1000)
        return price.bound(prompt, completion, hears=self._hears, speaks=self._speaks, milliseconds=longest)


def nothing_made(book: PriceBook | None) -> Priced:
    """What a call costs that came to nothing: nothing, and that is known."""
    return NOT_PRICED if book is None else Priced(Pricing.FREE, NONE, book.currency, book.version)


def has_sound(request: ChatRequest) -> bool:
    """Whether the model has to listen."""
    for message in request.messages:
        if type(message.content) is tuple and any(isinstance(part, SOUNDS) for part in message.content):
            return True
    return False
