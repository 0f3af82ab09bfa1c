"""What a lease needs of others."""

from __future__ import annotations

from typing import Protocol

from modelport.core.clock import Clock
from modelport.core.ports.records import Journal, Observer
from modelport.core.usage import TokenUsage, UsageSource
from modelport.gateway.admissions import Admissions


class Parts(Protocol):
    """What a lease is made with; gateway.pipeline.Pipeline has it."""

    quota: Admissions
    journal: Journal
    observer: Observer
    clock: Clock


class Meter(Protocol):
    """Whatever counts a call's tokens; `gateway.count.Count` is one."""

    def usage(self) -> TokenUsage:
        """What was made until now."""
        ...

    @property
    def source(self) -> UsageSource:
        """Where those counts come from."""
        ...
