"""SIGHUP to a server of one process: it serves the configuration as it is now, and goes on."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable

from modelport.app.build import Application
from modelport.app.configuration import UNLOADABLE
from modelport.app.reload import (
    OF_A_PROCESS,
    OF_THE_SERVER,
    NeedsRestart,
    changes_below,
    operators_key,
    restart_needed,
)
from modelport.config.settings import Settings
from modelport.config.tls import renew_certificate

_logger = logging.getLogger("modelport.reload")


class ReloadOnSignal:
    """From its making until `close`. Reads one configuration after the other."""

    def __init__(
        self, reread_settings: Callable[[], Settings], application: Application, context: ssl.SSLContext | None
    ) -> None:
        """`reread_settings` raises what `reload.reread` raises."""
        self._reread = reread_settings
        self._application = application
        self._context = context
        self._due = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="reload")
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._due.set)

    def close(self) -> None:
        """SIGHUP has no effect any more."""
        self._task.cancel()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, lambda *_: None)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._reload()
            except (*UNLOADABLE, NeedsRestart) as error:
                _logger.error("the server goes on as it was: %s", error)
            else:
                _logger.info("the configuration as it is now is served")

    async def _reload(self) -> None:
        settings = await asyncio.to_thread(self._reread)
        reconciler = self._application.reconciler
        if refused := changes_below(reconciler.current.settings, settings, (*OF_THE_SERVER, *OF_A_PROCESS)):
            raise restart_needed(refused)
        if self._context is not None:
            renew_certificate(self._context, settings)
        reconciler.apply(settings, operators_key(settings))
