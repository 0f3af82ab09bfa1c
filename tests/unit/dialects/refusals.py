"""What a decoder says of a body: shared by the tests of all dialects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from modelport.core.errors import InvalidParameters

USER = {"role": "user", "content": "hi"}


def body_of(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def chat_body(**fields: Any) -> bytes:
    return body_of({"messages": [USER], **fields})


def offences(decode: Callable[[bytes], Any], body: bytes) -> list[tuple[str, str, Any]]:
    """Type, dotted place and input of each."""
    with pytest.raises(InvalidParameters) as refusal:
        decode(body)
    assert all(isinstance(place, str) for offence in refusal.value.offences for place in offence.loc)
    return [(offence.type, ".".join(offence.loc), offence.input) for offence in refusal.value.offences]
