"""What admission, counting and the journal cost for each call, against the same path with them off.

python -m bench.metering [--calls 20000] [--rounds 7] [--name NAME]

Microseconds of processor time in this process, the median of rounds that take turns; the journal writes to the disk's
file system and syncs on its own thread, which counts. `python -m bench.instructions --without journal` measures the
same in a whole server.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import written
from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target
from modelport.core.clock import SystemClock
from modelport.core.content import Message
from modelport.core.events import ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.core.operations import Operation
from modelport.core.ports.records import Journal, Observer
from modelport.core.ports.stages import Refusal
from modelport.core.requests import ChatRequest
from modelport.core.usage import Ending, TokenUsage
from modelport.gateway.admit import admit
from modelport.gateway.count import Count
from modelport.gateway.facts import CallFacts
from modelport.gateway.lease import CallLease
from modelport.stores.journal.writer import FileJournal
from modelport.stores.memory.quota import MemoryQuota
from modelport.telemetry.metrics import Metrics
from modelport.telemetry.observer import CallObserver

FLUSHED_CALLS = 16
"""So many calls share a flush, as in one turn of a loop with sixteen connections."""
STREAM: list[list[Event]] = [[TextDelta("word ", tokens=None)] for _ in range(64)]
END: list[Event] = [ChoiceFinished(FinishReason.STOP), UsageReported(TokenUsage(input=20, output=64))]
LIMITED = RateLimits(tokens_per_minute=10**12, requests_per_minute=10**12, concurrent_requests=10**6)


class Nothing:
    """Stands where a part is switched off: takes everything and does nothing."""

    def __getattr__(self, name: str) -> Any:
        return self.__call__

    def __call__(self, *given: object, **named: object) -> Any:
        """Whatever is asked of it."""
        return self


class Way:
    """One process's quota, journal and metrics, or some of them."""

    def __init__(self, journal: Any, *, has_quota: bool = True, has_metrics: bool = True, counts: bool = True) -> None:
        self.clock = SystemClock()
        self.quota = MemoryQuota(self.clock)
        self.journal: Journal = journal
        self.observer: Observer = CallObserver(Metrics()) if has_metrics else Nothing()
        self.counts = counts
        self.deployment = Deployment(
            name="gpt",
            model=Model(format="Custom", name="gpt"),
            targets=(Target("house", "gpt"),),
            limits=LIMITED if has_quota else RateLimits(tokens_per_minute=None, requests_per_minute=None),
        )
        self.snapshot = Snapshot(id="s", deployments={"gpt": self.deployment})
        self.request = ChatRequest(
            messages=(Message(role="user", content="x" * 900),), body_bytes=1000, max_tokens=100, stream=True
        )
        self.number = 0

    def admitted(self) -> CallLease:
        """The first half of a call."""
        self.number += 1
        facts = CallFacts(
            id=f"0b9c2c52-2a3c-4a3e-9b9a-{self.number:012d}",
            surface="openai_v1",
            operation=Operation.CHAT_COMPLETIONS,
            principal="bench",
            key_id="k",
            snapshot="s",
            started_at=self.clock.now(),
            started=self.clock.monotonic(),
        )
        lease = admit(
            self.deployment, self.request, facts, self.snapshot, self.quota, self.journal, self.observer, self.clock
        )
        assert isinstance(lease, CallLease), lease if isinstance(lease, Refusal) else "it waits"
        return lease

    def call(self) -> None:
        """Admitted, answered whole, settled."""
        lease = self.admitted()
        usage = TokenUsage(input=20, output=64)
        if self.counts:
            count = Count(lease, self.request)
            count.feed(END)
            usage = count.usage()
        lease.settle(Ending.COMPLETED, usage, status=200)
        if self.number % FLUSHED_CALLS == 0:
            self.journal.flush()

    def stream(self) -> None:
        """The events of one answer, counted."""
        count = Count(self.admitted(), self.request)
        for batch in STREAM:
            count.feed(batch)
        count.feed(END)
        count.usage()


def main() -> None:
    """Prints a line for each way to run the same calls, and what each part costs."""
    parser = argparse.ArgumentParser(prog="python -m bench.metering", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", help="of the file in bench/results; none: bench/results/local")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, FileJournal(Path(name)) as journal:
        paths = {
            "all": Way(journal),
            "without quota": Way(journal, has_quota=False),
            "without journal": Way(Nothing()),
            "without counting": Way(journal, counts=False),
            "without metrics": Way(journal, has_metrics=False),
            "without all four": Way(Nothing(), has_quota=False, has_metrics=False, counts=False),
        }
        works: dict[str, Callable[[], None]] = {word: path.call for word, path in paths.items()}
        found = measured(works, wanted.calls, wanted.rounds)
        stream = measured({"stream": paths["without journal"].stream}, wanted.calls // 20, wanted.rounds)["stream"]
    bare = found["without all four"]
    for word, spent in found.items():
        part = "" if word == "all" else f"{found['all'] - spent:>9.1f} us is its price"
        print(f"{word:<20}{spent:>8.1f} us a call{part}")
    print(
        f"admit, count, journal and metrics: {found['all'] - bare:.1f} us a call more than the same path without them"
    )
    event = (stream - found["without journal"]) / len(STREAM)
    print(f"counting an event of a stream: {event:.2f} us")
    figures = {word: round(spent, 1) for word, spent in found.items()}
    written.write(
        "metering", wanted.name, {"microseconds_per_call": figures, "microseconds_per_event": round(event, 2)}
    )


def measured(works: dict[str, Callable[[], None]], calls: int, rounds: int) -> dict[str, float]:
    """Microseconds for one: the median of rounds, in which all take turns."""
    spent: dict[str, list[float]] = {word: [] for word in works}
    for number in range(rounds + 1):
        for word, work in works.items():
            began = time.process_time()
            for _ in range(calls // rounds):
                work()
            if number:  # the first one warms up
                spent[word].append((time.process_time() - began) / (calls // rounds) * 1e6)
    return {word: statistics.median(found) for word, found in spent.items()}


if __name__ == "__main__":
    main()
