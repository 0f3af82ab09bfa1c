"""One connection to a Redis, and one script there.

Whoever asks may stop waiting at any moment, since answers have to come within milliseconds; the connection is not
theirs to break. So a task of its own connects and speaks: what is asked while it speaks goes together with the next
message, connecting goes on when nobody waits for it any more, and a late answer is read and forgotten. A connection
that is cancelled with each late answer would have to be made within the time of one answer, and with TLS and some
distance it never would be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from modelport.stores.allotments import StoreGone

OPEN_SECONDS: Final = 2.0
"""For connecting, and for an answer after which a connection is taken for dead."""

Command = tuple[str | bytes | int, ...]
PING: Final[Command] = ("PING",)


class RedisLink:
    """One per bank. Raises ValueError for a URL that is none."""

    def __init__(self, url: str, script: str) -> None:
        # No retries: whoever asks has its own idea of how long to wait.
        self._client = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            socket_connect_timeout=OPEN_SECONDS,
            socket_timeout=OPEN_SECONDS,
        )
        self._script = script
        self._digest = sha1(script.encode(), usedforsecurity=False).hexdigest()
        self._is_open = False
        self._asked: deque[tuple[asyncio.Future[Any], Command]] = deque()
        self._speaking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Ends when the script can be asked at once. Raises StoreGone."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._answer(PING)
        except TimeoutError:
            raise StoreGone("slow") from None

    async def run(self, key: str, *arguments: str | bytes) -> Any:
        """What the script answers. Raises StoreGone."""
        return await self._answer(("EVALSHA", self._digest, 1, key, *arguments))

    async def close(self) -> None:
        """Ends the connection."""
        if self._speaking is not None:
            self._speaking.cancel()
            with suppress(asyncio.CancelledError):
                await self._speaking
        await self._client.aclose()

    async def _answer(self, command: Command) -> Any:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.append((answer, command))
        if self._speaking is None or self._speaking.done():
            self._speaking = loop.create_task(self._speak(), name="redis")
        return await answer

    async def _speak(self) -> None:
        """Until nobody asks."""
        while self._asked:
            asking: list[tuple[asyncio.Future[Any], Command]] = []
            try:
                if not self._is_open:
                    await self._client.script_load(self._script)
                    self._is_open = True
                asking = [(answer, command) for answer, command in self._asked if not answer.done()]
                self._asked.clear()
                said = await self._said([command for _, command in asking])
            except (RedisError, OSError) as error:
                self._is_open = False
                said = [error] * (len(asking) + len(self._asked))
                asking += self._asked
                self._asked.clear()
            for (answer, _), one in zip(asking, said, strict=True):
                deliver(answer, one)

    async def _said(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in order; in place of one a RedisError. Raises RedisError, OSError for all of them."""
        said = await self._sent(commands)
        if any(isinstance(one, NoScriptError) for one in said):
            # Somebody has made it forget its scripts.
            await self._client.script_load(self._script)
            missed = [place for place, one in enumerate(said) if isinstance(one, NoScriptError)]
            for place, one in zip(missed, await self._sent([commands[place] for place in missed]), strict=True):
                said[place] = one
        return said

    async def _sent(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        said: list[Any] = await pipeline.execute(raise_on_error=False)
        return said


def deliver(answer: asyncio.Future[Any], said: Any) -> None:
    """To whoever still waits."""
    if answer.done():
        return
    if isinstance(said, Exception):
        gone = StoreGone(type(said).__name__)
        gone.__cause__ = said
        answer.set_exception(gone)
    else:
        answer.set_result(said)
