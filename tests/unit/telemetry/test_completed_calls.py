"""Calls that are counted many at once are counted as they would have been one by one."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from modelport.core.operations import Operation
from modelport.core.record_forms import RecordForm
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.telemetry.metrics import DURATION_SECONDS, MOST_DEPLOYMENTS, Histogram, Metrics
from modelport.telemetry.observer import COUNTED_AT_ONCE, CallObserver

SURFACE, OPERATION = "openai_v1", Operation.CHAT_COMPLETIONS


class Ended(Struct, frozen=True):
    """A call that went well."""

    deployment: str = "chat"
    seconds: float = 0.25
    prompt: int = 5
    completion: int = 2
    reserved: int = 20

    @property
    def record(self) -> UsageRecord:
        return UsageRecord(
            id="c",
            started_at=1.7e9,
            principal="p",
            key_id="p/key1",
            surface=SURFACE,
            operation=OPERATION,
            streamed=False,
            requested_model="m",
            deployment=self.deployment,
            status=200,
            ending=Ending.COMPLETED,
            usage=TokenUsage(input=self.prompt, output=self.completion),
            usage_source=UsageSource.REPORTED,
            reserved_tokens=self.reserved,
            first_event_seconds=self.seconds,
            duration_seconds=self.seconds,
        )


def shown(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples of ours. Sums of floats differ in their last digit with the order of adding."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): round(sample.value, 6)
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name.startswith("modelport_")
    }


def begin(observer: CallObserver, ended: Ended) -> Any:
    """As gateway/lease.py does."""
    series = observer.series(SURFACE, OPERATION, ended.deployment)
    series.in_flight += 1
    return series


def complete(observer: CallObserver, ended: Ended) -> None:
    series = observer.series(SURFACE, OPERATION, ended.deployment)
    series.completed(RecordForm(b"[]", ()), b"[]", ended.seconds, ended.prompt, ended.completion, ended.reserved)


calls = st.builds(
    Ended,
    deployment=st.sampled_from(["chat", "other", 'a"b']),
    seconds=st.floats(0, 400) | st.sampled_from(DURATION_SECONDS),
    prompt=st.integers(1, 10**6),
    completion=st.integers(0, 10**6),
    reserved=st.integers(0, 10**6),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at once"), calls),
            st.tuples(st.just("singly"), calls),
            st.tuples(st.just("still running"), calls),
            st.tuples(st.just("becomes general"), calls),
            st.tuples(st.just("scrape"), calls),
        ),
        max_size=30,
    )
)
@example([("at once", Ended(seconds=bound)) for bound in DURATION_SECONDS])
def test_many_at_once_are_the_same_as_one_by_one(steps: list[tuple[str, Ended]]) -> None:
    one, many = Metrics(), Metrics()
    single, several = CallObserver(one), CallObserver(many)
    for kind, ended in steps:
        if kind == "scrape":
            assert shown(many) == shown(one)
            continue
        single.call_started(OPERATION, SURFACE)
        if kind == "singly":
            several.call_started(OPERATION, SURFACE)
            several.call_ended(ended.record)
        else:
            series = begin(several, ended)
            if kind == "at once":
                complete(several, ended)
            elif kind == "becomes general":
                series.in_flight -= 1
                several.call_started(OPERATION, SURFACE)
                several.call_ended(ended.record)
        if kind != "still running":
            single.call_ended(ended.record)
    assert shown(many) == shown(one)
    assert shown(many) == shown(one)


def test_what_waits_is_bounded_and_counted_without_a_scrape() -> None:
    one, many = Metrics(), Metrics()
    single, several = CallObserver(one), CallObserver(many)
    counters = many.series(SURFACE, OPERATION, "chat")
    for number in range(3 * COUNTED_AT_ONCE + 7):
        ended = Ended(seconds=number / 64, completion=number)
        begin(several, ended)
        complete(several, ended)
        assert len(counters.waiting) < COUNTED_AT_ONCE
        single.call_started(OPERATION, SURFACE)
        single.call_ended(ended.record)
    assert shown(many) == shown(one)


def test_deployments_past_the_limit_are_counted_together_as_ever() -> None:
    one, many = Metrics(), Metrics()
    single, several = CallObserver(one), CallObserver(many)
    for number in range(MOST_DEPLOYMENTS + 20):
        ended = Ended(deployment=f"d{number}")
        begin(several, ended)
        single.call_started(OPERATION, SURFACE)
        if number % 2:
            complete(several, ended)
            single.call_ended(ended.record)
    in_flight = ("modelport_calls_in_flight", (("operation", OPERATION.value),))
    assert shown(many)[in_flight] == shown(one)[in_flight] == (MOST_DEPLOYMENTS + 20) // 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 400) | st.sampled_from(DURATION_SECONDS), max_size=50))
def test_a_histogram_takes_many_values_as_it_takes_one(values: list[float]) -> None:
    single, several = Histogram(DURATION_SECONDS), Histogram(DURATION_SECONDS)
    for value in values:
        single.add(value)
    several.add_all(sorted(values), sum(values))
    assert several.counts == single.counts
    assert abs(several.sum - single.sum) < 1e-6
