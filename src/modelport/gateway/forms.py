"""Records as forms: calls that differ in a few fields share the rest of their JSON, which is written once."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from modelport.core.usage import TokenUsage, UsageRecord
from modelport.gateway.charge import Priced

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
OPENED: Final = b'{"id":"%b","started_at":%a,"reserved_tokens":%d,"usage":{"input":%d,"output":%d}%b%b,'
CLOSED: Final = (
    b'{"id":"%b","started_at":%a,"reserved_tokens":%d,"usage":%b%b%b,'
    b'"answered_model":%b,"first_event_seconds":%a,"duration_seconds":%a,'
)
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
    if usage.input + usage.output == usage.total:
        return SIMPLE_USAGE % (usage.input, usage.output)
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
