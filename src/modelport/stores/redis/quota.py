"""The quota of a fleet: a bank in Redis, with keys that expire, so that nothing is left of what nobody uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelport.stores.allotments.bank import Answer, Ask
from modelport.stores.redis.script_bank import Script

PREFIX: Final = "modelport:quota:"


class RedisBank:
    """stores.allotments.Bank"""

    def __init__(self, url: str, *, prefix: str = PREFIX, now_ms: Callable[[], int] | None = None) -> None:
        self._script = Script(url, "quota.lua", Answer, now_ms)
        self._prefix = prefix
        self.open = self._script.open
        self.close = self._script.close

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        return await self._script.answer(self._prefix + ask.subject, ask)
