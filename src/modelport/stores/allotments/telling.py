"""What one process says to the store of a subject, how much it asks for, and what it learns from the answer. No I/O and
no clock."""

from __future__ import annotations

import math
from typing import Final, Literal

from modelport.core.catalog import RateLimits
from modelport.core.ports.quota import QuotaRefusal
from modelport.core.quota import BUCKETS, WINDOW_SECONDS
from modelport.stores.allotments.account import SLOTS_PER_SECOND, LocalAccount, Slot
from modelport.stores.allotments.bank import UNLIMITED, Amount, Answer, Ask
from modelport.stores.memory.quota import Account

Kind = Literal["requests", "tokens", "concurrency"]
LIFETIME_SECONDS: Final = 10.0
SURE_SECONDS: Final = 8.0
"""Less than the lifetime: we stop spending before the store takes us for dead."""
REFUSED_SECONDS: Final = 0.1
"""A refusal of the store holds for so long, so that a flood of calls is not a flood of questions."""
IDLE_SECONDS: Final = 2.0
"""Without a call for so long, nothing is kept that others could use."""
SMALLEST_CHUNK: Final = 64
"""A chunk is at least this part of the limit, where the store has it to spare."""


def ask(account: LocalAccount, need: Amount, want: Amount, now: float, holder: str, fresh_epoch: str) -> Ask:
    """The next message."""
    if now >= account.sure_until and account.grant:
        account.lapse()
    if now - account.told_at > BUCKETS and not account.holds():
        account.epoch = ""  # the store may have forgotten the subject, and so may we
    account.number += 1
    if not account.frozen and account.pending:
        account.frozen, account.pending, account.slot_ends = account.pending, {}, -math.inf
        account.batch += 1
    pending_tokens = sum(slot.tokens for slot in account.pending.values())
    pending_requests = sum(slot.requests for slot in account.pending.values())
    own, grant = account.own, account.grant
    keep = Amount(
        own.held_tokens + pending_tokens + grant.tokens,
        pending_requests + grant.requests,
        own.running + grant.places,
    )
    limits = account.limits
    return Ask(
        subject=account.subject,
        holder=holder,
        number=account.number,
        epoch=account.epoch,
        fresh_epoch=fresh_epoch,
        keep=keep,
        batch=account.batch,
        spent=tuple((int((now - slot.latest) * 1000), slot.tokens, slot.requests) for slot in account.frozen.values()),
        need=need,
        want=want,
        limits=Amount(
            told(limits.tokens_per_minute), told(limits.requests_per_minute), told(limits.concurrent_requests)
        ),
        lifetime_ms=int(LIFETIME_SECONDS * 1000),
    )


def learn(account: LocalAccount, answer: Answer, sent_at: float, now: float) -> None:
    """What the store has said to the last message. `stale` and `lost` are not for here."""
    account.epoch = answer.epoch
    account.frozen = {}
    account.told_at = now
    account.sure_until = sent_at + SURE_SECONDS
    account.holders = max(1, answer.holders)
    account.is_recovering = answer.status == "recovering"
    account.is_untold = False
    if account.is_recovering:
        return
    account.store_free = answer.free
    account.store_used_at = now - WINDOW_SECONDS + answer.empty_ms / 1000
    if answer.status == "refused":
        account.leaving = answer.leaving
        account.refused_until = now + REFUSED_SECONDS
        return
    account.refused_until = -math.inf
    account.grant.add(answer.granted)


def refusal_of(account: LocalAccount, need: Amount, now: float) -> QuotaRefusal | None:
    """The limit that keeps this need waiting longest, by the store's last refusal; None: nothing forbids it."""
    limits, free = account.limits, account.store_free
    waits: list[tuple[int, Kind, int]] = []
    if limits.concurrent_requests is not None and 0 < need.places > free.places:
        waits.append((mean_seconds(account), "concurrency", limits.concurrent_requests))
    if limits.requests_per_minute is not None and 0 < need.requests > free.requests:
        freed = seconds_until(account, 2, need.requests - free.requests)
        waits.append((freed, "requests", limits.requests_per_minute))
    if limits.tokens_per_minute is not None and 0 < need.tokens > free.tokens:
        never = need.tokens > limits.tokens_per_minute
        freed = WINDOW_SECONDS if never else seconds_until(account, 1, need.tokens - free.tokens)
        waits.append((freed, "tokens", limits.tokens_per_minute))
    if not waits:
        return None
    seconds, kind, limit = max(waits)
    return QuotaRefusal(kind, limit, seconds)


