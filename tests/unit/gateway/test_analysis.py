"""Content safety as an operation: what filters say, and the one record of each call."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from modelport.core.catalog import RateLimits, Snapshot
from modelport.core.clock import SystemClock
from modelport.core.errors import CategoriesNotJudged, NotFound, PermissionDenied, Unavailable
from modelport.core.identity import Principal
from modelport.core.limit_errors import RateLimited
from modelport.core.operations import Operation
from modelport.core.ports.quota import QuotaRefusal
from modelport.core.ports.safety import BlocklistEntry, FilterParts
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.core.roles import Grant, Role
from modelport.core.safety import Category, Severity
from modelport.core.usage import UsageRecord
from modelport.gateway.analysis import ContentSafety, OpenFilters
from modelport.gateway.waiting import Denied
from word_filter import ListFilter, WordFilter

PARTS = FilterParts(blocklists={"house": (BlocklistEntry("chopping", exact="chopping"),)})
CALLER = Principal(name="caller", key_id="caller/key1", grants=(Grant(Role.INFERENCE_USER),), project="research")
LIMITED = Principal(name="caller", key_id=None, grants=CALLER.grants, limits=RateLimits(requests_per_minute=1))
NARROW = Principal(
    name="chatter", key_id=None, grants=(Grant(Role.INFERENCE_USER, operations=frozenset({Operation.EMBEDDINGS})),)
)


class Doubles:
    """What a pipeline is to it."""

    def __init__(self, *, taken: Any = None, is_full: bool = False, waits: bool = False) -> None:
        self.records: list[UsageRecord] = []
        self.observed: list[UsageRecord] = []
        self.settled: list[int] = []

        def flush() -> None:
            if is_full:
                raise OSError("no space left")

        self.taken = taken or SimpleNamespace(settle=self.settled.append)
        pipeline: Any = SimpleNamespace(
            snapshot=lambda: Snapshot(id="s1", deployments={}),
            clock=SystemClock(),
            journal=SimpleNamespace(close=self.records.append, flush=flush),
            observer=SimpleNamespace(call_started=lambda *of: None, call_ended=self.observed.append),
            quota=SimpleNamespace(take=lambda asked: self.taken, state=lambda *of: QuotaState()),
        )
        filters = {"classifier": WordFilter(waits=waits), "rules": ListFilter(PARTS)}
        self.safety = ContentSafety(pipeline, lambda: OpenFilters(filters, PARTS.blocklists))

    async def call(self, work: Any = None, principal: Principal = CALLER) -> Any:
        async with self.safety.recorded("id1", principal, "theirs") as found:
            found.add("prompt", {"hate": {"severity": "low"}})
            return await work if work is not None else None


@pytest.mark.parametrize("waits", [False, True])
async def test_a_severity_is_the_highest_of_its_category(waits: bool) -> None:
    safety = Doubles(waits=waits).safety
    found = await safety.severities("strife, carnage and mildhate", (Category.HATE, Category.VIOLENCE))
    assert found == {Category.HATE: Severity.LOW, Category.VIOLENCE: Severity.HIGH}
    assert await safety.severities("x", (Category.HATE,)) == {Category.HATE: Severity.SAFE}


async def test_a_category_that_no_filter_judges_is_not_safe() -> None:
    with pytest.raises(CategoriesNotJudged, match="judges sexual, self_harm"):
        await Doubles().safety.severities("x", (Category.HATE, Category.SEXUAL, Category.SELF_HARM))


async def test_a_filter_that_fails_is_told() -> None:
    with pytest.raises(Unavailable, match="classifier does not answer"):
        await Doubles(waits=True).safety.severities("outage", (Category.HATE,))


async def test_matches_have_the_lists_name_as_it_was_asked_for() -> None:
    safety = Doubles().safety
    ((name, entry),) = await safety.matches("chopping", ["HOUSE"])
    assert (name, entry.id) == ("HOUSE", "chopping")
    with pytest.raises(NotFound, match="no blocklist 'other'"):
        await safety.matches("x", ["house", "other"])


async def test_a_call_leaves_one_record() -> None:
    doubles = Doubles()
    await doubles.call()
    (record,) = doubles.records
    assert doubles.observed == [record]
    assert (record.id, record.client_request_id, record.snapshot) == ("id1", "theirs", "s1")
    assert (record.operation, record.surface, record.project) == ("content_safety", "contentsafety", "research")
    assert (record.status, record.ending, record.error_code) == (200, "completed", None)
    assert record.content_filter == "prompt.hate=low"


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (NotFound("no"), NotFound, (404, "refused", "404")),
        (Unavailable("no"), Unavailable, (503, "failed", "ServiceUnavailable")),
        (ValueError("ours"), ValueError, (500, "failed", "InternalServerError")),
        (asyncio.CancelledError(), asyncio.CancelledError, (499, "cancelled", None)),
    ],
)
async def test_a_call_that_ends_otherwise_leaves_one_too(
    error: BaseException, raised: type[BaseException], said: tuple[Any, ...]
) -> None:
    doubles = Doubles()

    async def work() -> None:
        raise error

    with pytest.raises(raised):
        await doubles.call(work(), LIMITED)
    (record,) = doubles.records
    assert (record.status, record.ending, record.error_code) == said
    assert doubles.settled == [0]


async def test_who_may_not_is_recorded_and_takes_nothing() -> None:
    doubles = Doubles()
    with pytest.raises(PermissionDenied):
        await doubles.call(principal=NARROW)
    assert [record.error_code for record in doubles.records] == ["PermissionDenied"]
    assert doubles.settled == []


async def test_limits_of_the_caller_are_asked() -> None:
    async def resume() -> Any:
        return denied

    denied = Denied("key:caller", QuotaRefusal("requests", 1, 7))
    for taken, error in (
        (denied, RateLimited),
        (NeedsWaiting(resume), RateLimited),
        (Refusal(Unavailable("the store is away")), Unavailable),
    ):
        doubles = Doubles(taken=taken)
        with pytest.raises(error):
            await doubles.call(principal=LIMITED)
        assert len(doubles.records) == 1
        await doubles.call(principal=CALLER)
        assert len(doubles.records) == 2


async def test_a_call_that_cannot_be_recorded_is_not_answered() -> None:
    doubles = Doubles(is_full=True)
    with pytest.raises(Unavailable, match="cannot be recorded"):
        await doubles.call()
    assert len(doubles.observed) == 1
