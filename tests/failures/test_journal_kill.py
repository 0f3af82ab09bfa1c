"""A process that is killed while it writes its journal loses no call, and leaves one record for each."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from modelport.core.usage import Ending
from modelport.stores.journal.reading import ended_calls, verify
from modelport.stores.journal.writer import FileJournal

WRITER = """
import sys
from pathlib import Path
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.stores.journal.writer import FileJournal

def record(id):
    return UsageRecord(id=id, started_at=1.0, principal="p", key_id=None, surface="openai_v1", operation="embeddings",
                       streamed=False, requested_model=None, deployment="d", reserved_tokens=9,
                       usage=TokenUsage(input=9), usage_source="estimated")

journal = FileJournal(Path(sys.argv[1]), rotate_bytes=20_000)
running = []
number = 0
while True:
    for _ in range(number % 5 + 1):
        number += 1
        running.append(record(sys.argv[2] + "-" + str(number)))
        journal.open(running[-1])
    while len(running) > 7:
        journal.close(running.pop(0))
    journal.flush()
    print(number, running[0].id, flush=True)
"""


@pytest.mark.parametrize("seed", range(6))
def test_each_call_has_one_record_whenever_the_writer_is_killed(tmp_path, seed):
    moments = random.Random(seed)
    opened: set[str] = set()
    closed: set[str] = set()
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(life)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        flushed = [process.stdout.readline()]
        time.sleep(moments.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        flushed += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        last = [line for line in flushed if line.endswith("\n")][-1]
        number, oldest = int(last.split()[0]), int(last.split()[1].split("-")[1])
        opened |= {f"{life}-{n}" for n in range(1, number + 1)}
        closed |= {f"{life}-{n}" for n in range(1, oldest)}
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.damaged is None
    records = list(ended_calls(tmp_path))
    ids = [record.id for record in records]
    assert len(ids) == len(set(ids))
    assert opened <= set(ids)
    assert closed <= {record.id for record in records if record.ending == Ending.COMPLETED}
    assert {record.usage.total for record in records} == {9}
    checked = verify(tmp_path)
    assert (checked.faults, checked.open_calls) == ((), 0)
