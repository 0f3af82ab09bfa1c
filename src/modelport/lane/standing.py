"""What is the same for all plain chats of one caller with one deployment, found once: who asks, what is asked, whether
it may, where it goes, and every byte of the records and the answers that does not differ from call to call.

All of it follows from the snapshot and from the head of a request, by the stages of the way; so it is kept as long as
the snapshot is the current one. The heads themselves, which hold credentials, are kept as keyed hashes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice
from modelport.core.catalog import Deployment, Range, RateLimits, Snapshot, Target
from modelport.core.events import FinishReason
from modelport.core.identity import Identified, Principal
from modelport.core.operations import Operation
from modelport.core.ports.providers import Address, Provider, Runtime
from modelport.core.ports.quota import DirectAccount, DirectQuota
from modelport.core.ports.records import Series
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.quota import QuotaState
from modelport.core.requests import ChatRequest
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.dialects.plain_chat import PlainChat, PlainCodec
from modelport.gateway import guard
from modelport.gateway.authorize import authorize
from modelport.gateway.call import Origin
from modelport.gateway.charge import Charge
from modelport.gateway.codec import Speech
from modelport.gateway.fitting import LONGEST_TOKEN_BYTES
from modelport.gateway.forms import DAY_SECONDS, Forms, PriceForms, forms
from modelport.gateway.identify import identify
from modelport.gateway.resolve import requested_model, resolve
from modelport.gateway.shape import mode_of, within
from modelport.lane.ways import Ground, Way
from modelport.surfaces import cors
from modelport.surfaces.answer import answer_headers
from modelport.surfaces.asgi import JSON, Headers
from modelport.surfaces.headers import DECISIVE, RequestHead, common_headers, quota_headers
from modelport.upstream.wire import Pool, Wire

FOREVER: Final = float("inf")
NO_REQUEST: Final = ChatRequest(messages=())
PLACE: Final = "@@%s@@"
ID, CONTENT = PLACE % "id", PLACE % "content"
CREATED, PROMPT, COMPLETION = 7_100_000_000_000_001, 7_200_000_000_000_003, 7_300_000_000_000_007
"""Stand in an answer for what differs, and are found again in its bytes."""
CLOSES: Final = b"connection: close\r\n"

Ask = tuple["Standing", int, int | None, bytes]
"""What a body asks: of whom, how many turns it has, how many tokens at most, and what the target is sent."""


class Rule(Struct, frozen=True):
    """A parameter that the model takes within bounds, or not at all."""

    name: str
    range: Range | None

    def allows(self, value: object) -> bool:
        """Whether the request may go on as it is."""
        if value is None:
            return True
        return self.range is not None and isinstance(value, int | float) and within(value, self.range)


class Standing(Struct):
    """One caller, one deployment, one surface. Changes only in what it remembers."""

    expires_at: float
    """Until when the credential counts, in unix seconds."""
    snapshot: Snapshot
    runtime: Runtime
    """The one of that snapshot."""
    principal: Principal
    deployment: Deployment
    target: Target
    provider: Provider
    readiness: Callable[[], object] | None
    codec: PlainCodec
    speech: Speech
    rules: tuple[Rule, ...]
    longest_body: float
    """Bytes. In a longer one the prompt may be beyond the model's context."""
    limits: RateLimits
    subject: str
    step: int
    """Reserved for an answer whose length the caller does not bound."""
    forms: Forms
    series: Series
    before: bytes
    between: bytes
    after: bytes
    """The answer's head, but for the ids, the quota and the length."""
    answers: dict[str, bytes]
    """By the reason why they ended."""
    prices: PriceForms
    quota: DirectQuota
    is_limited: bool
    """Both requests and tokens are."""
    account: DirectAccount | None = None
    address: Address | None = None
    pool: Pool | None = None
    request_head: bytes = b""
    """How the target is asked; found anew when its provider has moved."""
    heads: Heads | None = None
    model: str | None = None
    model_json: bytes = b"null"
    """What the target has called its model last."""

    def allows(self, asked: PlainChat) -> bool:
        """Whether a request with these parameters can go on as it is."""
        return all(rule.allows(getattr(asked, rule.name)) for rule in self.rules)

    def quota_lines(self, left: tuple[int, int, int, int]) -> bytes:
        """The lines of the quota, where not both are limited."""
        limits = self.limits
        state = QuotaState()
        if limits.requests_per_minute is not None or limits.tokens_per_minute is not None:
            state = QuotaState(limits.requests_per_minute, left[0], limits.tokens_per_minute, left[2], left[1])
        return lines(quota_headers(state))

    def direct(self, now: float) -> DirectAccount:
        """The account to take from without asking, where none is known that is open."""
        account = self.account = self.quota.account(self.subject, now)
        return account

    def prices_on(self, started_at: float) -> PriceForms:
        """For a call that starts then."""
        day = started_at // DAY_SECONDS
        self.prices = PriceForms(Charge(self.snapshot, self.deployment, NO_REQUEST, started_at), day)
        return self.prices

    def heads_of(self, fields: Headers, said: bytes, closes: bool) -> Heads:
        """For as long as these are the fields that every answer has; `said`, `closes`: lane.Lane.default_headers."""
        begin = b"HTTP/1.1 200 OK\r\n" + said
        ids = b"x-request-id: %b\r\napim-request-id: %b\r\nx-ms-client-request-id: %b\r\n"
        form = begin.replace(b"%", b"%%") + ids + self.before.replace(b"%", b"%%")
        form += quota_form(self.limits) if self.is_limited else b"%b"
        form += self.between.replace(b"%", b"%%") + b"%d" + self.after.replace(b"%", b"%%")
        last = form + (b"\r\n" if closes else CLOSES + b"\r\n")
        self.heads = Heads(fields, None if closes else form + b"\r\n", last)
        return self.heads

    def step_beside(self, prompt: int) -> int:
        """What is reserved for an answer that the caller does not bound (gateway/estimate.py)."""
        limit = self.limits.tokens_per_minute
        return self.step if limit is None or prompt >= limit else min(self.step, limit - prompt)


