"""What a process and the store say to each other about one subject, and the store's side of it: pure arithmetic.

A subject's state is what the last minute has used, in buckets of a second of the store's clock, and what each process
(a *holder*) holds: the sum of both never exceeds the limit by anything that was granted. A message states everything
anew, so that one that is lost or doubled does no harm: `keep` is all that the holder still holds, `spent` is what it
has used since the last message that was answered, with ages, under a number that is booked once. Messages that come
out of order are ignored.

A holder that is not heard of for its lifetime has died: everything that it held counts as used at that moment, because
nobody knows better. `stores/redis/quota.lua` is the same, line by line.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from modelport.core.clock import Clock
from modelport.core.quota import WINDOW_SECONDS

RECOVERY_MS: Final = 2_000
"""After a loss of data nothing is granted for so long, while the holders tell what they have used."""
UNLIMITED: Final = -1
WINDOW_MS: Final = 1000 * WINDOW_SECONDS


class StoreGone(Exception):
    """The store does not answer, or not in time, or nonsense."""


class Amount(Struct, frozen=True, array_like=True):
    """Of all three things that a limit counts."""

    tokens: int = 0
    requests: int = 0
    places: int = 0


class Ask(Struct, frozen=True, kw_only=True, array_like=True):
    """One message of a holder."""

    subject: str
    holder: str
    number: int
    epoch: str
    """The store's state that the holder knows; empty: none yet. Another one there means that data was lost."""
    fresh_epoch: str
    """The name of the state if the store has none."""
    keep: Amount
    batch: int
    spent: tuple[tuple[int, int, int], ...]
    """(age in milliseconds, tokens, requests)"""
    need: Amount
    """Granted whole or not at all."""
    want: Amount
    """At least `need`; what goes beyond it is granted as far as it leaves enough for others."""
    limits: Amount
    lifetime_ms: int


class Answer(Struct, frozen=True, kw_only=True, array_like=True):
    """What the store says. `lost`: tell everything again. `recovering`: noted, but nothing can be granted yet. `stale`:
    a later message was here before."""

    status: Literal["granted", "refused", "lost", "recovering", "stale"]
    epoch: str
    granted: Amount = Amount()
    free: Amount = Amount()
    """What was left after this. Below zero where holders have used what they were not granted."""
    leaving: tuple[tuple[int, int, int], ...] = ()
    """With a refusal: (whole seconds from now, tokens, requests) that leave the window, in order."""
    empty_ms: int = 0
    """Until nothing of the window is left, if nothing more is used."""
    holders: int = 1


class Bank(Protocol):
    """A store of subjects' states."""

    async def open(self) -> None:
        """Ends when it can be asked without connecting first. Raises StoreGone, after two seconds at most."""
        ...

    async def exchange(self, ask: Ask) -> Answer:
        """Atomic. Raises StoreGone."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


class Holder(Struct, array_like=True):
    """One process, as the store sees it."""

    number: int
    batch: int
    tokens: int
    requests: int
    places: int
    until_ms: int


class State(Struct):
    """One subject's."""

    epoch: str
    now_ms: int = 0
    recovering_ms: int = 0
    tokens: dict[int, int] = msgspec.field(default_factory=dict)
    requests: dict[int, int] = msgspec.field(default_factory=dict)
    times: dict[int, int] = msgspec.field(default_factory=dict)
    """When the last use of each second was, in milliseconds: a minute later the second leaves the window."""
    holders: dict[str, Holder] = msgspec.field(default_factory=dict)


def exchanged(state: State | None, ask: Ask, now_ms: int) -> tuple[State, Answer]:
    """The state after this message, which is changed in place, and the answer."""
    if state is None:
        state = State(epoch=ask.fresh_epoch)
        if ask.epoch:
            state.recovering_ms = now_ms + RECOVERY_MS
    now_ms = state.now_ms = max(now_ms, state.now_ms)
    forget(state, now_ms)
    holder = state.holders.get(ask.holder)
    if holder is not None and ask.number <= holder.number:
        return state, Answer(status="stale", epoch=state.epoch)
    if ask.epoch and ask.epoch != state.epoch:
        return state, Answer(status="lost", epoch=state.epoch)
    if holder is None or ask.batch > holder.batch:
        for age_ms, tokens, requests in ask.spent:
            if age_ms < WINDOW_MS:
                book(state, now_ms - max(0, age_ms), tokens, requests)
    keep = ask.keep
    holder = state.holders[ask.holder] = Holder(
        ask.number, ask.batch, keep.tokens, keep.requests, keep.places, now_ms + ask.lifetime_ms
    )
    if now_ms < state.recovering_ms:
        return state, Answer(status="recovering", epoch=state.epoch, holders=len(state.holders))
    return state, granted(state, holder, ask, now_ms)


