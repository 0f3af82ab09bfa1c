"""Admission, counting and settling, over the real quota and the real journal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import Parts, facts_of, plan_of

from modelport.core.catalog import Deployment, Model, RateLimits, Snapshot, Target
from modelport.core.content import Message
from modelport.core.errors import Unavailable
from modelport.core.events import (
    Answered,
    ChoiceFinished,
    Embedding,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReported,
)
from modelport.core.limit_errors import RateLimited
from modelport.core.operations import Operation
from modelport.core.ports.records import UnknownCaller
from modelport.core.ports.stages import Refusal
from modelport.core.record_forms import RecordForm
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, Request
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.gateway.admissions import Admissions
from modelport.gateway.admit import admit
from modelport.gateway.count import Count
from modelport.gateway.facts import CallFacts, record_refusal
from modelport.gateway.lease import CallLease, write_out
from modelport.gateway.plan import CallPlan
from modelport.stores.journal import FileJournal, ended_calls, verify
from modelport.stores.journal.lines import decode_record
from modelport.stores.memory.quota import MemoryQuota

UNLIMITED = RateLimits()


class SettableClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return 1_700_000_000.0 + self.time

    def monotonic(self) -> float:
        return self.time


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.ended: list[UsageRecord] = []

    def call_started(self, operation: Operation, surface: str) -> None:
        pass

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        self.ended.append(record)


class House:
    """One process's quota, journal and clock."""

    def __init__(self, directory: Any) -> None:
        self.clock = SettableClock()
        self.quota = Admissions(MemoryQuota(self.clock), self.clock)
        self.directory = directory
        self.journal = FileJournal(directory)
        self.seen = Seen()
        self.number = 0

    def facts(self, limits: RateLimits = UNLIMITED) -> tuple[CallPlan, CallFacts]:
        self.number += 1
        deployment = Deployment(
            name="Gpt", model=Model(format="OpenAI", name="gpt-4o"), targets=(Target("p", "m"),), limits=limits
        )
        snapshot = Snapshot(id="s1", deployments={"gpt": deployment}, reserve_tokens=100)
        plan = plan_of(deployment, snapshot)
        return plan, facts_of(plan, self.clock, f"call-{self.number}")

    def admit(self, request: Request, limits: RateLimits = UNLIMITED) -> Any:
        plan, facts = self.facts(limits)
        return admit(plan, request, facts, Parts(self.quota, self.journal, self.seen, self.clock))

    def refuse(self, status: int, code: str) -> None:
        """Leaves the record of a call that has got no lease."""
        _, facts = self.facts()
        record_refusal(facts, Ending.REFUSED, status, code, self.journal, self.seen, self.clock)

    def lease(self, request: Request, limits: RateLimits = UNLIMITED) -> CallLease:
        lease = self.admit(request, limits)
        assert isinstance(lease, CallLease)
        return lease

    def written(self) -> list[UsageRecord]:
        self.journal.flush()
        return list(ended_calls(self.directory))


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.journal.stop()


def chat(text: str = "Hello there", **fields: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), body_bytes=30 + len(text.encode()), **fields)


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_a_call_reserves_its_prompt_and_all_choices_of_its_max_tokens(house):
    lease = house.lease(chat(max_tokens=50, extra={"n": 3}), RateLimits(tokens_per_minute=1000))
    # 41 bytes: 14 tokens, and 4 for the turn and 4 for the answer's head
    assert lease.quota().remaining_tokens == 1000 - 22 - 150


def test_a_call_without_max_tokens_reserves_one_step(house):
    lease = house.lease(chat(), RateLimits(tokens_per_minute=1000))
    assert lease.quota().remaining_tokens == 1000 - 22 - 100


def test_embeddings_reserve_their_prompt_alone(house):
    request = EmbeddingsRequest(input=("x" * 30, (1, 2, 3)))
    assert house.lease(request, RateLimits(tokens_per_minute=100)).quota().remaining_tokens == 100 - 10 - 3 - 4


def test_a_step_larger_than_the_whole_limit_does_not_refuse_for_ever(house):
    lease = house.lease(chat(), RateLimits(tokens_per_minute=60))
    assert lease.quota().remaining_tokens == 0


def test_a_refusal_names_the_limit_and_an_honest_time_and_leaves_no_record(house):
    limits = RateLimits(requests_per_minute=1)
    house.lease(chat(), limits).settle(Ending.COMPLETED, TokenUsage(input=1))
    refused = house.admit(chat(), limits)
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, RateLimited)
    assert (refused.error.kind, refused.error.limit, refused.error.retry_after) == ("requests", 1, 60)
    assert [record.id for record in house.written()] == ["call-1"]


