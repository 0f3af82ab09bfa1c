"""The call machine, with everything around it stood in for: order, failover, cancellation, and the record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from plans import arrival_of, head_of

from modelport.auth import anonymous
from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target, Timeouts
from modelport.core.content import Message
from modelport.core.errors import (
    BadRequest,
    DeploymentNotFound,
    EngineFailed,
    InternalError,
    MalformedBody,
    ModelportError,
    RequestTimedOut,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    UpstreamTimedOut,
)
from modelport.core.events import Answered, ChoiceFinished, Event, FinishReason, TextDelta, UsageReported
from modelport.core.limit_errors import RateLimited
from modelport.core.operations import Operation
from modelport.core.ports.filters import ContentFilter
from modelport.core.ports.providers import Address, Codec, OpeningProvider, UpstreamRequest
from modelport.core.ports.records import UnknownCaller
from modelport.core.ports.stages import Authenticator, NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, Request
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.gateway.call import Asking, Origin, Receiver, Written
from modelport.gateway.codec import Speech
from modelport.gateway.gateway import Gateway
from modelport.gateway.lease import write_out
from modelport.gateway.machine import CallMachine
from modelport.gateway.pipeline import Pipeline
from modelport.stores.journal import FileJournal, ended_calls
from modelport.stores.memory.quota import MemoryQuota
from modelport.upstream import pushing

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

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        self.ended.append(record)


class Playing(OpeningProvider):
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


class Upstream(Codec):
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

            def reported(self) -> list[Event]:
                return []

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
    """A gateway and everything it leaves behind."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.journal = FileJournal(directory)
        self.seen = Seen()
        self.is_anonymous = True
        self.filters: dict[str, ContentFilter] = {}
        self.content_filter = "Microsoft.Nill"
        self.authenticators: tuple[Authenticator, ...] = (anonymous.authenticate,)
        self.limits = RateLimits()
        self.timeouts = Timeouts()

    def gateway(self, *providers: Any, transport: Any = None) -> Gateway:
        """The providers are asked in this order."""
        named = {f"p{number}": provider for number, provider in enumerate(providers)}
        targets = tuple(Target(name, f"m{number}", priority=number) for number, name in enumerate(named))
        deployment = Deployment(
            name="Large",
            model=Model("Custom", "m"),
            targets=targets,
            content_filter=self.content_filter,
            limits=self.limits,
            timeouts=self.timeouts,
        )
        known = Snapshot(id="s1", deployments={"large": deployment}, default="large", anonymous=self.is_anonymous)
        clock = Clock()
        pipeline = Pipeline(
            snapshot=lambda: known,
            runtime=Runtime(named, transport),
            authenticators=self.authenticators,
            quota=MemoryQuota(clock),
            journal=self.journal,
            observer=self.seen,
            clock=clock,
            random=Random(0),
            filters=self.filters,
        )
        return Gateway(pipeline, states=list, metrics=bytes)

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


class Words:
    """gateway.codec.StreamWriter: the texts as they are."""

    def feed(self, events: Sequence[Event]) -> bytes:
        return "".join(event.text for event in events if isinstance(event, TextDelta)).encode()

    def text_frame(self, extra: object) -> None:
        return None

    def end(self) -> bytes:
        return b"|end"

    def broken(self, error: ModelportError) -> bytes:
        return b"|broken: " + error.message.encode()


def whole_words(head: object, request: Request, answer: Any, reasoning: str) -> bytes:
    return str(answer.choices[0].content).encode()


class Told:
    """gateway.call.Reply: what a client would have seen."""

    def __init__(self) -> None:
        self.response_started = self.response_complete = False
        self.origin: Origin | None = None
        self.data = b""
        self.error: ModelportError | None = None
        self.ends = 0
        self.is_over = asyncio.Event()

    def whole(self, body: bytes, origin: Origin) -> None:
        self.origin = origin
        self.last(body)

    def stream(self, origin: Origin) -> None:
        self.response_started, self.origin = True, origin

    def piece(self, data: bytes) -> None:
        assert not self.response_complete
        self.data += data

    def flush(self) -> None: ...

    def last(self, data: bytes) -> None:
        self.piece(data)
        self.abandoned()

    def refuse(self, error: ModelportError) -> None:
        assert not self.response_started
        self.error = error
        self.abandoned()

    def cut(self, last_word: bytes) -> None:
        assert self.response_started
        self.last(last_word)

    def abandoned(self) -> None:
        assert not self.response_complete
        self.response_complete = True


