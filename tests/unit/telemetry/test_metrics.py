"""What a scrape shows."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from modelport.core.operations import Operation
from modelport.core.usage import Ending, TokenUsage, UsageRecord
from modelport.stores.journal import FileJournal
from modelport.telemetry.metrics import MOST_DEPLOYMENTS, Metrics
from modelport.telemetry.observer import CallObserver
from modelport.telemetry.sources import EngineReading, engine_source, journal_source


def record(**changes: Any) -> UsageRecord:
    fields: dict[str, Any] = {
        "id": "call-1",
        "started_at": 1_700_000_000.0,
        "principal": "alice",
        "key_id": "k1",
        "surface": "azure_inference",
        "operation": "chat_completions",
        "streamed": True,
        "requested_model": "gpt",
        "deployment": "gpt",
        "status": 200,
        "ending": Ending.COMPLETED,
        "usage": TokenUsage(input=10, cached_input=4, output=5, reasoning=2),
        "reserved_tokens": 100,
        "first_event_seconds": 0.03,
        "duration_seconds": 1.5,
    }
    return UsageRecord(**{**fields, **changes})


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[str]], float]:
    """Every sample by its name and label values, whose order is Prometheus's own."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_call_is_counted_with_its_tokens_by_class():
    metrics = Metrics()
    observer = CallObserver(metrics)
    observer.call_started(Operation.CHAT_COMPLETIONS, "azure_inference")
    observer.call_ended(record())
    shown = samples(metrics)
    assert shown["modelport_requests_total", frozenset({"azure_inference", "chat_completions", "gpt", "200"})] == 1
    assert shown["modelport_tokens_total", frozenset({"gpt", "input"})] == 10
    assert shown["modelport_tokens_total", frozenset({"gpt", "cached_input"})] == 4
    assert shown["modelport_tokens_total", frozenset({"gpt", "output"})] == 5
    assert shown["modelport_tokens_total", frozenset({"gpt", "reasoning"})] == 2
    assert shown["modelport_tokens_total", frozenset({"gpt", "image"})] == 0


def test_calls_in_flight_go_up_and_down():
    metrics = Metrics()
    metrics.in_flight["chat_completions"] = 2
    metrics.call_ended(record())
    assert samples(metrics)["modelport_calls_in_flight", frozenset({"chat_completions"})] == 1


def test_durations_fall_into_their_buckets_upper_bounds_included():
    metrics = Metrics()
    for seconds in (0.05, 0.051, 1000.0):
        metrics.call_ended(record(duration_seconds=seconds))
    shown = samples(metrics)
    name = "modelport_request_duration_seconds"
    series = {"chat_completions", "gpt"}
    assert shown[f"{name}_bucket", frozenset({*series, "0.025"})] == 0
    assert shown[f"{name}_bucket", frozenset({*series, "0.05"})] == 1
    assert shown[f"{name}_bucket", frozenset({*series, "0.1"})] == 2
    assert shown[f"{name}_bucket", frozenset({*series, "300.0"})] == 2
    assert shown[f"{name}_bucket", frozenset({*series, "+Inf"})] == 3
    assert shown[f"{name}_count", frozenset(series)] == 3
    assert shown[f"{name}_sum", frozenset(series)] == 1000.101


def test_a_call_without_an_event_has_no_time_to_its_first():
    metrics = Metrics()
    metrics.call_ended(record(first_event_seconds=None))
    assert not any(name.startswith("modelport_time_to_first") for name, _ in samples(metrics))


def test_what_content_filters_find_is_counted_by_category():
    metrics = Metrics()
    for found in ("prompt.violence=medium! prompt.jailbreak", "prompt.violence=high!", None):
        metrics.call_ended(record(content_filter=found))
    shown = samples(metrics)
    name = "modelport_content_filter_findings_total"
    assert shown[name, frozenset({"gpt", "prompt", "violence", "blocked"})] == 2
    assert shown[name, frozenset({"gpt", "prompt", "jailbreak", "annotated"})] == 1


def test_what_was_used_beyond_the_reservation_is_overdraft():
    metrics = Metrics()
    metrics.call_ended(record(reserved_tokens=15))
    metrics.call_ended(record(reserved_tokens=100))
    assert samples(metrics)["modelport_quota_overdraft_tokens_total", frozenset({"gpt"})] == 6


def test_a_call_without_a_deployment_is_counted_too():
    metrics = Metrics()
    metrics.call_ended(record(deployment=None, status=404, usage=TokenUsage()))
    assert (
        samples(metrics)["modelport_requests_total", frozenset({"azure_inference", "chat_completions", "", "404"})] == 1
    )


def test_deployments_without_end_do_not_make_series_without_end():
    metrics = Metrics()
    for number in range(MOST_DEPLOYMENTS + 500):
        metrics.call_ended(record(deployment=f"d{number}"))
    shown = samples(metrics)
    assert len([name for name, _ in shown if name == "modelport_requests_total"]) == MOST_DEPLOYMENTS + 1
    assert shown["modelport_requests_total", frozenset({"azure_inference", "chat_completions", "other", "200"})] == 500


def test_a_deployment_s_name_cannot_break_the_text():
    metrics = Metrics()
    metrics.call_ended(record(deployment='a"b\\c\nd'))
    assert samples(metrics)["modelport_tokens_total", frozenset({'a"b\\c\nd', "input"})] == 10


def test_workers_show_their_state_and_what_they_tell():
    readings = [EngineReading("qwen", "ready", 2, queued=3, slots=4, busy_slots=1), EngineReading("minilm", "loading")]
    shown = samples(Metrics([engine_source(lambda: readings)]))
    assert shown["modelport_engine_state", frozenset({"qwen", "ready"})] == 1
    assert shown["modelport_engine_state", frozenset({"qwen", "loading"})] == 0
    assert shown["modelport_engine_state", frozenset({"minilm", "loading"})] == 1
    assert shown["modelport_engine_restarts_total", frozenset({"qwen"})] == 2
    assert shown["modelport_engine_queue", frozenset({"qwen"})] == 3
    assert ("modelport_engine_queue", frozenset({"minilm"})) not in shown


def test_the_journal_shows_what_waits(tmp_path):
    with FileJournal(tmp_path) as journal:
        metrics = Metrics([journal_source(journal)])
        journal.open(record())
        shown = samples(metrics)
        assert shown["modelport_journal_queued_lines", frozenset()] == 1
        assert shown["modelport_journal_open_calls", frozenset()] == 1
        journal.close(record())
        journal.flush()
        shown = samples(metrics)
        assert shown["modelport_journal_lines_total", frozenset()] == 2
        assert shown["modelport_journal_queued_lines", frozenset()] == 0
        assert shown["modelport_journal_failing", frozenset()] == 0


def test_the_process_shows_its_memory():
    assert samples(Metrics())["process_resident_memory_bytes", frozenset()] > 1_000_000
