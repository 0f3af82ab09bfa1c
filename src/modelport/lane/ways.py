"""Where URLs lead and how deployments are asked: what the lane knows, apart from the lane itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.ports.providers import Provider, Readiness
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


class Asked(Struct, frozen=True):
    """A provider as the lane asks it."""

    provider: Provider
    readiness: Readiness | None


def asked_by(provider: Provider) -> Asked:
    """The same of a provider that can be asked from the lane."""
    return Asked(provider, provider if isinstance(provider, Readiness) else None)


Plan = dict[str, Asked]
"""By the name of the provider; all that a deployment's targets need."""


class Ground(Protocol):
    """What standings are made from: lane.lane.Lane."""

    pipeline: Pipeline
    options: Options
    region: bytes

    def plan(self, deployment: Deployment, snapshot: Snapshot) -> Plan | None:
        """How this deployment is asked; None: not from here, or not now."""
        ...