class Heads(Struct, frozen=True):
    """Heads of answers: (id, id, the caller's id, requests left, reset, tokens left, reset, length), or with the lines
    of the quota in the place of its four numbers where not both are limited."""

    fields: Headers
    kept: bytes | None
    """None: no connection is kept now."""
    closing: bytes


def made(lane: Ground, way: Way, decisive: Sequence[bytes], model: str | None, snapshot: Snapshot) -> Standing | None:
    """Takes the stages of the way as far as they depend on the head and on the deployment alone."""
    pipeline, inference = lane.pipeline, way.inference
    speech = inference.speech()
    if speech.plain is None or snapshot.strict or inference.operation is not Operation.CHAT_COMPLETIONS:
        return None
    head, found = asking(lane, way, decisive, snapshot)
    if not isinstance(found, Identified):
        return None
    principal = found.principal
    if principal.limits is not None or principal.budgets:
        return None
    selector = inference.selector(head, way.parameters)
    deployment = resolve(selector, model, inference.operation, snapshot, principal)
    if isinstance(deployment, Refusal) or authorize(principal, inference.operation) is not None:
        return None
    extra = head.extra_parameters if inference.checks_extras else None
    rules = rules_of(deployment)
    if (
        rules is None
        or mode_of(extra, deployment.extra_parameters) is None
        or deployment.content_filter != guard.NEUTRAL
        or deployment.budget is not None
        or len(deployment.targets) != 1
    ):
        return None
    quota = pipeline.quota.quota
    if not isinstance(quota, DirectQuota):
        return None
    target = deployment.targets[0]
    asked = pipeline.asked(target.provider)
    codec_of = getattr(asked.codec, "plain", None)
    codec = codec_of(target) if codec_of is not None else None
    if asked.codec is None or codec is None or not Wire.reaches(asked.codec.address):
        return None
    profile = deployment.profile
    before, between, after = written(lane, head, deployment, snapshot)
    return Standing(
        expires_at=FOREVER if found.expires_at is None else found.expires_at,
        snapshot=snapshot,
        runtime=pipeline.runtime,
        principal=principal,
        deployment=deployment,
        target=target,
        provider=asked.codec,
        readiness=asked.readiness.readiness if asked.readiness is not None else None,
        codec=codec,
        speech=speech,
        rules=rules,
        longest_body=FOREVER if profile.context is None else profile.context * LONGEST_TOKEN_BYTES,
        limits=deployment.limits,
        subject=deployment.name.lower(),
        step=snapshot.reserve_tokens,
        forms=recorded(principal, deployment, target, way, requested_model(selector, model), snapshot),
        series=pipeline.observer.series(way.door.surface, inference.operation, deployment.name),
        before=before,
        between=between,
        after=after,
        answers={},
        quota=quota,
        is_limited=None not in (deployment.limits.requests_per_minute, deployment.limits.tokens_per_minute),
        prices=PriceForms(Charge(snapshot, deployment, NO_REQUEST, 0.0), 0.0),
    )


