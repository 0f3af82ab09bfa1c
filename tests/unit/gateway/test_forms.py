"""A record that was filled into a form is the record that a lease would have made."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from modelport.core.catalog import Deployment, Model, RateLimits, Sku, Snapshot, Target
from modelport.core.content import Message
from modelport.core.events import Answered, ChoiceFinished, FinishReason, TextDelta, UsageReported
from modelport.core.identity import Principal, Role
from modelport.core.operations import Operation
from modelport.core.pricing import Price, Rates, Tier
from modelport.core.record_forms import RecordForm
from modelport.core.requests import ChatRequest
from modelport.core.usage import Pricing, TokenUsage, UsageRecord
from modelport.gateway.admit import admit
from modelport.gateway.charge import Charge
from modelport.gateway.count import Count
from modelport.gateway.facts import CallFacts
from modelport.gateway.forms import CLOSED_BY_CLASS_VALUES, CLOSED_VALUES, OPENED_VALUES, PriceForms, encoded
from modelport.gateway.lease import CallLease
from modelport.lane.standing import recorded
from modelport.stores.journal.lines import decode_record
from modelport.stores.memory.quota import MemoryQuota

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

    def open(self, record: UsageRecord) -> None:
        self.opened.append(record)

    def close(self, record: UsageRecord) -> None:
        self.closed.append(record)

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        raise AssertionError

    close_formed = open_formed

    def flush(self) -> None: ...

    def call_started(self, operation: Operation, surface: str) -> None: ...

    def call_ended(self, record: UsageRecord, reason: str | None = None) -> None:
        assert self.closed[-1] == record


class Book(Struct, frozen=True):
    """One price for everything, or none."""

    found: Price | None
    version: str
    currency: str
    unpriced: Any = "allow"

    def price(self, deployment: Deployment, target: Target, started_at: float, tier: str = "standard") -> Price | None:
        return self.found


class Case(Struct, frozen=True):
    """A plain call that went well."""

    principal: Principal
    deployment: Deployment
    requested_model: str | None
    book: Book | None
    snapshot_id: str
    client_request_id: str | None
    max_tokens: int | None
    body_bytes: int
    answered_model: str | None
    usage: TokenUsage
    is_by_class: bool
    started_at: float
    started: float
    seconds: float

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(id=self.snapshot_id, deployments={"d": self.deployment}, prices=self.book, reserve_tokens=100)


def leased(case: Case) -> tuple[UsageRecord, UsageRecord]:
    """The two records of the general way."""
    clock, kept, principal = Clock(case.started_at, case.started), Kept(), case.principal
    facts = CallFacts(
        id=ID,
        surface="openai_v1",
        operation=Operation.CHAT_COMPLETIONS,
        principal=principal.name,
        key_id=principal.key_id,
        snapshot=case.snapshot_id,
        started_at=case.started_at,
        started=case.started,
        client_request_id=case.client_request_id,
        project=principal.project,
        prices=case.book,
    )
    facts.asked(False, case.requested_model)
    request = ChatRequest(
        messages=(Message(role="user", content="x"),), max_tokens=case.max_tokens, body_bytes=case.body_bytes
    )
    lease = admit(case.deployment, request, facts, case.snapshot, MemoryQuota(clock), kept, kept, clock)
    assert isinstance(lease, CallLease)
    lease.asked(case.deployment.targets[0])
    clock.time = case.started + case.seconds
    count = Count(lease, request)
    count.feed([Answered(case.answered_model), TextDelta("x", tokens=1), ChoiceFinished(FinishReason.STOP)])
    count.feed([UsageReported(case.usage)])
    lease.settle("completed", count.usage(), status=200)
    (opened,), (closed,) = kept.opened, kept.closed
    return opened, closed


def filled(case: Case, opened: UsageRecord) -> tuple[UsageRecord, UsageRecord]:
    """The two records from forms, as a journal's reader has them. `opened` says only what was reserved."""
    target = case.deployment.targets[0]
    way: Any = SimpleNamespace(
        door=SimpleNamespace(surface="openai_v1"), inference=SimpleNamespace(operation=Operation.CHAT_COMPLETIONS)
    )
    forms = recorded(case.principal, case.deployment, target, way, case.requested_model, case.snapshot)
    charge = Charge(case.snapshot, case.deployment, ChatRequest(messages=()), case.started_at)
    prices = PriceForms(charge, case.started_at // 86400)
    prompt, completion, reserved = opened.usage.input, opened.usage.output, opened.reserved_tokens
    id, started_at, client = ID.encode(), encoded(case.started_at), encoded(case.client_request_id)
    seconds = (case.started + case.seconds) - case.started
    usage = (encoded(case.usage),) if case.is_by_class else (case.usage.input, case.usage.output)
    closed_values = CLOSED_BY_CLASS_VALUES if case.is_by_class else CLOSED_VALUES
    lines: list[UsageRecord] = []
    for _ in range(2):  # a form is the same the second time
        known = (id, started_at, prompt, completion, reserved, client, prices.bound(prompt, completion))
        money = prices.of(case.usage, target, seconds)
        ended = (id, started_at, encoded(case.answered_model), *usage, reserved, *[encoded(seconds)] * 2, client, money)
        rows = (forms.opened.filled(OPENED_VALUES % known), forms.closed.filled(closed_values % ended))
        assert not any(b"\n" in row for row in rows)
        lines += [decode_record(row).record() for row in rows]
    assert lines[:2] == lines[2:]
    return lines[0], lines[1]


def same(case: Case) -> tuple[UsageRecord, UsageRecord]:
    """The two records, which are the same either way."""
    general = leased(case)
    assert filled(case, general[0]) == general
    return general


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
            name=draw(words), key_id=draw(st.none() | words), role=Role.INFERENCE_USER, project=draw(st.none() | words)
        ),
        deployment=Deployment(
            name=draw(words),
            model=Model(format="Custom", name=draw(words)),
            targets=(Target(draw(words), draw(words)),),
            limits=RateLimits(tokens_per_minute=draw(st.none() | st.just(10**9))),
            sku=Sku(name=draw(st.sampled_from(["Standard", "GlobalBatch"]))),
        ),
        requested_model=draw(st.none() | words),
        book=draw(st.none() | st.builds(Book, prices, words, st.sampled_from(["USD", "EUR"]))),
        snapshot_id=draw(words),
        client_request_id=draw(st.none() | st.from_regex(r"[\x21-\x7e]{1,40}", fullmatch=True)),
        max_tokens=draw(st.none() | st.integers(1, 10**5)),
        body_bytes=draw(st.integers(1, 10**6)),
        answered_model=draw(st.none() | words),
        usage=usage,
        is_by_class=is_by_class,
        started_at=draw(moments),
        started=draw(moments),
        seconds=draw(st.floats(0.0, 1e4)),
    )


PLAIN = Case(
    principal=Principal(name="100%b", key_id='k"1', role=Role.INFERENCE_USER, project="%d"),
    deployment=Deployment(name="d", model=Model(format="Custom", name="m"), targets=(Target("p%", "ü/m"),)),
    requested_model="%(x)s",
    book=Book(Price(rates=Rates(input=Decimal("0.15"), output=Decimal("0.6"))), "v%1", "EUR"),
    snapshot_id="s",
    client_request_id='%b"\\',
    max_tokens=9,
    body_bytes=90,
    answered_model="模%型",
    usage=TokenUsage(input=5, output=2),
    is_by_class=False,
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
    charge = Charge(PLAIN.snapshot, PLAIN.deployment, ChatRequest(messages=()), PLAIN.started_at)
    prices, target = PriceForms(charge, 0), PLAIN.deployment.targets[0]
    costs = [prices.of(TokenUsage(input=count), target, 0.1) for count in (1, 7, 1_000_000, 7)]
    assert [cost.partition(b",")[0] for cost in costs] == [b'"0.00000015"', b'"0.00000105"', b'"0.15"', b'"0.00000105"']
