"""A record that was filled into a form is the record that would have been made as a whole; an answer likewise."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace
from plans import Parts, caller_of, facts_of, plan_of

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice, PlainAnswer
from modelport.core.budgets import Budget
from modelport.core.catalog import Deployment, Model, RateLimits, Sku, Snapshot, Target
from modelport.core.content import Message
from modelport.core.events import FinishReason
from modelport.core.identity import Principal
from modelport.core.operations import Operation
from modelport.core.ports.records import UnknownCaller
from modelport.core.pricing import Price, Rates, Tier
from modelport.core.record_forms import RecordForm
from modelport.core.requests import ChatRequest
from modelport.core.roles import Grant, Role
from modelport.core.usage import Pricing, TokenUsage, UsageRecord
from modelport.gateway.admit import admit
from modelport.gateway.answering import whole_text
from modelport.gateway.charge import Charge
from modelport.gateway.forms import PriceForms
from modelport.gateway.lease import CallLease
from modelport.gateway.plan import CallPlan
from modelport.stores.journal.lines import decode_record
from modelport.stores.memory.budgets import MemoryBudgets
from modelport.stores.memory.quota import MemoryQuota
from modelport.surfaces.azure_inference.speech import chat
from modelport.surfaces.openai_speech import SPEECHES as SPEECHES_OF_OPENAI

ID = "0c5ff0de-0000-4000-8000-000000000001"


class Clock:
    """Two times that are set."""

    def __init__(self, started_at: float, started: float) -> None:
        self._started_at = started_at
        self.time = started

    def now(self) -> float:
        return self._started_at

    def monotonic(self) -> float:
        return self.time


class Kept:
    """A journal and an observer that remember."""

    def __init__(self) -> None:
        self.opened: list[UsageRecord] = []
        self.closed: list[UsageRecord] = []
        self.seen: list[UsageRecord] = []
        self.formed = 0

    def open(self, record: UsageRecord) -> None:
        self.opened.append(record)

    def close(self, record: UsageRecord) -> None:
        self.closed.append(record)

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        self.opened.append(self.filled(id, form, values))

    def close_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        self.closed.append(self.filled(id, form, values))

    def filled(self, id: str, form: RecordForm, values: bytes) -> UsageRecord:
        """As a journal's reader has it."""
        row = form.filled(values)
        assert b"\n" not in row
        record = decode_record(row).record()
        assert record.id == id
        self.formed += 1
        return record

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        self.seen.append(record)

    def series(self, surface: str, operation: str, deployment: str) -> Kept:
        """core.ports.records.Observer"""
        return self

    def completed(
        self, form: RecordForm, values: bytes, seconds: float, prompt: int, completion: int, reserved: int
    ) -> None:
        """core.ports.records.Series"""
        record = decode_record(form.filled(values)).record()
        assert (record.duration_seconds, record.reserved_tokens) == (seconds, reserved)
        assert record.usage == TokenUsage(input=prompt, output=completion)
        self.seen.append(record)


class Book(Struct, frozen=True):
    """One price for everything, or none."""

    found: Price | None
    version: str
    currency: str
    unpriced: Any = "allow"

    def price(self, deployment: Deployment, target: Target, started_at: float, tier: str = "standard") -> Price | None:
        return self.found


class Case(Struct, frozen=True):
    """A call whose answer came at once, counted by its source."""

    principal: Principal
    deployment: Deployment
    requested_model: str | None
    spilled_from: str | None
    book: Book | None
    snapshot_id: str
    client_request_id: str | None
    max_tokens: int | None
    body_bytes: int
    answered_model: str | None
    usage: TokenUsage
    is_by_class: bool
    is_booked: bool
    service_tier: str | None
    started_at: float
    started: float
    seconds: float

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(id=self.snapshot_id, deployments={"d": self.deployment}, prices=self.book, reserve_tokens=100)

    @property
    def charge(self) -> Charge:
        return Charge(self.snapshot, self.deployment, ChatRequest(messages=()), self.started_at)

    @property
    def answer(self) -> PlainAnswer:
        usage = self.usage
        classes = usage if self.is_by_class else None
        named = self.answered_model
        return PlainAnswer(
            "x", FinishReason.STOP, named, None, usage.prompt, usage.completion, classes, self.service_tier
        )


class General(CallPlan):
    """A plan by which each record is made as a whole."""

    __slots__ = ()

    def prices(self, *_: object) -> None:
        return None


