"""The process that ships: `python -m modelport.stores.ledger_process.child`, started by `parent` alone.

It ends when its input does, so also when the one that serves was killed. Signals to the whole group are not for it.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelport.core.usage_reports import LedgerUnavailable
from modelport.stores.ledger_process.messages import (
    ASSIGNMENT_DECODER,
    Assignment,
    Figures,
    LogLine,
    address_of,
    database_of,
    line,
)
from modelport.stores.shipping.shipper import LOGGER, Shipper
from modelport.stores.sql.address import DatabaseAddress
from modelport.stores.sql.ledger import SqlLedger

NICENESS: Final = 10
"""Whoever waits for an answer goes first."""
COLLECTED_OBJECTS: Final = 50_000
"""A batch makes thousands, none of them in a circle."""
UPGRADE_SECONDS: Final = 600
OUTPUT: Final = 1


def main() -> None:
    """Ships until there are no more questions."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    gc.freeze()
    gc.set_threshold(COLLECTED_OBJECTS)
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(ToParent())
    questions = sys.stdin.buffer
    shipper = shipper_of(ASSIGNMENT_DECODER.decode(questions.readline()))
    shipper.start()
    for question in questions:
        shipper.ask(int(question))
    shipper.stop(None)


def shipper_of(assignment: Assignment) -> Shipper:
    """Tells its parent how it fares, whenever that has changed."""
    address = address_of(assignment.database)
    told: Figures | None = None

    def tell(shipper: Shipper) -> None:
        nonlocal told
        now = Figures(
            shipped_records=shipper.shipped_records,
            damaged_lines=shipper.damaged_lines,
            backlog_records=shipper.backlog_records,
            failure=None if shipper.failure is None else str(shipper.failure) or type(shipper.failure).__name__,
            answered=shipper.answered,
        )
        if now != told:
            told = now
            say(line(now))

    shipper = Shipper(
        Path(assignment.directory),
        lambda: SqlLedger(address, upgrade=upgraded),
        keep_seconds=assignment.keep_seconds,
        keep_records_seconds=assignment.keep_records_seconds,
        told=tell,
    )
    shipper.ask(assignment.asked)
    return shipper


def upgraded(address: DatabaseAddress) -> None:
    """In one more process, which is gone afterwards with all that migrating needs. Raises LedgerUnavailable."""
    command = [sys.executable, "-m", "modelport.stores.ledger_process.upgrade"]
    try:
        done = subprocess.run(  # noqa: S603  a module of our own
            command, input=line(database_of(address)), stdout=subprocess.PIPE, timeout=UPGRADE_SECONDS
        )
    except subprocess.SubprocessError as cause:
        raise LedgerUnavailable(f"the database {address.shown} cannot be upgraded: {type(cause).__name__}") from cause
    if done.returncode:
        reason = done.stdout.decode("utf-8", "replace").strip()
        raise LedgerUnavailable(reason or f"the database {address.shown} cannot be upgraded")


class ToParent(logging.Handler):
    """Log lines go where all others go."""

    def emit(self, record: logging.LogRecord) -> None:
        """logging.Handler"""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
        say(line(LogLine(record.levelno, text)))


def say(data: bytes) -> None:
    """To the parent, if there is still one."""
    with suppress(OSError):
        while data:
            data = data[os.write(OUTPUT, data) :]


if __name__ == "__main__":
    main()
