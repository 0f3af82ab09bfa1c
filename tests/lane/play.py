"""One call of a shared server, and all hands that can cut it off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .harness import Answer, Upstream, post
from .shared import CHAT, MESSAGES, Client, Shared


class Play:
    """One call in one form, and all hands that can cut it off."""

    def __init__(self, server: Shared, client: Client, filler: str, deployment: str) -> None:
        self.server = server
        self.client = client
        self.lane: Any = server.gateway.application.lane
        self.journal: Any = server.gateway.application.gateway.pipeline.journal
        self._filler = filler
        self._deployment = deployment

    @property
    def above(self) -> Upstream:
        return self.server.upstream

    def request(self, **fields: Any) -> bytes:
        """As long in every form."""
        said = {"model": self._deployment, "messages": MESSAGES, "max_tokens": 9, **fields}
        said = {name: value for name, value in said.items() if value is not None}
        return post(CHAT, json.dumps(said)[:-1].encode() + self._filler.encode() + b"}")

    async def asked(self) -> None:
        """Until the upstream has the request."""
        self.client.write(self.request())
        while not self.above.seen:
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """The time to drain is over."""
        self.lane.stop()

    async def limit(self) -> None:
        """The request's own time is over."""
        for connection in self.lane.connections.watched():
            connection.sweep(asyncio.get_running_loop().time() + 2)

    async def leave(self) -> None:
        """The client hangs up."""
        self.client.go()

    async def last_words(self) -> Answer | None:
        """The answer, or as much as comes of it."""
        return await self.client.answer()

    @contextmanager
    def held_back(self, number: int) -> Iterator[Held]:
        """The call waits for its lines to be written: for those of its beginning (1), or of its end (2)."""
        when_written = self.lane.when_written
        held = Held(when_written, number)
        places = [self.lane, *self.lane.connections.watched()]
        for place in places:
            place.when_written = held
        try:
            yield held
        finally:
            for place in places:
                place.when_written = when_written

    @contextmanager
    def full_disk(self, *numbers: int) -> Iterator[None]:
        """These writes of the journal fail, counted from here."""
        flush, count = self.journal.flush, 0

        def failing() -> None:
            nonlocal count
            count += 1
            if count in numbers:
                raise OSError(28, "No space left on device")
            flush()

        self.journal.flush = failing
        try:
            yield
        finally:
            del self.journal.flush


class Held:
    """In place of Lane.when_written: keeps one call."""

    def __init__(self, when_written: Callable[[Any], None], number: int) -> None:
        self._when_written = when_written
        self._number = number
        self._kept: list[Any] = []
        self._count = 0

    def __call__(self, call: Any) -> None:
        self._count += 1
        if self._count == self._number:
            self._kept.append(call)
        else:
            self._when_written(call)

    async def reached(self) -> None:
        while not self._kept:
            await asyncio.sleep(0.002)

    def release(self) -> None:
        """Now they are written."""
        for call in self._kept:
            self._when_written(call)
