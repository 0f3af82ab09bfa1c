"""What a call is let in by: the limits of its deployment and of its caller together, the queue before them, and the
memory of calls that failed without a token and may be repeated.

One per process. It stands where `admit` wants a quota, so that every driver has the same queue and the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct

from modelport.core.budgets import Budget
from modelport.core.catalog import RateLimits
from modelport.core.clock import Clock
from modelport.core.ports.money import Budgets
from modelport.core.ports.quota import DirectAccount, DirectQuota, Quota, QuotaRefusal, Reservation
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState, tightest
from modelport.gateway.waiting import Denied, FairQueue, Turn

REPEAT_SECONDS: Final = 120.0
REMEMBERED_FAILURES: Final = 10_000

Repeat = tuple[str, str]
"""A caller, and the id that it gave its call."""


class Claim:
    """One account that a call draws on."""

    __slots__ = ("account", "limits", "subject")

    def __init__(self, subject: str, limits: RateLimits) -> None:
        self.subject = subject
        self.limits = limits
        self.account: DirectAccount | None = None
        """The one that was found last."""


class Asked(Struct, frozen=True):
    """What one call asks for. All claims are met, or none."""

    claims: tuple[Claim, ...]
    tokens: int
    turn: Turn
    until: float
    """The moment of the monotonic clock until which it may wait; one that is past: it may not."""
    repeat: Repeat | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names of the accounts."""
        return tuple(claim.subject for claim in self.claims)


Outcome = Reservation | Denied | Refusal