def book(state: State, at_ms: int, tokens: int, requests: int) -> None:
    """Counts what was used at that moment."""
    second = at_ms // 1000
    state.tokens[second] = state.tokens.get(second, 0) + tokens
    state.requests[second] = state.requests.get(second, 0) + requests
    state.times[second] = max(at_ms, state.times.get(second, 0))


def forget(state: State, now_ms: int) -> None:
    """Drops what has left the window, and books what dead holders held."""
    for name in [name for name, holder in state.holders.items() if holder.until_ms <= now_ms]:
        dead = state.holders.pop(name)
        book(state, dead.until_ms, dead.tokens, dead.requests)
    for second in [second for second, at_ms in state.times.items() if at_ms <= now_ms - WINDOW_MS]:
        for window in (state.tokens, state.requests, state.times):
            del window[second]


def granted(state: State, holder: Holder, ask: Ask, now_ms: int) -> Answer:
    """What the holder gets, or which limit forbids it."""
    used = Amount(sum(state.tokens.values()), sum(state.requests.values()), 0)
    everybody = state.holders.values()
    held = Amount(
        sum(h.tokens for h in everybody), sum(h.requests for h in everybody), sum(h.places for h in everybody)
    )
    last = max((at for second, at in state.times.items() if state.tokens[second] or state.requests[second]), default=0)
    empty_ms = max(0, last + WINDOW_MS - now_ms) if last else 0
    free = Amount(
        left(ask.limits.tokens, used.tokens + held.tokens),
        left(ask.limits.requests, used.requests + held.requests),
        left(ask.limits.places, held.places),
    )
    count = len(state.holders)
    if any(is_short(*one) for one in zip(astuple(ask.limits), astuple(ask.need), astuple(free), strict=True)):
        return Answer(
            status="refused",
            epoch=state.epoch,
            free=free,
            leaving=leaving(state, now_ms),
            empty_ms=empty_ms,
            holders=count,
        )
    grant = Amount(
        share(ask.limits.tokens, ask.need.tokens, ask.want.tokens, free.tokens, count),
        share(ask.limits.requests, ask.need.requests, ask.want.requests, free.requests, count),
        share(ask.limits.places, ask.need.places, ask.want.places, free.places, count),
    )
    holder.tokens += grant.tokens
    holder.requests += grant.requests
    holder.places += grant.places
    rest = Amount(free.tokens - grant.tokens, free.requests - grant.requests, free.places - grant.places)
    return Answer(status="granted", epoch=state.epoch, granted=grant, free=rest, empty_ms=empty_ms, holders=count)


def left(limit: int, taken: int) -> int:
    """What a limit leaves; below zero where holders have used what they were not granted."""
    return 0 if limit == UNLIMITED else limit - taken


def share(limit: int, need: int, want: int, free: int, holders: int) -> int:
    """The need, and half of an equal share of what is left beyond it: towards the limit the grants become exact."""
    if limit == UNLIMITED:
        return 0
    return need + max(0, min(want - need, (free - need) // (2 * holders)))


def is_short(limit: int, need: int, free: int) -> bool:
    """Whether a limit forbids the need."""
    return limit != UNLIMITED and need > 0 and need > free


def leaving(state: State, now_ms: int) -> tuple[tuple[int, int, int], ...]:
    """When the window lets go of what."""
    return tuple(
        (max(1, -((now_ms - WINDOW_MS - at_ms) // 1000)), state.tokens[second], state.requests[second])
        for second, at_ms in sorted(state.times.items())
    )


class MemoryBank:
    """A bank in the memory of the process that owns it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._states: dict[str, State] = {}

    async def open(self) -> None:
        """Bank"""

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return self.exchanged(ask)

    def exchanged(self, ask: Ask) -> Answer:
        """The same, at once: for whoever serves it to other processes."""
        state, answer = exchanged(self._states.get(ask.subject), ask, int(self._clock.monotonic() * 1000))
        self._states[ask.subject] = state
        return answer

    async def close(self) -> None:
        """Bank"""
