"""Where calls are served: starts the process that ships, asks it, and starts it again where it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from msgspec import DecodeError, structs

from modelport.core.environment import POSTGRESQL, child_environment
from modelport.stores.ledger_process.messages import SAID_DECODER, Assignment, Figures, LogLine, database_of, line
from modelport.stores.shipping.shipper import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, LOGGER, STOP_SECONDS
from modelport.stores.sql.address import DatabaseAddress

COMMAND: Final = (sys.executable, "-m", "modelport.stores.ledger_process.child")
STEADY_SECONDS: Final = 60.0
"""A process that has run for so long has not failed at its start."""


class ShipperProcess:
    """`stores.shipping.shipper.Shipper` from a distance: the same questions, the same figures."""

    def __init__(
        self,
        directory: Path,
        address: DatabaseAddress,
        *,
        keep_seconds: float | None = None,
        keep_records_seconds: float | None = None,
    ) -> None:
        self._assignment = Assignment(
            str(directory.absolute()), database_of(address), keep_seconds, keep_records_seconds
        )
        self.shipped_records = 0
        self.damaged_lines = 0
        self.backlog_records = 0
        self.failure: str | None = None
        """Why the last attempt failed; None once an attempt succeeds again."""
        self._last = Figures()
        """What the process that runs has told last."""
        self._asked = 0
        self._said = threading.Condition()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    # --- how it fares -------------------------------------------------------------------------------------------------

    @property
    def is_failing(self) -> bool:
        """Whether calls wait in the journal because the ledger cannot be written."""
        return self.failure is not None

    @property
    def process_id(self) -> int | None:
        """Of the one that runs."""
        return None if self._process is None else self._process.pid

    # --- orders -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins at once; returns at once."""
        self._thread = threading.Thread(target=self._run, name="ledger-process", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Has it ship what there is, once. What cannot be shipped in time waits for the next start."""
        with self._said:
            self._stopping.set()
            self._said.notify_all()
            process = self._process
            if process is not None and process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive() and process is not None:
                process.kill()
                self._thread.join()

    def catch_up(self, timeout_seconds: float) -> bool:
        """Waits until what the journals hold now is in the ledger. False: it could not be brought there in time."""
        with self._said:
            self._asked += 1
            asked = self._asked
            self._tell(b"%d\n" % asked)
            self._said.wait_for(lambda: self._last.answered >= asked or self._stopping.is_set(), timeout_seconds)
            return self._last.answered >= asked and not self.is_failing

    def _tell(self, data: bytes) -> None:
        """Never waits. Where nobody reads, the next process is told at its start."""
        if self._process is not None and self._process.stdin is not None and not self._stopping.is_set():
            with suppress(OSError):
                os.write(self._process.stdin.fileno(), data)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        retry_seconds = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._one_life()
            if self._stopping.is_set():
                return
            LOGGER.error("the ledger's process has ended and is started again: %s", reason)
            if time.monotonic() - began > STEADY_SECONDS:
                retry_seconds = 0.0
            retry_seconds = min(LAST_RETRY_SECONDS, max(FIRST_RETRY_SECONDS, 2 * retry_seconds))
            self.failure = f"its process has ended: {reason}"
            self._stopping.wait(retry_seconds)

    def _one_life(self) -> str:
        """From its start to its end; why it ended."""
        try:
            process = self._begun()
        except OSError as failure:
            return f"it cannot be started: {failure.strerror}"
        if process is None:
            return "it is not wanted any more"
        with process:
            if process.stdout is not None:
                self._listen(process.stdout)
            with self._said:
                self._process = None
        return f"status {process.returncode}"

    def _begun(self) -> subprocess.Popen[bytes] | None:
        with self._said:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(  # noqa: S603  our own
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(os.environ, POSTGRESQL),
            )
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
            self._process, self._last = process, Figures()
            self._tell(line(structs.replace(self._assignment, asked=self._asked)))
            return process

    def _listen(self, output: IO[bytes]) -> None:
        for data in output:
            try:
                said = SAID_DECODER.decode(data)
            except DecodeError:
                LOGGER.warning("the ledger's process says what nobody understands")
                continue
            if isinstance(said, LogLine):
                LOGGER.log(said.level, "%s", said.text)
                continue
            with self._said:
                self.shipped_records += said.shipped_records - self._last.shipped_records
                self.damaged_lines += said.damaged_lines - self._last.damaged_lines
                self.backlog_records, self.failure = said.backlog_records, said.failure
                self._last = said
                self._said.notify_all()
