"""Content safety as an operation of its own: the filters judge a text, no policy decides, and the call is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from modelport.core.errors import CategoriesNotJudged, ModelportError, NotFound, PermissionDenied, Unavailable
from modelport.core.excerpts import excerpt, optional_excerpt
from modelport.core.identity import Principal
from modelport.core.limit_errors import RateLimited
from modelport.core.operations import Operation
from modelport.core.ports.quota import Reservation
from modelport.core.ports.safety import BlocklistEntry, FilterOutageError, Question, SafetyFilter, Verdicts
from modelport.core.ports.stages import NeedsWaiting, Refusal, passed
from modelport.core.roles import Permission
from modelport.core.safety import Category, Severity, Source
from modelport.core.usage import Ending, UsageRecord
from modelport.gateway.admissions import Asked, Claim
from modelport.gateway.charge import nothing_made
from modelport.gateway.pipeline import Pipeline
from modelport.gateway.verdicts import FoundCategories
from modelport.gateway.waiting import Denied, Turn

SURFACE = "contentsafety"
HUNG_UP = 499
Entries = tuple[BlocklistEntry, ...]


class OpenFilters(Struct, frozen=True):
    """What judges now."""

    filters: Mapping[str, SafetyFilter] = {}
    """By name."""
    blocklists: Mapping[str, Entries] = {}
    """By lower-case name."""


class ContentSafety:
    """One per process."""

    def __init__(self, pipeline: Pipeline, opened: Callable[[], OpenFilters]) -> None:
        self._pipeline = pipeline
        self.opened = opened

    @asynccontextmanager
    async def recorded(
        self, id: str, principal: Principal, client_request_id: str | None
    ) -> AsyncIterator[FoundCategories]:
        """Around one call, which adds what it finds: it counts as a request of its caller, and leaves one record,
        however it ends. Raises PermissionDenied, RateLimited; Unavailable where the record cannot be written."""
        pipeline = self._pipeline
        started_at, started = pipeline.clock.now(), pipeline.clock.monotonic()
        status, ending, code = 200, Ending.COMPLETED, None
        found = FoundCategories()
        reservation: Reservation | None = None
        pipeline.observer.call_started(Operation.CONTENT_SAFETY, SURFACE)
        try:
            if not principal.may(Permission.INFER, None, Operation.CONTENT_SAFETY):
                raise PermissionDenied(principal.advice)
            reservation = await self._admitted(principal, started)
            yield found
        except asyncio.CancelledError:
            status, ending = HUNG_UP, Ending.CANCELLED
            raise
        except ModelportError as error:
            status, code = error.status, error.code
            ending = Ending.FAILED if error.status >= 500 else Ending.REFUSED
            raise
        except BaseException:
            status, ending, code = 500, Ending.FAILED, "InternalServerError"
            raise
        finally:
            if reservation is not None:
                reservation.settle(0)
            snapshot = pipeline.snapshot()
            nothing: dict[str, Any] = nothing_made(snapshot.prices).fields
            record = UsageRecord(
                id=id,
                started_at=started_at,
                principal=principal.name,
                key_id=principal.key_id,
                surface=SURFACE,
                operation=Operation.CONTENT_SAFETY,
                streamed=False,
                requested_model=None,
                deployment=None,
                status=status,
                ending=ending,
                error_code=optional_excerpt(code),
                duration_seconds=pipeline.clock.monotonic() - started,
                client_request_id=client_request_id,
                snapshot=snapshot.id,
                project=principal.project,
                content_filter=str(found) or None,
                **nothing,
            )
            self._write(record)

    async def _admitted(self, principal: Principal, now: float) -> Reservation | None:
        """One request of the caller's own limits; None where it has none. Raises RateLimited."""
        if principal.limits is None:
            return None
        claim, turn = Claim(f"key:{principal.name}", principal.limits), Turn(principal.name, principal.weight)
        outcome = self._pipeline.quota.take(Asked(claims=(claim,), tokens=0, turn=turn, until=now))
        if isinstance(outcome, NeedsWaiting):
            outcome = await outcome.resume()
        if isinstance(outcome, Refusal):
            raise outcome.error
        if isinstance(outcome, Denied):
            no, left = outcome.refusal, self._pipeline.quota.state((claim,), ())
            raise RateLimited(no.kind, no.limit, no.retry_after_seconds, quota=left)
        return outcome

    def _write(self, record: UsageRecord) -> None:
        try:
            self._pipeline.journal.close(record)
            self._pipeline.journal.flush()
        except OSError:
            raise Unavailable("The call cannot be recorded now. Try again.", retry_after=5) from None
        finally:
            self._pipeline.observer.call_ended(record)

    async def matches(self, text: str, names: Sequence[str]) -> list[tuple[str, BlocklistEntry]]:
        """Which entries of these blocklists are in a text, each with its list's name as it was asked for. Raises
        NotFound, Unavailable."""
        opened = self.opened()
        asked = {name.lower(): name for name in names}
        for lower, name in asked.items():
            if lower not in opened.blocklists:
                raise NotFound(f"There is no blocklist {excerpt(name)!r}.", code="ResourceNotFound")
        categories = frozenset({Category.CUSTOM_BLOCKLISTS})
        verdicts = await self._verdicts(opened, Question(text, Source.PROMPT, categories, blocklists=frozenset(asked)))
        by_id = {(lower, entry.id): entry for lower in asked for entry in opened.blocklists[lower]}
        return [
            (asked[found.blocklist], by_id[found.blocklist, found.entry])
            for found in verdicts
            if found.blocklist is not None and found.entry is not None
        ]

    async def severities(self, text: str, categories: Sequence[Category]) -> dict[Category, Severity]:
        """The highest that any filter gives. Raises CategoriesNotJudged, Unavailable."""
        opened = self.opened()
        wanted = frozenset(categories)
        judged = frozenset[Category]().union(*(found.categories for found in opened.filters.values()))
        if missing := [category for category in categories if category not in judged]:
            raise CategoriesNotJudged(missing)
        severities = dict.fromkeys(categories, Severity.SAFE)
        for verdict in await self._verdicts(opened, Question(text, Source.PROMPT, wanted)):
            severities[verdict.category] = max(severities[verdict.category], verdict.severity)
        return severities

    async def _verdicts(self, opened: OpenFilters, question: Question) -> Verdicts:
        found: list[Verdicts] = []
        for one in opened.filters.values():
            if one.categories.isdisjoint(question.categories):
                continue
            try:
                outcome = one.judge(question)
                found.append(passed(await outcome.resume()) if isinstance(outcome, NeedsWaiting) else outcome)
            except FilterOutageError:
                raise Unavailable(f"The filter {one.name} does not answer now. Try again.") from None
        return tuple(verdict for verdicts in found for verdict in verdicts)
