"""What the server counts about its calls: plain integers while it serves, Prometheus text when somebody asks.

Labels are bounded: a surface, an operation and a status are ours, a deployment is one that exists. Should deployments
come and go without end, the ones past the limit are counted together as `other`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from modelport.core.usage import TokenUsage, UsageRecord

DURATION_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
FIRST_EVENT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MOST_DEPLOYMENTS: Final = 1000
OTHER: Final = "other"

Source = Callable[[], Iterable[Metric]]
"""Gives metrics at each scrape: what others know about themselves (telemetry/sources.py)."""


class Histogram:
    """Counts of values by upper bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_all(self, ordered: Sequence[float], total: float) -> None:
        """Counts many at once, smallest first, whose sum is `total`."""
        below = 0
        for index, bound in enumerate(self.bounds):
            until = bisect_right(ordered, bound)
            self.counts[index] += until - below
            below = until
        self.counts[-1] += len(ordered) - below
        self.sum += total

    def cumulative(self) -> list[tuple[str, int]]:
        """Prometheus's form: for each bound, how many values are not above it."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class Metrics(Collector):
    """One per process; not for several threads."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self.sources = list(sources)
        self._requests: dict[tuple[str, str, str, int], int] = {}
        self._tokens: dict[str, list[int]] = {}
        self._overdraft: dict[str, int] = {}
        self._findings: dict[tuple[str, str, str, str], int] = {}
        self.in_flight: dict[str, int] = {}
        """Calls under way by operation; fewer by those that a series has ended."""
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._first_events: dict[tuple[str, str], Histogram] = {}
        self._completed: dict[tuple[str, str, str, int], CompletedCalls] = {}
        self._deployments: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def call_ended(self, record: UsageRecord) -> None:
        """Takes up the record of a call that is counted in `in_flight`."""
        operation = record.operation
        deployment = self._bounded(record.deployment or "")
        self.in_flight[operation] = self.in_flight.get(operation, 0) - 1
        label = (record.surface, operation, deployment, record.status)
        self._requests[label] = self._requests.get(label, 0) + 1
        series = (operation, deployment)
        added(self._durations, series, DURATION_SECONDS, record.duration_seconds)
        if record.first_event_seconds is not None:
            added(self._first_events, series, FIRST_EVENT_SECONDS, record.first_event_seconds)
        total = record.usage.total
        if total:
            counts = self._tokens.setdefault(deployment, [0] * len(TOKEN_CLASSES))
            for index, count in enumerate(record.usage.classes()):
                counts[index] += count
        if total > record.reserved_tokens:
            self._overdraft[deployment] = self._overdraft.get(deployment, 0) + total - record.reserved_tokens
        for found in record.content_filter.split() if record.content_filter else ():
            finding = (deployment, *finding_of(found))
            self._findings[finding] = self._findings.get(finding, 0) + 1

    def series(self, surface: str, operation: str, deployment: str) -> CompletedCalls:
        """Where the completed calls of one kind are counted many at once."""
        label = (surface, operation, self._bounded(deployment), 200)
        found = self._completed.get(label)
        if found is None:
            found = self._completed[label] = CompletedCalls(self, label)
        return found

    def completed(self, label: tuple[str, str, str, int], calls: Sequence[CompletedCall]) -> None:
        """As `call_ended` for each of these, but for the calls under way."""
        _, operation, deployment, _ = label
        self._requests[label] = self._requests.get(label, 0) + len(calls)
        seconds, prompts, completions, _ = zip(*calls, strict=True)
        ordered, total = sorted(seconds), sum(seconds)
        for histograms, bounds in ((self._durations, DURATION_SECONDS), (self._first_events, FIRST_EVENT_SECONDS)):
            found = histograms.get((operation, deployment))
            if found is None:
                found = histograms[operation, deployment] = Histogram(bounds)
            found.add_all(ordered, total)
        counts = self._tokens.setdefault(deployment, [0] * len(TOKEN_CLASSES))
        counts[INPUT] += sum(prompts)
        counts[OUTPUT] += sum(completions)
        beyond = [
            used - reserved for _, prompt, completion, reserved in calls if (used := prompt + completion) > reserved
        ]
        if beyond:
            self._overdraft[deployment] = self._overdraft.get(deployment, 0) + sum(beyond)

    def families(self) -> Iterator[Metric]:
        """Everything of this process, the interpreter's own figures included."""
        return iter(self._registry.collect())

    def render(self) -> bytes:
        """The text of one scrape (Prometheus exposition format 0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        in_flight_now = dict(self.in_flight)
        for (_, operation, _, _), completed in self._completed.items():
            completed.count()
            in_flight_now[operation] = in_flight_now.get(operation, 0) + completed.in_flight()
        requests = CounterMetricFamily(
            "modelport_requests", "Calls that ended.", labels=("surface", "operation", "deployment", "status")
        )
        for (surface, operation, deployment, status), count in self._requests.items():
            requests.add_metric((surface, operation, deployment, str(status)), count)
        yield requests
        tokens = CounterMetricFamily("modelport_tokens", "Tokens metered.", labels=("deployment", "class"))
        for deployment, counts in self._tokens.items():
            for name, count in zip(TOKEN_CLASSES, counts, strict=True):
                tokens.add_metric((deployment, name), count)
        yield tokens
        overdraft = CounterMetricFamily(
            "modelport_quota_overdraft_tokens", "Tokens used beyond what was reserved.", labels=("deployment",)
        )
        for deployment, count in self._overdraft.items():
            overdraft.add_metric((deployment,), count)
        yield overdraft
        findings = CounterMetricFamily(
            "modelport_content_filter_findings",
            "Calls in which a content filter found a category; effect is blocked or annotated.",
            labels=("deployment", "source", "category", "effect"),
        )
        for labels, count in self._findings.items():
            findings.add_metric(labels, count)
        yield findings
        in_flight = GaugeMetricFamily("modelport_calls_in_flight", "Calls under way.", labels=("operation",))
        for operation, count in in_flight_now.items():
            in_flight.add_metric((operation,), count)
        yield in_flight
        yield histogram(
            "modelport_request_duration_seconds", "From the caller's being known to the end.", self._durations
        )
        yield histogram(
            "modelport_time_to_first_event_seconds",
            "From the caller's being known to the first event of the answer.",
            self._first_events,
        )
        for source in self.sources:
            yield from source()

    def _bounded(self, deployment: str) -> str:
        if deployment in self._deployments:
            return deployment
        if len(self._deployments) >= MOST_DEPLOYMENTS:
            return OTHER
        self._deployments.add(deployment)
        return deployment


CompletedCall = tuple[float, int, int, int]
"""Seconds, tokens of the prompt, tokens of the answer, tokens that were reserved."""


class CompletedCalls:
    """Calls of one kind that wait to be counted: a scrape counts them, or whoever adds one too many."""

    __slots__ = ("_label", "_metrics", "in_flight", "waiting")

    def __init__(self, metrics: Metrics, label: tuple[str, str, str, int]) -> None:
        self._metrics = metrics
        self._label = label
        self.waiting: list[CompletedCall] = []
        self.in_flight: Callable[[], int] = int
        """How many are under way."""

    def count(self) -> None:
        """Counts all that wait."""
        if self.waiting:
            self._metrics.completed(self._label, self.waiting)
            self.waiting.clear()


TOKEN_CLASSES: Final = TokenUsage.__struct_fields__
INPUT: Final = TOKEN_CLASSES.index("input")
OUTPUT: Final = TOKEN_CLASSES.index("output")


def finding_of(found: str) -> tuple[str, str, str]:
    """Source, category and effect of one finding, as records write it: `prompt.violence=medium!`."""
    source, _, rest = found.partition(".")
    category = rest.removesuffix("!").partition("=")[0]
    return source, category, "blocked" if rest.endswith("!") else "annotated"


def added(
    histograms: dict[tuple[str, str], Histogram], series: tuple[str, str], bounds: Sequence[float], value: float
) -> None:
    """Counts `value` in its series."""
    found = histograms.get(series)
    if found is None:
        found = histograms[series] = Histogram(bounds)
    found.add(value)


def histogram(name: str, text: str, histograms: dict[tuple[str, str], Histogram]) -> HistogramMetricFamily:
    """One family."""
    family = HistogramMetricFamily(name, text, labels=("operation", "deployment"))
    for series, found in histograms.items():
        family.add_metric(series, buckets=found.cumulative(), sum_value=found.sum)
    return family