def asking(
    lane: Ground, way: Way, decisive: Sequence[bytes], snapshot: Snapshot
) -> tuple[RequestHead, Identified | Refusal | NeedsWaiting[Identified]]:
    """A head with these fields, and whose it is."""
    headers = {name: value for name, value in zip(DECISIVE, decisive, strict=True) if value}
    head = RequestHead(method="POST", path=way.path, headers=headers, query=way.query, request_id="")
    pipeline = lane.pipeline
    return head, identify(head.credential, snapshot, pipeline.authenticators, pipeline.clock)


def rules_of(deployment: Deployment) -> tuple[Rule, ...] | None:
    """What the model's profile says of the parameters of a plain chat; None: it needs requests to be rewritten."""
    profile = deployment.profile
    if not profile.known:
        return ()
    if profile.system_role == "fold":
        return None
    rules = [
        Rule(name, rule if isinstance(rule, Range) else None)
        for name, rule in profile.parameters.items()
        if name in PlainChat.__struct_fields__ and rule is not True
    ]
    most = min((tokens for tokens in (profile.max_output, profile.context) if tokens is not None), default=None)
    if most is not None:
        rules.append(Rule("max_tokens", Range(None, most)))
    return tuple(rules)


def recorded(
    principal: Principal, deployment: Deployment, target: Target, way: Way, named: str | None, snapshot: Snapshot
) -> Forms:
    """The forms of the two journal lines."""
    opened = UsageRecord(
        id="",
        started_at=0.0,
        principal=principal.name,
        key_id=principal.key_id,
        surface=way.door.surface,
        operation=way.inference.operation,
        streamed=False,
        requested_model=named,
        deployment=deployment.name,
        ending=Ending.LOST,
        usage_source=UsageSource.ESTIMATED,
        snapshot=snapshot.id,
        project=principal.project,
    )
    closed = msgspec.structs.replace(
        opened,
        target=f"{target.provider}/{target.model}",
        provider=target.provider,
        status=200,
        ending=Ending.COMPLETED,
        usage_source=UsageSource.REPORTED,
    )
    return forms(opened, closed)


def written(lane: Ground, head: RequestHead, deployment: Deployment, snapshot: Snapshot) -> tuple[bytes, bytes, bytes]:
    """The lines of the answer's head: between the ids and the quota, between that and the length, and after it."""
    fixed = [*common_headers(head, lane.region)[3:], (b"content-type", JSON)]
    named = answer_headers(Origin(QuotaState(), deployment, snapshot))
    return (
        lines(fixed),
        lines(named) + b"content-length: ",
        b"\r\n" + lines(cors.answer_headers(head, lane.options.cors_origins)),
    )


def quota_form(limits: RateLimits) -> bytes:
    """As surfaces.headers.quota_headers has them, where both are limited."""
    return b"".join(
        b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%d\r\n"
        % (kind, limit or 0, kind, kind)
        for kind, limit in ((b"requests", limits.requests_per_minute), (b"tokens", limits.tokens_per_minute))
    )


def lines(fields: Headers) -> bytes:
    """As they stand in a head."""
    return b"".join(b"%b: %b\r\n" % field for field in fields)


def answer_form(standing: Standing, way: Way, reason: FinishReason) -> bytes:
    """The surface's own words around what differs: (id, created, content, prompt, total, completion)."""
    head = AnswerHead(id=ID, created=CREATED, model=standing.deployment.answered_name)
    answer = ChatAnswer((ChatChoice(0, CONTENT, reason),), TokenUsage(input=PROMPT, output=COMPLETION))
    form = standing.speech.whole(head, NO_REQUEST, answer, way.reasoning).replace(b"%", b"%%")
    last = -1
    for place, name in (
        (ID.encode(), b"%b"),
        (b"%d" % CREATED, b"%d"),
        (b'"%b"' % CONTENT.encode(), b"%b"),
        (b"%d" % PROMPT, b"%d"),
        (b"%d" % (PROMPT + COMPLETION), b"%d"),
        (b"%d" % COMPLETION, b"%d"),
    ):
        found = form.find(place)
        assert found > last and form.count(place) == 1, (
            "a surface that writes an answer in another way has no plain one"
        )
        form, last = form.replace(place, name), found
    return form
