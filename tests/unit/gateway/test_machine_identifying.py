"""A call whose caller is known only after waiting: what may happen meanwhile, and what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_machine import WHOLE, Calling, House, Playing, Told

from modelport.auth import anonymous
from modelport.core.catalog import Snapshot
from modelport.core.errors import (
    BodyTooLarge,
    InternalError,
    ModelportError,
    RequestTimedOut,
    Unauthenticated,
    Unavailable,
    UpstreamTimedOut,
)
from modelport.core.identity import ANONYMOUS, Credential, Identified
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.gateway.machine import CallMachine
from modelport.stores.journal import ended_calls

KNOWN = Identified(ANONYMOUS)
STRANGER = Refusal(Unauthenticated(reason="unknown token"))


class Fetching:
    """core.ports.stages.Authenticator: waits until the test decides."""

    def __init__(self) -> None:
        self.decision: asyncio.Future[Identified | Refusal] = asyncio.get_running_loop().create_future()
        self.asked = 0

    def __call__(self, credential: Credential, snapshot: Snapshot, now: float) -> NeedsWaiting[Identified]:
        async def resume() -> Identified | Refusal:
            self.asked += 1
            return await self.decision

        return NeedsWaiting(resume)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.journal.stop()


async def waiting(house: House, provider: Playing) -> tuple[Calling, Fetching]:
    """A call that has begun, and waits."""
    fetching = Fetching()
    house.authenticators = (fetching,)
    calling = Calling(house.gateway(provider))
    calling.machine.begin()
    while not fetching.asked:
        await asyncio.sleep(0)
    return calling, fetching


async def answered(calling: Calling) -> Told:
    await asyncio.wait_for(calling.told.is_over.wait(), 20)
    assert calling.shell.over == 1
    assert calling.machine._gateway.running == 0
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    return calling.told


async def test_the_body_may_come_while_the_caller_is_not_known_yet(house: House) -> None:
    provider = Playing(*WHOLE)
    calling, fetching = await waiting(house, provider)
    assert not calling.shell.wants_body
    calling.machine.body_received(b"{}")
    assert (house.seen.started, provider.asked) == (0, [])
    fetching.decision.set_result(KNOWN)
    assert (await answered(calling)).data == b"Hello"
    assert (house.record.ending, house.record.principal) == ("completed", "anonymous")
    assert not calling.shell.wants_body


async def test_the_body_may_come_later(house: House) -> None:
    calling, fetching = await waiting(house, Playing(*WHOLE))
    fetching.decision.set_result(KNOWN)
    while not calling.shell.wants_body:
        await asyncio.sleep(0)
    calling.machine.body_received(b"{}")
    assert (await answered(calling)).data == b"Hello"
    assert house.record.ending == "completed"


@pytest.mark.parametrize("is_body_here", [False, True])
async def test_a_stranger_is_refused_after_waiting_and_its_body_is_not_read(house: House, is_body_here: bool) -> None:
    provider = Playing(*WHOLE)
    calling, fetching = await waiting(house, provider)
    if is_body_here:
        calling.machine.body_received(b"nonsense")
    fetching.decision.set_result(STRANGER)
    assert isinstance((await answered(calling)).error, Unauthenticated)
    assert (list(ended_calls(house.directory)), provider.asked) == ([], [])
    assert [(record.status, record.principal) for record in house.seen.ended] == [(401, "")]


async def test_a_stranger_may_be_known_to_the_next_authenticator(house: House) -> None:
    fetching = Fetching()
    fetching.decision.set_result(STRANGER)
    house.authenticators = (fetching, anonymous.authenticate)
    assert (await Calling(house.gateway(Playing(*WHOLE))).ended()).data == b"Hello"
    assert house.record.ending == "completed"


@pytest.mark.parametrize(
    ("fault", "told"), [(Unavailable("no key set"), Unavailable), (ValueError("secret words"), InternalError)]
)
async def test_what_cannot_be_fetched_ends_the_call(house: House, fault: Exception, told: type[ModelportError]) -> None:
    calling, fetching = await waiting(house, Playing(*WHOLE))
    fetching.decision.set_exception(fault)
    assert isinstance((await answered(calling)).error, told)
    assert list(ended_calls(house.directory)) == []


async def test_an_authenticator_that_fails_at_once_ends_the_call(house: House) -> None:
    def broken(*_: object) -> Any:
        raise ValueError("secret words")

    house.authenticators = (broken,)
    told = await Calling(house.gateway(Playing(*WHOLE))).ended()
    assert isinstance(told.error, InternalError)
    assert "secret" not in told.error.message


@pytest.mark.parametrize("decision", [KNOWN, STRANGER])
async def test_a_body_that_cannot_be_taken_is_refused_once_the_caller_is_known(
    house: House, decision: Identified | Refusal
) -> None:
    calling, fetching = await waiting(house, Playing(*WHOLE))
    calling.machine.refuse_body(BodyTooLarge(5))
    await asyncio.sleep(0)
    assert calling.shell.over == 0
    calling.machine.body_received(b"")
    fetching.decision.set_result(decision)
    told = await answered(calling)
    if decision is KNOWN:
        assert isinstance(told.error, BodyTooLarge)
        assert (house.record.ending, house.record.status) == ("refused", 413)
    else:
        assert isinstance(told.error, Unauthenticated)
        assert list(ended_calls(house.directory)) == []


MEANWHILE: dict[str, tuple[Callable[[CallMachine], None], type[ModelportError] | None]] = {
    "client gone": (CallMachine.client_gone, None),
    "deadline": (lambda call: call.sweep(601.0), UpstreamTimedOut),
    "drain": (CallMachine.end_now, Unavailable),
    "body late": (lambda call: call.turn_away(RequestTimedOut()), RequestTimedOut),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
async def test_a_call_that_ends_while_it_waits_leaves_nothing_behind(house: House, meanwhile: str) -> None:
    event, error = MEANWHILE[meanwhile]
    provider = Playing(*WHOLE)
    calling, fetching = await waiting(house, provider)
    if meanwhile != "body late":
        calling.machine.body_received(b"{}")
    event(calling.machine)
    if error is None:
        assert calling.shell.over == 1
        await asyncio.sleep(0)
    else:
        assert isinstance((await answered(calling)).error, error)
    assert fetching.decision.cancelled()
    for later in (CallMachine.client_gone, CallMachine.end_now, lambda call: call.sweep(602.0)):
        later(calling.machine)
    assert (calling.shell.over, calling.machine._gateway.running) == (1, 0)
    assert (list(ended_calls(house.directory)), provider.asked) == ([], [])
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
