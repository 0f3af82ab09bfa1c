"""Brings what was written to the disk, in groups, on a thread of its own: the loop never waits for a disk."""

from __future__ import annotations

import errno
import os
import threading
from typing import Final

SYNC_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0


class GroupSync:
    """Syncs one file at a time. The writer calls `wrote` and `replace`; this thread alone closes descriptors."""

    def __init__(self, descriptor: int, sync_seconds: float = SYNC_SECONDS) -> None:
        self._descriptor = descriptor
        self._sync_seconds = sync_seconds
        self._retired: list[int] = []
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._written = 0
        self._is_awake = False
        """Whether `wrote` has nobody to wake. A plain field: an event's own is behind a call."""
        self.synced = 0
        """The number of the last line that is on the disk."""
        self.failure: OSError | None = None
        """Why the last attempt failed; None once an attempt succeeds again."""
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def wrote(self, sequence: int) -> None:
        """Lines up to this number are with the kernel."""
        self._written = sequence
        if not self._is_awake:
            self._is_awake = True
            self._due.set()

    def replace(self, descriptor: int) -> None:
        """Another file is written from now on; the one before it is synced and closed."""
        with self._lock:
            self._retired.append(self._descriptor)
            self._descriptor = descriptor
        self._due.set()

    def stop(self) -> None:
        """Syncs the rest, closes the file and ends the thread."""
        self._stopping.set()
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._due.wait()
            self._due.clear()
            self._is_awake = False  # before what was written is looked at: what comes now wakes it again
            self._sync()
            if self.failure is not None:
                self._due.set()
            self._stopping.wait(self._sync_seconds if self.failure is None else RETRY_SECONDS)
        self._sync()
        os.close(self._descriptor)

    def _sync(self) -> None:
        written = self._written  # before the descriptors: what was written by now lies in these
        with self._lock:
            retired, self._retired = self._retired, []
            descriptor = self._descriptor
        try:
            for old in retired:
                os.fsync(old)
            os.fsync(descriptor)
            if not os.fstat(descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "its file was removed")
        except OSError as failure:
            self.failure = failure
        else:
            self.failure = None
            self.synced = written
        for old in retired:
            os.close(old)
