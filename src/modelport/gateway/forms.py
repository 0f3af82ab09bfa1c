"""Records as forms: calls that differ in a few fields share the rest of their JSON, which is written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from modelport.core.catalog import Target
from modelport.core.pricing import plain
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.charge import Charge, Priced

OPENED: Final = {
    "id": b'"%b"',
    "started_at": b"%b",
    "usage": b'{"input":%d,"output":%d}',
    "reserved_tokens": b"%d",
    "client_request_id": b"%b",
    "cost": b"%b",
}
CLOSED: Final = {
    "id": b'"%b"',
    "started_at": b"%b",
    "answered_model": b"%b",
    "usage": b'{"input":%d,"output":%d}',
    "reserved_tokens": b"%d",
    "first_event_seconds": b"%b",
    "duration_seconds": b"%b",
    "client_request_id": b"%b",
    "cost": b"%b",
}
"""What differs between the calls that share a form."""
WITH_COST: Final = ("currency", "price_version", "pricing")
"""Follow the cost, and come with it."""
DAY_SECONDS: Final = 86_400

encoded: Final = msgspec.json.Encoder().encode


class Forms(Struct, frozen=True):
    """The two records of a call, to be filled in with `%`: the values are JSON, but for the id and the integers."""

    opened: bytes
    """(id, started_at, prompt, completion, reserved_tokens, client_request_id, money)"""
    closed: bytes
    """(id, started_at, answered_model, prompt, completion, reserved_tokens, first_event, duration, client_request_id,
    money)"""
    closed_by_class: bytes
    """The same, but for one usage in the place of prompt and completion."""


def forms(opened: UsageRecord, closed: UsageRecord) -> Forms:
    """From one record of each, whose variable fields do not matter."""
    return Forms(form(opened, OPENED), form(closed, CLOSED), form(closed, {**CLOSED, "usage": b"%b"}))


def form(record: UsageRecord, variable: Mapping[str, bytes]) -> bytes:
    """A core.usage.UsageRow with places in it."""
    values = []
    for name in UsageRecord.__struct_fields__:
        if name in variable:
            values.append(variable[name])
        elif name not in WITH_COST:
            values.append(encoded(getattr(record, name)).replace(b"%", b"%%"))
    return b"[%b]" % b",".join(values)


def price_json(priced: Priced) -> bytes:
    """The fields of money."""
    return encoded((priced.cost, priced.currency, priced.version, priced.pricing))[1:-1]


class PriceForms:
    """The fields of money for calls of one deployment on one day, with nothing special about them."""

    __slots__ = ("_charge", "_forms", "begins", "ends", "unpriced")

    def __init__(self, charge: Charge, day: float) -> None:
        """`day`: counted from the epoch."""
        self.begins = day * DAY_SECONDS
        self.ends = self.begins + DAY_SECONDS
        """In unix seconds: between them a call must start."""
        self._charge = charge
        self._forms: dict[str, bytes] = {}
        self.unpriced: bytes | None = price_json(charge.bound(1, 1)) if charge.is_unpriced else None

    def bound(self, prompt: int, completion: int) -> bytes:
        """As Charge.bound."""
        return self.unpriced or self._filled(self._charge.bound(prompt, completion))

    def of(self, usage: TokenUsage, target: Target, seconds: float) -> bytes:
        """As Charge.of, for a call that has been answered and counted."""
        if self.unpriced is not None:
            return self.unpriced
        return self._filled(self._charge.of(usage, UsageSource.REPORTED, Ending.COMPLETED, target, seconds))

    def _filled(self, priced: Priced) -> bytes:
        amount = priced.amount
        if amount is None:
            return price_json(priced)
        form = self._forms.get(priced.pricing)
        if form is None:
            said = encoded((priced.currency, priced.version, priced.pricing))[1:-1].replace(b"%", b"%%")
            form = self._forms[priced.pricing] = b'"%b",' + said
        return form % plain(amount).encode()
