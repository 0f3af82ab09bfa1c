"""A call that the server makes itself, for a content filter: a caller of its own, never filtered again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from functools import partial
from typing import Final

from modelport.core.identity import Identified, Principal
from modelport.core.ports.filters import ContentFilter
from modelport.core.roles import Grant, Role
from modelport.gateway import guard
from modelport.gateway.call import Arrival, Reply, Shell
from modelport.gateway.gateway import Gateway
from modelport.gateway.machine import CallMachine

FILTERING: Final = Principal(name="content-filter", key_id=None, grants=(Grant(Role.INFERENCE_USER),))
"""Whose calls they are, in records and metrics."""


class NoFilters(Mapping[str, ContentFilter]):
    """Every policy lets everything pass."""

    def __getitem__(self, policy: str) -> ContentFilter:
        return guard.NO_FILTER

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class InternalCall(CallMachine):
    """Needs no credential. It runs while the server drains, too: calls that still run wait for it."""

    __slots__ = ()

    def __init__(self, gateway: Gateway, shell: Shell, reply: Reply, arrival: Arrival) -> None:
        super().__init__(gateway, shell, reply, arrival)
        self._pipeline = copy(gateway.pipeline)
        self._pipeline.filters = NoFilters()

    def begin(self) -> None:
        """As CallMachine's, with a caller that is known."""
        pipeline = self._pipeline
        self._started_at = pipeline.clock.now()
        head = self._arrival.head()
        self.guarded(partial(self._identified, head, pipeline.snapshot(), pipeline.runtime, Identified(FILTERING)))
