"""Metrics of parts that keep their own figures: read at each scrape, never pushed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelport.core.ports.providers import BackgroundWork
from modelport.core.ports.states import StoreState
from modelport.telemetry.metrics import Source

ENGINE_STATES: Final = ("ready", "loading", "restarting", "failed", "unloaded")


class EngineReading(Struct, frozen=True):
    """What one worker says of itself. None: it does not tell."""

    worker: str
    state: str
    restarts: int = 0
    queued: int | None = None
    slots: int | None = None
    busy_slots: int | None = None


class JournalFigures(Protocol):
    """What a journal tells of itself; `stores.journal.FileJournal` is one."""

    sequence: int
    size_bytes: int
    number: int
    dropped_lines: int
    failed_writes: int
    is_failing: bool

    @property
    def queued_lines(self) -> int: ...

    @property
    def unsynced_lines(self) -> int: ...

    @property
    def open_calls(self) -> int: ...


class QuotaFigures(Protocol):
    """What a shared quota tells of itself; `stores.allotments.SharedQuota` is one."""

    exchanges: int
    failures: int
    refused_for_outage: int

    @property
    def is_degraded(self) -> bool: ...


class LedgerFigures(Protocol):
    """What whoever fills the ledger tells; `stores.shipping.shipper.Shipper` is one."""

    shipped_records: int
    backlog_records: int
    damaged_lines: int

    @property
    def is_failing(self) -> bool: ...


def authentication_source(
    failures: Callable[[], Mapping[str, int]], issuers: Callable[[], Iterable[StoreState]]
) -> Source:
    """`modelport_authentication_failures_total` by reason, and `modelport_issuer_failing`."""

    def families() -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "modelport_authentication_failures", "Credentials that were not valid, by reason.", labels=("reason",)
        )
        for reason, count in sorted(failures().items()):
            refused.add_metric((reason,), count)
        yield refused
        failing = GaugeMetricFamily(
            "modelport_issuer_failing", "1 while an issuer's keys cannot be fetched.", labels=("issuer",)
        )
        for issuer in issuers():
            failing.add_metric((issuer.name.removeprefix("issuer "),), 0 if issuer.state == "ready" else 1)
        yield failing

    return families


def token_source(tokens: Callable[[], Iterable[BackgroundWork]]) -> Source:
    """`modelport_provider_token_failing`."""

    def families() -> Iterator[Metric]:
        failing = GaugeMetricFamily(
            "modelport_provider_token_failing", "1 while a provider gets no new access token.", labels=("provider",)
        )
        for provider in tokens():
            failing.add_metric((provider.name,), 0 if provider.state == "ready" else 1)
        yield failing

    return families


def engine_source(read: Callable[[], Iterable[EngineReading]]) -> Source:
    """`modelport_engine_*`."""

    def families() -> Iterator[Metric]:
        readings = list(read())
        state = GaugeMetricFamily("modelport_engine_state", "1 for the state it is in.", labels=("worker", "state"))
        restarts = CounterMetricFamily("modelport_engine_restarts", "Restarts after a crash.", labels=("worker",))
        for reading in readings:
            restarts.add_metric((reading.worker,), reading.restarts)
            for name in ENGINE_STATES:
                state.add_metric((reading.worker, name), 1 if reading.state == name else 0)
        yield state
        yield restarts
        yield gauge("modelport_engine_queue", "Calls that wait for a slot.", ((r.worker, r.queued) for r in readings))
        yield gauge("modelport_engine_slots", "Calls that can run at once.", ((r.worker, r.slots) for r in readings))
        yield gauge("modelport_engine_slots_busy", "Calls that run.", ((r.worker, r.busy_slots) for r in readings))

    return families


def journal_source(journal: JournalFigures) -> Source:
    """`modelport_journal_*`."""

    begun = journal.sequence

    def families() -> Iterator[Metric]:
        # From the start of the process, so that those of several can be added: a successor goes on in the same file.
        yield counter("modelport_journal_lines", "Lines written since the start.", journal.sequence - begun)
        yield counter("modelport_journal_failed_writes", "Writes that the disk refused.", journal.failed_writes)
        yield counter("modelport_journal_dropped_lines", "Refused calls not recorded.", journal.dropped_lines)
        yield GaugeMetricFamily("modelport_journal_file_number", "The file that is written.", journal.number)
        yield GaugeMetricFamily("modelport_journal_file_bytes", "How long it is.", journal.size_bytes)
        yield GaugeMetricFamily("modelport_journal_queued_lines", "Lines not written yet.", journal.queued_lines)
        yield GaugeMetricFamily(
            "modelport_journal_unsynced_lines", "Lines written, perhaps not on the disk yet.", journal.unsynced_lines
        )
        yield GaugeMetricFamily("modelport_journal_open_calls", "Calls without an end yet.", journal.open_calls)
        yield GaugeMetricFamily("modelport_journal_failing", "1 while nothing can be written.", journal.is_failing)

    return families


def quota_source(quota: QuotaFigures) -> Source:
    """`modelport_quota_store_*`: of a quota that processes share."""

    def families() -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "modelport_quota_store_degraded", "Processes that go on without the store.", quota.is_degraded
        )
        yield counter("modelport_quota_store_messages", "Messages to the store.", quota.exchanges)
        yield counter("modelport_quota_store_failures", "Messages not answered in time.", quota.failures)
        yield counter(
            "modelport_quota_store_refusals", "Calls refused because the store is gone.", quota.refused_for_outage
        )

    return families


def waiting_source(count: Callable[[], int]) -> Source:
    """`modelport_calls_waiting`."""

    def families() -> Iterator[Metric]:
        yield GaugeMetricFamily("modelport_calls_waiting", "Calls that wait for room under a limit.", count())

    return families


def ledger_source(ledger: LedgerFigures) -> Source:
    """`modelport_ledger_*`."""

    def families() -> Iterator[Metric]:
        yield counter("modelport_ledger_shipped", "Records moved from the journal.", ledger.shipped_records)
        yield counter("modelport_ledger_damaged_lines", "Journal lines that nobody can read.", ledger.damaged_lines)
        yield GaugeMetricFamily(
            "modelport_ledger_backlog_records", "Records that wait in the journal.", ledger.backlog_records
        )
        yield GaugeMetricFamily(
            "modelport_ledger_failing", "1 while the database cannot be written.", ledger.is_failing
        )

    return families


class ControlFigures(Protocol):
    """What is told of the control plane."""

    @property
    def served_version(self) -> int: ...

    @property
    def is_failing(self) -> bool: ...


def control_source(control: ControlFigures) -> Source:
    """`modelport_control_*`."""

    def families() -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "modelport_control_version",
            "Version of the control plane's objects that is served.",
            control.served_version,
        )
        yield GaugeMetricFamily(
            "modelport_control_failing",
            "1 while the control plane's store is away, or holds what this server cannot serve.",
            control.is_failing,
        )

    return families


def counter(name: str, text: str, value: int) -> Metric:
    """One number that only grows."""
    return CounterMetricFamily(name, text, value)


def gauge(name: str, text: str, values: Iterable[tuple[str, int | None]]) -> Metric:
    """One number a worker, where it is known."""
    family = GaugeMetricFamily(name, text, labels=("worker",))
    for worker, value in values:
        if value is not None:
            family.add_metric((worker,), value)
    return family
