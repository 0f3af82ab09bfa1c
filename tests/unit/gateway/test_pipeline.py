"""The way itself, with everything around it stood in for: order, failover, cancellation, and the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from modelport.auth import anonymous
from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target, Timeouts
from modelport.core.content import Message
from modelport.core.errors import (
    BadRequest,
    DeploymentNotFound,
    EngineFailed,
    MalformedBody,
    ModelportError,
    RateLimited,
    RequestTimedOut,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
)
from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.core.identity import Credential
from modelport.core.operations import Operation
from modelport.core.ports.providers import Address, UpstreamRequest
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, Request
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.gateway.call import Answer, Call, Selector
from modelport.gateway.pipeline import Pipeline
from modelport.stores.journal import FileJournal, ended_calls
from modelport.stores.memory.quota import MemoryQuota

USAGE = UsageReported(TokenUsage(input=5, output=2))
STOP = ChoiceFinished(FinishReason.STOP)
WHOLE: list[Any] = [Answered("far-model"), TextDelta("Hel"), TextDelta("lo"), STOP, USAGE]


class Clock:
    def now(self) -> float:
        return 1_700_000_000.0

    def monotonic(self) -> float:
        return 1000.0


class Seen:
    """core.ports.records.Observer"""

    def __init__(self) -> None:
        self.started = 0
        self.ended: list[UsageRecord] = []

    def call_started(self, operation: Operation, surface: str) -> None:
        self.started += 1

    def call_ended(self, record: UsageRecord, reason: str | None = None) -> None:
        self.ended.append(record)


class Playing:
    """core.ports.providers.OpeningProvider: gives events, raises errors, waits for asyncio.Events, as it is told."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.asked: list[Request] = []
        self.closed = 0

    async def open(self, request: Request, target: Target) -> AsyncIterator[Event]:
        self.asked.append(request)
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


class Loading(Playing):
    """core.ports.providers.Readiness too: not ready, or ready after some waiting."""

    def __init__(self, outcome: Refusal | None, *script: Any) -> None:
        super().__init__(*script)
        self.outcome = outcome
        self.waited = 0

    def readiness(self) -> NeedsWaiting[None]:
        async def resume() -> Refusal | None:
            self.waited += 1
            return self.outcome

        return NeedsWaiting(resume)  # type: ignore[arg-type]


class Codec:
    """core.ports.providers.Provider: each byte chunk of the upstream is the text of one delta."""

    address = Address("http://upstream.example/v1")

    def encode(self, request: Request, target: Target) -> UpstreamRequest:
        return UpstreamRequest("/chat", target.model.encode())

    def decoder(self, request: Request) -> Any:
        class Decoder:
            def feed(self, data: bytes) -> list[Event]:
                return [TextDelta(data.decode())] if data else []

            def end(self) -> list[Event]:
                return [STOP, USAGE]

        return Decoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelportError:
        return UpstreamFailed(f"status {status}")


class Wire:
    """core.ports.providers.Transport: one answer for all."""

    def __init__(self, status: int = 200, *chunks: bytes) -> None:
        self.status, self._chunks = status, chunks
        self.headers: Mapping[str, str] = {}
        self.sent: list[UpstreamRequest] = []
        self.open = 0

    @asynccontextmanager
    async def send(self, address: Address, request: UpstreamRequest, timeouts: Timeouts) -> AsyncIterator[Wire]:
        self.sent.append(request)
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk

    async def body(self, limit: int) -> bytes:
        return b""

    async def close(self) -> None:
        pass


class Runtime:
    """core.ports.providers.Runtime"""

    def __init__(self, providers: Mapping[str, Any], transport: Any) -> None:
        self.providers, self.transport = providers, transport

    def provider(self, name: str) -> Any:
        return self.providers[name]


