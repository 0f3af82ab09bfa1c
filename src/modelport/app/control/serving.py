"""How a server of one process takes up what the control plane asks for."""

from __future__ import annotations

from modelport.app.budgets import KeptBudgets, budgets_of
from modelport.app.configuration import ControlState, configure
from modelport.app.control.host import Apply, NotNow
from modelport.app.reconciler import Reconciler
from modelport.app.reload import OF_A_PROCESS, OF_THE_SERVER, changes_below, operators_key, restart_needed
from modelport.config.settings import Settings


def serve_in_one_process(reconciler: Reconciler, budgets: KeptBudgets) -> Apply:
    """For a control plane in the process that serves."""

    async def apply(settings: Settings, control: ControlState) -> None:
        refused = changes_below(reconciler.current.settings, settings, (*OF_THE_SERVER, *OF_A_PROCESS))
        if refused:
            raise NotNow(str(restart_needed(refused)))
        generated = operators_key(settings)
        new = configure(settings, generated, reconciler.current, control)
        await budgets.prepare(budgets_of(new.snapshot))
        reconciler.apply(settings, generated, control)

    return apply