class Admissions:
    """Takes for calls what their limits allow, now or when it is their turn."""

    def __init__(self, quota: Quota, clock: Clock) -> None:
        self.quota = quota
        self.clock = clock
        self.queue = FairQueue(quota, clock)
        self.failures = Failures()
        self.budgets: Budgets | None = None
        """None: nobody keeps any, and a call that draws on one is refused."""
        self._direct = quota if isinstance(quota, DirectQuota) else None

    @classmethod
    def over(cls, quota: Quota | Admissions, clock: Clock) -> Admissions:
        """`quota` itself if it is one already."""
        return quota if isinstance(quota, Admissions) else cls(quota, clock)

    def take(self, asked: Asked) -> Outcome | NeedsWaiting[Reservation | Denied]:
        """The reservation of all claims. NeedsWaiting: nothing is taken, and `resume` waits for room or for a store."""
        if self.may_wait(asked) and self.queue.is_waited_for(asked.subjects):
            return NeedsWaiting(partial(self._queued, asked))
        outcome = self._attempt(asked)
        if isinstance(outcome, NeedsWaiting):
            return NeedsWaiting(partial(self._fetched, asked, outcome))
        if isinstance(outcome, Denied) and self._is_worth_waiting(asked, outcome):
            return NeedsWaiting(partial(self._queued, asked))
        return outcome

    def direct(
        self, claims: tuple[Claim, ...], tokens: int, now: float, may_be_repeat: bool
    ) -> tuple[DirectAccount, ...] | None:
        """Takes the same where it is there, and nothing needs a closer look. None: nothing is taken, so ask `take`."""
        quota = self._direct
        if quota is None or self.queue.waiters or (may_be_repeat and self.failures):
            return None
        held: tuple[DirectAccount, ...] = ()
        for claim in claims:
            account = claim.account
            if account is None or not account.is_open:
                account = claim.account = quota.account(claim.subject, now)
            if not account.take(claim.limits, tokens, now):
                for earlier, given in zip(held, claims, strict=False):
                    quota.held(earlier, given.limits, tokens, now).cancel()
                return None
            held += (account,)
        return held

    def reserved(
        self, accounts: tuple[DirectAccount, ...], claims: tuple[Claim, ...], tokens: int, now: float
    ) -> Reservation:
        """What was taken from these accounts at that moment, as a reservation."""
        quota = self._direct
        assert quota is not None
        held = tuple(
            quota.held(account, claim.limits, tokens, now) for account, claim in zip(accounts, claims, strict=True)
        )
        return held[0] if len(held) == 1 else Together(held)

    def state(self, claims: tuple[Claim, ...], budgets: tuple[Budget, ...]) -> QuotaState:
        """What the tightest of all limits leave that such a call draws on, as far as this process knows."""
        now = self.clock.monotonic()
        states = [self.quota.state(claim.subject, claim.limits, now) for claim in claims]
        if budgets and self.budgets is not None:
            states += self.budgets.states(budgets, self.clock.now())
        return states[0] if len(states) == 1 else tightest(states)

    def may_wait(self, asked: Asked) -> bool:
        """Whether it may, and there is a place in the queue."""
        return asked.until > self.clock.monotonic() and self.queue.has_place(asked.turn.caller)

    async def topped_up(
        self, reservation: Reservation, tokens: int, claims: tuple[Claim, ...], turn: Turn, until: float
    ) -> bool:
        """Waits for room for a running answer: it goes before every new call. Not if there can never be room: what the
        answer holds already counts in full until it ends."""
        if any(
            claim.limits.tokens_per_minute is not None
            and reservation.reserved_tokens + tokens > claim.limits.tokens_per_minute
            for claim in claims
        ):
            return False

        def attempt() -> bool | Denied | NeedsWaiting[bool | Denied]:
            taken = reservation.top_up(tokens)
            if isinstance(taken, NeedsWaiting):
                return NeedsWaiting(partial(waited, taken))
            return taken or short

        async def waited(needs: NeedsWaiting[bool]) -> bool | Denied:
            return (await needs.resume()) is True or short

        short = Denied(claims[0].subject, QuotaRefusal("tokens", 0, 1))
        outcome = attempt()
        if isinstance(outcome, NeedsWaiting):
            outcome = await outcome.resume()  # type: ignore[assignment]
        if isinstance(outcome, Denied) and until > self.clock.monotonic() and self.queue.has_place(turn.caller):
            undo: Callable[[object], None] = partial(returned, reservation, tokens)
            subjects = tuple(claim.subject for claim in claims)
            outcome = await self.queue.wait(attempt, undo, subjects, turn, until)
        return outcome is True

    def _attempt(self, asked: Asked) -> Outcome | NeedsWaiting[Reservation | Denied]:
        """Once, without waiting. What the first account has given is undone if the second refuses."""
        now = self.clock.monotonic()
        requests = 0 if self.failures.excuses(asked.repeat, now) else 1
        held: list[Reservation] = []
        for claim in asked.claims:
            taken = self.quota.reserve(claim.subject, claim.limits, asked.tokens, now, requests=requests)
            if isinstance(taken, QuotaRefusal | Refusal | NeedsWaiting):
                undone(held)
                if isinstance(taken, NeedsWaiting):
                    return NeedsWaiting(partial(self._attempt_waiting, asked, requests))
                return Denied(claim.subject, taken) if isinstance(taken, QuotaRefusal) else taken
            held.append(taken)
        self.failures.forget(asked.repeat)
        return held[0] if len(held) == 1 else Together(tuple(held))

    async def _attempt_waiting(self, asked: Asked, requests: int) -> Outcome:
        """The same, where a store has to be asked."""
        held: list[Reservation] = []
        is_kept = False
        try:
            for claim in asked.claims:
                now = self.clock.monotonic()
                taken = self.quota.reserve(claim.subject, claim.limits, asked.tokens, now, requests=requests)
                given = await taken.resume() if isinstance(taken, NeedsWaiting) else taken
                if isinstance(given, QuotaRefusal):
                    return Denied(claim.subject, given)
                if isinstance(given, Refusal):
                    return given
                held.append(given)
            is_kept = True
        finally:
            if not is_kept:
                undone(held)
        self.failures.forget(asked.repeat)
        return held[0] if len(held) == 1 else Together(tuple(held))

    async def _fetched(self, asked: Asked, needs: NeedsWaiting[Reservation | Denied]) -> Outcome:
        outcome = await needs.resume()
        if isinstance(outcome, Denied) and self._is_worth_waiting(asked, outcome):
            return await self._queued(asked)
        return outcome

    async def _queued(self, asked: Asked) -> Outcome:
        outcome: Outcome = await self.queue.wait(
            partial(self._attempt, asked), cancelled, asked.subjects, asked.turn, asked.until
        )
        return outcome

    def _is_worth_waiting(self, asked: Asked, denied: Denied) -> bool:
        """Not if room comes back too late: then it is kinder to say so at once."""
        earliest = self.clock.monotonic() + denied.refusal.retry_after_seconds - 1  # those are rounded up
        return earliest < asked.until and self.may_wait(asked)