class House:
    """A pipeline and everything it leaves behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = FileJournal(directory)
        self.seen = Seen()
        self.is_anonymous = True
        self.limits = RateLimits()
        self.timeouts = Timeouts()

    def pipeline(self, *providers: Any, transport: Any = None) -> Pipeline:
        """The providers are asked in this order."""
        named = {f"p{number}": provider for number, provider in enumerate(providers)}
        targets = tuple(Target(name, f"m{number}", priority=number) for number, name in enumerate(named))
        deployment = Deployment(
            name="Large", model=Model("Custom", "m"), targets=targets, limits=self.limits, timeouts=self.timeouts
        )
        known = Snapshot(id="s1", deployments={"large": deployment}, default="large", anonymous=self.is_anonymous)
        clock = Clock()
        return Pipeline(
            snapshot=lambda: known,
            runtime=Runtime(named, transport),
            authenticators=(anonymous.authenticate,),
            quota=MemoryQuota(clock),
            journal=self.journal,
            observer=self.seen,
            clock=clock,
            random=Random(0),
        )

    @property
    def record(self) -> UsageRecord:
        """The only record, which the observer has seen as it was written."""
        (record,) = ended_calls(self.directory)
        assert self.seen.ended == [record]
        assert self.seen.started == 1
        return record


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.journal.stop()


def call(
    *,
    stream: bool = False,
    model: str | None = "LARGE",
    reads: Callable[[], Any] | None = None,
    why_cancelled: Callable[[], ModelportError | None] = lambda: None,
) -> Call:
    async def read() -> bytes:
        return b"{}" if reads is None else await reads()

    def decode(body: bytes) -> Request:
        if body != b"{}":
            raise MalformedBody("The body is no JSON object.")
        return ChatRequest(messages=(Message(role="user", content="Hello"),), model=model, stream=stream)

    return Call(
        operation=Operation.CHAT_COMPLETIONS,
        surface="openai_v1",
        credential=Credential(),
        selector=Selector(),
        read=read,
        decode=decode,
        request_id="call-1",
        client_request_id="theirs",
        why_cancelled=why_cancelled,
    )


async def texts(answer: Answer) -> str:
    return "".join([event.text async for batch in answer.events for event in batch if isinstance(event, TextDelta)])


async def test_an_answer_passes_and_leaves_its_record(house: House) -> None:
    async with house.pipeline(Playing(*WHOLE)).run(call(stream=True)) as answer:
        assert answer.deployment.name == "Large"
        assert await texts(answer) == "Hello"
        # Before the door writes its last bytes.
        assert [record.ending for record in ended_calls(house.directory)] == ["completed"]
    record = house.record
    assert (record.id, record.client_request_id, record.principal) == ("call-1", "theirs", "anonymous")
    assert (record.surface, record.operation, record.streamed) == ("openai_v1", "chat_completions", True)
    assert (record.requested_model, record.deployment, record.answered_model) == ("LARGE", "Large", "far-model")
    assert (record.target, record.status, record.ending) == ("p0/m0", 200, "completed")
    assert (record.usage, record.usage_source) == (USAGE.usage, "reported")
    assert record.snapshot == "s1"


async def test_a_codec_is_driven_over_the_transport_which_is_left_at_the_end(house: House) -> None:
    wire = Wire(200, b"Hel", b"", b"lo")
    async with house.pipeline(Codec(), transport=wire).run(call()) as answer:
        assert wire.open == 1
        assert await texts(answer) == "Hello"
    assert wire.open == 0
    assert [request.body for request in wire.sent] == [b"m0"]


async def test_an_upstreams_refusal_is_translated_and_the_next_target_asked(house: House) -> None:
    wire = Wire(500)
    async with house.pipeline(Codec(), Playing(*WHOLE), transport=wire).run(call()) as answer:
        assert await texts(answer) == "Hello"
    assert wire.open == 0
    assert house.record.target == "p1/m1"


async def test_after_the_first_event_there_is_no_other_target(house: House) -> None:
    second = Playing(*WHOLE)
    first = Playing(TextDelta("Hel"), UpstreamFailed("gone"))
    with pytest.raises(UpstreamFailed, match="gone"):
        async with house.pipeline(first, second).run(call(stream=True)) as answer:
            await texts(answer)
    assert second.asked == []
    assert (house.record.ending, house.record.status) == ("failed", 200)
    assert house.record.usage.output == 1


async def test_what_another_target_cannot_help_is_not_asked_again(house: House) -> None:
    second = Playing(*WHOLE)
    with pytest.raises(EngineFailed):
        async with house.pipeline(Playing(EngineFailed("broke")), second).run(call()):
            pass
    assert second.asked == []
    assert (house.record.ending, house.record.status) == ("failed", 500)


async def test_the_last_targets_failure_is_what_the_caller_hears(house: House) -> None:
    failing = Playing(UpstreamFailed("one")), Playing(UpstreamTimedOut("two"))
    with pytest.raises(UpstreamTimedOut, match="two"):
        async with house.pipeline(*failing).run(call()):
            pass
    assert (house.record.ending, house.record.status, house.record.target) == ("failed", 504, "p1/m1")
    assert house.record.usage == TokenUsage()


async def test_a_model_that_loads_is_waited_for(house: House) -> None:
    loading = Loading(None, *WHOLE)
    async with house.pipeline(loading).run(call()) as answer:
        assert await texts(answer) == "Hello"
    assert loading.waited == 1


async def test_a_model_that_cannot_be_loaded_is_passed_over(house: House) -> None:
    loading = Loading(Refusal(Unavailable("loading")))
    async with house.pipeline(loading, Playing(*WHOLE)).run(call()) as answer:
        assert await texts(answer) == "Hello"
    assert loading.asked == []


@pytest.mark.parametrize(
    ("script", "limits"),
    [([], Timeouts()), ([asyncio.Event()], Timeouts(first_event=0.01)), ([USAGE], Timeouts())],
    ids=["nothing", "silence", "a report of nothing"],
)
async def test_an_empty_answer_is_a_failure(house: House, script: list[Any], limits: Timeouts) -> None:
    house.timeouts = limits
    script = [UsageReported(TokenUsage()) if step is USAGE else step for step in script]
    with pytest.raises((UpstreamFailed, UpstreamTimedOut)) as failure:
        async with house.pipeline(Playing(*script)).run(call()) as answer:
            await texts(answer)
    assert (house.record.ending, house.record.status) == ("failed", failure.value.status)


async def test_a_stream_that_stands_still_is_timed_out_and_its_source_closed(house: House) -> None:
    house.timeouts = Timeouts(between_events=0.01)
    provider = Playing(TextDelta("Hel"), asyncio.Event())
    with pytest.raises(UpstreamTimedOut):
        async with house.pipeline(provider).run(call(stream=True)) as answer:
            await texts(answer)
    assert provider.closed == 1
    assert house.record.ending == "failed"


async def test_a_caller_that_leaves_stops_the_source_and_is_charged_with_what_was_made(house: House) -> None:
    provider = Playing(TextDelta("Hel"), TextDelta("lo"), asyncio.Event())
    begun = asyncio.Event()

    async def answering() -> None:
        async with house.pipeline(provider).run(call(stream=True)) as answer:
            async for batch in answer.events:
                if TextDelta("lo") in batch:
                    begun.set()

    task = asyncio.create_task(answering())
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.closed == 1
    assert (house.record.ending, house.record.status, house.record.usage.output) == ("cancelled", 499, 2)
    assert house.record.usage_source == "counted"


@pytest.mark.parametrize(
    ("told", "expected"),
    [(RequestTimedOut(), ("refused", 408, "408")), (UpstreamTimedOut("late"), ("failed", 504, "Timeout"))],
    ids=["while the body comes", "while the model works"],
)
async def test_a_deadline_of_the_doors_is_recorded_as_what_the_caller_was_told(
    house: House, told: ModelportError, expected: tuple[str, int, str]
) -> None:
    never = asyncio.Event()
    waiting = call(why_cancelled=lambda: told, reads=never.wait if expected[1] == 408 else None)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), house.pipeline(Playing(asyncio.Event())).run(waiting):
            pass
    assert (house.record.ending, house.record.status, house.record.error_code) == expected


async def test_a_door_that_leaves_an_answer_early_closes_everything(house: House) -> None:
    provider = Playing(*WHOLE)
    async with house.pipeline(provider).run(call(stream=True)) as answer:
        await anext(answer.events)
    assert provider.closed == 1
    assert house.record.ending == "cancelled"


async def test_a_stranger_leaves_a_number_and_no_record(house: House) -> None:
    house.is_anonymous = False
    provider = Playing(*WHOLE)
    read: list[int] = []

    async def reads() -> bytes:
        read.append(1)
        return b"{}"

    with pytest.raises(Unauthenticated):
        async with house.pipeline(provider).run(call(reads=reads)):
            pass
    assert (list(ended_calls(house.directory)), provider.asked, read) == ([], [], [])
    assert [(record.status, record.principal) for record in house.seen.ended] == [(401, "")]


async def test_refusals_before_the_quota_leave_one_record_and_ask_nobody(house: House) -> None:
    async def nonsense() -> bytes:
        return b"nonsense"

    provider = Playing(*WHOLE)
    pipeline = house.pipeline(provider)
    for refused, error in ((call(reads=nonsense), MalformedBody), (call(model="no such"), DeploymentNotFound)):
        with pytest.raises(error):
            async with pipeline.run(refused):
                pass
    assert [(record.ending, record.status) for record in house.seen.ended] == [("refused", 400), ("refused", 404)]
    assert provider.asked == []


async def test_a_quota_that_is_used_up_refuses_and_is_given_back_after_failures(house: House) -> None:
    house.limits = RateLimits(concurrent_requests=1)
    hanging = house.pipeline(Playing(TextDelta("x"), asyncio.Event()))
    async with hanging.run(call(stream=True)):
        with pytest.raises(RateLimited):
            async with hanging.run(call()):
                pass
    for _ in range(3):
        async with hanging.run(call(stream=True)):
            pass
    assert [record.ending for record in house.seen.ended] == [
        "refused",
        "cancelled",
        "cancelled",
        "cancelled",
        "cancelled",
    ]


async def test_a_fault_of_ours_is_recorded_without_its_words(house: House) -> None:
    with pytest.raises(ZeroDivisionError):
        async with house.pipeline(Playing(ZeroDivisionError("secret words"))).run(call()):
            pass
    assert (house.record.ending, house.record.status, house.record.error_code) == ("failed", 500, "InternalServerError")
    assert "secret words" not in repr(house.record)


async def test_an_upstreams_400_before_anything_was_made_is_a_refusal(house: House) -> None:
    with pytest.raises(BadRequest):
        async with house.pipeline(Playing(BadRequest("no"))).run(call()):
            pass
    assert (house.record.ending, house.record.status, house.record.target) == ("refused", 400, "p0/m0")


async def test_a_call_that_cannot_be_recorded_reaches_no_model(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError("no space left")

    provider = Playing(*WHOLE)
    pipeline = house.pipeline(provider)
    monkeypatch.setattr(house.journal, "flush", full)
    with pytest.raises(Unavailable) as refusal:
        async with pipeline.run(call()):
            pass
    assert refusal.value.retry_after == 5
    assert "space" not in refusal.value.message
    assert provider.asked == []
