"""What the stages of every call use. One per process; it holds no state of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from msgspec import Struct

from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock
from modelport.core.ports.filters import ContentFilter
from modelport.core.ports.money import Budgets
from modelport.core.ports.providers import OpeningProvider, Provider, Readiness, Runtime
from modelport.core.ports.quota import Quota
from modelport.core.ports.records import Journal, Observer
from modelport.core.ports.stages import Authenticator
from modelport.core.redaction import Redactor
from modelport.gateway import guard
from modelport.gateway.admissions import Admissions
from modelport.gateway.plan import Callers
from modelport.gateway.target_failures import TargetFailures


class Asked(Struct, frozen=True):
    """A provider as the machine asks it: by one of the first two."""

    codec: Provider | None
    maker: OpeningProvider | None
    readiness: Readiness | None


class Pipeline:
    """The parts, found once."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot],
        runtime: Runtime,
        authenticators: Sequence[Authenticator],
        quota: Quota,
        journal: Journal,
        observer: Observer,
        clock: Clock,
        random: Random,
        budgets: Budgets | None = None,
        redactor: Redactor | None = None,
        filters: Mapping[str, ContentFilter] | None = None,
    ) -> None:
        """`filters`: by the name of their policy."""
        self.snapshot = snapshot
        self.runtime = runtime
        self.authenticators = authenticators
        self.quota = Admissions.over(quota, clock)
        self.quota.budgets = budgets if budgets is not None else self.quota.budgets
        self.journal = journal
        self.observer = observer
        self.clock = clock
        self.random = random
        self.filters: Mapping[str, ContentFilter] = {}
        self._policies: tuple[str, ...] = ()
        """The names of those that are current."""
        self.take_filters(filters or {})
        self.target_failures = TargetFailures(redactor or Redactor(), clock)
        self.callers = Callers()
        self._asked: dict[int, tuple[object, Asked]] = {}

    def take_filters(self, filters: Mapping[str, ContentFilter]) -> None:
        """From now on these judge; `filters`: by the name of their policy. Those of the time before are kept until the
        next change, for the calls that have begun under them."""
        before = {name: self.filters[name] for name in self._policies}
        self._policies = tuple(filters)
        filtering = {name: guard.NO_FILTER if found == ContentFilter() else found for name, found in filters.items()}
        self.filters = {**before, **filtering, guard.NEUTRAL: guard.NO_FILTER}

    def asked(self, name: str, runtime: Runtime | None = None) -> Asked:
        """How the provider of this name is asked; `runtime`: the one that a call has begun with."""
        provider = (runtime or self.runtime).provider(name)
        known = self._asked.get(id(provider))
        if known is not None and known[0] is provider:
            return known[1]
        if len(self._asked) >= 1024:
            self._asked.clear()
        readiness = provider if isinstance(provider, Readiness) else None
        if isinstance(provider, Provider):
            asked = Asked(codec=provider, maker=None, readiness=readiness)
        else:
            asked = Asked(codec=None, maker=provider, readiness=readiness)
        self._asked[id(provider)] = (provider, asked)
        return asked
