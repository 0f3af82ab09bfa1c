"""What the body of a request does not decide: found once for all calls of one caller with one deployment.

A `Caller` is one head (`gateway.call.CallHead`) and who it was; it is kept by a keyed hash of that head, as long as the
snapshot is the current one and the credential has not expired. A `CallPlan` is a caller with a deployment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import replace

from modelport.core.catalog import Deployment, RateLimits, Snapshot, Target
from modelport.core.events import FinishReason
from modelport.core.excerpts import EXCERPT_CHARACTERS, optional_excerpt
from modelport.core.identity import Credential, Identified, Principal
from modelport.core.ports.providers import Runtime
from modelport.core.ports.records import Observer, Series
from modelport.core.ports.stages import Refusal
from modelport.core.record_forms import RecordForm
from modelport.core.requests import ChatRequest, Request
from modelport.core.usage import Ending, UsageRecord, UsageSource
from modelport.gateway.admissions import Claim, tightest_tokens
from modelport.gateway.authorize import authorize
from modelport.gateway.call import CallHead
from modelport.gateway.charge import Charge, has_sound
from modelport.gateway.estimate import Need
from modelport.gateway.forms import DAY_SECONDS, NO_REQUEST, PriceForms, answer_form, closed_form, encoded, opened_form
from modelport.gateway.resolve import requested_model, resolve
from modelport.gateway.shape import Shaped, accepted, shape
from modelport.gateway.waiting import BATCH, INTERACTIVE

KNOWN_CALLERS: Final = 1024
KNOWN_PLANS: Final = 8192
"""Of all callers together: one caller can send many heads, and spell a model in many ways."""
KNOWN_MODELS: Final = 256
KNOWN_NAMES: Final = 16
NOTHING_SHOWN: Final = Credential()


class Caller:
    """Who asks, by a head that says where and how."""

    __slots__ = ("_observer", "_planned", "_plans", "expires_at", "head", "principal", "runtime", "snapshot", "used_at")

    def __init__(
        self,
        head: CallHead,
        identified: Identified,
        snapshot: Snapshot,
        runtime: Runtime,
        observer: Observer,
        planned: Callable[[], None],
    ) -> None:
        """`runtime`: the one of that snapshot. `planned`: called for each plan that is kept."""
        self.head = replace(head, credential=NOTHING_SHOWN)  # a secret is not kept
        self.principal = identified.principal
        self.expires_at = float("inf") if identified.expires_at is None else identified.expires_at
        """The moment from which the credential no longer counts, in unix seconds."""
        self.used_at = 0.0
        """Unix seconds of its last call since `Callers.take_uses`; 0: it has made none."""
        self.snapshot = snapshot
        self.runtime = runtime
        self._observer = observer
        self._planned = planned
        self._plans: dict[object, CallPlan] = {}
        """By the model that a body names, or by that and the deployment that it spills over to."""

    def plan(self, model: str | None) -> CallPlan | Refusal:
        """For a body that names this model."""
        plan = self._plans.get(model)
        if plan is not None:
            return plan
        head = self.head
        deployment = resolve(head.selector, model, head.operation, self.snapshot, self.principal)
        if isinstance(deployment, Refusal):
            return deployment
        return self._kept(model, model, CallPlan(self, deployment, requested_model(head.selector, model), None))

    def plan_beside(self, full: CallPlan, second: Deployment) -> CallPlan:
        """For a call that spills over from a deployment that is full."""
        named = full.requested_model
        key = (named, second.name)
        return self._plans.get(key) or self._kept(key, named, CallPlan(self, second, named, full.deployment.name))

    def _kept(self, key: object, named: str | None, plan: CallPlan) -> CallPlan:
        if named is None or len(named) <= EXCERPT_CHARACTERS:
            if len(self._plans) >= KNOWN_MODELS:
                self._plans.clear()
            self._plans[key] = plan
            self._planned()
        return plan

    def record(self, **about: Any) -> UsageRecord:
        """The record of a call of which no more than the caller is known."""
        head, principal = self.head, self.principal
        known: dict[str, Any] = {"streamed": False, "requested_model": None, "deployment": None, **about}
        return UsageRecord(
            principal=principal.name,
            key_id=principal.key_id,
            surface=head.surface,
            operation=head.operation,
            snapshot=self.snapshot.id,
            project=principal.project,
            **known,
        )

    def series(self, deployment: str) -> Series:
        """Where its completed calls are counted."""
        return self._observer.series(self.head.surface, self.head.operation, deployment)


class CallPlan:
    """One caller and one deployment. Changes only in what it remembers."""

    __slots__ = (
        "_accepted",
        "_prices",
        "answers",
        "asked",
        "bounds_money",
        "budgets",
        "caller",
        "claims",
        "closings",
        "counted",
        "deployment",
        "kept",
        "named",
        "openings",
        "rank",
        "refusal",
        "requested_model",
        "spilled_from",
        "tightest",
    )

    def __init__(
        self, caller: Caller, deployment: Deployment, requested_model: str | None, spilled_from: str | None
    ) -> None:
        principal, head = caller.principal, caller.head
        self.caller = caller
        self.deployment = deployment
        self.requested_model = optional_excerpt(requested_model)
        self.spilled_from = spilled_from
        self.refusal = authorize(principal, deployment, head.operation)
        """Why this caller may not ask it that."""
        self._accepted = accepted(
            deployment,
            header=head.extra_parameters,
            checks_extras=head.checks_extras,
            strict=caller.snapshot.strict,
        )
        self.claims = claims_of(deployment, principal)
        self.tightest: RateLimits = tightest_tokens(self.claims)
        self.budgets = principal.budgets if deployment.budget is None else (*principal.budgets, deployment.budget)
        self.bounds_money = any(budget.amount is not None for budget in self.budgets)
        self.rank = BATCH if deployment.sku.is_batch else INTERACTIVE
        self.asked: dict[str, Any] = {}
        """gateway.pipeline.Asked of the providers of its targets."""
        self.named: dict[str | None, Raw] = {}
        """The names that its targets have given their models, as JSON."""
        self.kept: dict[Any, Any] = {}
        """What the door keeps for answers of this plan."""
        self._prices = PriceForms(Charge(caller.snapshot, deployment, NO_REQUEST, 0.0), 0.0)
        self.openings: dict[bool, RecordForm] = {}
        """What `opened` has made; `closings`, `answers` and `counted` likewise."""
        self.closings: dict[int, RecordForm] = {}
        self.answers: dict[FinishReason, bytes] = {}
        self.counted: Series | None = None

    def shaped(self, request: Request) -> Shaped | Refusal:
        """What the target would be asked, if this caller may."""
        if self.refusal is not None:
            return self.refusal
        if self._accepted is not None and type(request) is ChatRequest and self._accepted.has(request):
            return Shaped(request)
        head, snapshot = self.caller.head, self.caller.snapshot
        header, checks = head.extra_parameters, head.checks_extras
        return shape(request, self.deployment, header=header, checks_extras=checks, strict=snapshot.strict)

    def prices(self, request: Request, needed: Need, started_at: float) -> PriceForms | None:
        """The prices of a call that starts then. None: something about it has a price of its own."""
        if not needed.is_usual and (
            "service_tier" in request.extra
            or (isinstance(request, ChatRequest) and (request.modalities or has_sound(request)))
        ):
            return None
        prices = self._prices
        if not prices.begins <= started_at < prices.ends:
            charge = Charge(self.caller.snapshot, self.deployment, NO_REQUEST, started_at)
            prices = self._prices = PriceForms(charge, started_at // DAY_SECONDS)
        return prices

    def series(self) -> Series:
        """Where completed calls are counted."""
        self.counted = series = self.caller.series(self.deployment.name)
        return series

    def record(self, **about: Any) -> UsageRecord:
        """A record of one of its calls."""
        known: dict[str, Any] = {
            "requested_model": self.requested_model,
            "deployment": self.deployment.name,
            "spilled_from": self.spilled_from,
            **about,
        }
        return self.caller.record(**known)

    def named_json(self, model: str | None) -> Raw:
        """As a record has it."""
        if len(self.named) >= KNOWN_NAMES:
            self.named.clear()
        shown = optional_excerpt(model)
        named = self.named[shown] = Raw(encoded(shown))
        return named

    def opened(self, streamed: bool) -> RecordForm:
        """The record of a call that is let in."""
        form = self.openings[streamed] = opened_form(
            self.record(
                id="", started_at=0.0, streamed=streamed, ending=Ending.LOST, usage_source=UsageSource.ESTIMATED
            )
        )
        return form

    def closed(self, target: Target) -> RecordForm:
        """The record of a call that this target has answered, whole."""
        form = self.closings[id(target)] = closed_form(
            self.record(
                id="",
                started_at=0.0,
                target=f"{target.provider}/{target.model}",
                provider=target.provider,
                status=200,
                ending=Ending.COMPLETED,
                usage_source=UsageSource.REPORTED,
            )
        )
        return form

    def answer(self, reason: FinishReason) -> bytes:
        """The surface's words around one text: gateway.forms.answer_form."""
        head = self.caller.head
        form = answer_form(head.speech, self.deployment.answered_name, reason, head.reasoning)
        self.answers[reason] = form
        return form


