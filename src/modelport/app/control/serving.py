"""How a server of one process takes up what the control plane asks for."""

from __future__ import annotations

import asyncio

from modelport.app.budgets import KeptBudgets, budgets_of
from modelport.app.configuration import Configuration, ControlState, configure
from modelport.app.control.host import NotNow
from modelport.app.reconciler import Reconciler
from modelport.app.reload import OF_A_PROCESS, OF_THE_SERVER, changes_below, operators_key, restart_needed
from modelport.config.settings import Settings


class OneProcess:
    """app.control.host.Server: the control plane is in the process that serves."""

    def __init__(self, reconciler: Reconciler, budgets: KeptBudgets) -> None:
        self._reconciler = reconciler
        self._budgets = budgets

    def check(self, new: Configuration, *, has_objects: bool) -> None:
        """Server"""
        before = self._reconciler.current.settings
        if refused := changes_below(before, new.settings, (*OF_THE_SERVER, *OF_A_PROCESS)):
            raise NotNow(str(restart_needed(refused)))

    async def serve(self, settings: Settings, control: ControlState) -> None:
        """Server"""
        generated = operators_key(settings)
        # In a thread: with many deployments it takes as long as many calls.
        new = await asyncio.to_thread(configure, settings, generated, self._reconciler.current, control)
        await self._budgets.prepare(budgets_of(new.snapshot))
        self._reconciler.take_up(new)