class Failures:
    """Calls that we have failed before a token was made. Their repeat takes no second unit of the request quota."""

    def __init__(self) -> None:
        self._until: dict[Repeat, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, repeat: Repeat | None, now: float) -> None:
        """It has taken a unit, and failed."""
        if repeat is None:
            return
        self._until.pop(repeat, None)
        self._until[repeat] = now + REPEAT_SECONDS
        if len(self._until) > REMEMBERED_FAILURES:
            del self._until[next(iter(self._until))]

    def excuses(self, repeat: Repeat | None, now: float) -> bool:
        """Whether this call has paid already."""
        return repeat is not None and now < self._until.get(repeat, 0.0)

    def forget(self, repeat: Repeat | None) -> None:
        """It is being repeated: once."""
        if repeat is not None:
            self._until.pop(repeat, None)


class Together:
    """One call's reservations with several accounts, as one."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[Reservation, ...]) -> None:
        self._parts = parts

    @property
    def reserved_tokens(self) -> int:
        """The same at every account."""
        return self._parts[0].reserved_tokens

    def top_up(self, tokens: int) -> bool | NeedsWaiting[bool]:
        """From every account, or from none."""
        for index, part in enumerate(self._parts):
            taken = part.top_up(tokens)
            if taken is not True:
                for earlier in self._parts[:index]:
                    earlier.give_back(tokens)
                return NeedsWaiting(partial(self._top_up_waiting, tokens)) if taken else False
        return True

    async def _top_up_waiting(self, tokens: int) -> bool:
        given: list[Reservation] = []
        is_kept = False
        try:
            for part in self._parts:
                taken = part.top_up(tokens)
                if isinstance(taken, NeedsWaiting):
                    taken = (await taken.resume()) is True
                if not taken:
                    return False
                given.append(part)
            is_kept = True
            return True
        finally:
            if not is_kept:
                for part in given:
                    part.give_back(tokens)

    def give_back(self, tokens: int) -> None:
        """To every account."""
        for part in self._parts:
            part.give_back(tokens)

    def settle(self, actual_tokens: int) -> None:
        """At every account."""
        for part in self._parts:
            part.settle(actual_tokens)

    def cancel(self) -> None:
        """At every account."""
        undone(self._parts)

    def state(self) -> QuotaState:
        """What the tightest of the accounts leave."""
        return tightest([part.state() for part in self._parts])


def undone(held: list[Reservation] | tuple[Reservation, ...]) -> None:
    """As if none of it had been taken."""
    for reservation in held:
        reservation.cancel()


def cancelled(outcome: Outcome) -> None:
    """Gives back what came for a call that is gone."""
    if not isinstance(outcome, Denied | Refusal):
        outcome.cancel()


def returned(reservation: Reservation, tokens: int, outcome: object) -> None:
    """Gives back a top-up that came for a call that is gone."""
    if outcome is True:
        reservation.give_back(tokens)


def tightest_tokens(claims: tuple[Claim, ...]) -> RateLimits:
    """The limits with the least tokens."""
    return min(
        (claim.limits for claim in claims),
        key=lambda limits: float("inf") if limits.tokens_per_minute is None else limits.tokens_per_minute,
    )