class Callers:
    """Those that are known, for the snapshot that is current."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._known: dict[bytes, Caller] = {}
        self._plans = 0
        self._uses: dict[str, float] = {}

    def forget(self) -> None:
        """Everybody is identified again: a credential may count no longer."""
        self._gather_uses()
        self._known, self._plans = {}, 0

    def planned(self) -> None:
        """One of them has a plan more. Beyond so many, all are forgotten."""
        self._plans += 1
        if self._plans > KNOWN_PLANS:
            self.forget()

    def find(self, key: bytes, snapshot: Snapshot, now: float) -> Caller | None:
        """`key`: a keyed hash of all that decides who it is and where it leads. `now`: unix seconds."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self.forget()
        caller = self._known.get(key)
        if caller is None or now >= caller.expires_at:
            return None
        caller.used_at = now
        return caller

    def keep(self, key: bytes, caller: Caller) -> None:
        """Only who is known is kept: strangers could push the others out. Without a key, nobody is."""
        if key and caller.snapshot is self._snapshot:
            if len(self._known) >= KNOWN_CALLERS:
                self.forget()
            self._known[key] = caller

    def note_use(self, principal: Principal, now: float) -> None:
        """A credential was identified, for a call or another request. `now`: unix seconds."""
        if principal.key_id is not None:
            self._uses[principal.key_id] = max(now, self._uses.get(principal.key_id, 0.0))

    def take_uses(self) -> dict[str, float]:
        """When each key was used last, in unix seconds by key id: those that were used since this was asked before."""
        self._gather_uses()
        uses, self._uses = self._uses, {}
        return uses

    def _gather_uses(self) -> None:
        for caller in self._known.values():
            if caller.used_at:
                self.note_use(caller.principal, caller.used_at)
                caller.used_at = 0.0


def claims_of(deployment: Deployment, principal: Principal) -> tuple[Claim, ...]:
    """The accounts that a call draws on: its deployment's, and its caller's where that has limits of its own."""
    of_deployment = Claim(deployment.name.lower(), deployment.limits)
    if principal.limits is None:
        return (of_deployment,)
    return of_deployment, Claim(f"key:{principal.name}", principal.limits)
