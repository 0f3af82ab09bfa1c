"""A disk that takes no more bytes: the journal says so, stays whole, and goes on when there is room again."""

from __future__ import annotations

import subprocess
import sys

from modelport.stores.journal.reading import ended_calls, verify

FILLING = """
import resource, sys
from pathlib import Path
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.stores.journal import writer
from modelport.stores.journal.writer import FileJournal

def record(id):
    return UsageRecord(id=id, started_at=1.0, principal="p", key_id=None, surface="openai_v1", operation="embeddings",
                       streamed=False, requested_model=None, deployment="d", reserved_tokens=9,
                       usage=TokenUsage(input=9), usage_source="estimated")

def full(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

directory = Path(sys.argv[1])
with FileJournal(directory, rotate_bytes=10**9) as journal:
    full(5000)
    number = refused = 0
    while not refused:
        number += 1
        journal.open(record(str(number)))
        journal.close(record(str(number)))
        try:
            journal.flush()
        except OSError:
            refused += 1
    size = (directory / "0.00000001.jsonl").stat().st_size
    assert size == journal.size_bytes, "half a line was left behind"
    assert journal.is_failing and journal.failed_writes == 1 and journal.queued_lines == 2

    journal.open(record("last"))
    for extra in range(writer.QUEUE_LINES):
        journal.close(record("refused-" + str(extra)))
    assert journal.dropped_lines > 0
    try:
        journal.open(record("never"))
        raise SystemExit("an opening was taken while nothing can be written")
    except OSError:
        pass
    journal.close(record("last"))

    full(resource.RLIM_INFINITY)
    journal.flush()
    assert not journal.is_failing
    print(number)
"""


def test_a_full_disk_refuses_and_recovers(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FILLING, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ids = [record.id for record in ended_calls(tmp_path)]
    assert {"last", *(str(number) for number in range(1, int(done.stdout) + 1))} <= set(ids)
    assert "never" not in ids
    checked = verify(tmp_path)
    assert (checked.faults, checked.open_calls) == ((), 0)
