"""Workers that end before anybody has heard of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from modelport.app.processes.fleet import Fleet
from modelport.app.processes.nursery_process import NurseryProcess

FIRST, SECOND = 2**30 + 1, 2**30 + 2
"""Numbers that no process has."""


class ScriptedNursery:
    """Its first child has ended by the time that its number arrives."""

    is_gone = False

    def __init__(self, ended: Callable[[int, int], None]) -> None:
        self._ended = ended
        self._children = [FIRST, SECOND]

    async def fork(self, listener: int) -> int:
        child = self._children.pop(0)
        if child == FIRST:
            self._ended(child, -9)
        return child


async def test_a_worker_that_has_ended_before_it_is_known_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def started(plan: Any, ended: Callable[[int, int], None], gone: Any) -> tuple[ScriptedNursery, str]:
        return ScriptedNursery(ended), {"server.workers": "1"}

    monkeypatch.setattr(NurseryProcess, "started", started)
    plan: Any = SimpleNamespace(listeners=(3,))
    fleet = Fleet(plan, lambda _: None)
    starting = asyncio.create_task(fleet.start({"server.workers": "1"}))
    (place,) = fleet.places
    async with asyncio.timeout(10):
        while place.member is None or place.member.process_id != SECOND:
            await asyncio.sleep(0)
        fleet.serves(place.member)
        await starting
    assert (list(fleet.members), fleet.restarts) == ([SECOND], 1)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
