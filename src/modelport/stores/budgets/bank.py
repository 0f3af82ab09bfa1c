"""What a process and the store say to each other about one budget in one window, and the store's side of it: pure
arithmetic.

Money is in whole micro-units (a millionth of the currency), as a budget's amount is written; fractions stay with the
process that has them. A state is, for each process (a *holder*), what it has settled in this window and what it holds
beyond that. Both are told as totals, so that a message that is lost, late or doubled does no harm: the next one states
the truth. What the sum of all leaves of the budget may be granted.

Nothing that a holder holds is ever given to others without its word: one that died is counted with all that it held
until the window ends, because nobody knows what its calls have made. An hour after its last message it is folded into
the past; if it lives after all, it learns so and goes on under another name.

What was used before the state began comes as a *seed* from the ledger, once for each ledger. A store that may lose its
data grants nothing for a while after a state began that is not the first: others may hold what only they know of.
`stores/redis/budgets.lua` is the same, line by line.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec
from msgspec import Struct

from modelport.core.clock import Clock

UNLIMITED: Final = -1
LONGEST_FOLD_MS: Final = 3_600_000
"""So long after its last message a holder keeps a line of its own."""
SHORT_MS: Final = 2_000
"""After a refusal that others' allotments would have met, nobody gets more than its calls need for so long."""
RECOVERY_MS: Final = 4_000
"""For so long holders that are there tell what they hold. They are never silent for longer, unless they are cut off."""
SPARE_SHARES: Final = 16
"""All processes together hold at most one such share of what is left for calls to come. A killed process takes its part
of that along."""
KEPT_MS: Final = 86_400_000
"""A state outlives its window by so much: calls that began in it end after it."""

Status = Literal["granted", "refused", "recovering", "unknown", "lost", "folded", "stale"]


class Sum(Struct, frozen=True, array_like=True):
    """Of both things that a budget counts. `money` is in micro-units."""

    money: int = 0
    tokens: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.money + other.money, self.tokens + other.tokens)


NOTHING: Final = Sum()


class Ask(Struct, frozen=True, kw_only=True, array_like=True):
    """One message of a holder."""

    subject: str
    window: str
    lasts_ms: int
    """Until the window ends."""
    holder: str
    number: int
    epoch: str
    """The state that the holder knows; empty: none yet. Another one there means that data was lost."""
    fresh_epoch: str
    """The name of the state if it begins with this message."""
    ledger: str
    """Where the seed is from."""
    seed: tuple[Sum, ...]
    """What that ledger knows of the window; empty: not asked yet."""
    spent: Sum
    """All that the holder has settled in this window."""
    keep: Sum
    """All that it holds beyond that."""
    idle: Sum
    """The part of it that no call holds."""
    need: Sum
    """Granted whole or not at all."""
    want: Sum
    """At least `need`; what goes beyond it is granted as far as it leaves enough for others."""
    limits: Sum
    heard: int
    """The number of the last message that was answered."""
    lifetime_ms: int


class Answer(Struct, frozen=True, kw_only=True, array_like=True):
    """What the store says. `recovering`: noted, but nothing can be granted yet. `unknown`: ask the ledger first.
    `lost`: the state is another one. `folded`: you were taken for dead, and are counted with all that you held.
    `stale`: a later message was here before."""

    status: Status
    epoch: str = ""
    granted: Sum = NOTHING
    free: Sum = NOTHING
    """What was left after this. Below zero where more was used than was granted."""
    others: Sum = NOTHING
    """What other holders that live have at hand and no call holds."""
    total: Sum = NOTHING
    """Settled by all."""
    is_short: bool = False
    """Others need what you keep for later."""
    crossed: tuple[int, ...] = ()
    """Percent of the budget, before and after, perhaps several times: the holder tells of the thresholds between."""
    holders: int = 1


