"""The listening server: uvicorn's, which drains instead of dying when it is asked to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import uvicorn

log = logging.getLogger("modelport.server")
DRAINING = "stopping: %d running calls have %.0f s to end; a second signal ends them now"
CUT_SECONDS = 2.0
"""What a call that is cut has for its last word and its record."""


class Drained(Protocol):
    """Whoever counts the calls that are running."""

    draining: bool

    @property
    def running(self) -> int: ...


class AbortedAnswers(logging.Filter):
    """Drops uvicorn's complaint about an answer that was not finished: a broken stream ends so on purpose, and its call
    has an access line that says why."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing response."


class Server(uvicorn.Server):
    """First SIGINT or SIGTERM: new calls get 503, running ones end (for at most `drain_seconds`); a second one: now."""

    def __init__(
        self,
        config: uvicorn.Config,
        gateway: Drained,
        *,
        drain_seconds: float,
        handshake_seconds: float,
        listening: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(AbortedAnswers())
        self._gateway = gateway
        self._drain_seconds = drain_seconds
        self._handshake_seconds = handshake_seconds
        self._deadline: float | None = None
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are open, but for the time that a TLS handshake may take."""
        await self.lifespan.startup()
        self.servers = [await self.listen(found) for found in sockets or ()]
        self.started = True

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Accepts connections of a socket."""
        config = self.config
        protocol: Any = config.http_protocol_class
        return await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=self.server_state, app_state=self.lifespan.state),
            sock=listener,
            ssl=config.ssl,
            backlog=config.backlog,
            ssl_handshake_timeout=self._handshake_seconds if config.ssl is not None else None,
            ssl_shutdown_timeout=self._handshake_seconds if config.ssl is not None else None,
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway.draining:
            self.should_exit = self.force_exit = True
            return
        self._gateway.draining = True
        if self._gateway.running > 0:
            log.info(DRAINING, self._gateway.running, self._drain_seconds)
        self._deadline = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        if counter == 0:
            self._listening()
        if self._deadline is not None and self._gateway.running <= 0:
            self.should_exit = True
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.should_exit = self.force_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What still runs is cut here, and not by the end of the loop: its record needs a journal that is open."""
        await super().shutdown(sockets)
        running = set(self.server_state.tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CUT_SECONDS)
