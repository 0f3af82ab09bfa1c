"""The workers, as the owner has them: one for each listening socket, replaced when it ends, drained and retired."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from modelport.app.processes.nursery_process import NurseryFailed, NurseryGone, NurseryProcess, kill
from modelport.app.processes.peer import Peer, PeerGone
from modelport.app.processes.plan import Plan, differences_of
from modelport.core.ports.states import StoreState
from modelport.telemetry.figures import Figures, Sum, read

STARTING_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 30.0
STABLE_SECONDS: Final = 60.0
LONGEST_DELAY_SECONDS: Final = 30.0
FIRST_FAILURES_LIMIT: Final = 5
CUT_SECONDS: Final = 5.0
"""For records and last words, when workers are told to end now."""

_logger = logging.getLogger("modelport.processes")


class FleetFailed(Exception):
    """No process can serve."""


@dataclass(eq=False)
class Member:
    """One worker process."""

    process_id: int
    listener: int
    nursery: NurseryProcess
    since: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    peer: Peer | None = None
    figures: Figures = ()
    serves: asyncio.Event = field(default_factory=asyncio.Event)
    is_drained: bool = False
    journal: StoreState | None = None
    """How the process's own journal is, where that is not as it should be."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, name: str, body: Any = None) -> None:
        """An order, if it can hear it."""
        if self.peer is not None:
            self.peer.tell(name, body)


