"""The budgets of a fleet: a bank in Redis, with a key for each budget and window, which expires a day after the
window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelport.stores.budgets.bank import Answer, Ask
from modelport.stores.redis.script_bank import Script

PREFIX: Final = "modelport:budget:"


class RedisBudgetBank:
    """stores.budgets.Bank"""

    def __init__(self, url: str, *, prefix: str = PREFIX, now_ms: Callable[[], int] | None = None) -> None:
        self._script = Script(url, "budgets.lua", Answer, now_ms)
        self._prefix = prefix
        self.open = self._script.open
        self.close = self._script.close

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return await self._script.answer(f"{self._prefix}{ask.subject}:{ask.window}", ask)
