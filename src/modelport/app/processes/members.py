"""What the owner does with single workers, and what it counts of them."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from modelport.app.processes.fleet import Fleet, Member
from modelport.app.processes.nursery_process import kill
from modelport.app.processes.peer import PeerGone, PeerRefused
from modelport.core.ports.states import StoreState

_logger = logging.getLogger("modelport.processes")


async def reconfigured(member: Member, answer: Awaitable[None]) -> None:
    """A worker that cannot take up the configuration is ended: its successor begins with what is served now."""
    try:
        await answer
    except (PeerGone, PeerRefused):
        _logger.error("worker process %d cannot take up the configuration and is ended", member.process_id)
        kill(member.process_id, signal.SIGKILL)


def learn_journal(member: Member, body: Any) -> None:
    """A worker's message `journal`."""
    state = msgspec.convert(body, StoreState)
    member.journal = None if state.state == "ready" else state


def fleet_source(fleet: Fleet) -> Callable[[], Iterator[Metric]]:
    """`modelport_worker_*`."""

    def families() -> Iterator[Metric]:
        serving = sum(member.serves.is_set() for member in fleet.members.values())
        yield GaugeMetricFamily("modelport_worker_processes", "Processes that serve.", serving)
        yield CounterMetricFamily(
            "modelport_worker_process_restarts", "Processes that had to be replaced.", fleet.restarts
        )

    return families
