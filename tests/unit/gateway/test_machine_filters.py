"""Content filters as doubles in the call machine: each outcome of each stage, for whole and streamed answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_machine import STOP, USAGE, WHOLE, Calling, House, Playing, Told, Upstream, Wire, Words

from modelport.core.errors import ContentFiltered, InternalError, Unavailable
from modelport.core.events import Annotation, ChoiceFinished, Event, TextDelta
from modelport.core.identity import ANONYMOUS, Principal
from modelport.core.ports.filters import Annotations, ContentFilter, Cut
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, Request
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_answers import decoder
from modelport.gateway.machine import CallMachine

SAFE = Annotation({"hate": "safe"})
OF_TEXT = Annotation({"hate": "low"}, 0)
MADE: list[Any] = [TextDelta("Hel"), TextDelta("lo")]
Given = list[Event] | Cut | NeedsWaiting[list[Event] | Cut]


class Spoken(Words):
    """gateway.codec.StreamWriter: texts, reasons and verdicts as words."""

    def feed(self, events: Sequence[Event]) -> bytes:
        return "".join(map(word, events)).encode()


def word(event: Event) -> str:
    match event:
        case TextDelta():
            return event.text
        case ChoiceFinished():
            return f"<{event.reason}{event.choice or ''}>"
        case Annotation():
            return f"[{event.results['hate']}]"
        case _:
            return ""


def whole_words(head: object, request: Request, answer: Any, reasoning: str) -> bytes:
    """Such a stream, folded: what the surfaces of whole answers do not write yet is not there."""
    return "".join(f"{one.content}<{one.finish_reason}{one.index or ''}>" for one in answer.choices).encode()


class Filter:
    """core.ports.filters.CompletionFilter: gives what the test says of each event, and of the end."""

    def __init__(self, fed: Callable[[Event], Given], ended: Callable[[], Given] = list) -> None:
        self.fed, self.ended = fed, ended
        self.seen: list[Event] = []
        self.has_ended = self.is_cut = self.is_waiting = False
        self.made_for: tuple[str, Principal, Request] | None = None

    def __call__(self, policy: str, principal: Principal, request: Request) -> Filter:
        assert self.made_for is None
        self.made_for = policy, principal, request
        return self

    def feed(self, events: list[Event]) -> Given:
        assert not (self.has_ended or self.is_cut or self.is_waiting)
        (event,) = events
        self.seen.append(event)
        return self._given(self.fed(event))

    def end(self) -> Given:
        assert not (self.has_ended or self.is_cut or self.is_waiting)
        self.has_ended = True
        return self._given(self.ended())

    def _given(self, given: Given) -> Given:
        self.is_cut = isinstance(given, Cut)
        if not isinstance(given, NeedsWaiting):
            return given
        self.is_waiting = True

        async def resume() -> list[Event] | Cut | Refusal:
            value = await given.resume()
            self.is_waiting, self.is_cut = False, isinstance(value, Cut)
            return value

        return NeedsWaiting(resume)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0)


class Decision:
    """What a stage waits for, until the test decides."""

    def __init__(self) -> None:
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked = 0

    def __call__(self) -> NeedsWaiting[Any]:
        async def resume() -> Any:
            self.asked += 1
            return await self.value

        return NeedsWaiting(resume)

    async def is_awaited(self) -> None:
        await until(lambda: self.asked > 0)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("test_machine.Words", Spoken)
    monkeypatch.setattr("test_machine.whole_words", whole_words)
    house = House(tmp_path)
    house.content_filter = "strict"
    yield house
    house.journal.stop()


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def answered(calling: Calling) -> Told:
    await asyncio.wait_for(calling.told.is_over.wait(), 20)
    await asyncio.sleep(0)
    assert (calling.shell.over, calling.machine._gateway.running) == (1, 0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    return calling.told


def begun(house: House, filters: ContentFilter, provider: Any, **asked: Any) -> Calling:
    house.filters = {"strict": filters}
    calling = Calling(house.gateway(provider), **asked)
    calling.machine.begin()
    calling.machine.body_received(b"{}")
    return calling


def passing(event: Event) -> Given:
    return [event]


async def test_a_filter_may_pass_everything_on(house: House, streamed: bool) -> None:
    seen = Filter(passing)
    told = await answered(begun(house, ContentFilter(completion=seen), Playing(*WHOLE), stream=streamed))
    assert told.data == b"Hello<stop>" + b"|end" * streamed
    assert seen.seen == WHOLE[:-1], "all but the counts"
    assert seen.has_ended
    assert seen.made_for is not None
    policy, principal, request = seen.made_for
    assert (policy, principal) == ("strict", ANONYMOUS)
    assert isinstance(request, ChatRequest)
    assert (house.record.ending, house.record.status, house.record.usage) == ("completed", 200, USAGE.usage)


async def test_a_filter_may_hold_back_until_the_end(house: House, streamed: bool) -> None:
    held: list[Event] = []

    def hold(event: Event) -> Given:
        held.append(event)
        return []

    more = asyncio.Event()
    filters = ContentFilter(completion=Filter(hold, lambda: held))
    calling = begun(house, filters, Playing(*MADE, more, STOP, USAGE), stream=streamed)
    await until(lambda: held == MADE)
    assert (calling.told.data, calling.told.response_started) == (b"", False)
    more.set()
    assert (await answered(calling)).data == b"Hello<stop>" + b"|end" * streamed
    assert house.record.usage == USAGE.usage


async def test_a_filter_may_wait_and_what_comes_meanwhile_waits_too(house: House, streamed: bool) -> None:
    decision = Decision()
    waiting = Filter(lambda event: decision() if event == MADE[0] else [event])
    calling = begun(house, ContentFilter(completion=waiting), Playing(*MADE, STOP, USAGE), stream=streamed)
    await decision.is_awaited()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (waiting.seen, calling.told.data) == ([MADE[0]], b"")
    decision.value.set_result([TextDelta("Hal")])
    assert (await answered(calling)).data == b"Hallo<stop>" + b"|end" * streamed
    assert house.record.usage == USAGE.usage


async def test_a_filter_may_wait_at_the_end(house: House, streamed: bool) -> None:
    decision = Decision()
    calling = begun(
        house, ContentFilter(completion=Filter(passing, decision)), Playing(*MADE, STOP, USAGE), stream=streamed
    )
    await decision.is_awaited()
    assert not calling.told.response_complete
    decision.value.set_result([OF_TEXT])
    assert (await answered(calling)).data == (b"Hello<stop>[low]|end" if streamed else b"Hello<stop>")
    assert house.record.ending == "completed"


async def test_a_filter_may_annotate(house: House, streamed: bool) -> None:
    annotating = Filter(lambda event: [OF_TEXT, event] if event == MADE[0] else [event])
    told = await answered(
        begun(house, ContentFilter(completion=annotating), Playing(*MADE, STOP, USAGE), stream=streamed)
    )
    assert told.data == (b"[low]Hello<stop>|end" if streamed else b"Hello<stop>")
    assert house.record.usage == USAGE.usage


async def test_a_filter_may_cut_the_answer_and_what_was_made_is_metered(house: House, streamed: bool) -> None:
    provider = Playing(*MADE, asyncio.Event(), *WHOLE)
    cutting = Filter(lambda event: [event] if event == MADE[0] else Cut([OF_TEXT]))
    told = await answered(begun(house, ContentFilter(completion=cutting), provider, stream=streamed))
    assert told.data == (b"Hel[low]<content_filter>|end" if streamed else b"Hel<content_filter>")
    assert provider.closed == 1, "its work is stopped"
    assert (house.record.ending, house.record.status) == ("completed", 200)
    assert (house.record.usage.output, house.record.usage_source) == (2, "counted")


async def test_a_filter_may_cut_after_waiting(house: House, streamed: bool) -> None:
    decision, provider = Decision(), Playing(*MADE, asyncio.Event())
    calling = begun(house, ContentFilter(completion=Filter(lambda _: decision())), provider, stream=streamed)
    await decision.is_awaited()
    decision.value.set_result(Cut())
    assert (await answered(calling)).data == b"<content_filter>" + b"|end" * streamed
    assert provider.closed == 1
    assert (house.record.ending, house.record.usage_source) == ("completed", "counted")
    assert house.record.usage.output >= 1


@pytest.mark.parametrize("waits", [False, True])
async def test_a_filter_may_cut_at_the_end(house: House, streamed: bool, waits: bool) -> None:
    decision = Decision()
    cut = Cut([TextDelta("Hel")])
    decision.value.set_result(cut)
    holding = Filter(lambda _: [], decision if waits else lambda: cut)
    told = await answered(begun(house, ContentFilter(completion=holding), Playing(*WHOLE), stream=streamed))
    assert told.data == b"Hel<content_filter>" + b"|end" * streamed
    assert (house.record.ending, house.record.usage) == ("completed", USAGE.usage)


async def test_only_choices_that_are_still_open_are_cut(house: House, streamed: bool) -> None:
    script = [TextDelta("a"), TextDelta("b", 1), STOP, TextDelta("c", 1), asyncio.Event()]
    cutting = Filter(lambda event: Cut() if event == script[3] else [event])
    filters = ContentFilter(completion=cutting)
    told = await answered(begun(house, filters, Playing(*script), stream=streamed, choices=3))
    if streamed:
        assert told.data == b"ab<stop><content_filter1><content_filter2>|end"
    else:
        assert told.data == b"a<stop>b<content_filter1><content_filter2>"
    assert house.record.usage.output == 3


async def test_a_cut_stops_a_target_that_is_reached_over_the_network(house: House, streamed: bool) -> None:
    cutting = Filter(lambda event: Cut() if event == TextDelta("lo") else [event])
    house.filters = {"strict": ContentFilter(completion=cutting)}
    wire = Wire(200, b"Hel", b"lo", b"and more")
    calling = Calling(house.gateway(Upstream(), transport=wire), stream=streamed)
    told = await calling.ended()
    assert told.data == b"Hel<content_filter>" + b"|end" * streamed
    await answered(calling)
    assert (wire.open, cutting.seen) == (0, [TextDelta("Hel"), TextDelta("lo")])
    assert (house.record.ending, house.record.usage.output) == ("completed", 2)


async def test_a_filter_that_cannot_judge_ends_the_answer_with_its_error(house: House, streamed: bool) -> None:
    decision = Decision()
    decision.value.set_result(Refusal(Unavailable("the filter is gone")))
    waiting = Filter(lambda event: decision() if event == MADE[1] else [event])
    provider = Playing(*MADE, asyncio.Event())
    told = await answered(begun(house, ContentFilter(completion=waiting), provider, stream=streamed))
    if streamed:
        assert told.data == b"Hel|broken: the filter is gone"
    else:
        assert isinstance(told.error, Unavailable)
    assert provider.closed == 1
    assert (house.record.ending, house.record.usage.output) == ("failed", 2)


ENDINGS: dict[str, Callable[[CallMachine], None]] = {
    "cancelled": CallMachine.client_gone,
    "failed": lambda call: call.sweep(601.0),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("at_the_end", [False, True])
async def test_a_call_that_ends_while_its_filter_waits_meters_what_was_made(
    house: House, streamed: bool, ending: str, at_the_end: bool
) -> None:
    decision = Decision()
    waiting = Filter(passing, decision) if at_the_end else Filter(lambda _: decision())
    provider = Playing(*MADE, STOP) if at_the_end else Playing(MADE[0], asyncio.Event())
    calling = begun(house, ContentFilter(completion=waiting), provider, stream=streamed)
    await decision.is_awaited()
    ENDINGS[ending](calling.machine)
    await until(lambda: decision.value.cancelled() and provider.closed > 0)
    assert calling.shell.over == 1
    assert (house.record.ending, house.record.usage.output) == (ending, 2 if at_the_end else 1)
    seen = 499 if ending == "cancelled" else 200 if streamed and at_the_end else 504  # what is held back is not seen
    assert house.record.status == seen


def judging(given: Any) -> Callable[[str, Principal, Request], Any]:
    """core.ports.filters.PromptFilter"""

    def judge(policy: str, principal: Principal, request: Request) -> Refusal | NeedsWaiting[Annotations] | Annotations:
        assert (policy, principal) == ("strict", ANONYMOUS)
        assert isinstance(request, ChatRequest)
        return given() if isinstance(given, Decision) else given

    return judge


@pytest.mark.parametrize("waits", [False, True])
async def test_a_prompt_may_be_refused(house: House, streamed: bool, waits: bool) -> None:
    refusal, decision, provider = Refusal(ContentFiltered({"hate": "high"})), Decision(), Playing(*WHOLE)
    filters = ContentFilter(prompt=judging(decision if waits else refusal))
    calling = begun(house, filters, provider, stream=streamed)
    if waits:
        await decision.is_awaited()
        decision.value.set_result(refusal)
    assert (await answered(calling)).error is refusal.error
    assert provider.asked == []
    assert (house.record.ending, house.record.status, house.record.error_code) == ("refused", 400, "content_filter")
    assert (house.record.usage, house.record.usage_source) == (TokenUsage(), "none")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("is_filtered", [False, True])
async def test_what_is_said_of_a_prompt_comes_before_the_answer(
    house: House, streamed: bool, waits: bool, is_filtered: bool
) -> None:
    decision, provider = Decision(), Playing(*WHOLE)
    filters = ContentFilter(
        prompt=judging(decision if waits else (SAFE,)),
        completion=Filter(lambda event: [event] if type(event) is not TextDelta else [OF_TEXT, event])
        if is_filtered
        else None,
    )
    calling = begun(house, filters, provider, stream=streamed)
    if waits:
        await decision.is_awaited()
        assert provider.asked == []
        decision.value.set_result((SAFE,))
    told = await answered(calling)
    if not streamed:
        assert told.data == b"Hello<stop>"
    elif is_filtered:
        assert told.data == b"[safe][low]Hel[low]lo<stop>|end"
    else:
        assert told.data == b"[safe]Hello<stop>|end"
    assert (house.record.ending, house.record.usage) == ("completed", USAGE.usage)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_call_that_ends_while_its_prompt_is_judged_asks_no_target(
    house: House, streamed: bool, ending: str
) -> None:
    decision, provider = Decision(), Playing(*WHOLE)
    calling = begun(house, ContentFilter(prompt=judging(decision)), provider, stream=streamed)
    await decision.is_awaited()
    ENDINGS[ending](calling.machine)
    await until(decision.value.cancelled)
    assert (calling.shell.over, provider.asked) == (1, [])
    assert (house.record.ending, house.record.usage) == (ending, TokenUsage())


async def test_a_policy_without_filters_is_never_taken_for_a_neutral_one(house: House, streamed: bool) -> None:
    provider = Playing(*WHOLE)
    told = await Calling(house.gateway(provider), stream=streamed).ended()
    assert isinstance(told.error, InternalError)
    assert (provider.asked, house.record.status) == ([], 500)


@pytest.mark.parametrize("is_filtered", [False, True])
async def test_text_is_relayed_undecoded_only_without_a_filter(
    house: House, is_filtered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spoken, "text_frame", lambda *_: (b"{", b"}"))  # what is relayed stands in braces
    monkeypatch.setattr(Upstream, "decoder", lambda _, request: decoder(request))
    texts = [f"t{number}" for number in range(6)]
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    sent = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in [*chunks, last]]
    seen = Filter(passing)
    house.filters = {"strict": ContentFilter(completion=seen if is_filtered else None)}
    wire = Wire(200, *sent, b"data: [DONE]\n\n")
    told = await Calling(house.gateway(Upstream(), transport=wire), stream=True).ended()
    if is_filtered:
        assert told.data == b"t0t1t2t3t4t5<stop>|end"
        assert [event.text for event in seen.seen if isinstance(event, TextDelta)] == texts
    else:
        assert b'{"t5"}' in told.data
    assert house.record.usage.output == 6
