"""Records as forms: calls that differ in a few fields share the rest of their JSON, which is written once."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from modelport.core.catalog import Target
from modelport.core.pricing import plain
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.charge import Charge, Priced

VARIABLE: Final = frozenset(
    {
        "id",
        "started_at",
        "usage",
        "reserved_tokens",
        "client_request_id",
        "cost",
        "currency",
        "price_version",
        "pricing",
        "answered_model",
        "first_event_seconds",
        "duration_seconds",
    }
)
"""What differs between the calls that share a form."""
OPENED: Final = b'{"id":"%b","started_at":%b,"reserved_tokens":%d,"usage":{"input":%d,"output":%d}%b%b,'
CLOSED: Final = (
    b'{"id":"%b","started_at":%b,"reserved_tokens":%d,"usage":%b%b%b,'
    b'"answered_model":%b,"first_event_seconds":%b,"duration_seconds":%b,'
)
MARK: Final = Decimal(7_100_000_000_000_001)
"""Stands for the amount."""
SIMPLE_USAGE: Final = b'{"input":%d,"output":%d}'

encoded: Final = msgspec.json.Encoder().encode


class Forms(Struct, frozen=True):
    """The two lines of a call, to be filled in with `%`."""

    opened: bytes
    """(id, started_at, reserved_tokens, prompt, completion, client_request_id field, price fields)"""
    closed: bytes
    """(id, started_at, reserved_tokens, usage, client_request_id field, price fields, answered_model, first_event,
    duration)"""


def forms(opened: UsageRecord, closed: UsageRecord) -> Forms:
    """From one record of each, whose variable fields do not matter."""
    return Forms(OPENED + fixed(opened), CLOSED + fixed(closed))


def fixed(record: UsageRecord) -> bytes:
    """The other fields' part of the form, to the closing brace. What is as it is by default is left out."""
    kept = {}
    for field in msgspec.structs.fields(UsageRecord):
        value = getattr(record, field.name)
        if field.name not in VARIABLE and (field.required or value != field.default):
            kept[field.name] = value
    return encoded(kept)[1:].replace(b"%", b"%%")


def usage_json(usage: TokenUsage) -> bytes:
    """The classes that are not zero."""
    return encoded({name: count for name, count in zip(usage.__struct_fields__, usage.classes(), strict=True) if count})


def client_json(client_request_id: str | None) -> bytes:
    """The field with the comma before it, if there is one."""
    return b"" if client_request_id is None else b',"client_request_id":' + encoded(client_request_id)


def price_json(priced: Priced) -> bytes:
    """The fields of money, each with the comma before it."""
    said = {
        "cost": priced.cost,
        "currency": priced.currency,
        "price_version": priced.version,
        "pricing": priced.pricing,
    }
    return b"," + encoded({name: value for name, value in said.items() if value is not None})[1:-1]


class PriceForms:
    """The fields of money for calls of one deployment on one day, with nothing special about them."""

    __slots__ = ("_charge", "_forms", "day", "unpriced")

    def __init__(self, charge: Charge, day: float) -> None:
        self.day = day
        """The day whose prices these are, counted from the epoch."""
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
            said = price_json(replace(priced, amount=MARK)).replace(b"%", b"%%")
            form = self._forms[priced.pricing] = said.replace(plain(MARK).encode(), b"%b")
        return form % plain(amount).encode()
