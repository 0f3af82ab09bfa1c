"""What would this call do? Its plan in plain data: nothing is asked, taken, charged or recorded."""

from __future__ import annotations

from typing import Any, Final

from msgspec import structs

from modelport.core.catalog import Deployment
from modelport.core.clock import Clock
from modelport.core.errors import ExtraParametersRefused, InvalidParameters, PermissionDenied
from modelport.core.identity import Principal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.core.requests import Request
from modelport.gateway.admissions import Admissions
from modelport.gateway.call import Selector
from modelport.gateway.charge import Charge, Priced
from modelport.gateway.estimate import Need, need
from modelport.gateway.pipeline import Pipeline
from modelport.gateway.plan import CallPlan
from modelport.gateway.shape import Shaped

NOT_PARAMETERS: Final = frozenset(
    {"model", "messages", "prompt", "input", "stream", "extra", "body_bytes", "speaks_functions", "stream_extra"}
)


def may_explain(principal: Principal) -> bool:
    """Whether this caller is told what a call would do."""
    return principal.may_explain or principal.is_administrator


def explain(plan: CallPlan, request: Request, shaped: Shaped | Refusal, pipeline: Pipeline) -> dict[str, Any]:
    """What is decided about the call, and why. Raises PermissionDenied."""
    caller, deployment = plan.caller, plan.deployment
    if not may_explain(caller.principal):
        raise PermissionDenied
    asked = shaped.request if isinstance(shaped, Shaped) else request
    needed = need(asked, plan.tightest, caller.snapshot.reserve_tokens)
    now = pipeline.clock.now()
    bound = Charge(caller.snapshot, deployment, asked, now).bound(needed.prompt, needed.completion)
    return {
        "object": "modelport.explanation",
        "caller": caller.principal.name,
        "key": caller.principal.key_id,
        "surface": caller.head.surface,
        "operation": caller.head.operation,
        "snapshot": caller.snapshot.id,
        "requested_model": plan.requested_model,
        "deployment": about(deployment, named_by(caller.head.selector, request.model)),
        "targets": targets(plan, pipeline),
        "parameters": parameters(request, shaped, plan, pipeline),
        "tokens": {
            "prompt": needed.prompt,
            "completion": needed.completion,
            "reserved": needed.total,
            "is_bounded": needed.bounded,
        },
        "price": price(bound),
        "limits": limits(plan, needed, pipeline.quota, pipeline.clock),
        "budgets": budgets(plan, pipeline.quota, now),
        "refused": refusal(shaped),
    }


def named_by(selector: Selector, model: str | None) -> str:
    """What has decided on the deployment."""
    if selector.path is not None:
        return "path"
    if selector.header:
        return "header"
    return "body" if selector.body_selects and model is not None else "default"


def about(deployment: Deployment, named: str) -> dict[str, Any]:
    """The deployment that would answer."""
    model = deployment.model
    return {
        "name": deployment.name,
        "named_by": named,
        "model": {"format": model.format, "name": model.name, "version": model.version},
        "sku": deployment.sku.name,
        "content_filter": deployment.content_filter,
        "spillover": deployment.spillover,
    }


def targets(plan: CallPlan, pipeline: Pipeline) -> list[dict[str, Any]]:
    """Each place that may answer, in the order in which they are asked, and why it stands there."""
    ordered = sorted(plan.deployment.targets, key=lambda target: (target.priority, -target.weight))
    first = ordered[0].priority
    equal = sum(target.priority == first for target in ordered)
    found = []
    for target in ordered:
        if target.priority != first:
            why = "only if those before it fail before their first event"
        elif equal > 1:
            why = f"drawn by weight among {equal} of priority {first}"
        else:
            why = "asked first"
        readiness = pipeline.asked(target.provider, plan.caller.runtime).readiness
        state = readiness.readiness() if readiness is not None else None
        found.append(
            {
                "provider": target.provider,
                "model": target.model,
                "priority": target.priority,
                "weight": target.weight,
                "why": why,
                "state": "loads" if isinstance(state, NeedsWaiting) else "down" if state is not None else "ready",
            }
        )
    return found


def parameters(request: Request, shaped: Shaped | Refusal, plan: CallPlan, pipeline: Pipeline) -> dict[str, list[str]]:
    """The names of what was sent: what goes on, what is left out by us, and what each target's host is not told."""
    sent = [*given(request), *request.extra]
    if isinstance(shaped, Refusal):
        return {"kept": [], "dropped": [], "ignored": [], "sent": sent}
    ignored: dict[str, None] = {}
    for target in plan.deployment.targets:
        asked = pipeline.asked(target.provider, plan.caller.runtime)
        who = asked.codec or asked.maker
        ignored |= dict.fromkeys(who.ignored(shaped.request) if who is not None else ())
    gone = {*shaped.dropped, *ignored}
    return {
        "kept": [name for name in sent if name not in gone],
        "dropped": [*shaped.dropped],
        "ignored": [*ignored],
        "sent": sent,
    }


def given(request: Request) -> list[str]:
    """The parameters of the schema that were sent with another value than their default."""
    return [
        field.name
        for field in structs.fields(request)
        if field.name not in NOT_PARAMETERS and getattr(request, field.name) != field.default
    ]


def price(bound: Priced) -> dict[str, Any]:
    """The most that it can cost."""
    return {
        "upper_bound": bound.cost,
        "currency": bound.currency,
        "price_list": bound.version,
        "is_known": bound.amount is not None,
    }


def limits(plan: CallPlan, needed: Need, admissions: Admissions, clock: Clock) -> list[dict[str, Any]]:
    """Each account that the call draws on, and what is left there as far as this process knows."""
    now, found = clock.monotonic(), []
    for claim in plan.claims:
        state = admissions.quota.state(claim.subject, claim.limits, now)
        left = state.remaining_tokens
        found.append({"of": claim.subject, "has_room": left is None or needed.total <= left, **numbers(state)})
    return found


def budgets(plan: CallPlan, admissions: Admissions, now: float) -> list[dict[str, Any]]:
    """Each budget that the call is booked on; what is left of those that bound tokens."""
    kept = admissions.budgets
    found: list[dict[str, Any]] = []
    for budget in plan.budgets:
        states = kept.states((budget,), now) if kept is not None else []
        amount = None if budget.amount is None else str(budget.amount)
        said: dict[str, Any] = {"of": budget.subject, "per": budget.per, "amount": amount, "tokens": budget.tokens}
        found.append({**said, **(numbers(states[0]) if states else {})})
    return found


def numbers(state: QuotaState) -> dict[str, int | None]:
    """What is left."""
    return {
        "limit_requests": state.limit_requests,
        "remaining_requests": state.remaining_requests,
        "limit_tokens": state.limit_tokens,
        "remaining_tokens": state.remaining_tokens,
        "reset_seconds": state.reset_seconds,
    }


def refusal(shaped: Shaped | Refusal) -> dict[str, Any] | None:
    """Why the call would be refused before anything is taken; None: it would not be."""
    if isinstance(shaped, Shaped):
        return None
    error = shaped.error
    said: dict[str, Any] = {"status": error.status, "code": error.code, "message": error.message}
    if isinstance(error, InvalidParameters):
        said["parameters"] = [{"name": ".".join(offence.loc[1:]), "message": offence.msg} for offence in error.offences]
    elif isinstance(error, ExtraParametersRefused):
        said["parameters"] = [{"name": name, "message": "an extra parameter"} for name in error.names]
    return said
