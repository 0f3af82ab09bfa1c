"""`modelport` with a part of it switched off, to see what that part costs. The product has no such switches.

python -m bench.switches PART,PART -- serve ...
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from modelport.app.budgets import KeptBudgets
from modelport.cli.main import main
from modelport.stores.journal import FileJournal
from modelport.stores.ledger_process.parent import ShipperProcess
from modelport.telemetry.observer import CallObserver, Completed


def nothing(*_: object) -> None:
    """Instead of the part's work."""


async def finished(*_: object) -> None:
    """Instead of the part's work, where it is awaited."""


def without_journal() -> None:
    """No call leaves a line."""
    FileJournal.open = nothing  # type: ignore[method-assign, assignment]
    FileJournal.close = nothing  # type: ignore[method-assign, assignment]
    FileJournal.open_formed = nothing  # type: ignore[method-assign, assignment]
    FileJournal.close_formed = nothing  # type: ignore[method-assign, assignment]


def without_metrics() -> None:
    """No call is counted."""
    CallObserver.call_started = nothing  # type: ignore[method-assign, assignment]
    CallObserver.call_ended = nothing  # type: ignore[method-assign, assignment]
    Completed.completed = nothing  # type: ignore[method-assign, assignment]


def without_ledger() -> None:
    """The journal stays where it is, and every budget begins unused."""
    ShipperProcess.start = nothing  # type: ignore[method-assign, assignment]
    KeptBudgets.start = finished  # type: ignore[method-assign, assignment]


PARTS: dict[str, Callable[[], None]] = {
    "journal": without_journal,
    "ledger": without_ledger,
    "metrics": without_metrics,
}

if __name__ == "__main__":
    for part in filter(None, sys.argv[1].split(",")):
        PARTS[part]()
    sys.argv[1:] = sys.argv[3:]
    main()
