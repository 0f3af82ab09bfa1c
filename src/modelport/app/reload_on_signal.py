"""SIGHUP to a server of one process: it serves the configuration as it is now, and goes on."""

from __future__ import annotations

import asyncio
import logging
import signal

from modelport.app.configuration import UNLOADABLE
from modelport.app.control.opening import ControlPlaneOfServer
from modelport.config.tls import RenewedCertificate
from modelport.core.errors import ModelportError

_logger = logging.getLogger("modelport.reload")


class ReloadOnSignal:
    """From its making until `close`. Reads one configuration after the other."""

    def __init__(self, control: ControlPlaneOfServer, certificate: RenewedCertificate | None) -> None:
        self._control = control
        self._certificate = certificate
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
            except (*UNLOADABLE, ModelportError) as error:
                _logger.error("the server goes on as it was: %s", error)
            else:
                _logger.info("the configuration as it is now is served")

    async def _reload(self) -> None:
        await self._control.reread()
        if self._certificate is not None:
            self._certificate.renew()
