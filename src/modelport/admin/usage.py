"""`GET /admin/v1/usage` and `/admin/v1/usage/records`: what calls have used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import msgspec
from msgspec import structs

from modelport.admin.endpoint import CSV, AdminRequest, Answer, Endpoint
from modelport.control import focus
from modelport.control.access import readable_projects
from modelport.control.usage import as_csv, question, shown
from modelport.core.clock import Clock
from modelport.core.errors import BadRequest, Unavailable
from modelport.core.roles import Permission
from modelport.core.usage_reports import (
    MOST_RECORDS,
    MOST_ROWS,
    LedgerUnavailable,
    RecordsPage,
    RecordsQuestion,
    TooManyRows,
    UsageQuestion,
    UsageQuestionError,
    UsageRow,
)

FORMATS: Final = ("json", "csv", "focus")
DEFAULT_BY: Final = "deployment"
RETRY_SECONDS: Final = 5


class Ledger(Protocol):
    """core.usage_reports.Ledger for an event loop."""

    async def report(self, question: UsageQuestion) -> list[UsageRow]: ...

    async def records(self, question: RecordsQuestion) -> RecordsPage: ...


def endpoints(ledger: Ledger, clock: Clock, account: str, region: str) -> Sequence[Endpoint]:
    """`account` and `region` are what FOCUS rows name."""

    async def usage(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        query = request.query
        only(query, ("by", "since", "until", "format"))
        form = query.get("format", "json")
        if form not in FORMATS:
            raise BadRequest(f"{form!r} is no format; there are {', '.join(FORMATS)}.", target="format")
        by = ",".join(focus.GROUPINGS) if form == "focus" else query.get("by", DEFAULT_BY)
        with worded():
            asked = question(by, query.get("since"), query.get("until"), clock.now())
            rows = await ledger.report(structs.replace(asked, projects=readable_projects(request.principal)))
        if form == "json":
            return Answer(msgspec.json.encode([shown(row) for row in rows]))
        text = as_csv(rows, asked.by) if form == "csv" else focus.as_focus(rows, account, region)
        return Answer(text.encode(), CSV)

    async def records(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        query = request.query
        only(query, ("since", "until", "before", "limit"))
        with worded():
            span = question("", query.get("since"), query.get("until"), clock.now())
            page = await ledger.records(
                RecordsQuestion(
                    since=span.since,
                    until=span.until,
                    before=query.get("before"),
                    limit=limit_of(query.get("limit")),
                    projects=readable_projects(request.principal),
                )
            )
        found: dict[str, Any] = {"records": page.records, "next": page.next}
        return Answer(msgspec.json.encode(found))

    return (
        Endpoint(
            method="GET",
            path="/admin/v1/usage",
            answer=usage,
            permission=Permission.READ_USAGE,
            summary="What calls have used and cost.",
            query=("by", "since", "until", "format"),
        ),
        Endpoint(
            method="GET",
            path="/admin/v1/usage/records",
            answer=records,
            permission=Permission.READ_USAGE,
            summary="Single calls, the newest first.",
            query=("since", "until", "before", "limit"),
        ),
    )


def only(query: Mapping[str, str], known: Sequence[str]) -> None:
    """A parameter that is misspelt must not look like one that was left out. Raises BadRequest."""
    for name in query:
        if name not in (*known, "api-version"):
            raise BadRequest(f"There is no parameter of this name; there are {', '.join(known)}.", target=name)


def limit_of(text: str | None) -> int:
    """How many records a page has. Raises BadRequest."""
    if text is None:
        return 100
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_RECORDS or len(text) > 9:
        raise BadRequest(f"limit is a number from 1 to {MOST_RECORDS}.", target="limit")
    return int(text)


@contextmanager
def worded() -> Iterator[None]:
    """The ledger's refusals as the caller hears them."""
    try:
        yield
    except UsageQuestionError as error:
        raise BadRequest(f"{error}.") from None
    except TooManyRows:
        raise BadRequest(
            f"The report would have more than {MOST_ROWS:,} rows. Ask for less time, or for fewer groupings."
        ) from None
    except LedgerUnavailable as error:
        raise Unavailable("The ledger cannot be read now.", retry_after=RETRY_SECONDS) from error
