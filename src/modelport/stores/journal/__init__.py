"""The local journal: append-only files in the data directory, one JSON line for each opening and each end of a call.

`lines` is the format, `files` their names and locks, `reading` goes through them, `recovery` says what a killed process
left open, `syncing` brings them to the disk, `writer` is the port's implementation.
"""

from modelport.stores.journal.files import JournalInUse
from modelport.stores.journal.reading import Verification, ended_calls, verify
from modelport.stores.journal.writer import FileJournal

__all__ = ["FileJournal", "JournalInUse", "Verification", "ended_calls", "verify"]
