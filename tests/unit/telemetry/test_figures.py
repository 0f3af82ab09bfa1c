"""Metrics of several processes become one text: sums that never go back."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from modelport.telemetry.figures import Figures, Sum, figures_of, read, rendered
from modelport.telemetry.metrics import Metrics


def counter(name: str, **values: float) -> Metric:
    family = CounterMetricFamily(name, "Text.", labels=("deployment",))
    for label, value in values.items():
        family.add_metric((label,), value)
    return family


def gauge(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, "Text.", value)


def histogram(*counts: int) -> Metric:
    family = HistogramMetricFamily("seconds", "Text.", labels=("deployment",))
    bounds = [*(str(float(n)) for n in range(1, len(counts))), "+Inf"]
    family.add_metric(("a",), buckets=list(zip(bounds, counts, strict=True)), sum_value=float(sum(counts)))
    return family


def shown(*processes: Figures) -> dict[tuple[str, frozenset[str]], float]:
    total = Sum()
    for figures in processes:
        total.add(figures)
    return values(total.figures())


def values(figures: Figures) -> dict[tuple[str, frozenset[str]], float]:
    text = rendered(figures).decode()
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_are_added_by_label() -> None:
    found = shown(figures_of([counter("calls", a=1, b=2)]), figures_of([counter("calls", b=3, c=4)]))
    assert found["calls_total", frozenset({"a"})] == 1
    assert found["calls_total", frozenset({"b"})] == 5
    assert found["calls_total", frozenset({"c"})] == 4


def test_histograms_are_added_bucket_by_bucket() -> None:
    found = shown(figures_of([histogram(1, 2, 2)]), figures_of([histogram(0, 3, 7)]))
    assert found["seconds_bucket", frozenset({"a", "1.0"})] == 1
    assert found["seconds_bucket", frozenset({"a", "2.0"})] == 5
    assert found["seconds_bucket", frozenset({"a", "+Inf"})] == 9
    assert found["seconds_count", frozenset({"a"})] == 9


def test_gauges_become_one_by_what_they_mean() -> None:
    one = figures_of(
        [gauge("modelport_journal_failing", 0), gauge("process_start_time_seconds", 100), gauge("process_open_fds", 3)]
    )
    other = figures_of(
        [gauge("modelport_journal_failing", 1), gauge("process_start_time_seconds", 200), gauge("process_open_fds", 4)]
    )
    found = shown(one, other)
    assert found["modelport_journal_failing", frozenset()] == 1
    assert found["process_start_time_seconds", frozenset()] == 100
    assert found["process_open_fds", frozenset()] == 7


def test_of_a_process_that_has_ended_only_what_it_has_counted_stays() -> None:
    past, total = Sum(), Sum()
    past.add(figures_of([counter("calls", a=5), gauge("process_open_fds", 9), histogram(1, 1)]), growing_only=True)
    total.add(figures_of([counter("calls", a=1), gauge("process_open_fds", 4)]))
    total.add(past.figures())
    found = values(total.figures())
    assert found["calls_total", frozenset({"a"})] == 6
    assert found["process_open_fds", frozenset()] == 4
    assert found["seconds_count", frozenset({"a"})] == 1


def test_figures_survive_the_wire() -> None:
    figures = figures_of(Metrics([lambda: [counter("calls", a=1), histogram(1, 2)]]).families())
    assert read(msgspec.json.decode(msgspec.json.encode(figures))) == figures
    assert values(figures)["calls_total", frozenset({"a"})] == 1


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=5), min_size=1, max_size=5))
def test_sums_grow_whenever_a_process_ends(counts: list[list[int]]) -> None:
    """Each process tells ever larger figures; then it ends, and is replaced by one that begins with nothing."""
    past, before = Sum(), 0.0
    for process in counts:
        told = 0
        for more in process:
            told += more
            total = Sum()
            total.add(figures_of([counter("calls", a=told)]))
            total.add(past.figures())
            now = values(total.figures())["calls_total", frozenset({"a"})]
            assert now >= before
            before = now
        past.add(figures_of([counter("calls", a=told)]), growing_only=True)
    assert values(past.figures())["calls_total", frozenset({"a"})] == sum(map(sum, counts))