@dataclass(eq=False)
class Place:
    """A listening socket and who serves it."""

    listener: int
    member: Member | None = None
    served: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody has served it, once."""
    failures: int = 0
    keeper: Member | None = None
    """A worker of another socket, that serves this one too while its own cannot be started."""


class Fleet:
    """All workers of all nurseries. `welcomed` is told of each that connects."""

    def __init__(self, plan: Plan, welcomed: Callable[[Member], None]) -> None:
        self._plan = plan
        self._welcomed = welcomed
        self.places = [Place(number) for number in range(len(plan.listeners))]
        self.members: dict[int, Member] = {}
        self.restarts = 0
        self.past = Sum()
        """What ended workers have counted."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owned: Mapping[str, str] = {}
        self._nursery: NurseryProcess | None = None
        self._nurseries: set[NurseryProcess] = set()
        self._early: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_served = False
        self._is_closing = False
        self.is_drained = asyncio.Event()
        """Set once `drain` was told and no call runs any more."""
        self._changing = asyncio.Lock()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self, owned: Mapping[str, str]) -> None:
        """Returns when every worker serves. Raises NurseryFailed, FleetFailed."""
        self._owned = owned
        self._nursery = await self._new_nursery()
        await asyncio.gather(*(self._fill(place, self._nursery) for place in self.places))
        everyone = asyncio.gather(*(place.served.wait() for place in self.places))
        await first(everyone, asyncio.shield(self.failed))
        if self.failed.done():
            self.failed.result()
        self._has_served = True
        self._do(self._watch())

    def connected(self) -> list[tuple[Member, Peer]]:
        """The workers that can be asked something."""
        members = self.members.values()
        return [(member, member.peer) for member in members if member.peer is not None and not member.peer.is_gone]

    async def renew(self, loaded: Callable[[], Awaitable[object]]) -> None:
        """New workers, with the configuration as it is now, take over the sockets one by one; the old ones end with
        their last connection. `loaded` is awaited before the first one is forked. Raises NurseryFailed; the old ones
        then go on."""
        async with self._changing:
            nursery = await self._new_nursery()
            try:
                await loaded()
            except BaseException:
                nursery.end()
                raise
            old, self._nursery = self._nursery, nursery
            for place in self.places:
                before = place.member
                member = await self._forked(place, nursery)
                self._end_early(member)
                try:
                    async with asyncio.timeout(STARTING_SECONDS):
                        await first(member.serves.wait(), member.ended.wait())
                except TimeoutError:
                    kill(member.process_id, signal.SIGKILL)
                if not member.serves.is_set():
                    self._nursery = old
                    nursery.end()
                    raise NurseryFailed("a worker with the new configuration could not start; see its log lines")
                place.member, place.failures = member, 0
                if before is not None:
                    before.tell("retire")
            if old is not None:
                old.end()

    def drain(self) -> None:
        """New calls are refused everywhere."""
        self._is_closing = True
        for member in self.members.values():
            member.tell("drain")
        self._look_for_running_calls()

    def drained(self, member: Member) -> None:
        """No call runs in it any more."""
        member.is_drained = True
        self._look_for_running_calls()

    def _look_for_running_calls(self) -> None:
        if self._is_closing and all(member.is_drained for member in self.members.values()):
            self.is_drained.set()

    async def close(self, *, now: bool) -> None:
        """Ends all processes; gently, unless `now`."""
        self._is_closing = True
        for member in list(self.members.values()):
            if member.peer is None:
                kill(member.process_id, signal.SIGKILL)
            member.tell("end", now)
        everyone = [asyncio.create_task(member.ended.wait()) for member in self.members.values()]
        if everyone:
            await asyncio.wait(everyone, timeout=CUT_SECONDS)
        for member in self.members.values():
            kill(member.process_id, signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        for waiting in everyone:
            waiting.cancel()
        await asyncio.gather(*(nursery.closed(CUT_SECONDS) for nursery in list(self._nurseries)))

    # --- connections of workers ---------------------------------------------------------------------------------------

    async def member(self, process_id: int, peer: Peer) -> Member | None:
        """Who connects; None for somebody who is not ours, or not twice."""
        for _ in range(100):  # it may be faster than the nursery's report
            member = self.members.get(process_id)
            if member is not None:
                break
            await asyncio.sleep(0.02)
        if member is None or member.peer is not None:
            return None
        member.peer = peer
        self._welcomed(member)
        return member

    def serves(self, member: Member) -> None:
        """It accepts connections."""
        member.serves.set()
        place = self.places[member.listener]
        place.served.set()
        if place.keeper is not None:
            place.keeper.tell("release", place.listener)
            place.keeper = None
        if self._is_closing:
            member.tell("drain")

    def retires(self, member: Member) -> None:
        """It accepts none any more; somebody else has asked it to end, or we have."""
        place = self.places[member.listener]
        if place.member is member:
            place.member = None
            self._replace(place, 0.0)

    def lost(self, member: Member) -> None:
        """Its connection has ended, so it is about to end, too."""
        if member.nursery.is_gone:
            self._ended(member.process_id, None)
        else:
            asyncio.get_running_loop().call_later(CUT_SECONDS, self._kill_if_there, member)

    def heard(self, member: Member, figures: Any) -> None:
        """Its figures: it lives."""
        member.heard = time.monotonic()
        member.figures = read(figures)

    async def figures(self, asking: Member | None) -> Iterator[Figures]:
        """Everyone's, fresh where they answer in time."""
        others = [member for member in self.members.values() if member is not asking and member.peer is not None]

        async def refreshed(member: Member) -> None:
            assert member.peer is not None
            try:
                self.heard(member, await member.peer.ask("figures", seconds=1.0))
            except PeerGone:
                return

        await asyncio.gather(*(refreshed(member) for member in others))
        return (member.figures for member in self.members.values())

    # --- who serves what ----------------------------------------------------------------------------------------------

    async def _fill(self, place: Place, nursery: NurseryProcess) -> None:
        place.member = member = await self._forked(place, nursery)
        self._end_early(member)

    async def _forked(self, place: Place, nursery: NurseryProcess) -> Member:
        process_id = await nursery.fork(place.listener)
        member = self.members[process_id] = Member(process_id, place.listener, nursery)
        return member

    def _end_early(self, member: Member) -> None:
        """It may have ended before we knew it; called once it has its place, or is known to have none."""
        if member.process_id in self._early:
            self._ended(member.process_id, self._early.pop(member.process_id))

    def _ended(self, process_id: int, code: int | None) -> None:
        member = self.members.pop(process_id, None)
        if member is None:
            if code is not None:
                self._early[process_id] = code
            return
        if code is None:
            with suppress(ChildProcessError):  # where we are the first process of a container, orphans are ours
                os.waitpid(process_id, os.WNOHANG)
        member.ended.set()
        self.past.add(member.figures, growing_only=True)
        for place in self.places:
            if place.keeper is member:
                place.keeper = None
                self._find_keeper(place)
        place = self.places[member.listener]
        if place.member is not member:
            return
        place.member = None
        if self._is_closing:
            self._look_for_running_calls()
            return
        lived = time.monotonic() - member.since
        place.failures = 0 if lived > STABLE_SECONDS else place.failures + 1
        self.restarts += 1
        delay = 0.0 if place.failures <= 1 else min(LONGEST_DELAY_SECONDS, 0.25 * 2 ** (place.failures - 1))
        _logger.error("worker process %d %s; restart in %.1f s", process_id, ending(code), delay)
        if not self._has_served and place.failures >= FIRST_FAILURES_LIMIT and not self.failed.done():
            self.failed.set_exception(
                FleetFailed(f"a worker process {ending(code)} {place.failures} times at its start")
            )
            return
        self._replace(place, delay)

    def _replace(self, place: Place, delay_seconds: float) -> None:
        if not self._is_closing:
            self._do(self._replaced(place, delay_seconds))

    async def _replaced(self, place: Place, delay_seconds: float) -> None:
        if delay_seconds:
            self._find_keeper(place)
            await asyncio.sleep(delay_seconds)
        async with self._changing:
            while place.member is None and not self._is_closing:
                try:
                    if self._nursery is None or self._nursery.is_gone:
                        self._nursery = await self._new_nursery()
                    await self._fill(place, self._nursery)
                    return
                except NurseryGone:
                    continue
                except NurseryFailed as error:
                    _logger.error("no worker process can be started: %s", error)
                    self._find_keeper(place)
                    await asyncio.sleep(LONGEST_DELAY_SECONDS)

    def _find_keeper(self, place: Place) -> None:
        if place.keeper is None:
            able = (other.member for other in self.places if other is not place)
            place.keeper = next((member for member in able if member is not None and member.serves.is_set()), None)
            if place.keeper is not None:
                place.keeper.tell("adopt", place.listener)

    async def _new_nursery(self) -> NurseryProcess:
        nursery, owned = await NurseryProcess.started(self._plan, self._ended, self._nursery_gone)
        if differences := differences_of(self._owned, owned):
            await nursery.kill()
            raise NurseryFailed(f"{differences}: that needs a restart of the whole server")
        self._nurseries.add(nursery)
        return nursery

    def _nursery_gone(self, nursery: NurseryProcess) -> None:
        """Its workers serve on; whoever of them ends from now on is missed by their connection alone."""
        self._nurseries.discard(nursery)
        for member in list(self.members.values()):
            if member.nursery is nursery and (member.peer is None or member.peer.is_gone):
                kill(member.process_id, signal.SIGKILL)
                self._ended(member.process_id, None)

    # --- care ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ends workers that are there but do nothing any more."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for member in list(self.members.values()):
                limit = SILENT_SECONDS if member.serves.is_set() else STARTING_SECONDS
                if now - member.heard > limit:
                    _logger.error("worker process %d does not answer and is ended", member.process_id)
                    kill(member.process_id, signal.SIGKILL)

    def _kill_if_there(self, member: Member) -> None:
        if member.process_id in self.members:
            kill(member.process_id, signal.SIGKILL)

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def first(*waits: Any) -> None:
    """Returns when one of them is over."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def ending(code: int | None) -> str:
    """In words."""
    if code is None:
        return "is gone"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