class Bank(Protocol):
    """A store of budgets' states."""

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
    spent: Sum
    keep: Sum
    idle: Sum
    until_ms: int
    crossed: tuple[int, ...] = ()
    """What the last answer said that it should tell of."""


class State(Struct):
    """One budget's in one window."""

    epoch: str
    seeds: dict[str, Sum] = msgspec.field(default_factory=dict)
    past: Sum = NOTHING
    holders: dict[str, Holder] = msgspec.field(default_factory=dict)
    percent: int = 0
    """Of the budget: all thresholds up to here are told, or somebody was told to tell of them."""
    short_ms: int = 0
    recovering_ms: int = 0


def exchanged(state: State | None, ask: Ask, now_ms: int, recovery_ms: int = 0) -> tuple[State | None, Answer]:
    """The state after this message, which is changed in place, and the answer. `recovery_ms`: of a store that may have
    lost an earlier state."""
    if state is None:
        if ask.epoch:
            return None, Answer(status="lost")
        if not ask.seed:
            return None, Answer(status="unknown")
        state = State(epoch=ask.fresh_epoch)
        if any(used != NOTHING for used in (*ask.seed, ask.spent, ask.keep)):
            state.recovering_ms = now_ms + recovery_ms
    if ask.epoch and ask.epoch != state.epoch:
        return state, Answer(status="lost", epoch=state.epoch)
    if ask.ledger not in state.seeds and not ask.seed:
        return state, Answer(status="unknown", epoch=state.epoch)
    for seed in ask.seed:  # where two have asked the ledger at once, the later answer holds
        known = state.seeds.get(ask.ledger, NOTHING)
        state.seeds[ask.ledger] = Sum(max(known.money, seed.money), max(known.tokens, seed.tokens))
    holder = state.holders.get(ask.holder)
    if holder is not None and ask.number <= holder.number:
        return state, Answer(status="stale", epoch=state.epoch)
    if holder is None and ask.epoch:
        return state, Answer(status="folded", epoch=state.epoch)
    before, holder = holder, Holder(ask.number, ask.spent, ask.keep, ask.idle, now_ms + ask.lifetime_ms)
    state.holders[ask.holder] = holder
    fold(state, now_ms)
    return state, granted(state, holder, before, ask, now_ms)


def fold(state: State, now_ms: int) -> None:
    """Those that have been silent for long become one sum."""
    for name in [name for name, holder in state.holders.items() if holder.until_ms + LONGEST_FOLD_MS <= now_ms]:
        dead = state.holders.pop(name)
        state.past = state.past + dead.spent + dead.keep


def granted(state: State, holder: Holder, before: Holder | None, ask: Ask, now_ms: int) -> Answer:
    """What the holder gets, or that there is no room."""
    everybody = list(state.holders.values())
    living = [one for one in everybody if one.until_ms > now_ms]
    total = added([*state.seeds.values(), state.past, *(one.spent for one in everybody)])
    held = added([one.keep for one in everybody])
    free = Sum(left(ask.limits.money, total.money + held.money), left(ask.limits.tokens, total.tokens + held.tokens))
    others = added([one.idle for one in living if one is not holder])
    crossed = holder.crossed = crossing(state, ask, before, total)
    if now_ms < state.recovering_ms:
        return Answer(status="recovering", epoch=state.epoch, total=total, crossed=crossed, holders=len(living))
    lacks_money = lacking(ask.limits.money, ask.need.money, free.money)
    lacks_tokens = lacking(ask.limits.tokens, ask.need.tokens, free.tokens)
    if lacks_money or lacks_tokens:
        if lacks_money <= others.money and lacks_tokens <= others.tokens:
            state.short_ms = now_ms + SHORT_MS
        return Answer(
            status="refused",
            epoch=state.epoch,
            free=free,
            others=others,
            total=total,
            is_short=now_ms < state.short_ms,
            crossed=crossed,
            holders=len(living),
        )
    is_short = now_ms < state.short_ms
    want = ask.need if is_short else ask.want
    grant = Sum(
        share(ask.limits.money, ask.need.money, want.money, ask.idle.money, free.money, len(living)),
        share(ask.limits.tokens, ask.need.tokens, want.tokens, ask.idle.tokens, free.tokens, len(living)),
    )
    holder.keep = holder.keep + grant
    holder.idle = holder.idle + Sum(max(0, grant.money - ask.need.money), max(0, grant.tokens - ask.need.tokens))
    return Answer(
        status="granted",
        epoch=state.epoch,
        granted=grant,
        free=Sum(free.money - grant.money, free.tokens - grant.tokens),
        others=others,
        total=total,
        is_short=is_short,
        crossed=crossed,
        holders=len(living),
    )


