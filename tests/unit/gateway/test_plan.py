"""What is found once for a caller's calls: how long it is kept, what is never kept, and what it says."""

from __future__ import annotations

import gc
from itertools import product
from types import FunctionType, ModuleType
from typing import Any

import pytest
from msgspec.structs import replace
from plans import ALICE, caller_of, plan_of

from modelport.core.budgets import Budget
from modelport.core.catalog import Deployment, Model, RateLimits, Sku, Snapshot, Target
from modelport.core.content import AudioPart, InputAudio, Message
from modelport.core.errors import DeploymentNotFound
from modelport.core.identity import Credential, Shown
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.pricing import Price, Rates
from modelport.core.requests import ChatRequest
from modelport.core.roles import Grant, Role
from modelport.core.usage import Ending
from modelport.gateway.call import Selector
from modelport.gateway.estimate import need
from modelport.gateway.plan import KNOWN_CALLERS, KNOWN_MODELS, KNOWN_PLANS, Caller, Callers, CallPlan
from modelport.gateway.shape import Shaped
from modelport.gateway.waiting import BATCH, INTERACTIVE

NOW = 1_700_000_000.0
DAY = 86_400


def deployment(name: str, **fields: Any) -> Deployment:
    return Deployment(name=name, model=Model("Custom", "m"), targets=(Target("p", "m"),), **fields)


LARGE, SMALL = deployment("Large", spillover="small"), deployment("small")
SNAPSHOT = Snapshot(id="s1", deployments={"large": LARGE, "small": SMALL}, default="small")
HELLO = ChatRequest(messages=(Message(role="user", content="Hello"),), max_tokens=5)


def planned(caller: Caller, model: str | None) -> CallPlan:
    plan = caller.plan(model)
    assert isinstance(plan, CallPlan)
    return plan


# --- callers ---------------------------------------------------------------------------------------------------------


def callers(*known: tuple[bytes, Caller]) -> Callers:
    found = Callers()
    assert found.find(b"nobody", SNAPSHOT, NOW) is None
    for key, caller in known:
        found.keep(key, caller)
    return found


def test_a_caller_is_found_by_its_key_alone() -> None:
    caller = caller_of(SNAPSHOT)
    known = callers((b"key", caller))
    assert known.find(b"key", SNAPSHOT, NOW) is caller
    assert known.find(b"kez", SNAPSHOT, NOW) is None
    assert known.find(b"", SNAPSHOT, NOW) is None


def test_without_a_key_nobody_is_kept() -> None:
    known = callers((b"", caller_of(SNAPSHOT)))
    assert not known._known
    assert known.find(b"", SNAPSHOT, NOW) is None


def test_a_new_snapshot_forgets_all_even_with_the_same_content() -> None:
    known, again = callers((b"key", caller_of(SNAPSHOT))), replace(SNAPSHOT)
    assert known.find(b"key", again, NOW) is None
    assert not known._known
    known.keep(b"late", caller_of(SNAPSHOT))  # identified while the snapshot changed
    assert known.find(b"late", again, NOW) is None
    assert known.find(b"key", SNAPSHOT, NOW) is None


def test_a_credential_counts_until_it_expires() -> None:
    caller = caller_of(SNAPSHOT, expires_at=NOW + 60)
    known = callers((b"key", caller))
    assert known.find(b"key", SNAPSHOT, NOW + 59.9) is caller
    assert known.find(b"key", SNAPSHOT, NOW + 60) is None


def test_no_more_callers_are_kept_than_so_many() -> None:
    known, caller = callers(), caller_of(SNAPSHOT)
    for number in range(3 * KNOWN_CALLERS):
        key = b"%d" % number
        known.keep(key, caller)
        assert len(known._known) <= KNOWN_CALLERS
        assert known.find(key, SNAPSHOT, NOW) is caller


