"""Everything that can be seen of a call, without what the clock, the process and chance decide."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from modelport.core.usage import UsageRecord
from usage_records import read_lines

from .corpus import CONFIG, PRICES, SECRETS, UNLIMITED, WHOLE, Case
from .harness import Gateway, Upstream, gateway, normal_record, normal_request, read_answer, upstream, whole

ONCE = ("silent", "stops", "cut-by-quota", "fails-504", "falls-silent")
"""How the names of cases begin that are slow, so they are not sent twice."""
VERSIONS = {"snapshot", "price_version", "x-modelport-snapshot"}
WHOLE_BODY = 8_000
"""Characters of a body that stands in a file as it is."""
UUID = re.compile("[0-9a-f-]{36}")
DAY_SECONDS = 86_400
FIRST_DAY = 1_800_000_000 // DAY_SECONDS * DAY_SECONDS


class DayClock:
    """A clock that stands still; each case of the corpus has a day of its own, so no case meets another's quota."""

    def __init__(self) -> None:
        self.day = 0

    def now(self) -> float:
        return FIRST_DAY + self.day * DAY_SECONDS + 43_200.0

    def monotonic(self) -> float:
        return 1000.0 + self.day * DAY_SECONDS


class Outcome(Struct):
    """What one request has led to."""

    status: int
    head: list[list[str]]
    body: str
    is_cut: bool
    """Whether the connection has ended before the answer."""
    upstream: list[dict[str, Any]]
    started: list[list[str]]
    records: list[dict[str, Any]]
    journal: list[list[Any]] = []
    """The kind of each line of the call, and what differs there from its record."""
    ids: list[str] = []


class CaseResult(Struct):
    """One outcome of a case, or two where the connection was kept; and what both have added to each metric."""

    outcomes: list[Outcome]
    metrics: dict[str, float]


class Run(Struct):
    """A part of the corpus."""

    results: dict[str, CaseResult]
    at_once: list[bool]
    repeated: list[bool]


async def run_cases(folder: Path, patches: Any, cases: Iterable[Case]) -> Run:
    """One after the other, through a server in this process."""
    clock = DayClock()
    patches.setattr("modelport.app.build.SystemClock", lambda: clock)
    # No process of the ledger runs here that knows what was used before.
    patches.setattr("modelport.app.budgets.KeptBudgets.start", lambda _: asyncio.sleep(0))
    async with upstream() as above:
        prices = folder / "prices.yaml"
        prices.write_text(PRICES)
        config = CONFIG.format(port=above.port, unlimited=UNLIMITED, prices=prices)
        async with gateway(folder, config, patches, secrets=SECRETS) as served:
            results, before = {}, await series(served)
            for case in cases:
                clock.day += 1
                found = await outcomes_of(served, above, case)
                after = await series(served)
                changed = {name: value - before.get(name, 0) for name, value in after.items()}
                results[case.name] = CaseResult(found, {name: value for name, value in changed.items() if value})
                before = after
            await asyncio.sleep(0.01)
            add_journal(results, served)
            return Run(results, served.at_once, served.repeated)


async def outcomes_of(served: Gateway, above: Upstream, case: Case) -> list[Outcome]:
    """Of the case on a connection of its own, which is asked once more if it is kept."""
    above.pieces, above.ends = whole(WHOLE) if case.pieces is None else case.pieces, case.ends
    served.application.gateway.draining = case.draining
    reader, writer = await served.connect()
    try:
        found, stays = await outcome(served, above, case, reader, writer)
        if not stays or case.name.startswith(ONCE):
            return [found]
        return [found, (await outcome(served, above, case, reader, writer))[0]]
    finally:
        writer.transport.abort()
        served.application.gateway.draining = False


async def outcome(
    served: Gateway, above: Upstream, case: Case, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[Outcome, bool]:
    """And whether the connection is kept."""
    above.seen.clear()
    served.seen.started.clear()
    served.seen.records.clear()
    writer.write(case.request)
    try:
        answer = await read_answer(reader, is_head=case.request.startswith(b"HEAD "))
    except TimeoutError:
        raise AssertionError(f"no answer to {case.name}") from None
    stays = answer.is_complete and ("connection", "close") not in answer.headers and b" HTTP/1.1\r\n" in case.request
    if not stays:
        writer.transport.abort()
    for turn in range(4000):
        await asyncio.sleep(0 if turn < 100 else 0.005)
        if served.application.gateway.running == 0:
            break
    status, head, body, is_complete = answer.normal
    found = Outcome(
        status=status,
        head=[[name, "…" if name in VERSIONS else value] for name, value in head],
        body=shortened(body.decode(errors="backslashreplace")),
        is_cut=not is_complete,
        upstream=[parsed_request(normal_request(request, above.port)) for request in above.seen],
        started=[list(kind) for kind in served.seen.started],
        records=[compact_record(record) for record in served.seen.records],
        ids=[record.id for record in served.seen.records],
    )
    return found, stays


def shortened(body: str) -> str:
    """A long body is its beginning, its end and a digest."""
    if len(body) <= WHOLE_BODY:
        return body
    return f"{body[:500]} … {body[-500:]} ({len(body)} characters, {hashlib.sha256(body.encode()).hexdigest()})"


def parsed_request(request: bytes) -> dict[str, Any]:
    """The request line, the fields of the head in their order, and the body, which is JSON."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode(errors="backslashreplace").split("\r\n")
    try:
        value = json.loads(body)
    except ValueError:
        value = body.decode(errors="backslashreplace")
    return {"head": [line, *fields], "body": value}


def compact_record(record: UsageRecord) -> dict[str, Any]:
    """What it says, without times, ids, and the versions of configuration and prices."""
    fields = normal_record(record)
    fields["usage"] = {name: count for name, count in fields["usage"].items() if count}
    for name in VERSIONS & fields.keys():
        fields[name] = None if fields[name] is None else "…"
    given = fields["client_request_id"]
    if given is not None and UUID.fullmatch(given):
        fields["client_request_id"] = "…"
    return {name: value for name, value in fields.items() if value is not None}


def add_journal(results: dict[str, CaseResult], served: Gateway) -> None:
    """Gives each outcome the journal's lines of its calls."""
    lines: dict[str, list[tuple[str, UsageRecord]]] = {}
    for path in sorted((served.data_dir / "journal").glob("*.jsonl")):
        for line in read_lines(path):
            if line.kind in ("open", "close"):
                record = line.usage()
                lines.setdefault(record.id, []).append((line.kind, record))
    for result in results.values():
        for found in result.outcomes:
            found.journal = [
                [kind, differing(compact_record(written), record)]
                for record_id, record in zip(found.ids, found.records, strict=True)
                for kind, written in lines.get(record_id, [])
            ]
            found.ids = []


def differing(found: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual; None where it is absent."""
    names = {**usual, **found}
    return {name: found.get(name) for name in names if found.get(name) != usual.get(name)}


async def series(served: Gateway) -> dict[str, float]:
    """Each series of the metrics and its value, without what the process and the clock decide."""
    metrics = served.application.gateway.metrics()
    data = metrics if isinstance(metrics, bytes) else await metrics
    kept = [line for line in data.decode().splitlines() if line.startswith("modelport_")]
    kept = [line for line in kept if "_seconds" not in line or "_seconds_count" in line]
    kept = [line for line in kept if not re.search("_journal_|_ledger_|_budget_|_authentication_|created", line)]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in kept)}
