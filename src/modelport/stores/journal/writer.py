"""The journal of one process. Lines are queued as calls open and end; `flush` gives all of them to the kernel in one
write under one seal, so that they outlive the process; a thread syncs them to the disk a moment later."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Collection, Set
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from msgspec import Struct

from modelport.core.clock import Clock, SystemClock
from modelport.core.record_forms import RecordForm
from modelport.core.usage import UsageRecord
from modelport.stores.journal import files
from modelport.stores.journal.formed import FormsWritten
from modelport.stores.journal.lines import (
    BEGIN,
    CARRIED,
    CLOSE,
    END,
    FORM,
    NO_PREVIOUS,
    OPEN,
    Beginning,
    encode_beginning,
    encode_record,
)
from modelport.stores.journal.recovery import Found, look, lost
from modelport.stores.journal.syncing import SYNC_SECONDS, GroupSync
from modelport.stores.journal.writes import has_seal, sealed

LOGGER: Final = logging.getLogger("modelport.journal")
ROTATE_BYTES: Final = 32 * 1024 * 1024
QUEUE_LINES: Final = 10_000
"""While nothing can be written: so many lines wait before new calls are refused at once."""
PIECES: Final = 3
"""A line is queued in so many: what stands before its record, the record, and what stands after it."""


class Recovered(Struct, frozen=True):
    """What was found at the start. `cut_bytes` of an unfinished write were removed; `damaged` names a file and line
    that no crash explains: the file was left as it is, and `verify` reports it."""

    lost_calls: int = 0
    cut_bytes: int = 0
    damaged: str | None = None


class FileJournal:
    """core.ports.records.Journal on numbered files. One writer name is one process: a second is refused (JournalInUse).

    Not safe to call from several threads. `stop` ends it; without that, the next start recovers."""

    sequence: int
    """The number of the last line written."""
    number: int
    """The number of the file that is written."""
    size_bytes: int
    """How long that file is."""
    _previous: bytes
    """The digest of its last seal."""
    _descriptor: int
    _sync: GroupSync

    def __init__(
        self,
        directory: Path,
        writer: str = "0",
        *,
        clock: Clock | None = None,
        rotate_bytes: int = ROTATE_BYTES,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self.directory = directory
        self.writer = writer
        self._clock = clock or SystemClock()
        self._rotate_bytes = rotate_bytes
        self._queue: list[bytes] = []
        self._open: dict[str, tuple[RecordForm | None, bytes]] = {}
        self._forms = FormsWritten()
        self._stopped = False
        self.dropped_lines = 0
        """Ends of refused calls that could not be kept while the disk was full."""
        self.failed_writes = 0
        self.is_failing = False
        files.make_directory(directory)
        self._lock = files.lock(directory, writer)
        try:
            self.recovered = self._start(sync_seconds)
        except BaseException:
            os.close(self._lock)
            raise
        told(self.recovered)

    # --- the port -----------------------------------------------------------------------------------------------------

    def open(self, record: UsageRecord) -> None:
        """Queues the call's opening; again with a larger reservation. Raises OSError when too much waits already."""
        if self.is_failing and self.queued_lines >= QUEUE_LINES:
            raise OSError(errno.ENOSPC, "the journal takes no lines")
        said = encode_record(record)
        self._queue += (OPEN, said, END)
        self._open[record.id] = (None, said)

    def close(self, record: UsageRecord) -> None:
        """Queues the call's final record."""
        was_open = self._open.pop(record.id, None) is not None
        if not was_open and self.is_failing and self.queued_lines >= QUEUE_LINES:
            self.dropped_lines += 1
            return
        self._queue += (CLOSE, encode_record(record), END)

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        """As `open`, with the record `form.filled(values)`."""
        if self.is_failing and self.queued_lines >= QUEUE_LINES:
            raise OSError(errno.ENOSPC, "the journal takes no lines")
        begins = self._forms.openings
        if form.told in begins or self._introduced(form):
            self._queue += (begins[form.told], values, END)
        else:
            self._queue += (OPEN, form.filled(values), END)
        self._open[id] = (form, values)

    def close_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        """As `close`, with the record `form.filled(values)`. Only for calls that are open: these are never dropped."""
        del self._open[id]
        begins = self._forms.closings
        if form.told in begins or self._introduced(form):
            self._queue += (begins[form.told], values, END)
        else:
            self._queue += (CLOSE, form.filled(values), END)

    def _introduced(self, form: RecordForm) -> bool:
        """Queues the form's own line before the first one that names it; False: none may. What is queued will stand
        where the file ends now, however often it has to be written."""
        said = self._forms.introduced(form, self.size_bytes + sum(map(len, self._queue)))
        if said is not None:
            self._queue += (FORM, said, END)
        return said is not None

    def flush(self) -> None:
        """Gives every queued line to the kernel. Raises OSError; the lines then stay queued, and the file is whole."""
        queue = self._queue
        if not queue:
            return
        sync = self._sync
        if self.is_failing or sync.failure is not None:
            self._prepare(sync.failure)
        sequence = self.sequence + len(queue) // PIECES
        data, previous = sealed(b"".join(queue), sequence, self._previous)
        size_bytes = self.size_bytes
        try:
            written = os.write(self._descriptor, data)
            if written < len(data):
                files.write_rest(self._descriptor, data, written, size_bytes)
        except OSError:
            self.failed_writes += 1
            self.is_failing = True
            raise
        queue.clear()
        self.is_failing = False
        self.sequence = sequence
        self._previous = previous
        self.size_bytes = size_bytes = size_bytes + len(data)
        sync.wrote(sequence)
        if size_bytes >= self._rotate_bytes:
            self._rotate()

    def _prepare(self, failure: OSError | None) -> None:
        """Before a write that follows a failed one. Raises OSError."""
        self.is_failing = True
        if failure is not None:
            raise OSError(failure.errno, "the journal cannot be synced")
        try:
            os.ftruncate(self._descriptor, self.size_bytes)  # in case the last failure left half a write
        except OSError:
            self.failed_writes += 1
            raise

    @classmethod
    @asynccontextmanager
    async def opened(cls, directory: Path) -> AsyncIterator[FileJournal]:
        """The first journal of this directory that no process writes, until the block ends. Recovers what was killed,
        also what other processes left. Raises OSError."""
        journal, _ = open_journal(directory)
        try:
            yield journal
        finally:
            # The last sync waits for the disk.
            await asyncio.to_thread(journal.stop)

    # --- for operators ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Whether a call could be recorded now; after a failure, writes what is queued. Raises OSError."""
        files.check_writable(self._descriptor, files.file_path(self.directory, self.writer, self.number))
        if self.is_failing or self._sync.failure is not None:
            self._prepare(self._sync.failure)
            self.flush()
            self.is_failing = False  # where nothing was queued

    @property
    def queued_lines(self) -> int:
        """Lines that wait for a flush."""
        return len(self._queue) // PIECES

    @property
    def unsynced_lines(self) -> int:
        """Lines that are with the kernel but perhaps not on the disk."""
        return max(0, self.sequence - self._sync.synced)

    @property
    def open_calls(self) -> int:
        """Calls that have not ended."""
        return len(self._open)

    @property
    def open_ids(self) -> Set[str]:
        """Their ids; changes with them."""
        return self._open.keys()

    def stop(self) -> None:
        """Flushes, syncs and lets the files go. Raises OSError if the last lines cannot be written."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self.flush()
        finally:
            self._sync.stop()
            os.close(self._lock)

    def __enter__(self) -> FileJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- files --------------------------------------------------------------------------------------------------------

    def _start(self, sync_seconds: float) -> Recovered:
        for unfinished in self.directory.glob(f"{self.writer}.*{files.UNFINISHED_SUFFIX}"):
            unfinished.unlink()
        found = self._last()
        cut_bytes, damaged = 0, None
        if found is None:
            self.sequence, self._previous = 0, NO_PREVIOUS.encode()
            self._begin(1, ())
        else:
            self.sequence, self._previous = found.sequence, found.previous.encode()
            if found.damaged_line is not None:
                damaged = f"{found.path.name}, line {found.damaged_line}"
                self._begin(files.number_of(found.path) + 1, [encode_record(record) for record in found.open_calls])
            else:
                cut_bytes = cut_off(found)
                self._continue(found)
        self._sync = GroupSync(self._descriptor, sync_seconds)
        orphans = found.open_calls if found is not None else ()
        for record in orphans:
            self._queue += (CLOSE, encode_record(lost(record)), END)
        try:
            self.flush()
        except BaseException:
            self._sync.stop()
            raise
        self._sync.wrote(self.sequence)
        return Recovered(lost_calls=len(orphans), cut_bytes=cut_bytes, damaged=damaged)

    def _last(self) -> Found | None:
        """The last file that was begun properly. Half-made ones after it hold nothing that it does not."""
        for path in files.files_of(self.directory, self.writer):
            if path.stat().st_size and not has_seal(path):
                set_aside(path)
        for path in reversed(files.files_of(self.directory, self.writer)):
            found = look(path)
            if found.is_usable:
                return found
            if found.sequence or not found.total_bytes:
                path.unlink()
            else:
                set_aside(path)
        return None

    def _continue(self, found: Found) -> None:
        self.number = files.number_of(found.path)
        self._descriptor = os.open(found.path, os.O_WRONLY | os.O_APPEND)
        self.size_bytes = found.whole_bytes

    def _begin(self, number: int, carried: Collection[bytes]) -> None:
        """Starts a file. It gets its name only with its first lines in it."""
        beginning = Beginning(self.writer, number, len(carried), self._clock.now())
        pieces = [BEGIN, encode_beginning(beginning), END]
        for record in carried:
            pieces += (CARRIED, record, END)
        sequence = self.sequence + 1 + len(carried)
        data, previous = sealed(b"".join(pieces), sequence, self._previous)
        path = files.file_path(self.directory, self.writer, number)
        unfinished = path.with_suffix(files.UNFINISHED_SUFFIX)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC
        descriptor = os.open(unfinished, flags, files.FILE_MODE)
        try:
            files.write_all(descriptor, data, 0)
            unfinished.rename(path)
        except OSError:
            os.close(descriptor)
            raise
        self.number = number
        self._descriptor = descriptor
        self._forms = FormsWritten()
        self.size_bytes = len(data)
        self.sequence, self._previous = sequence, previous

    def _rotate(self) -> None:
        """Goes on in the next file, or in this one if a next one cannot be made now."""
        try:
            carried = [said if form is None else form.filled(said) for form, said in self._open.values()]
            self._begin(self.number + 1, carried)
        except OSError:
            self.failed_writes += 1
            return
        self._sync.replace(self._descriptor)
        self._sync.wrote(self.sequence)


def open_journal(
    directory: Path, *, clock: Clock | None = None, rotate_bytes: int = ROTATE_BYTES
) -> tuple[FileJournal, tuple[Recovered, ...]]:
    """The first journal of this directory that no process writes, and what recovery found in it and in those that other
    processes have left behind."""
    files.make_directory(directory)
    number = 0
    while True:
        try:
            journal = FileJournal(directory, str(number), clock=clock, rotate_bytes=rotate_bytes)
            break
        except files.JournalInUse:
            number += 1
    found = [journal.recovered]
    for writer in files.writers_in(directory):
        if writer == journal.writer:
            continue
        try:
            with FileJournal(directory, writer, clock=clock) as abandoned:
                found.append(abandoned.recovered)
        except files.JournalInUse:
            continue
    return journal, tuple(found)


def cut_off(found: Found) -> int:
    """Removes what is left of an unfinished write; how many bytes that was. Nobody was answered on its account."""
    torn_bytes = found.total_bytes - found.whole_bytes
    with found.path.open("r+b") as file:
        if torn_bytes:
            file.truncate(found.whole_bytes)
    return torn_bytes


def set_aside(path: Path) -> None:
    """Renames a file in which nothing can be read, so that it neither stops the start nor stays in the chain."""
    kept = files.free_path(path.with_suffix(files.UNREADABLE_SUFFIX))
    path.rename(kept)
    LOGGER.error(
        "the journal file %s cannot be read: it was set aside as %s, its calls are not counted", path, kept.name
    )


def told(recovered: Recovered) -> None:
    """Says in the log what a crash has cost."""
    if recovered.lost_calls or recovered.cut_bytes:
        LOGGER.warning(
            "the last process was killed: %d calls are recorded as lost, with all that they had reserved",
            recovered.lost_calls,
        )
    if recovered.damaged is not None:
        LOGGER.error("the journal is damaged at %s: the file was left as it is", recovered.damaged)