def seconds_until(account: LocalAccount, index: int, excess: int) -> int:
    """Until the window lets go of so much; if it does not hold so much, until a call ends."""
    for one in account.leaving:
        excess -= one[index]
        if excess <= 0:
            return one[0]
    return mean_seconds(account)


def mean_seconds(account: LocalAccount) -> int:
    """How long calls lasted lately, as a time to wait."""
    return min(WINDOW_SECONDS, max(1, math.ceil(account.own.mean_seconds)))


def forget_store(account: LocalAccount, epoch: str, now: float) -> None:
    """The store has lost its data: it must hear all that the last minute has used."""
    account.lapse()
    account.epoch = epoch
    account.pending = {}
    account.slot_ends = -math.inf
    account.frozen = {}
    account.batch += 1
    for second, tokens, requests in history(account.own, now):
        account.frozen[second * SLOTS_PER_SECOND] = Slot(min(now, second + 1.0), tokens, requests)


def chunk(account: LocalAccount, now: float) -> Amount:
    """How much is worth having at hand: what two seconds need, or a small part of the limit."""
    if now - account.last_used > IDLE_SECONDS and not account.wanted:
        return Amount()
    limits = account.limits
    tokens, calls = peak(account)
    return Amount(
        max(2 * tokens, (limits.tokens_per_minute or 0) // SMALLEST_CHUNK),
        max(2 * calls, (limits.requests_per_minute or 0) // SMALLEST_CHUNK),
        max(calls, (limits.concurrent_requests or 0) // SMALLEST_CHUNK),
    )


def peak(account: LocalAccount) -> tuple[int, int]:
    """How many tokens calls have asked for in the last second or so, and how many calls there were."""
    tokens, calls = account.last_demand
    return max(account.demand_tokens, tokens), max(account.demand_calls, calls)


def is_low(account: LocalAccount) -> bool:
    """Whether more should be fetched before it is needed."""
    tokens, calls = peak(account)
    return account.grant.tokens < tokens // 2 or account.grant.requests < calls // 2


def turn_second(account: LocalAccount) -> None:
    """A second has passed."""
    account.last_demand = account.demand_tokens, account.demand_calls
    account.demand_tokens = account.demand_calls = 0


def give_back_surplus(account: LocalAccount, now: float) -> bool:
    """Lets go of what nobody here has needed lately; whether there was any. The next message tells."""
    return account.grant.keep(chunk(account, now))


def needed(account: LocalAccount, now: float) -> tuple[Amount, Amount]:
    """What the first that waits needs from the store, and what would be good to have."""
    worth, grant = chunk(account, now), account.grant
    need = grant.missing(account.wanted[0].amount) if account.wanted else Amount()
    waiting = [wanted.amount for wanted in account.wanted]
    sums = (sum(a.tokens for a in waiting), sum(a.requests for a in waiting), sum(a.places for a in waiting))
    want = Amount(
        max(need.tokens, sums[0] + worth.tokens - grant.tokens),
        max(need.requests, sums[1] + worth.requests - grant.requests),
        max(need.places, sums[2] + worth.places - grant.places),
    )
    return need, want


def told(limit: int | None) -> int:
    """A limit in a message."""
    return UNLIMITED if limit is None else limit


def history(own: Account, now: float) -> list[tuple[int, int, int]]:
    """(second, tokens, requests) of the last minute."""
    tokens, requests = dict(own.tokens.by_second(now)), dict(own.requests.by_second(now))
    return [(at, tokens.get(at, 0), requests.get(at, 0)) for at in sorted(tokens.keys() | requests.keys())]


def serve(account: LocalAccount, answer: Answer | None, now: float) -> None:
    """Hands out what has come: to each that waits what it wants, or why not. Who may still get it goes on waiting."""
    is_gone = answer is None or answer.status == "recovering"
    is_refused = answer is not None and answer.status == "refused"
    for _ in range(len(account.wanted)):
        wanted = account.wanted.popleft()
        if wanted.future.done():
            continue
        outcome = wanted.take(now)
        if outcome is None and is_refused:
            outcome = refusal_of(account, account.grant.missing(wanted.amount), now)
        if outcome is not None or is_gone:
            wanted.future.set_result(outcome)
        else:
            account.wanted.append(wanted)


def local_share(limits: RateLimits, holders: int, number: int | None = None) -> RateLimits:
    """This process's part of the limits, if all holders share alike. The first holders, where it is known which
    `number` this one is, take what is left over; otherwise each has at least 1."""

    def part(limit: int | None) -> int | None:
        if limit is None:
            return None
        return max(1, limit // holders) if number is None else limit // holders + (number < limit % holders)

    return RateLimits(
        part(limits.tokens_per_minute), part(limits.requests_per_minute), part(limits.concurrent_requests)
    )
