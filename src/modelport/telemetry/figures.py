"""The metrics of several processes as one text: counters are summed, gauges by what they mean. What a process that has
ended has counted stays in the sums, so that no counter ever goes back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
"""A sample's name and its labels, in their order."""

GROWING: Final = ("counter", "histogram")
GAUGES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "modelport_budget_used_ratio": max,
    "modelport_issuer_failing": max,
    "modelport_journal_failing": max,
    "modelport_journal_file_number": max,
    "modelport_ledger_failing": max,
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""How the values of several processes become one. All other gauges are amounts, and are added."""


class Family(Struct, frozen=True, gc=False):
    """One metric of one process."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[str, dict[str, str], float], ...]


Figures = tuple[Family, ...]


def figures_of(metrics: Iterable[Metric]) -> Figures:
    """What a process tells the others."""
    return tuple(
        Family(m.name, m.type, m.documentation, tuple((s.name, dict(s.labels), float(s.value)) for s in m.samples))
        for m in metrics
    )


def read(body: Any) -> Figures:
    """The figures in a message. Raises msgspec.ValidationError."""
    return msgspec.convert(body, Figures)


class Sum:
    """Figures added up."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._values: dict[str, dict[Series, float]] = {}

    def add(self, figures: Figures, *, growing_only: bool = False) -> None:
        """One more process; of one that has ended, only what it has counted."""
        for family in figures:
            if growing_only and family.kind not in GROWING:
                continue
            self._families.setdefault(family.name, family)
            values = self._values.setdefault(family.name, {})
            combine = GAUGES.get(family.name, plus)
            for name, labels, value in family.samples:
                series = (name, tuple(labels.items()))
                values[series] = combine(values[series], value) if series in values else value

    def figures(self) -> Figures:
        """The sums."""
        return tuple(
            Family(
                family.name,
                family.kind,
                family.text,
                tuple((name, dict(labels), value) for (name, labels), value in self._values[family.name].items()),
            )
            for family in self._families.values()
        )


def plus(one: float, other: float) -> float:
    """Most values are amounts."""
    return one + other


def rendered(figures: Figures) -> bytes:
    """The text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given(figures))
    return generate_latest(registry)


class Given(Collector):
    """Figures, for the registry."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        for family in self._figures:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, labels, value)
            yield metric
