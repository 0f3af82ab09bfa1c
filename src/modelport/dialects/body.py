"""A request body as a JSON object, or a refusal that says what is wrong with it and repeats nothing of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from modelport.core.errors import MalformedBody

JSON_DEPTH = 64
"""How deep a body may be nested when nothing else is said."""

JSON_DEPTH_MAXIMUM = 500
"""However deep it is allowed to be: what is deeper cannot safely be read or written again."""

JSON_CONTAINERS = 65_536
"""How many objects and lists a body may hold when nothing else is said."""

JSON_CONTAINERS_MAXIMUM = 2**20
"""The most objects and lists that any JSON document may hold, also one of an upstream or for a worker."""

NAMES_PER_CONTAINER = 2
VALUES_PER_CONTAINER = 8
"""How many members and list items a body may hold for each object or list that the limit allows."""

_WINDOW_BYTES = 256 * 1024
_FIRST_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
"""An escape that is the first half of a character, without its second."""

_SQUARE = bytes.maketrans(b"{}", b"[]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_counts(body: bytes, containers: int = JSON_CONTAINERS) -> None:
    """Refuses what `excess` finds. Decoding makes a Python object of each value, so this goes before any decoding."""
    if len(body) > containers and (found := excess(body, containers)) is not None:
        raise MalformedBody(f"The request body holds more than {found}.")


def excess(body: bytes, containers: int) -> str | None:
    """What a body holds too much of: more objects and lists than `containers`, or more names or values than fit those.

    A body that is too short to hold so many costs nothing, a long text a search for the marks, and only a body with
    many marks is read piece by piece."""
    names, values = containers * NAMES_PER_CONTAINER, containers * VALUES_PER_CONTAINER
    if len(body) <= containers or all(_count(body, mark) <= containers // 2 for mark in (b"[", b"{", b":", b",")):
        return None
    found = [0, 0, 0]
    for piece in _outside_strings(body, b"[{:,"):
        found[0] += piece.count(b"[") + piece.count(b"{")
        found[1] += piece.count(b":")
        found[2] += piece.count(b",")
        if found[0] > containers:
            return f"{containers} objects and lists"
        if found[1] > names:
            return f"{names} names"
        if found[2] > values:
            return f"{values} values"
    return None


def holds_more(document: bytes, containers: int) -> bool:
    """Whether a JSON document has more objects and lists than `containers`, whatever else it holds."""
    if len(document) <= containers or all(_count(document, mark) <= containers // 2 for mark in (b"[", b"{")):
        return False
    count = 0
    return any((count := count + len(piece)) > containers for piece in _outside_strings(document, b"[{"))


def _count(body: bytes, mark: bytes) -> int:
    """How often the byte occurs, inside of strings or not. This leaps from one to the next; `bytes.count` looks at each
    byte between them."""
    return len(body) - len(body.replace(mark, b""))


def _outside_strings(body: bytes, marks: bytes) -> Iterator[bytes]:
    """The `marks` that stand outside of strings, in order, piece by piece of the body."""
    others = bytes(byte for byte in range(256) if byte not in marks + b'"')
    at, is_inside = 0, 0
    while at < len(body):
        piece = body[at : at + _WINDOW_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = body[at : at + _WINDOW_BYTES + 1]  # an escape is not cut in two
        at += len(piece)
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        # Two quotes without a mark between them leave what follows inside, or outside, as it was.
        parts = piece.translate(None, others).replace(b'""', b"").split(b'"')
        yield b"".join(parts[is_inside::2])
        is_inside = (is_inside + len(parts) - 1) % 2


def check_depth(body: bytes, limit: int) -> None:
    """Refuses what is nested deeper than `limit`, without recursion, at a cost bounded by limit × length.

    A typed decode that keeps no free-form JSON needs no such look: what it skips is skipped safely at any depth."""
    limit = min(limit, JSON_DEPTH_MAXIMUM)
    if len(body) * 2 - len(body.replace(b"{", b"")) - len(body.replace(b"[", b"")) <= limit:  # as `_count` does
        return
    brackets = b"".join(_outside_strings(body, b"[]{}")).translate(_SQUARE)
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
        raise MalformedBody(f"The request body is not valid JSON: {_reason(fault, body)}.") from None
    if not isinstance(fields, dict):
        raise MalformedBody("The request body must be a JSON object.")
    return fields


def _reason(fault: msgspec.DecodeError, body: bytes) -> str:
    # The decoder takes a first half alone for the end of the body. An escaped backslash begins no escape.
    is_truncated = "truncated" in str(fault) and _FIRST_HALF.search(body.replace(b"\\\\", b"")) is not None
    if is_truncated or "surrogate" in str(fault):
        return "an escape is half of a surrogate pair; a text was cut inside a character"
    reason = str(fault).removeprefix("JSON is malformed: ").rstrip(".")
    return reason[:1].lower() + reason[1:]
