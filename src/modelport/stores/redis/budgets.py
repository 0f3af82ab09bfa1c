"""The budgets of a fleet: a bank in Redis. One script, so that each message is one atomic step; a key for each budget
and window, which expires a day after the window."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Final

import msgspec

from modelport.stores.allotments import StoreGone
from modelport.stores.budgets.bank import Answer, Ask
from modelport.stores.redis.link import RedisLink

PREFIX: Final = "modelport:budget:"


class RedisBudgetBank:
    """stores.budgets.Bank. `now_ms` stands in for the server's clock in tests."""

    def __init__(self, url: str, *, prefix: str = PREFIX, now_ms: Callable[[], int] | None = None) -> None:
        self._link = RedisLink(url, files("modelport.stores.redis").joinpath("budgets.lua").read_text("utf-8"))
        self._prefix = prefix
        self._now_ms = now_ms
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Answer)

    async def open(self) -> None:
        """Bank"""
        await self._link.open()

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        now = str(self._now_ms()) if self._now_ms is not None else ""
        key = f"{self._prefix}{ask.subject}:{ask.window}"
        try:
            return self._decoder.decode(await self._link.run(key, self._encoder.encode(ask), now))
        except msgspec.MsgspecError as error:
            raise StoreGone(type(error).__name__) from error

    async def close(self) -> None:
        """Bank"""
        await self._link.close()