def test_a_refused_call_leaves_one_record_by_the_driver(house):
    house.refuse(404, "DeploymentNotFound")
    (record,) = house.written()
    assert (record.ending, record.status, record.error_code) == (Ending.REFUSED, 404, "DeploymentNotFound")
    assert house.seen.ended == [record]


def test_a_settled_call_leaves_one_record_with_everything_that_is_known(house):
    lease = house.lease(chat(max_tokens=50))
    lease.target = Target("house", "upstream-name")
    house.clock.time += 0.5
    count = Count(lease, chat())
    count.feed([Answered("gpt-4o-2024-08-06"), TextDelta("Hi")])
    house.clock.time += 1.0
    count.feed([ChoiceFinished(FinishReason.STOP), UsageReported(TokenUsage(input=9, output=2))])
    lease.settle(Ending.COMPLETED, count.usage(), status=200)
    lease.settle(Ending.FAILED, TokenUsage(), status=500)
    (record,) = house.written()
    assert house.seen.ended == [record]
    assert record == UsageRecord(
        id="call-1",
        started_at=1_700_001_000.0,
        principal="alice",
        key_id="k1",
        surface="openai_v1",
        operation="chat_completions",
        streamed=False,
        requested_model=None,
        deployment="Gpt",
        answered_model="gpt-4o-2024-08-06",
        target="house/upstream-name",
        provider="house",
        status=200,
        ending=Ending.COMPLETED,
        usage=TokenUsage(input=9, output=2),
        usage_source=UsageSource.REPORTED,
        reserved_tokens=72,
        first_event_seconds=0.5,
        duration_seconds=1.5,
        snapshot="s1",
    )


def test_the_difference_to_the_reservation_is_given_back(house):
    limits = RateLimits(tokens_per_minute=1000)
    lease = house.lease(chat(max_tokens=900), limits)
    lease.settle(Ending.COMPLETED, TokenUsage(input=10, output=5))
    assert lease.quota().remaining_tokens == 78  # an answer says what was left while its call was under way
    assert house.quota.quota.state("gpt", limits, house.clock.monotonic()).remaining_tokens == 985


def test_a_client_that_hangs_up_is_charged_with_what_was_made(house):
    lease = house.lease(chat("x" * 40))
    count = Count(lease, chat("x" * 40))
    count.feed([TextDelta("one"), TextDelta(" two"), ReasoningDelta("hm")])
    lease.settle(Ending.CANCELLED, status=499)
    (record,) = house.written()
    assert record.usage == TokenUsage(input=14, output=2, reasoning=1)
    assert record.usage_source == UsageSource.COUNTED


def test_a_call_that_failed_before_anything_was_made_costs_nothing(house):
    lease = house.lease(chat())
    Count(lease, chat())
    lease.settle(Ending.FAILED, status=503, error_code="ServiceUnavailable")
    (record,) = house.written()
    assert (record.usage.total, record.usage_source) == (0, UsageSource.NONE)


def test_the_source_s_own_report_passes_once_and_wins(house):
    count = Count(house.lease(chat()), chat())
    report = UsageReported(TokenUsage(input=9, output=1))
    events = [TextDelta("Hi"), ChoiceFinished(FinishReason.STOP), report]
    assert count.feed(events) == events[:2]
    assert count.end() == [report]
    assert count.end() == []
    assert (count.usage(), count.source) == (TokenUsage(input=9, output=1), UsageSource.REPORTED)


def test_a_source_that_reports_nothing_gets_one_report_of_ours(house):
    count = Count(house.lease(chat()), chat())
    count.feed([TextDelta("Hi"), ChoiceFinished(FinishReason.STOP)])
    (report,) = count.end()
    assert isinstance(report, UsageReported)
    assert report.usage == TokenUsage(input=7, output=1)
    assert count.end() == []


