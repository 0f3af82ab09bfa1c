"""Where log lines go: through a bounded queue to a thread that words and writes them, so that no call ever waits for a
terminal, a pipe or a disk. When the reader is too slow, lines are dropped and their number is told."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, TextIO

import msgspec

from modelport.core.ports.records import UnknownCaller
from modelport.core.usage import UsageRecord, UsageRow
from modelport.telemetry.lines import Format, access_fields, log_fields, rendered, timestamp

QUEUE_LINES: Final = 10_000
BATCH_LINES: Final = 500
GATHER_SECONDS: Final = 0.02
"""A line of a call waits so long for others, unless as many are there as are written at once: a thread that woke for
each would take the interpreter from the calls."""
ACCESS_LOGGER: Final = "modelport.access"
QUIET_LOGGERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "aiohttp", "asyncio")

RECORDS: Final = msgspec.json.Decoder(UsageRow)
Line = UsageRecord | tuple[UsageRecord, UnknownCaller] | bytes | Mapping[str, Any]
"""A finished call, alone or with what is known of an unknown caller, the same as JSON, or the fields of a log line. The
thread words them."""


class LogWriter:
    """The queue and its thread. `stop` writes what is queued."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._told = 0
        self._queue: SimpleQueue[tuple[Line, Format] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: Line, format: Format) -> None:
        """Queues a line; drops it if too many wait. Never blocks."""
        if self._queue.qsize() >= QUEUE_LINES:
            self.dropped += 1
            return
        self._queue.put((line, format))

    def stop(self) -> None:
        """Writes the rest and ends the thread. May be called twice."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            is_of_call = batch[0] is not None and isinstance(batch[0][0], bytes | UsageRecord | tuple)
            if is_of_call and self._queue.qsize() < BATCH_LINES:
                time.sleep(GATHER_SECONDS)
            with contextlib.suppress(Empty):
                while len(batch) < BATCH_LINES:
                    batch.append(self._queue.get_nowait())
            ended = None in batch
            text = "".join(worded_line(*entry) for entry in batch if entry is not None) + self._dropped_line()
            # A reader that has gone away must not end the server: OSError, or ValueError for a closed stream.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()

    def _dropped_line(self) -> str:
        total = self.dropped
        dropped, self._told = total - self._told, total
        if not dropped:
            return ""
        fields = {"time": timestamp(time.time()), "level": "warning", "event": "log", "message": "lines were dropped"}
        return rendered({**fields, "lines": dropped}, "json")


def worded_line(line: Line, format: Format) -> str:
    """The line as it is written."""
    try:
        if isinstance(line, bytes):
            line = RECORDS.decode(line)
        if isinstance(line, tuple):
            line = {**access_fields(line[0]), "reason": line[1].reason, "address": line[1].address}
        return rendered(access_fields(line) if isinstance(line, UsageRecord) else line, format)
    except (ValueError, TypeError) as error:  # a path that is no Unicode, say: the thread must go on
        return f"a log line could not be worded: {type(error).__name__}\n"


class QueuedHandler(logging.Handler):
    """Gives every log record to a LogWriter."""

    def __init__(self, writer: LogWriter, format: Format) -> None:
        super().__init__()
        self.writer = writer
        self.format_of_lines: Format = format

    def emit(self, record: logging.LogRecord) -> None:
        """Words the message here, since its arguments may change later."""
        try:
            self.writer.put(log_fields(record), self.format_of_lines)
        except Exception:  # noqa: BLE001  a log call must never break what it reports on
            self.handleError(record)

    def close(self) -> None:
        """Writes what is queued; `logging` calls this when the process ends."""
        self.writer.stop()
        super().close()


class AccessLog:
    """One line per call."""

    def __init__(self, writer: LogWriter, format: Format) -> None:
        self._writer = writer
        self._format: Format = format

    def write(self, record: UsageRecord | tuple[UsageRecord, UnknownCaller] | bytes) -> None:
        """Queues the line; a record may be JSON already. Never blocks, never raises."""
        self._writer.put(record, self._format)


def configure_logging(format: Literal["auto", "json", "text"], level: str, stream: TextIO | None = None) -> None:
    """Sends every logger of this process to `stream` (standard error), from `level` on, instead of what was set before.
    Ends by itself with the process. `auto` is short lines for people on a terminal, and JSON elsewhere."""
    chosen: Format = format if format != "auto" else "terminal" if sys.stderr.isatty() else "json"
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, QueuedHandler):
            root.removeHandler(handler)
            handler.close()
    root.addHandler(QueuedHandler(LogWriter(stream or sys.stderr), chosen))
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in QUIET_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        # At `info` they tell what our own start and access lines tell better.
        logger.setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True


def access_log() -> AccessLog | None:
    """The access log, if `configure_logging` has set level `info` or finer: it shares that writer and its form."""
    if not logging.getLogger(ACCESS_LOGGER).isEnabledFor(logging.INFO):
        return None
    for handler in logging.getLogger().handlers:
        if isinstance(handler, QueuedHandler):
            return AccessLog(handler.writer, handler.format_of_lines)
    return None
