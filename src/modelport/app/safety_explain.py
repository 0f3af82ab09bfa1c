"""`POST /admin/v1/safety/explain`: what the filters say of a text, and what a policy makes of it. Each process that
serves answers it, because the filters are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from modelport.admin.endpoint import Described
from modelport.admin.errors import encode
from modelport.admin.openapi import BASE
from modelport.app.configuration import Configuration
from modelport.app.filter_policies import policies_of
from modelport.app.filters import SafetyFilters
from modelport.core.errors import BadRequest, MalformedBody, ModelportError, NotFound
from modelport.core.excerpts import excerpt
from modelport.core.operations import Operation
from modelport.core.ports.safety import FilterOutageError, Question, SafetyFilter, Verdicts
from modelport.core.ports.stages import NeedsWaiting, passed
from modelport.core.roles import Permission
from modelport.core.safety import HARMS, Category, ContentFilterPolicy, Rule, SidePolicy, Source, Verdict
from modelport.dialects.error_body import ErrorBody
from modelport.safety.policy import Findings
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Route
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import RequestHead

PATH: Final = f"{BASE}safety/explain"
MAX_CHARACTERS: Final = 1_000_000


class ExplainOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The body. Without a policy all filters that are open judge, and nothing is decided."""

    text: str
    policy: str | None = None
    source: Literal["prompt", "completion"] = "prompt"


DESCRIBED: Final = Described(
    method="POST",
    path=PATH,
    summary="What the content filters say of a text, and what a policy makes of it.",
    takes="safety_question",
    gives={200: "safety_explanation"},
)
_DECODER: Final = msgspec.json.Decoder(ExplainOptions)


def explain_route(current: Callable[[], Configuration]) -> Route:
    """For administrators."""

    def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
        return encode(error)

    async def answer(exchange: Exchange) -> Reply:
        options = decode(await exchange.body.read())
        configuration = current()
        policy: ContentFilterPolicy | None = None
        if options.policy is not None:
            policies = policies_of(configuration.settings)
            policy = policies.get(options.policy.lower())
            if policy is None:
                raise NotFound(f"There is no content filter {excerpt(options.policy)!r}.", code="ResourceNotFound")
        found = await explain(configuration.filters, policy, options.text, Source(options.source))
        return Reply(msgspec.json.encode(found), headers=((b"cache-control", b"no-store"),))

    door = Door(surface="admin", refuse=refuse)
    return Route(method="POST", path=PATH, permission=Permission.MANAGE, door=door, endpoint=answer)


def decode(body: bytes) -> ExplainOptions:
    """Raises BadRequest."""
    try:
        options = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body is not valid: {error}.") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise MalformedBody("The body is not a JSON object.") from None
    if len(options.text) > MAX_CHARACTERS:
        raise BadRequest(f"The text has more than {MAX_CHARACTERS} characters.", target="text")
    return options


async def explain(
    filters: SafetyFilters, policy: ContentFilterPolicy | None, text: str, source: Source
) -> dict[str, Any]:
    """Every verdict, and the policy's decision about them."""
    side = every_rule(filters) if policy is None else policy.prompt if source is Source.PROMPT else policy.completion
    names = tuple(filters.opened) if policy is None else policy.filters
    asked = {name: filters.opened[name] for name in names if name in filters.opened}
    verdicts: list[Verdict] = []
    failed: dict[str, frozenset[Category]] = {}
    for name, one in asked.items():
        categories = one.categories & side.categories
        if not categories:
            continue
        try:
            question = Question(text, source, categories, blocklists=frozenset(side.blocklists), wants_safe=True)
            verdicts += await judged(one, question)
        except FilterOutageError:
            failed[name] = categories
    looked_for = frozenset[Category]().union(*(one.categories for one in asked.values()))
    findings = Findings(side, side.categories & looked_for)
    findings.add(verdicts)
    findings.fail(frozenset[Category]().union(*failed.values()))
    return {
        "policy": policy.name if policy is not None else None,
        "source": source,
        "decision": None if policy is None else "blocked" if findings.is_blocked else "passed",
        "results": findings.results() if policy is not None else {},
        "verdicts": [shown(verdict, text) for verdict in verdicts],
        "failed": [*failed],
        "not_open": [name for name in names if name not in filters.opened],
    }


def every_rule(filters: SafetyFilters) -> SidePolicy:
    """A policy that looks for everything."""
    rules: dict[Category, Rule] = dict.fromkeys(Category, Rule())
    del rules[Category.CUSTOM_BLOCKLISTS]
    return SidePolicy(rules, {name: name for name in filters.parts.blocklists})


async def judged(one: SafetyFilter, question: Question) -> Verdicts:
    """Waits for a filter that runs elsewhere."""
    outcome = one.judge(question)
    return passed(await outcome.resume()) if isinstance(outcome, NeedsWaiting) else outcome


def shown(verdict: Verdict, text: str) -> dict[str, Any]:
    """A verdict with the words that it is about."""
    is_whole = verdict.category in HARMS and verdict.start == 0 and verdict.end >= len(text)
    return {
        "category": verdict.category,
        "severity": verdict.severity.word,
        "score": verdict.score,
        "start": verdict.start,
        "end": verdict.end,
        "match": "(the whole text)" if is_whole else excerpt(text[verdict.start : verdict.end]),
        "filter": verdict.filter,
        "version": verdict.version,
        "blocklist": verdict.blocklist,
        "entry": verdict.entry,
    }