def test_a_report_of_zero_is_not_believed(house):
    count = Count(house.lease(chat()), chat())
    passed = count.feed([TextDelta("Hi"), ChoiceFinished(FinishReason.STOP), UsageReported(TokenUsage())])
    assert not any(isinstance(event, UsageReported) for event in passed)
    assert count.end() == [UsageReported(TokenUsage(input=7, output=1))]


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (UsageReported(TokenUsage(input=9, output=4)), TokenUsage(input=9, output=4)),
        (UsageReported(TokenUsage(output=4)), TokenUsage(input=7, output=4)),
        (UsageReported(TokenUsage(input=9)), TokenUsage(input=9, output=64)),
        (UsageReported(TokenUsage(input=9, output=3)), TokenUsage(input=9, output=64)),
        (UsageReported(TokenUsage(input=9, reasoning=4)), TokenUsage(input=9, reasoning=4)),
        (UsageReported(TokenUsage(), total=100), TokenUsage(input=36, output=64)),
        (UsageReported(TokenUsage(), total=50), TokenUsage(input=7, output=64)),
        (UsageReported(TokenUsage(input=9, output=8), is_sure=False), TokenUsage(input=9, output=8)),
    ],
)
def test_a_report_is_believed_as_far_as_it_agrees_with_the_text(house, report, expected):
    count = Count(house.lease(chat()), chat())
    count.feed([TextDelta("x" * 256), ChoiceFinished(FinishReason.STOP), report])
    is_whole = report.is_sure and expected == report.usage
    assert count.usage() == expected
    assert count.source == (UsageSource.REPORTED if is_whole else UsageSource.ESTIMATED)
    assert count.end() == [UsageReported(expected)]


def test_a_report_without_a_completion_is_whole_where_nothing_was_written(house):
    request = EmbeddingsRequest(input=("x" * 40,))
    count = Count(house.lease(request), request)
    count.feed([Embedding(index=0, vector=b"\0\0\0\0"), UsageReported(TokenUsage(input=3))])
    assert (count.usage(), count.source) == (TokenUsage(input=3), UsageSource.REPORTED)


DELTAS = st.one_of(
    st.builds(TextDelta, st.text(max_size=200)),
    st.builds(ReasoningDelta, st.text(max_size=200)),
    st.builds(lambda text: ToolCallDelta(0, "c", "f", text), st.text(max_size=200)),
)
REPORTS = st.builds(
    UsageReported,
    st.builds(TokenUsage, *[st.integers(0, 50)] * 8),
    is_sure=st.booleans(),
    total=st.integers(0, 50),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(DELTAS | REPORTS, max_size=12))
def test_text_that_came_is_never_charged_nothing(tmp_path_factory, events):
    house = House(tmp_path_factory.mktemp("journal"))
    count = Count(house.lease(chat()), chat())
    count.feed(events)
    usage = count.usage()
    house.journal.stop()
    assert min(usage.classes()) >= 0
    made = sum(len(getattr(event, "text", "") + getattr(event, "arguments", "")) for event in events)
    if made:
        assert usage.completion > 0
        assert usage.prompt > 0


def test_tokens_that_the_source_numbers_are_taken_as_numbered(house):
    count = Count(house.lease(chat()), chat())
    count.feed([TextDelta("a long stretch of text made of", tokens=7), TextDelta("x", tokens=0)])
    assert (count.usage().output, count.source) == (7, UsageSource.COUNTED)


def test_a_source_that_sends_sentences_is_counted_by_bytes(house):
    count = Count(house.lease(chat()), chat())
    count.feed([TextDelta("x" * 400)])
    assert (count.usage().output, count.source) == (100, UsageSource.ESTIMATED)


def test_one_long_token_among_short_ones_is_one_token(house):
    count = Count(house.lease(chat()), chat())
    count.feed([TextDelta(text) for text in (" it", " is", " internationalisation", ".")])
    assert (count.usage().output, count.source) == (4, UsageSource.COUNTED)


def test_tool_calls_count(house):
    count = Count(house.lease(chat()), chat())
    count.feed([ToolCallDelta(index=0, id="c", name="sum"), ToolCallDelta(index=0, arguments='{"a"')])
    assert count.usage().output == 2


def test_embeddings_without_a_report_are_charged_with_the_likely_prompt(house):
    request = EmbeddingsRequest(input=("x" * 40,))
    count = Count(house.lease(request), request)
    count.feed([Embedding(index=0, vector=b"\0\0\0\0")])
    assert count.end() == [UsageReported(TokenUsage(input=10))]
    assert count.source == UsageSource.ESTIMATED


def test_an_open_ended_answer_is_topped_up_before_more_is_passed_on(house):
    limits = RateLimits(tokens_per_minute=1000)
    lease = house.lease(chat(), limits)
    count = Count(lease, chat())
    for _ in range(100):
        count.feed([TextDelta("x", tokens=1)])
    assert lease.quota().remaining_tokens == 1000 - 122
    count.feed([TextDelta("x", tokens=1)])
    assert lease.quota().remaining_tokens == 1000 - 222


