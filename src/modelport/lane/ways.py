"""Where URLs lead and how deployments are asked: what the lane knows, apart from the lane itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from modelport.dialects.plain_chat import PlainChat
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.pipeline import Pipeline
from modelport.surfaces.door import Door, Inference, Parameters
from modelport.surfaces.options import Options


class Way(Struct, frozen=True):
    """Where a URL leads. The same URL comes again and again, so it is looked up once."""

    url: bytes
    path: str
    query: dict[str, str]
    parameters: Parameters
    door: Door
    inference: Inference
    reasoning: ReasoningPlace
    plain: Callable[[bytes], PlainChat | None] | None
    """Reads the bodies that lane/plain.py takes."""
    has_odd_version: bool = False
    """Its api-version is none, or one is missing that must be there."""


class Ground(Protocol):
    """What standings are made from: lane.lane.Lane."""

    pipeline: Pipeline
    options: Options
    region: bytes