class Connection:
    """gateway.call.Shell on a loop, whose clock is the test's."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.time = 0.0
        self.blocked = False
        self.over = 0
        self.wants_body = False

    def now(self) -> float:
        return self.time

    def is_blocked(self) -> bool:
        return self.blocked

    def when_written(self, call: Written) -> None:
        asyncio.get_running_loop().call_soon(self._write, call)

    def _write(self, call: Written) -> None:
        try:
            write_out(self.gateway.pipeline.journal)
        except ModelportError as error:
            call.written(error)
        else:
            call.written(None)

    def write_lines(self) -> None:
        self.gateway.pipeline.journal.flush()

    def ask(self, provider: Any, request: UpstreamRequest, timeouts: Timeouts, receiver: Receiver) -> Asking:
        return pushing.asked(self.gateway.pipeline.runtime.transport, provider.address, request, timeouts, receiver)

    def make(
        self, provider: Any, request: Request, deployment: Deployment, target: Target, receiver: Receiver
    ) -> Asking:
        return pushing.made(provider, request, deployment, target, receiver)

    def wait(self, resume: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> asyncio.Task[None]:
        async def waited() -> None:
            try:
                value = await resume()
            except Exception as error:
                done(None, error)
            else:
                done(value, None)

        return asyncio.create_task(waited())

    def later(self, seconds: float, step: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, step)

    def want_body(self) -> None:
        self.wants_body = True

    def when_read(self, step: Callable[[], None]) -> None:
        step()

    def call_over(self, reply: object) -> None:
        self.over += 1
        assert isinstance(reply, Told)
        reply.is_over.set()


class Calling:
    """One call under way."""

    def __init__(
        self, gateway: Gateway, *, stream: bool = False, model: str | None = "LARGE", choices: int | None = None
    ) -> None:
        extra = {} if choices is None else {"n": choices}

        def decode(body: bytes) -> Request:
            if body != b"{}":
                raise MalformedBody("The body is no JSON object.")
            return ChatRequest(
                messages=(Message(role="user", content="Hello"),), model=model, stream=stream, extra=extra
            )

        head = head_of(
            decode=decode,
            speech=Speech(
                decode=lambda body, _: decode(body),
                whole=whole_words,
                stream=lambda *_: Words(),
                new_id=lambda: "id",
            ),
            checks_extras=True,
            extra_parameters="pass-through" if extra else None,
        )
        arrival = arrival_of("call-1", "theirs", head=lambda: head)
        self.shell, self.told = Connection(gateway), Told()
        self.machine = CallMachine(gateway, self.shell, self.told, arrival)

    async def ended(self, body: bytes = b"{}") -> Told:
        """All of it."""
        self.machine.begin()
        self.machine.body_received(body)
        await asyncio.wait_for(self.told.is_over.wait(), 20)
        assert self.shell.over == 1
        return self.told

    async def under_way(self, data: bytes = b"") -> None:
        """As far as these bytes of its answer, or as its target."""
        self.machine.begin()
        self.machine.body_received(b"{}")
        while self.told.data != data or (not data and self.machine._asking is None):
            await asyncio.sleep(0)


async def test_an_answer_passes_and_leaves_its_record(house: House) -> None:
    told = await Calling(house.gateway(Playing(*WHOLE)), stream=True).ended()
    assert told.data == b"Hello|end"
    assert told.origin is not None
    assert (told.origin.deployment.name, told.origin.snapshot.id) == ("Large", "s1")
    record = house.record
    assert (record.id, record.client_request_id, record.principal) == ("call-1", "theirs", "anonymous")
    assert (record.surface, record.operation, record.streamed) == ("openai_v1", "chat_completions", True)
    assert (record.requested_model, record.deployment, record.answered_model) == ("LARGE", "Large", "far-model")
    assert (record.target, record.status, record.ending) == ("p0/m0", 200, "completed")
    assert (record.usage, record.usage_source) == (USAGE.usage, "reported")
    assert record.snapshot == "s1"


async def test_the_last_bytes_wait_for_the_record(house: House) -> None:
    calling = Calling(house.gateway(Playing(*WHOLE)))
    written: list[list[str]] = []
    told, last = calling.told, calling.told.last

    def noted(data: bytes) -> None:
        written.append([record.ending for record in ended_calls(house.directory)])
        last(data)

    told.last = noted  # type: ignore[method-assign]
    await calling.ended()
    assert written == [["completed"]]


async def test_a_codec_is_driven_over_the_transport_which_is_left_at_the_end(house: House) -> None:
    wire = Wire(200, b"Hel", b"", b"lo")
    assert (await Calling(house.gateway(Upstream(), transport=wire)).ended()).data == b"Hello"
    await asyncio.sleep(0)
    assert wire.open == 0
    assert [request.body for request in wire.sent] == [b"m0"]


async def test_an_upstreams_refusal_is_translated_and_the_next_target_asked(house: House) -> None:
    wire = Wire(500)
    assert (await Calling(house.gateway(Upstream(), Playing(*WHOLE), transport=wire)).ended()).data == b"Hello"
    assert wire.open == 0
    assert house.record.target == "p1/m1"


async def test_after_the_first_event_there_is_no_other_target(house: House) -> None:
    second = Playing(*WHOLE)
    first = Playing(TextDelta("Hel"), UpstreamFailed("gone"))
    assert (await Calling(house.gateway(first, second), stream=True).ended()).data == b"Hel|broken: gone"
    assert second.asked == []
    assert (house.record.ending, house.record.status) == ("failed", 200)
    assert house.record.usage.output == 1


async def test_what_another_target_cannot_help_is_not_asked_again(house: House) -> None:
    second = Playing(*WHOLE)
    told = await Calling(house.gateway(Playing(EngineFailed("broke")), second)).ended()
    assert isinstance(told.error, EngineFailed)
    assert second.asked == []
    assert (house.record.ending, house.record.status) == ("failed", 500)


async def test_the_last_targets_failure_is_what_the_caller_hears(house: House) -> None:
    failing = Playing(UpstreamFailed("one")), Playing(UpstreamTimedOut("two"))
    told = await Calling(house.gateway(*failing)).ended()
    assert told.error is not None
    assert told.error.message == "two"
    assert (house.record.ending, house.record.status, house.record.target) == ("failed", 504, "p1/m1")
    assert house.record.usage == TokenUsage()


async def test_a_model_that_loads_is_waited_for(house: House) -> None:
    loading = Loading(None, *WHOLE)
    assert (await Calling(house.gateway(loading)).ended()).data == b"Hello"
    assert loading.waited == 1


async def test_a_model_that_cannot_be_loaded_is_passed_over(house: House) -> None:
    loading = Loading(Refusal(Unavailable("loading")))
    assert (await Calling(house.gateway(loading, Playing(*WHOLE))).ended()).data == b"Hello"
    assert loading.asked == []


@pytest.mark.parametrize(
    ("script", "limits"),
    [([], Timeouts()), ([asyncio.Event()], Timeouts(first_event=0.01)), ([USAGE], Timeouts())],
    ids=["nothing", "silence", "a report of nothing"],
)
async def test_an_empty_answer_is_a_failure(house: House, script: list[Any], limits: Timeouts) -> None:
    house.timeouts = limits
    script = [UsageReported(TokenUsage()) if step is USAGE else step for step in script]
    told = await Calling(house.gateway(Playing(*script))).ended()
    assert isinstance(told.error, UpstreamFailed | UpstreamTimedOut)
    assert (house.record.ending, house.record.status) == ("failed", told.error.status)


async def test_a_stream_that_stands_still_is_timed_out_and_its_source_closed(house: House) -> None:
    house.timeouts = Timeouts(between_events=0.01)
    provider = Playing(TextDelta("Hel"), asyncio.Event())
    told = await Calling(house.gateway(provider), stream=True).ended()
    assert told.data.startswith(b"Hel|broken")
    assert provider.closed == 1
    assert house.record.ending == "failed"


async def test_a_caller_that_leaves_stops_the_source_and_is_charged_with_what_was_made(house: House) -> None:
    provider = Playing(TextDelta("Hel"), TextDelta("lo"), asyncio.Event())
    calling = Calling(house.gateway(provider), stream=True)
    await calling.under_way(b"Hello")
    calling.machine.client_gone()
    while not provider.closed:
        await asyncio.sleep(0)
    assert (house.record.ending, house.record.status, house.record.usage.output) == ("cancelled", 499, 2)
    assert house.record.usage_source == "counted"


async def test_a_body_that_is_late_is_recorded_as_what_the_caller_was_told(house: House) -> None:
    calling = Calling(house.gateway(Playing(*WHOLE)))
    calling.machine.begin()
    calling.machine.turn_away(RequestTimedOut())
    await calling.told.is_over.wait()
    assert isinstance(calling.told.error, RequestTimedOut)
    assert (house.record.ending, house.record.status, house.record.error_code) == ("refused", 408, "408")


async def test_a_deadline_is_recorded_as_what_the_caller_was_told(house: House) -> None:
    calling = Calling(house.gateway(Playing(asyncio.Event())))
    await calling.under_way()
    calling.machine.sweep(599.0)
    assert calling.shell.over == 0
    calling.machine.sweep(601.0)
    assert isinstance(calling.told.error, UpstreamTimedOut)
    assert (house.record.ending, house.record.status, house.record.error_code) == ("failed", 504, "Timeout")


async def test_a_stranger_leaves_a_number_and_no_record(house: House) -> None:
    house.is_anonymous = False
    provider = Playing(*WHOLE)
    calling = Calling(house.gateway(provider))
    calling.machine.begin()
    assert not calling.shell.wants_body
    calling.machine.body_received(b"{}")
    await calling.told.is_over.wait()
    assert isinstance(calling.told.error, Unauthenticated)
    assert (list(ended_calls(house.directory)), provider.asked) == ([], [])
    assert [(record.status, record.principal) for record in house.seen.ended] == [(401, "")]


async def test_refusals_before_the_quota_leave_one_record_and_ask_nobody(house: House) -> None:
    provider = Playing(*WHOLE)
    gateway = house.gateway(provider)
    assert isinstance((await Calling(gateway).ended(b"nonsense")).error, MalformedBody)
    assert isinstance((await Calling(gateway, model="no such").ended()).error, DeploymentNotFound)
    assert [(record.ending, record.status) for record in house.seen.ended] == [("refused", 400), ("refused", 404)]
    assert provider.asked == []


async def test_while_the_server_ends_new_calls_are_turned_away_without_a_record(house: House) -> None:
    gateway = house.gateway(Playing(*WHOLE))
    gateway.draining = True
    told = await Calling(gateway).ended()
    assert isinstance(told.error, Unavailable)
    assert (house.seen.started, house.seen.ended, gateway.running) == (0, [], 0)


async def test_a_quota_that_is_used_up_refuses_and_is_given_back_after_failures(house: House) -> None:
    house.limits = RateLimits(concurrent_requests=1)
    gateway = house.gateway(Playing(TextDelta("x"), asyncio.Event()))
    for _ in range(3):
        hanging = Calling(gateway, stream=True)
        await hanging.under_way(b"x")
        assert isinstance((await Calling(gateway).ended()).error, RateLimited)
        hanging.machine.client_gone()
    assert [record.ending for record in house.seen.ended] == ["refused", "cancelled"] * 3
    assert gateway.running == 0


async def test_a_fault_of_ours_is_recorded_without_its_words(house: House) -> None:
    told = await Calling(house.gateway(Playing(ZeroDivisionError("secret words")))).ended()
    assert isinstance(told.error, InternalError)
    assert (house.record.ending, house.record.status, house.record.error_code) == ("failed", 500, "InternalServerError")
    assert "secret words" not in repr(house.record)


async def test_an_upstreams_400_before_anything_was_made_is_a_refusal(house: House) -> None:
    assert isinstance((await Calling(house.gateway(Playing(BadRequest("no")))).ended()).error, BadRequest)
    assert (house.record.ending, house.record.status, house.record.target) == ("refused", 400, "p0/m0")


async def test_a_call_that_cannot_be_recorded_reaches_no_model(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError("no space left")

    provider = Playing(*WHOLE)
    gateway = house.gateway(provider)
    monkeypatch.setattr(house.journal, "flush", full)
    monkeypatch.setattr(Connection, "write_lines", lambda _: None)
    told = await Calling(gateway).ended()
    assert isinstance(told.error, Unavailable)
    assert told.error.retry_after == 5
    assert "space" not in told.error.message
    assert provider.asked == []


async def received(calling: Calling) -> None:
    calling.machine.begin()
    calling.machine.body_received(b"{}")


async def begun(calling: Calling) -> None:
    calling.machine.begin()


async def turned_away(calling: Calling) -> None:
    calling.machine.begin()
    calling.machine.turn_away(BadRequest("no"))


async def loading(calling: Calling) -> None:
    await received(calling)
    while calling.machine._waiting is None:
        await asyncio.sleep(0)


async def asking(calling: Calling) -> None:
    await calling.under_way()


async def answering(calling: Calling) -> None:
    await calling.under_way(b"Hel")


async def over(calling: Calling) -> None:
    await received(calling)
    calling.machine.client_gone()


STATES = [begun, received, turned_away, loading, asking, answering, over]
EVENTS: dict[str, Callable[[CallMachine], None]] = {
    "the body": lambda call: call.body_received(b"{}"),
    "written": lambda call: call.written(None),
    "not written": lambda call: call.written(Unavailable("full")),
    "a head": lambda call: call.answer_began(200, list) if hasattr(call, "_asked") and call._asked.codec else None,
    "events": lambda call: call.events_made([TextDelta("more")]) if hasattr(call, "answering") else None,
    "the end": lambda call: call.answer_ended() if hasattr(call, "answering") and call._decoder else None,
    "a failure": lambda call: call.answer_failed(UpstreamFailed("gone")) if hasattr(call, "_target") else None,
    "a fault": lambda call: call.answer_failed(ValueError("ours")) if hasattr(call, "_target") else None,
    "client gone": CallMachine.client_gone,
    "client slow": CallMachine.pause,
    "client ready": CallMachine.resume,
    "deadline": lambda call: call.sweep(601.0),
    "drain": CallMachine.end_now,
    "body refused": lambda call: call.turn_away(RequestTimedOut()) if call._is_reading else None,
}


OF_A_TARGET = {"the end", "a failure", "a fault"}


class Slow(Playing):
    """Loads for ever."""

    def readiness(self) -> NeedsWaiting[None]:
        async def resume() -> Refusal | None:
            await asyncio.Event().wait()
            return None

        return NeedsWaiting(resume)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_every_state_answers_every_two_events_and_leaves_one_record(
    tmp_path: Path, state: Callable[[Calling], Any], first: str
) -> None:
    for number, second in enumerate(EVENTS):
        house = House(tmp_path / str(number))
        await play(house, state, first, second)
        house.journal.stop()


async def play(house: House, state: Callable[[Calling], Any], first: str, second: str) -> None:
    script = [TextDelta("Hel"), asyncio.Event()] if state is answering else [asyncio.Event()]
    gateway = house.gateway(Slow(*script) if state is loading else Playing(*script))
    calling = Calling(gateway, stream=True)
    await state(calling)
    EVENTS[first](calling.machine)
    EVENTS[second](calling.machine)
    await asyncio.sleep(0)
    calling.machine.client_gone()
    for _ in range(5):
        await asyncio.sleep(0)
    house.journal.flush()
    assert calling.shell.over == 1, second
    assert gateway.running == 0, second
    assert house.record.id == "call-1", second
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if not {first, second} & OF_A_TARGET:  # a real one would have ended
        assert left == [], second
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