def test_a_top_up_is_in_the_journal_before_the_tokens_are_passed_on(house):
    lease = house.lease(chat())
    write_out(house.journal)
    Count(lease, chat()).feed([TextDelta("x", tokens=250)])
    house.journal.stop()
    with FileJournal(house.directory) as journal:
        assert journal.recovered.lost_calls == 1
    (record,) = ended_calls(house.directory)
    assert (record.usage.total, record.ending) == (22 + 300, Ending.LOST)


def test_a_refused_top_up_ends_every_open_choice_with_length(house):
    request = chat(extra={"n": 3})
    lease = house.lease(request, RateLimits(tokens_per_minute=122))
    count = Count(lease, request)
    assert (
        texts(count.feed([TextDelta("x" * 8, choice=0, tokens=100), ChoiceFinished(FinishReason.STOP, 0)])) == "x" * 8
    )
    passed = count.feed([TextDelta("y", choice=1, tokens=1), TextDelta("z", choice=2, tokens=1)])
    assert passed == [ChoiceFinished(FinishReason.LENGTH, 1), ChoiceFinished(FinishReason.LENGTH, 2)]
    assert count.stopped
    assert count.feed([TextDelta("more")]) == []
    assert count.end() == [UsageReported(TokenUsage(input=7, output=101))]


def test_a_call_with_max_tokens_is_never_cut_by_our_count(house):
    lease = house.lease(chat(max_tokens=10), RateLimits(tokens_per_minute=40))
    count = Count(lease, chat(max_tokens=10))
    assert texts(count.feed([TextDelta("x", tokens=500)])) == "x"
    assert not count.stopped
    lease.settle(Ending.COMPLETED, count.usage())
    assert house.seen.ended[0].usage.total == 507
    assert isinstance(house.admit(chat(max_tokens=1), RateLimits(tokens_per_minute=40)), Refusal)


def test_a_report_after_the_cut_in_the_same_read_still_counts(house):
    lease = house.lease(chat(), RateLimits(tokens_per_minute=122))
    count = Count(lease, chat())
    report = UsageReported(TokenUsage(input=8, output=120))
    count.feed([TextDelta("x", tokens=101), ChoiceFinished(FinishReason.STOP), report])
    assert (count.stopped, count.usage()) == (True, TokenUsage(input=8, output=120))
    assert count.end() == [report]


def test_completions_are_as_many_as_prompts_times_the_most_that_are_made(house):
    request = CompletionsRequest(prompt=("abc", "def"), max_tokens=10, n=1, best_of=4)
    lease = house.lease(request, RateLimits(tokens_per_minute=100))
    assert lease.quota().remaining_tokens == 100 - 2 - 80


class FullJournal:
    """A journal on a full disk."""

    def __init__(self, *, takes_lines: bool) -> None:
        self.takes_lines = takes_lines

    def open(self, record: UsageRecord) -> None:
        if not self.takes_lines:
            raise OSError(28, "No space left on device")

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        self.open(decode_record(form.filled(values)).record())

    def close(self, record: UsageRecord) -> None:
        pass

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_call_that_cannot_be_recorded_is_refused_and_holds_nothing(house):
    real, house.journal = house.journal, FullJournal(takes_lines=False)
    refused = house.admit(chat(max_tokens=50), RateLimits(tokens_per_minute=72, concurrent_requests=1))
    house.journal = real
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, Unavailable)
    assert refused.error.retry_after
    house.lease(chat(max_tokens=50), RateLimits(tokens_per_minute=72, concurrent_requests=1))


def test_a_top_up_that_cannot_be_recorded_breaks_the_answer(house):
    real, house.journal = house.journal, FullJournal(takes_lines=True)
    count = Count(house.lease(chat()), chat())
    house.journal = real
    with pytest.raises(Unavailable):
        count.feed([TextDelta("x", tokens=101)])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 60), st.sampled_from([Ending.COMPLETED, Ending.CANCELLED])),
        max_size=25,
    )
)
def test_every_call_has_one_record_and_the_ledger_is_what_the_quota_booked(tmp_path_factory, calls):
    house = House(tmp_path_factory.mktemp("journal"))
    limits = RateLimits(tokens_per_minute=600)
    booked = 0
    for most, made, ending in calls:
        admitted = house.admit(chat(max_tokens=most), limits)
        if isinstance(admitted, Refusal):
            house.refuse(429, "x")
            continue
        count = Count(admitted, chat(max_tokens=most))
        count.feed([TextDelta("x", tokens=1) for _ in range(min(made, most))])
        admitted.settle(ending, count.usage())
        booked += count.usage().total
    records = house.written()
    house.journal.stop()
    assert len(records) == len(calls)
    assert sum(record.usage.total for record in records) == booked <= 600
    assert verify(house.directory).tokens == booked
