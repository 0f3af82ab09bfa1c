"""The budgets of a fleet: a bank in Redis. One script, so that each message is one atomic step; a key for each budget
and window, which expires a day after the window."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from modelport.stores.allotments import StoreGone
from modelport.stores.budgets.bank import Answer, Ask

PREFIX: Final = "modelport:budget:"


class RedisBudgetBank:
    """stores.budgets.Bank. `now_ms` stands in for the server's clock in tests."""

    def __init__(self, url: str, *, prefix: str = PREFIX, now_ms: Callable[[], int] | None = None) -> None:
        # No retries: whoever asks has its own idea of how long to wait.
        self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1.0)
        self._script = self._client.register_script(
            files("modelport.stores.redis").joinpath("budgets.lua").read_text("utf-8")
        )
        self._prefix = prefix
        self._now_ms = now_ms
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Answer)

    async def exchange(self, ask: Ask) -> Answer:
        """Bank"""
        now = str(self._now_ms()) if self._now_ms is not None else ""
        key = f"{self._prefix}{ask.subject}:{ask.window}"
        try:
            return self._decoder.decode(await self._script(keys=[key], args=[self._encoder.encode(ask), now]))
        except (RedisError, OSError, msgspec.MsgspecError) as error:
            raise StoreGone(type(error).__name__) from error

    async def close(self) -> None:
        """Bank"""
        await self._client.aclose()
