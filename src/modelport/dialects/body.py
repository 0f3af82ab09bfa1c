"""A request body as a JSON object, or a refusal that says what is wrong with it and repeats nothing of it."""

from __future__ import annotations

from typing import Any

import msgspec

from modelport.core.errors import MalformedBody

JSON_DEPTH = 64
"""How deep a body may be nested when nothing else is said."""

JSON_DEPTH_MAXIMUM = 500
"""However deep it is allowed to be: what is deeper cannot safely be read or written again."""

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SQUARE = bytes.maketrans(b"{}", b"[]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_depth(body: bytes, limit: int) -> None:
    """Refuses what is nested deeper than `limit`, without recursion, at a cost bounded by limit × length.

    A typed decode that keeps no free-form JSON needs no such look: what it skips is skipped safely at any depth."""
    limit = min(limit, JSON_DEPTH_MAXIMUM)
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(body.split(b'"')[::2])
    brackets = outside_strings.translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):  # each turn takes the innermost level away
        shrunk = brackets.replace(b"[]", b"")
        if len(shrunk) == len(brackets):
            break
        brackets = shrunk
    if not brackets:
        return
    if b"[]" not in brackets:
        raise MalformedBody("The request body is not valid JSON: its brackets do not match.")
    raise MalformedBody(f"The request body is nested more than {limit} levels deep.")


def read_object(body: bytes, json_depth: int) -> dict[str, Any]:
    """The body's fields, in the order sent."""
    check_depth(body, json_depth)
    if not body.strip():
        raise MalformedBody("The request body is empty: a JSON object was expected.")
    try:
        fields = msgspec.json.decode(body.removeprefix(_BYTE_ORDER_MARK))
    except UnicodeDecodeError:
        raise MalformedBody("The request body is not valid UTF-8.") from None
    except msgspec.DecodeError as fault:
        raise MalformedBody(f"The request body is not valid JSON: {_reason(fault)}.") from None
    if not isinstance(fields, dict):
        raise MalformedBody("The request body must be a JSON object.")
    return fields


def _reason(fault: msgspec.DecodeError) -> str:
    reason = str(fault).removeprefix("JSON is malformed: ").rstrip(".")
    return reason[:1].lower() + reason[1:]
