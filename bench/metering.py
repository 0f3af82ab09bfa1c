"""What admission, counting and the journal cost for each call: microseconds of CPU, printed; nothing is asserted.

python bench/metering.py [CALLS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target
from modelport.core.clock import SystemClock
from modelport.core.content import Message
from modelport.core.events import ChoiceFinished, FinishReason, TextDelta, UsageReported
from modelport.core.ports import Refusal
from modelport.core.requests import ChatRequest
from modelport.core.usage import Ending, TokenUsage
from modelport.gateway.admit import admit
from modelport.gateway.count import Count
from modelport.gateway.facts import CallFacts
from modelport.stores.journal.writer import FileJournal
from modelport.stores.memory.quota import MemoryQuota
from modelport.telemetry.metrics import Metrics
from modelport.telemetry.observer import CallObserver

STREAM = [[TextDelta("word ", tokens=None)] for _ in range(64)]
END = [ChoiceFinished(FinishReason.STOP), UsageReported(TokenUsage(input=20, output=64))]


def main(calls: int) -> None:
    """Prints a line for each way to run the same calls."""
    with tempfile.TemporaryDirectory() as directory, FileJournal(Path(directory)) as journal:
        bench = Bench(journal)
        measured("admit, one event, settle; a flush for each line", calls, lambda: bench.call(flushes=True))
        measured("the same, a flush for 16 calls", calls, bench.batched)
        measured("count alone, 65 reads of a stream", calls // 10, bench.streamed)
        measured("x-ratelimit state", calls, bench.state)


class Bench:
    """One process's quota, journal and metrics."""

    def __init__(self, journal: FileJournal) -> None:
        self.clock = SystemClock()
        self.quota = MemoryQuota(self.clock)
        self.journal = journal
        self.observer = CallObserver(Metrics())
        self.deployment = Deployment(
            name="gpt",
            model=Model(format="Custom", name="gpt"),
            targets=(Target("house", "gpt"),),
            limits=RateLimits(tokens_per_minute=10**12, requests_per_minute=10**12, concurrent_requests=10**6),
        )
        self.snapshot = Snapshot(id="s", deployments={"gpt": self.deployment})
        self.request = ChatRequest(
            messages=(Message(role="user", content="x" * 900),), body_bytes=1000, max_tokens=100, stream=True
        )
        self.number = 0
        self.lease = self.admitted()

    def admitted(self):
        self.number += 1
        facts = CallFacts(
            id=f"0b9c2c52-2a3c-4a3e-9b9a-{self.number:012d}",
            surface="openai_v1",
            operation="chat_completions",
            principal="bench",
            key_id="k",
            snapshot="s",
            started_at=self.clock.now(),
            started=self.clock.monotonic(),
        )
        lease = admit(
            self.deployment, self.request, facts, self.snapshot, self.quota, self.journal, self.observer, self.clock
        )
        assert not isinstance(lease, Refusal)
        return lease

    def call(self, *, flushes: bool) -> None:
        lease = self.admitted()
        if flushes:
            self.journal.flush()
        count = Count(lease, self.request)
        count.feed(END)
        lease.settle(Ending.COMPLETED, count.usage(), status=200)
        if flushes:
            self.journal.flush()

    def batched(self) -> None:
        self.call(flushes=False)
        if self.number % 16 == 0:
            self.journal.flush()

    def streamed(self) -> None:
        count = Count(self.lease, self.request)
        for batch in STREAM:
            count.feed(batch)
        count.feed(END)
        count.usage()

    def state(self) -> None:
        self.lease.quota()


def measured(name: str, calls: int, call: Callable[[], None]) -> None:
    """Runs `call` so often and prints what one costs in CPU time of this process."""
    for _ in range(200):
        call()
    began = time.process_time()
    for _ in range(calls):
        call()
    spent = time.process_time() - began
    print(f"{name:52} {spent / calls * 1e6:8.1f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
