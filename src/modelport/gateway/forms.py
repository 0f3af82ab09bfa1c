"""Records as forms: calls that differ in a few fields share the rest, which is made and written once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Struct

from modelport.core.catalog import Target
from modelport.core.pricing import plain
from modelport.core.record_forms import RecordForm
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.charge import Charge, Priced

MONEY: Final = ("cost", "currency", "price_version", "pricing")
OPENED: Final = ("id", "started_at", "usage", "reserved_tokens", "client_request_id", *MONEY)
CLOSED: Final = (
    "id",
    "started_at",
    "answered_model",
    "usage",
    "reserved_tokens",
    "first_event_seconds",
    "duration_seconds",
    "client_request_id",
    *MONEY,
)
"""What differs between the calls that share a form."""
OPENED_VALUES: Final = b'["%b",%b,{"input":%d,"output":%d},%d,%b,%b]'
"""Those of an opening: (id, started_at, prompt, completion, reserved_tokens, client_request_id, money). They are JSON,
but for the id and the integers."""
CLOSED_VALUES: Final = b'["%b",%b,%b,{"input":%d,"output":%d},%d,%b,%b,%b,%b]'
"""Those of an end: (id, started_at, answered_model, prompt, completion, reserved_tokens, first_event, duration,
client_request_id, money)."""
CLOSED_BY_CLASS_VALUES: Final = b'["%b",%b,%b,%b,%d,%b,%b,%b,%b]'
"""The same, but for one usage in the place of prompt and completion."""
DAY_SECONDS: Final = 86_400

encoded: Final = msgspec.json.Encoder().encode


class Forms(Struct, frozen=True):
    """The two records of a call."""

    opened: RecordForm
    closed: RecordForm


def forms(opened: UsageRecord, closed: UsageRecord) -> Forms:
    """From one record of each, whose variable fields do not matter."""
    return Forms(form(opened, OPENED), form(closed, CLOSED))


def form(record: UsageRecord, variable: Collection[str]) -> RecordForm:
    """What the records share that differ in these fields alone."""
    names = UsageRecord.__struct_fields__
    row = [None if name in variable else getattr(record, name) for name in names]
    return RecordForm(encoded(row), [index for index, name in enumerate(names) if name in variable])


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
