"""Where URLs lead."""

from __future__ import annotations

from msgspec import Struct

from modelport.dialects.reasoning import ReasoningPlace
from modelport.surfaces.door import Door, Inference, Parameters


class Way(Struct, frozen=True):
    """Where a URL leads. The same URL comes again and again, so it is looked up once."""

    url: bytes
    path: str
    query: dict[str, str]
    parameters: Parameters
    door: Door
    inference: Inference
    reasoning: ReasoningPlace
    has_odd_version: bool = False
    """Its api-version is none, or one is missing that must be there."""
