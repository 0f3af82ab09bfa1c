"""What banks in Redis have in common: one script, so that each message is one atomic step; messages and answers in
MessagePack, which the script reads; the server's clock, so that the gateways' clocks do not matter."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Generic, TypeVar

import msgspec

from modelport.stores.allotments import StoreGone
from modelport.stores.redis.link import RedisLink

Answer = TypeVar("Answer")


class Script(Generic[Answer]):
    """The script of one bank on its server. `now_ms` stands in for the server's clock in tests."""

    def __init__(self, url: str, name: str, answer: type[Answer], now_ms: Callable[[], int] | None) -> None:
        self._link = RedisLink(url, files("modelport.stores.redis").joinpath(name).read_text("utf-8"))
        self._now_ms = now_ms
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(answer)
        self.open = self._link.open
        self.close = self._link.close

    async def answer(self, key: str, ask: Any) -> Answer:
        """What it says to this message about the state at `key`. Raises StoreGone."""
        now = str(self._now_ms()) if self._now_ms is not None else ""
        try:
            return self._decoder.decode(await self._link.run(key, self._encoder.encode(ask), now))
        except msgspec.MsgspecError as error:
            raise StoreGone(type(error).__name__) from error
