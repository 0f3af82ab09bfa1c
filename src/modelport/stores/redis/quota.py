"""The quota of a fleet: a bank in Redis. One script, so that each message is one atomic step; the server's clock, so
that the gateways' clocks do not matter; keys that expire, so that nothing is left of what nobody uses."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Final

import msgspec

from modelport.stores.allotments.bank import Answer, Ask, StoreGone
from modelport.stores.redis.link import RedisLink

PREFIX: Final = "modelport:quota:"


class RedisBank:
    """stores.allotments.Bank. `now_ms` stands in for the server's clock in tests."""

    def __init__(self, url: str, *, prefix: str = PREFIX, now_ms: Callable[[], int] | None = None) -> None:
        self._link = RedisLink(url, files("modelport.stores.redis").joinpath("quota.lua").read_text("utf-8"))
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
        try:
            return self._decoder.decode(
                await self._link.run(self._prefix + ask.subject, self._encoder.encode(ask), now)
            )
        except msgspec.MsgspecError as error:
            raise StoreGone(type(error).__name__) from error

    async def close(self) -> None:
        """Bank"""
        await self._link.close()
