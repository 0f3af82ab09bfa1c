"""Embeddings in each `encoding_format`.

`float` and `base64` are exact, and `float` is as the host has written it. The others follow Cohere's convention for
shapes and ranges, from the one vector alone: `int8` scales it so that its largest component is ±127 (directions, and
so cosine similarity, survive; lengths do not), `uint8` is `int8` + 128. `ubinary` keeps the signs, one bit a
dimension (1 for > 0), eight to a byte, the first dimension in the highest bit; `binary` is `ubinary` − 128.
"""

from __future__ import annotations

import binascii
import sys
from array import array
from struct import pack
from typing import Any, Final

import msgspec

from modelport.core.events import NumberList, Vector
from modelport.core.requests import EncodingFormat

_WHITE: Final = b" \t\r\n"
_KIND_OF: Final = dict(zip(b"0123456789 \t\r\neE-[],.+", b"0000000000    ee-.....", strict=True))
_KINDS: Final = bytes(_KIND_OF.get(one, ord("x")) for one in range(256))
"""Of each character of a list of numbers: `0` for a digit, `e` for an exponent, a space for white space; `x` for what
none has."""
_MAY_OVERFLOW: Final = b"0" * 39
_numbers: Final = msgspec.json.Decoder(list[float])


def number_list(json: bytes) -> NumberList | None:
    """A JSON value as the vector that it writes, where one can tell without reading the numbers."""
    if not json.startswith(b"[") or json.find(b"[", 1) > 0:
        return None
    kinds = json.translate(_KINDS)
    if b"0" not in kinds or b"x" in kinds or _MAY_OVERFLOW in kinds or _has_large_exponent(kinds):
        return None
    return NumberList(json.translate(None, _WHITE) if b" " in kinds else json)


def dimensions(vector: Vector) -> int:
    """How many numbers it has."""
    return vector.json.count(b",") + 1 if isinstance(vector, NumberList) else len(vector) // 4


def _has_large_exponent(kinds: bytes) -> bool:
    """Whether an exponent is not negative."""
    at = kinds.find(b"e")
    while at >= 0:
        if kinds[at + 1 : at + 2] != b"-":
            return True
        at = kinds.find(b"e", at + 1)
    return False


def encode_vector(vector: Vector, encoding_format: EncodingFormat) -> Any:
    """What stands in the answer for this vector: a list of numbers, or a string."""
    if isinstance(vector, NumberList):
        if encoding_format == "float":
            return msgspec.Raw(vector.json)
        numbers = _numbers.decode(vector.json)
        vector = pack(f"<{len(numbers)}f", *numbers)
    if encoding_format == "base64":
        return binascii.b2a_base64(vector, newline=False).decode("ascii")
    components = array("f", vector)
    if sys.byteorder == "big":
        components.byteswap()
    match encoding_format:
        case "float":
            return components.tolist()
        case "int8":
            return _scaled(components)
        case "uint8":
            return [component + 128 for component in _scaled(components)]
        case "ubinary":
            return list(_signs(components))
        case "binary":
            return [byte - 128 for byte in _signs(components)]


def _scaled(components: array[float]) -> list[int]:
    largest = max(map(abs, components), default=0.0)
    if largest == 0.0:
        return [0] * len(components)
    return [round(component / largest * 127) for component in components]


def _signs(components: array[float]) -> bytes:
    bits = "".join("1" if component > 0 else "0" for component in components)
    bits += "0" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")
