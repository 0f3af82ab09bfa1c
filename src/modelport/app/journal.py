"""How the journal of this process is, for readiness."""

from __future__ import annotations

from modelport.core.ports.states import StoreState
from modelport.stores.journal import FileJournal


def journal_state(journal: FileJournal) -> StoreState:
    """`gone` while no call can be recorded, and so none is answered. Asking tries what has failed before, so that a
    server without calls recovers too."""
    name = f"journal ({journal.writer})"
    try:
        journal.check()
    except OSError as failure:
        reason = failure.strerror or type(failure).__name__
        return StoreState(name, "gone", f"calls are refused: it cannot be written: {reason}")
    return StoreState(name, "ready")
