"""Embeddings in each `encoding_format`, from little-endian float32 bytes.

`float` and `base64` are exact. The others follow Cohere's convention for shapes and ranges, from the one vector alone:
`int8` scales it so that its largest component is ±127 (directions, and so cosine similarity, survive; lengths do not),
`uint8` is `int8` + 128. `ubinary` keeps the signs, one bit a dimension (1 for > 0), eight to a byte, the first
dimension in the highest bit; `binary` is `ubinary` − 128.
"""

from __future__ import annotations

import binascii
import sys
from array import array
from typing import Any

from modelport.core.requests import EncodingFormat


def encode_vector(vector: bytes, encoding_format: EncodingFormat) -> Any:
    """What stands in the answer for this vector: a list of numbers, or a string."""
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
