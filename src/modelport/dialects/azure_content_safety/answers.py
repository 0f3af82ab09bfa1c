"""The answer of `text:analyze`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from modelport.core.safety import Category, Severity
from modelport.dialects.azure_content_safety.requests import WIRE_NAMES


class BlocklistMatch(Struct, frozen=True, rename="camel"):
    """An entry that was found."""

    blocklist_name: str
    blocklist_item_id: str
    blocklist_item_text: str


def encode(matches: Sequence[BlocklistMatch], severities: Mapping[Category, Severity]) -> bytes:
    """Our severities are values of both of Azure's scales."""
    analysis = [
        {"category": name, "severity": severities[category]}
        for name, category in WIRE_NAMES.items()
        if category in severities
    ]
    return msgspec.json.encode({"blocklistsMatch": matches, "categoriesAnalysis": analysis})