def crossing(state: State, ask: Ask, before: Holder | None, total: Sum) -> tuple[int, ...]:
    """What this holder is to tell of: what its message has crossed, and what it should have told of already, if it has
    not heard the answer that said so. What a ledger knew was told before."""
    percent = percent_of(ask.limits, total)
    if ask.seed:
        known = Sum(total.money - ask.spent.money, total.tokens - ask.spent.tokens)
        state.percent = max(state.percent, percent_of(ask.limits, known))
    crossed = before.crossed if before is not None and ask.heard < before.number else ()
    if percent > state.percent:
        crossed = (*crossed, state.percent, percent)
        state.percent = percent
    return crossed


def percent_of(limits: Sum, used: Sum) -> int:
    """Whole percents of the part that is used most, rounded down."""
    money = 0 if limits.money == UNLIMITED else used.money * 100 // limits.money
    return max(money, 0 if limits.tokens == UNLIMITED else used.tokens * 100 // limits.tokens)


def left(limit: int, taken: int) -> int:
    """What a limit leaves."""
    return 0 if limit == UNLIMITED else limit - taken


def lacking(limit: int, need: int, free: int) -> int:
    """By how much the need exceeds what is left."""
    return max(0, need - free) if limit != UNLIMITED and need > 0 else 0


def share(limit: int, need: int, want: int, idle: int, free: int, holders: int) -> int:
    """The need, and beyond it so much that what is spare with the holder is its part of what may be: towards the limit
    the grants become exact."""
    if limit == UNLIMITED:
        return 0
    spare = (free - need) // (SPARE_SHARES * holders) - (0 if need else idle)  # a call takes what is idle and its need
    return need + max(0, min(want - need, spare))


def added(sums: list[Sum]) -> Sum:
    """All of them together."""
    return Sum(sum(one.money for one in sums), sum(one.tokens for one in sums))


class MemoryBank:
    """A bank in the memory of the process that owns it. Whoever draws on it ends with that process, so that none of
    them can hold what a new one does not know of: it need not wait for them."""

    def __init__(self, clock: Clock, recovery_ms: int = 0) -> None:
        self._clock = clock
        self._recovery_ms = recovery_ms
        self._states: dict[tuple[str, str], State] = {}
        self._until_ms: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        """Bank"""

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return self.exchanged(ask)

    def exchanged(self, ask: Ask) -> Answer:
        """The same, at once: for whoever serves it to other processes."""
        key, now_ms = (ask.subject, ask.window), int(self._clock.monotonic() * 1000)
        if key not in self._states:
            self._forget(now_ms)
        state, answer = exchanged(self._states.get(key), ask, now_ms, self._recovery_ms)
        if state is not None:
            self._states[key] = state
            self._until_ms[key] = now_ms + max(0, ask.lasts_ms) + KEPT_MS
        return answer

    def _forget(self, now_ms: int) -> None:
        """Whenever a window begins, those that are long over go."""
        for key in [key for key, until_ms in self._until_ms.items() if until_ms <= now_ms]:
            del self._states[key], self._until_ms[key]

    async def close(self) -> None:
        """Bank"""
