"""One provider's access token: fetched in the background, and again long before it expires."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal

from msgspec import Struct

from modelport.core.errors import UpstreamFailed
from modelport.core.ports.stages import NeedsWaiting, Refusal

FETCH_SECONDS: Final = 30.0
"""The longest time that one attempt may take."""
SHORTEST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Between attempts: doubled with each failure."""
REFUSALS_SECONDS: Final = 60.0
"""An upstream that refuses tokens makes the gateway fetch a new one at most this often."""
SECONDS_BETWEEN_LINES: Final = 60.0

_logger = logging.getLogger("modelport.upstream")


class AccessToken(Struct, frozen=True):
    """A token, and for how many seconds it is valid from now."""

    value: str
    seconds: float

    def __repr__(self) -> str:
        return f"AccessToken(seconds={self.seconds!r})"


class TokenFault(Exception):
    """No token was issued. The text is for the log and holds no secret."""


Fetch = Callable[[], Awaitable[AccessToken]]


class TokenSource:
    """Keeps a token. Half of its life before it expires the next one is fetched; until that has come, the one before
    serves. `on_token` gets the value of each new one."""

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        on_token: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        spread: Callable[[], float] = lambda: random.uniform(0.8, 1.0),  # noqa: S311  parts the workers of a server
    ) -> None:
        """`name`: the provider, for the log."""
        self._name = name
        self._fetch = fetch
        self._on_token = on_token
        self._monotonic = monotonic
        self._spread = spread
        self._expires_at = -math.inf
        self._next_at = 0.0
        self._failures = 0
        self._is_fetching = True
        self._refused_at = self._logged_at = -math.inf
        self._wanted = asyncio.Event()
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to fetch, inside the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"token of {self._name}")

    async def stop(self) -> None:
        """Fetches no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def state(self) -> Literal["ready", "degraded", "gone"]:
        """core.ports.providers.BackgroundWork"""
        if not self._failures:
            return "ready"
        return "degraded" if self._monotonic() < self._expires_at else "gone"

    def readiness(self) -> Refusal | NeedsWaiting[None] | None:
        """core.ports.providers.Readiness: whether a request can be sent with a token now."""
        now = self._monotonic()
        if now < self._expires_at:
            return None
        if not self._is_fetching:
            if self._failures and now < self._next_at:
                return self._refusal(now)
            self._want()
        return NeedsWaiting(partial(self._waited, self._attempted))  # this one: it may end before it is waited for

    def refused(self) -> None:
        """The upstream has answered 401: the next requests wait for a new token, unless one was fetched for this
        reason a short while ago."""
        now = self._monotonic()
        if now - self._refused_at >= REFUSALS_SECONDS:
            self._refused_at, self._expires_at = now, -math.inf
            self._want()

    def _want(self) -> None:
        self._is_fetching = True
        self._wanted.set()

    async def _waited(self, attempted: asyncio.Event) -> Refusal | None:
        await attempted.wait()
        now = self._monotonic()
        return None if now < self._expires_at else self._refusal(now)

    def _refusal(self, now: float) -> Refusal:
        error = UpstreamFailed(
            "The upstream's token server issues no token to the gateway.",
            retry_after=math.ceil(min(self._next_at - now, LONGEST_PAUSE_SECONDS)),
        )
        return Refusal(error)

    async def _run(self) -> None:
        while True:
            pause = await self._attempt()
            self._next_at = self._monotonic() + pause
            self._is_fetching = False
            attempted, self._attempted = self._attempted, asyncio.Event()
            attempted.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            self._wanted.clear()
            self._is_fetching = True

    async def _attempt(self) -> float:
        """Fetches once. Returns the seconds to the next attempt."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                token = await self._fetch()
        except TimeoutError:
            return self._failed(f"no answer in {FETCH_SECONDS:.0f} s")
        except TokenFault as fault:
            return self._failed(str(fault))
        except Exception as error:  # noqa: BLE001  a library's error must not end the attempts
            return self._failed(type(error).__name__)
        self._expires_at = self._monotonic() + token.seconds
        self._on_token(token.value)
        if self._failures:
            _logger.info("provider %s: the token server issues tokens again", self._name)
        self._failures, self._logged_at = 0, -math.inf
        return max(SHORTEST_PAUSE_SECONDS, token.seconds / 2 * self._spread())

    def _failed(self, reason: str) -> float:
        now = self._monotonic()
        pause = min(SHORTEST_PAUSE_SECONDS * 2.0**self._failures, LONGEST_PAUSE_SECONDS) * self._spread()
        self._failures = min(self._failures + 1, 30)
        if now - self._logged_at >= SECONDS_BETWEEN_LINES:
            self._logged_at = now
            left = self._expires_at - now
            effect = f"the one before serves for {left:.0f} s more" if left > 0 else "its calls are answered 503"
            _logger.error("provider %s: no new token: %s; %s", self._name, reason, effect)
        return pause
