"""The ledger as a worker reaches it: questions go to the owner, which alone knows a database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from modelport.app.owner import Ledger
from modelport.app.processes.peer import Handler, Peer, PeerGone, PeerRefused
from modelport.core.ports.states import StoreState
from modelport.core.usage_reports import (
    LedgerUnavailable,
    RecordsPage,
    RecordsQuestion,
    TooManyRows,
    UsageQuestion,
    UsageQuestionError,
    UsageRow,
)

ANSWER_SECONDS: Final = 20.0

Kind = TypeVar("Kind")


class Said(Struct, frozen=True, omit_defaults=True):
    """The owner's answer: one of these."""

    rows: list[UsageRow] | None = None
    page: RecordsPage | None = None
    unavailable: str | None = None
    misunderstood: str | None = None
    too_many: bool = False


class DistantLedger:
    """app.owner.Ledger over the owner's socket."""

    def __init__(self, peer: Callable[[], Peer]) -> None:
        """`peer` raises PeerGone where there is none."""
        self._peer = peer
        self._states: list[StoreState] = []

    def running(self) -> AbstractAsyncContextManager[None]:
        """The owner's affair."""
        return nullcontext()

    def states(self) -> list[StoreState]:
        """As the owner has told them last, a second ago at most."""
        return self._states

    def learn(self, body: Any) -> None:
        """The owner's message `ledger`."""
        self._states = msgspec.convert(body, list[StoreState])

    async def report(self, question: UsageQuestion) -> list[UsageRow]:
        """Ledger"""
        return present((await self._ask("usage_report", question)).rows)

    async def records(self, question: RecordsQuestion) -> RecordsPage:
        """Ledger"""
        return present((await self._ask("usage_records", question)).page)

    async def _ask(self, name: str, question: Struct) -> Said:
        try:
            answer = await self._peer().ask(name, msgspec.to_builtins(question), ANSWER_SECONDS)
        except (PeerGone, PeerRefused):
            raise LedgerUnavailable("the process that knows the ledger does not answer") from None
        said = msgspec.convert(answer, Said)
        if said.unavailable is not None:
            raise LedgerUnavailable(said.unavailable)
        if said.misunderstood is not None:
            raise UsageQuestionError(said.misunderstood)
        if said.too_many:
            raise TooManyRows
        return said


def ledger_handlers(ledger: Ledger) -> Mapping[str, Handler]:
    """The owner's side."""

    async def report(body: Any) -> Any:
        question = msgspec.convert(body, UsageQuestion)
        return await told(lambda: ledger.report(question), lambda rows: Said(rows=rows))

    async def records(body: Any) -> Any:
        question = msgspec.convert(body, RecordsQuestion)
        return await told(lambda: ledger.records(question), lambda page: Said(page=page))

    return {"usage_report": report, "usage_records": records}


async def told(ask: Callable[[], Awaitable[Kind]], said: Callable[[Kind], Said]) -> Any:
    """The answer's body, refusals included."""
    try:
        answer = said(await ask())
    except LedgerUnavailable as error:
        answer = Said(unavailable=str(error))
    except UsageQuestionError as error:
        answer = Said(misunderstood=str(error))
    except TooManyRows:
        answer = Said(too_many=True)
    return msgspec.to_builtins(answer)


def present(found: Kind | None) -> Kind:
    """What was asked for. Raises LedgerUnavailable."""
    if found is None:
        raise LedgerUnavailable("the answer is not the one that was asked for")
    return found
