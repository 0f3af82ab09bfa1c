"""The hours of a worker that runs here: in the ledger once, also when the server that owned it was killed."""

from __future__ import annotations

import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelport.core.usage import WORKER_HOURS, Ending
from served import JournalTail, Served, children_of, eventually, serve
from worker_processes import command_of

pytestmark = pytest.mark.embedded

SMALL = "smollm2-135m-instruct"
PER_HOUR = Decimal("7.20")
CONFIG: dict[str, Any] = {
    "engine": {"slots": 1, "context": 2048},
    "deployments": {
        "small": {"model": {"format": "HuggingFace", "name": SMALL, "version": "1"}, "default": True},
        "script": {"model": {"format": "Custom", "name": "script"}, "provider": {"type": "scripted"}},
    },
}


def lend(weights: Path, data_dir: Path) -> Path:
    data_dir.mkdir(mode=0o700, parents=True)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    return data_dir


def exact(seconds: float) -> Decimal:
    return (PER_HOUR * round(seconds * 1000) / 3_600_000).quantize(Decimal("1e-12"))


def engines_of(served: Served) -> list[int]:
    return [
        process_id
        for process_id in children_of(served.process.pid)
        if b"modelport.engine.worker" in command_of(process_id)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_sum_of_a_worker_s_records_is_its_time_times_its_price(weights: Path, tmp_path: Path, workers: int) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(f'prices: [{{deployment: small, per_hour: "{PER_HOUR}", places: 4}}]\n')
    config = {**CONFIG, "server": {"workers": workers}, "prices": {"file": str(prices)}}
    data_dir = lend(weights, tmp_path / "data")
    with serve(config, data_dir) as served:  # killed at the end of the block
        served.ready()
        assert served.chat(model="small", max_tokens=2).status == 200
        (first,) = engines_of(served)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: hours_of(served, Ending.COMPLETED), "the first process's time has ended")
        eventually(lambda: engines_of(served), "there is a second one")
        eventually(lambda: opened_hours(data_dir) == 2, "its time is metered")
    with serve(config, data_dir) as served:
        served.ready()
        (call,) = [record for record in served.journal() if record.operation != WORKER_HOURS]
        assert (call.deployment, call.cost, call.pricing) == ("small", "0", "free")
        served.terminate()
        assert served.ended() == 0
        lost, completed = hours_of(served, Ending.LOST), hours_of(served, Ending.COMPLETED)
        assert len(lost) == 1
        assert len(completed) >= 2
        for record in (*lost, *completed):
            assert record.cost is not None
            assert Decimal(record.cost) == exact(record.duration_seconds)
            assert (record.deployment, record.principal, record.usage.total) == ("small", "operator", 0)
    with serve(config, data_dir) as served:
        rows = served.call("GET", "/admin/v1/usage?by=deployment,operation").json
        hours = [record for record in served.journal() if record.operation == WORKER_HOURS]
        (row,) = [row for row in rows if row["operation"] == WORKER_HOURS]
        assert (row["deployment"], row["calls"], row["currency"]) == ("small", 0, "USD")
        assert Decimal(row["cost"]) == sum(Decimal(record.cost or "-1") for record in hours if record.id)
        (calls,) = [row for row in rows if row["operation"] == "chat_completions"]
        assert (calls["calls"], calls["cost"]) == (1, "0")


def opened_hours(data_dir: Path) -> int:
    found = JournalTail(data_dir / "journal").read()
    opened = {line.call_id() for line in found if line.kind == "open" and line.usage().operation == WORKER_HOURS}
    return len(opened)


def hours_of(served: Served, ending: Ending) -> list[Any]:
    return [one for one in served.journal() if one.operation == WORKER_HOURS and one.ending == ending]