def test_no_more_plans_are_kept_than_so_many_whoever_makes_them() -> None:
    known = Callers()
    assert known.find(b"nobody", SNAPSHOT, NOW) is None
    spellings = ["".join(letters) for letters in product(*((c, c.upper()) for c in "small"))]
    kept = 0
    for number in range(2 * KNOWN_PLANS // len(spellings)):
        caller = caller_of(SNAPSHOT, planned=known.planned)
        known.keep(b"%d" % number, caller)
        for spelling in spellings:
            assert isinstance(caller.plan(spelling), CallPlan)
        kept = sum(len(other._plans) for other in known._known.values())
        assert kept <= KNOWN_PLANS + len(spellings)
    assert kept


def test_no_credential_is_kept() -> None:
    secret = "the-secret-word"
    caller = caller_of(SNAPSHOT, credential=Credential((Shown("authorization", "bearer", secret),)))
    known = callers((b"key", caller))
    planned(caller, "large").record(id="i", started_at=0.0, ending=Ending.LOST)
    seen, unseen = set[int](), list[Any](gc.get_referents(known))
    while unseen:
        item = unseen.pop()
        if id(item) not in seen and not isinstance(item, type | ModuleType | FunctionType):
            seen.add(id(item))
            unseen += gc.get_referents(item)
            assert item != secret
    assert id(caller.principal.name) in seen


# --- plans of a caller -----------------------------------------------------------------------------------------------


def test_a_model_is_looked_up_once() -> None:
    caller = caller_of(SNAPSHOT)
    plan = planned(caller, "LARGE")
    assert planned(caller, "LARGE") is plan
    assert (plan.deployment.name, plan.requested_model, plan.spilled_from) == ("Large", "LARGE", None)
    assert planned(caller, None).deployment.name == "small"
    assert planned(caller, "large").requested_model == "large"


def test_a_path_wins_over_the_body() -> None:
    caller = caller_of(SNAPSHOT, selector=Selector(path="large", body_selects=False))
    for model in (None, "small", "no such"):
        plan = planned(caller, model)
        assert (plan.deployment.name, plan.requested_model) == ("Large", "large")


def test_who_may_not_is_refused_each_time_and_nothing_is_kept() -> None:
    caller = caller_of(SNAPSHOT, replace(ALICE, grants=(Grant(Role.INFERENCE_USER, ("small",)),)))
    for _ in range(2):
        refused = caller.plan("large")
        assert isinstance(refused, Refusal) and isinstance(refused.error, DeploymentNotFound)
    assert not caller._plans
    forbidden = plan_of(
        SMALL,
        SNAPSHOT,
        replace(ALICE, grants=(Grant(Role.INFERENCE_USER, operations=frozenset({Operation.EMBEDDINGS})),)),
    )
    assert forbidden.refusal is not None
    assert forbidden.shaped(HELLO) is forbidden.refusal


def test_no_more_plans_are_kept_than_so_many_and_none_of_a_long_name() -> None:
    caller = caller_of(SNAPSHOT, selector=Selector(path="small"))
    for number in range(3 * KNOWN_MODELS):
        planned(caller, f"model {number}")
        assert len(caller._plans) <= KNOWN_MODELS
    before = len(caller._plans)
    planned(caller, "x" * 5000)
    assert len(caller._plans) == before


def test_a_call_that_spills_over_has_a_plan_of_its_own() -> None:
    caller = caller_of(SNAPSHOT)
    full, direct = planned(caller, "Large"), planned(caller, "small")
    second = caller.plan_beside(full, SMALL)
    assert caller.plan_beside(full, SMALL) is second
    assert second is not direct
    assert (second.deployment, second.requested_model, second.spilled_from) == (SMALL, "Large", "Large")
    record = second.record(id="i", started_at=0.0, ending=Ending.LOST)
    assert (record.deployment, record.requested_model, record.spilled_from) == ("small", "Large", "Large")
    assert direct.record(id="i", started_at=0.0, ending=Ending.LOST).spilled_from is None
    assert [claim.subject for claim in second.claims] == ["small"]


# --- what a plan says ------------------------------------------------------------------------------------------------


def test_a_plan_draws_on_what_its_deployment_and_its_caller_are_limited_by() -> None:
    own, theirs = Budget("key:alice", "day", tokens=5), Budget("deployment:large", "day", tokens=9)
    roomy, tight = RateLimits(tokens_per_minute=900), RateLimits(tokens_per_minute=100)
    limited = replace(LARGE, limits=roomy, budget=theirs, sku=Sku("GlobalBatch"))
    plan = plan_of(limited, SNAPSHOT, replace(ALICE, limits=tight, budgets=(own,)))
    assert [(claim.subject, claim.limits) for claim in plan.claims] == [("large", roomy), ("key:alice", tight)]
    assert (plan.tightest, plan.budgets, plan.rank) == (tight, (own, theirs), BATCH)
    plain = plan_of(SMALL, SNAPSHOT)
    assert (len(plain.claims), plain.budgets, plain.rank) == (1, (), INTERACTIVE)


def test_a_request_that_the_model_takes_goes_on_as_it_is() -> None:
    shaped = plan_of(SMALL, SNAPSHOT).shaped(HELLO)
    assert isinstance(shaped, Shaped)
    assert shaped.request is HELLO


class Rising:
    """core.ports.money.PriceBook: dearer by the day."""

    version, currency, unpriced = "v", "EUR", "allow"

    def price(self, deployment: Deployment, target: Target, started_at: float, tier: str = "standard") -> Price:
        return Price(rates=Rates(input=int(started_at // DAY), output=1))  # type: ignore[arg-type]


def prices_at(plan: CallPlan, started_at: float, request: ChatRequest = HELLO) -> Any:
    return plan.prices(request, need(request, RateLimits(), 100), started_at)


def test_prices_are_those_of_the_day() -> None:
    plan = plan_of(SMALL, replace(SNAPSHOT, prices=Rising()))
    first = prices_at(plan, 5.0 * DAY)
    assert prices_at(plan, 6.0 * DAY - 0.01) is first
    second = prices_at(plan, 6.0 * DAY)
    assert second.bound(1_000_000, 0) != first.bound(1_000_000, 0)
    assert bytes(first.bound(1_000_000, 0)).startswith(b'"5"')
    assert prices_at(plan, 5.0 * DAY).bound(1_000_000, 0) == first.bound(1_000_000, 0)  # a clock that was set back


@pytest.mark.parametrize(
    "special",
    [
        replace(HELLO, extra={"service_tier": "flex"}),
        replace(HELLO, modalities=("text", "audio")),
        replace(HELLO, messages=(Message(role="user", content=(AudioPart(InputAudio("AAAA", "wav")),)),)),
    ],
    ids=["a tier", "a voice", "a sound"],
)
def test_what_has_a_price_of_its_own_has_none_of_the_plan(special: ChatRequest) -> None:
    plan = plan_of(SMALL, replace(SNAPSHOT, prices=Rising()))
    assert prices_at(plan, NOW) is not None
    assert prices_at(plan, NOW, special) is None


def test_each_target_has_a_form_of_its_own() -> None:
    targets = (Target("p", "one"), Target("q", "two"))
    plan = plan_of(replace(SMALL, targets=targets), SNAPSHOT)
    first, second = (plan.closed(target) for target in targets)
    assert plan.closings == {id(targets[0]): first, id(targets[1]): second}
    assert b'"p/one"' in first.told
    assert b'"q/two"' in second.told
    assert plan.opened(True) is not plan.opened(False)