def played(case: Case, kind: type[CallPlan]) -> tuple[Kept, tuple[Decimal, int]]:
    """Two calls by one plan, and what they have cost their budget."""
    clock, kept, budgets = Clock(case.started_at, case.started), Kept(), MemoryBudgets()
    own = Budget("key:a", "day", tokens=10**12)
    principal = replace(case.principal, budgets=(own,) if case.is_booked else ())
    plan = kind(caller_of(case.snapshot, principal, kept), case.deployment, case.requested_model, case.spilled_from)
    request = ChatRequest(
        messages=(Message(role="user", content="x"),), max_tokens=case.max_tokens, body_bytes=case.body_bytes
    )
    parts = Parts.over(MemoryQuota(clock), kept, kept, clock)
    parts.quota.budgets = budgets
    for _ in range(2):  # a form is the same the second time
        clock.time = case.started
        lease = admit(plan, request, facts_of(plan, clock, ID, case.client_request_id), parts)
        assert isinstance(lease, CallLease)
        lease.target = case.deployment.targets[0]
        clock.time = case.started + case.seconds
        lease.complete(case.answer)
    return kept, budgets.spent(own, clock.now())


def same(case: Case) -> tuple[UsageRecord, UsageRecord]:
    """The two records, which are the same either way."""
    (kept, spent), (general, spent_in_general) = played(case, CallPlan), played(case, General)
    assert (kept.formed, general.formed) == (4 if case.service_tier is None else 2, 0)
    assert (kept.opened, kept.closed, kept.seen) == (general.opened, general.closed, general.seen)
    assert spent == spent_in_general
    opened, closed = kept.opened[0], kept.closed[0]
    assert (kept.opened, kept.closed, kept.seen) == ([opened] * 2, [closed] * 2, [closed] * 2)
    return opened, closed


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12) | st.sampled_from(
    ["%", "%b%d", "%(id)b", '"', "\\", "a\nb", "\0", "ü", "模型", "🙂", "%%", "\u2028", "7100000000000001"]
)
amounts = st.decimals(0, 1000, places=6, allow_nan=False) | st.just(Decimal(0)) | st.decimals(0, 1, places=18)
rates = st.builds(
    Rates,
    **dict.fromkeys(("input", "output", "cached_input", "reasoning", "request"), st.none() | amounts),
)
prices = st.none() | st.builds(
    Price,
    rates=rates,
    tiers=st.just(()) | rates.map(lambda found: (Tier(above=20, rates=found),)),
    per_hour=st.none() | st.none() | amounts,
    is_estimate=st.booleans(),
)
counts = st.integers(1, 10**6)
usages = st.builds(TokenUsage, input=counts, output=st.integers(1, 10**6)).map(
    lambda usage: (usage, False)
) | st.builds(TokenUsage, input=counts, output=counts, cached_input=counts, reasoning=st.integers(0, 9)).map(
    lambda usage: (usage, True)
)
moments = st.floats(1.0, 4e9)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any."""
    usage, is_by_class = draw(usages)
    return Case(
        principal=Principal(
            name=draw(words),
            key_id=draw(st.none() | words),
            grants=(Grant(Role.INFERENCE_USER),),
            project=draw(st.none() | words),
        ),
        deployment=Deployment(
            name=draw(words),
            model=Model(format="Custom", name=draw(words)),
            targets=(Target(draw(words), draw(words)),),
            limits=RateLimits(tokens_per_minute=draw(st.none() | st.just(10**9))),
            sku=Sku(name=draw(st.sampled_from(["Standard", "GlobalBatch"]))),
        ),
        requested_model=draw(st.none() | words),
        spilled_from=draw(st.none() | words),
        book=draw(st.none() | st.builds(Book, prices, words, st.sampled_from(["USD", "EUR"]))),
        snapshot_id=draw(words),
        client_request_id=draw(st.none() | st.from_regex(r"[\x21-\x7e]{1,40}", fullmatch=True)),
        max_tokens=draw(st.none() | st.integers(1, 10**5)),
        body_bytes=draw(st.integers(1, 10**6)),
        answered_model=draw(st.none() | words),
        usage=usage,
        is_by_class=is_by_class,
        is_booked=draw(st.booleans()),
        service_tier=draw(st.none() | st.none() | st.just("priority")),
        started_at=draw(moments),
        started=draw(moments),
        seconds=draw(st.floats(0.0, 1e4)),
    )


PLAIN = Case(
    principal=Principal(name="100%b", key_id='k"1', grants=(Grant(Role.INFERENCE_USER),), project="%d"),
    deployment=Deployment(name="d", model=Model(format="Custom", name="m"), targets=(Target("p%", "ü/m"),)),
    requested_model="%(x)s",
    spilled_from=None,
    book=Book(Price(rates=Rates(input=Decimal("0.15"), output=Decimal("0.6"))), "v%1", "EUR"),
    snapshot_id="s",
    client_request_id='%b"\\',
    max_tokens=9,
    body_bytes=90,
    answered_model="模%型",
    usage=TokenUsage(input=5, output=2),
    is_by_class=False,
    is_booked=False,
    service_tier=None,
    started_at=1_700_000_000.25,
    started=100.5,
    seconds=0.125,
)


@settings(max_examples=300, deadline=None)
@given(cases())
@example(PLAIN)
def test_a_form_that_is_filled_in_is_the_lease_s_record(case: Case) -> None:
    same(case)


def test_money_of_every_kind_is_as_the_lease_has_it() -> None:
    zero, dear = Rates(input=Decimal(0), output=Decimal(0)), Rates(input=Decimal(3), output=Decimal("0.000000000001"))
    known = [
        (None, Pricing.UNPRICED, None, Pricing.UNPRICED),
        (Book(None, "v", "EUR"), Pricing.UNPRICED, None, Pricing.UNPRICED),
        (Book(Price(rates=Rates(input=Decimal(3))), "v", "EUR"), Pricing.UNPRICED, None, Pricing.UNPRICED),
        (Book(Price(rates=zero), "v", "EUR"), Pricing.ESTIMATED, "0", Pricing.FREE),
        (Book(Price(rates=dear), "v", "EUR"), Pricing.ESTIMATED, "0.000015000000000002", Pricing.PRICED),
        (
            Book(Price(rates=dear, is_estimate=True), "v", "EUR"),
            Pricing.ESTIMATED,
            "0.000015000000000002",
            Pricing.ESTIMATED,
        ),
        (Book(Price(per_hour=Decimal(36)), "v", "EUR"), Pricing.ESTIMATED, "0.00125", Pricing.PRICED),
    ]
    for book, bound, cost, pricing in known:
        opened, closed = same(replace(PLAIN, book=book))
        assert (opened.pricing, closed.cost, closed.pricing) == (bound, cost, pricing)
        assert closed.price_version == (None if book is None else "v")


def test_amounts_of_many_calls_share_one_form() -> None:
    """What was learned from one amount does not show in the next."""
    prices, target = PriceForms(PLAIN.charge, 0), PLAIN.deployment.targets[0]
    priced = [
        prices.charge.of(TokenUsage(input=count), "reported", "completed", target, 0.1) for count in (1, 7, 10**6, 7)
    ]
    costs = [bytes(prices.written(one)).partition(b",")[0] for one in priced]
    assert costs == [b'"0.00000015"', b'"0.00000105"', b'"0.15"', b'"0.00000105"']


SPEECHES = {"openai": SPEECHES_OF_OPENAI[Operation.CHAT_COMPLETIONS], "azure": chat("models")}


@pytest.mark.parametrize("surface", SPEECHES)
@pytest.mark.parametrize("reason", FinishReason)
@given(
    text=words | st.text(),
    counts=st.tuples(st.integers(1, 10**9), st.integers(0, 10**9)),
    model=words.filter(lambda name: "7100000000000001" not in name),  # what marks a place
)
def test_an_answer_from_its_form_is_the_surface_s_own(
    surface: str, reason: FinishReason, text: str, counts: tuple[int, int], model: str
) -> None:
    speech = replace(SPEECHES[surface], new_id=lambda: "id%b")
    deployment = replace(PLAIN.deployment, model=Model(format="Custom", name=model))
    plan = plan_of(deployment, PLAIN.snapshot, speech=speech)
    request = ChatRequest(messages=())
    answer = PlainAnswer(text, reason, "far", None, *counts)
    head = AnswerHead(id="id%b", created=1_700_000_000, model=deployment.answered_name)
    whole = ChatAnswer((ChatChoice(0, text, reason),), TokenUsage(input=counts[0], output=counts[1]))
    expected = speech.whole(head, request, whole, "inline")
    for _ in range(2):
        assert whole_text(plan, request, answer, 1_700_000_000.9) == expected
