"""Parts that no new call uses end when the calls of before have ended, and not sooner."""

from __future__ import annotations

import asyncio

from modelport.app.drain import Drain


class Calls:
    """Waits are let go one by one."""

    def __init__(self) -> None:
        self.waits: list[asyncio.Event] = []

    async def ended(self) -> None:
        self.waits.append(asyncio.Event())
        await self.waits[-1].wait()

    async def let_go(self, number: int) -> None:
        while len(self.waits) <= number:
            await asyncio.sleep(0)
        self.waits[number].set()
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_part_ends_after_the_calls_that_ran_when_it_was_retired() -> None:
    calls, ended = Calls(), []
    drain = Drain(calls.ended, 60)

    async def end(part: str) -> None:
        ended.append(part)

    drain.add({"one": lambda: end("one")})
    await asyncio.sleep(0)
    drain.add({"two": lambda: end("two")})
    assert ended == []
    await calls.let_go(0)
    assert ended == ["one"]
    await calls.let_go(1)
    assert ended == ["one", "two"]
    await drain.close()


async def test_a_part_that_is_retired_again_waits_for_the_later_calls() -> None:
    calls, ended = Calls(), []
    drain = Drain(calls.ended, 60)

    async def end() -> None:
        ended.append("one")

    drain.add({"one": end})
    await asyncio.sleep(0)
    drain.add({"one": end})
    await calls.let_go(0)
    assert ended == []
    await calls.let_go(1)
    assert ended == ["one"]
    await drain.close()


async def test_calls_that_never_end_are_waited_for_no_longer_than_calls_may_take() -> None:
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    drain = Drain(Calls().ended, 0.01)
    drain.add({"one": end})
    async with asyncio.timeout(30):
        await ended.wait()
    await drain.close()


async def test_a_part_that_cannot_be_closed_does_not_keep_the_others() -> None:
    ended = asyncio.Event()

    async def calls_ended() -> None:
        return

    async def fail() -> None:
        raise OSError

    async def end() -> None:
        ended.set()

    drain = Drain(calls_ended, 60)
    drain.add({"one": fail, "two": end})
    async with asyncio.timeout(30):
        await ended.wait()
    await drain.close()
