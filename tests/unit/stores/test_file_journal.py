"""The journal's files: their format, chain, rotation, recovery and checks."""

from __future__ import annotations

import stat
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.stores.journal.files import JournalInUse, files_of
from modelport.stores.journal.lines import NO_PREVIOUS, DamagedLine, decode_line, digest, encode_line
from modelport.stores.journal.reading import ended_calls, read_lines, verify
from modelport.stores.journal.recovery import look
from modelport.stores.journal.writer import FileJournal, open_journal


def record(id: str, **changes: object) -> UsageRecord:
    fields: dict[str, object] = {
        "id": id,
        "started_at": 1700000000.5,
        "principal": "alice",
        "key_id": None,
        "surface": "openai_v1",
        "operation": "embeddings",
        "streamed": False,
        "requested_model": None,
        "deployment": "minilm",
        "usage": TokenUsage(input=5),
        "usage_source": UsageSource.REPORTED,
        "reserved_tokens": 5,
    }
    return UsageRecord(**{**fields, **changes})  # type: ignore[arg-type]


def call(journal: FileJournal, id: str) -> None:
    journal.open(record(id))
    journal.close(record(id))
    journal.flush()


@given(st.integers(min_value=1, max_value=10**9), st.text(max_size=30), st.floats(min_value=0, max_value=1e6))
def test_a_line_reads_back_as_it_was_written(sequence, model, seconds):
    written = record("a", requested_model=model, duration_seconds=seconds)
    line = decode_line(encode_line(sequence, "close", NO_PREVIOUS, written))
    assert (line.sequence, line.kind, line.previous) == (sequence, "close", NO_PREVIOUS)
    assert line.usage() == written


@given(st.data())
def test_a_line_with_one_changed_byte_is_damaged(data):
    line = bytearray(encode_line(7, "open", digest(b"x"), record("a")))
    position = data.draw(st.integers(min_value=0, max_value=len(line) - 1))
    line[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    with pytest.raises(DamagedLine):
        decode_line(bytes(line))


def test_lines_are_numbered_and_each_names_the_one_before(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        call(journal, "b")
    (path,) = files_of(tmp_path, "0")
    raw = path.read_bytes().splitlines(keepends=True)
    lines = list(read_lines(path))
    assert [line.kind for line in lines] == ["begin", "open", "close", "open", "close"]
    assert [line.sequence for line in lines] == [1, 2, 3, 4, 5]
    assert [line.previous for line in lines] == [NO_PREVIOUS, *(digest(data) for data in raw[:-1])]


def test_files_are_for_their_owner_alone(tmp_path):
    with FileJournal(tmp_path / "journal", rotate_bytes=1) as journal:
        call(journal, "a")
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()} == {0o600}


def test_a_full_file_is_followed_by_the_next_and_the_chain_goes_on(tmp_path):
    with FileJournal(tmp_path, rotate_bytes=2000) as journal:
        for number in range(30):
            call(journal, str(number))
    assert len(files_of(tmp_path, "0")) > 3
    checked = verify(tmp_path)
    assert (checked.faults, checked.calls, checked.open_calls, checked.tokens) == ((), 30, 0, 150)


def test_a_call_that_spans_files_is_recovered_from_the_last_one(tmp_path):
    with FileJournal(tmp_path, rotate_bytes=2000) as journal:
        journal.open(record("long"))
        for number in range(30):
            call(journal, str(number))
    for path in files_of(tmp_path, "0")[:-1]:
        path.unlink()
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.lost_calls == 1
    assert [ended.id for ended in ended_calls(tmp_path) if ended.ending == Ending.LOST] == ["long"]
    assert verify(tmp_path).faults == ()


@settings(max_examples=60, deadline=None)
@given(share=st.floats(min_value=0, max_value=1))
def test_a_file_cut_anywhere_recovers_to_one_record_a_call(share, tmp_path_factory):
    directory = tmp_path_factory.mktemp("journal")
    with FileJournal(directory) as journal:
        for number in range(4):
            journal.open(record(str(number)))
        for number in range(0, 4, 2):
            journal.close(record(str(number)))
    (path,) = files_of(directory, "0")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    cut = first + round(share * (len(whole) - first))
    path.write_bytes(whole[:cut])
    opened = sum(b'"kind":"open"' in line and line.endswith(b"\n") for line in whole[:cut].splitlines(keepends=True))
    with FileJournal(directory) as journal:
        assert journal.recovered.damaged is None
    ended = [call.id for call in ended_calls(directory)]
    assert len(ended) == len(set(ended)) == opened
    assert verify(directory).faults == ()


def test_a_torn_last_line_is_cut_off(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
    (path,) = files_of(tmp_path, "0")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"sequence":4,"kind":"op')
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.cut_bytes == 24
    assert path.read_bytes() == whole


def test_a_line_damaged_in_the_middle_is_left_alone_and_reported(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        journal.open(record("b"))
    (path,) = files_of(tmp_path, "0")
    damaged = path.read_bytes().replace(b'"record":["a"', b'"record":["x"', 1)
    path.write_bytes(damaged)
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.damaged == "0.00000001.jsonl, line 2"
        assert journal.recovered.lost_calls == 1
    assert path.read_bytes() == damaged
    assert [fault.line for fault in verify(path).faults] == [2, 3]


def test_a_file_that_was_named_before_it_was_finished_is_ignored(tmp_path):
    with FileJournal(tmp_path) as journal:
        journal.open(record("a"))
    (tmp_path / "0.00000002.jsonl").write_bytes(b"")
    (tmp_path / "0.00000002.new").write_bytes(b"half")
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.lost_calls, journal.number) == (1, 1)
    assert not (tmp_path / "0.00000002.new").exists()


def test_a_rewritten_line_breaks_the_chain(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        call(journal, "b")
    (path,) = files_of(tmp_path, "0")
    lines = path.read_bytes().splitlines(keepends=True)
    forged = decode_line(lines[2])
    lines[2] = encode_line(forged.sequence, "close", forged.previous, record("a", usage=TokenUsage()))
    path.write_bytes(b"".join(lines))
    assert [fault.line for fault in verify(tmp_path).faults] == [4]


def test_a_removed_line_breaks_the_chain(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        call(journal, "b")
    (path,) = files_of(tmp_path, "0")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert {fault.line for fault in verify(tmp_path).faults} == {3}


def test_a_call_that_ends_twice_is_a_fault(tmp_path):
    with FileJournal(tmp_path) as journal:
        journal.close(record("a"))
        journal.close(record("a"))
    assert [fault.what for fault in verify(tmp_path).faults] == ["call a: it ended twice"]


def test_calls_that_still_run_are_no_fault(tmp_path):
    with FileJournal(tmp_path) as journal:
        journal.open(record("a"))
        journal.flush()
        assert (verify(tmp_path).faults, verify(tmp_path).open_calls) == ((), 1)


def test_a_second_writer_is_refused(tmp_path):
    with FileJournal(tmp_path), pytest.raises(JournalInUse):
        FileJournal(tmp_path)


def test_each_process_gets_a_file_of_its_own(tmp_path):
    first, _ = open_journal(tmp_path)
    second, _ = open_journal(tmp_path)
    with first, second:
        call(first, "a")
        call(second, "b")
        assert (first.writer, second.writer) == ("0", "1")
    assert {ended.id for ended in ended_calls(tmp_path)} == {"a", "b"}
    assert verify(tmp_path).faults == ()


def test_what_another_process_left_open_is_recovered_too(tmp_path):
    with FileJournal(tmp_path, "3") as abandoned:
        abandoned.open(record("a"))
    journal, recovered = open_journal(tmp_path)
    with journal:
        assert sum(found.lost_calls for found in recovered) == 1


def test_everything_is_on_the_disk_once_it_has_stopped(tmp_path):
    journal = FileJournal(tmp_path, sync_seconds=5.0)
    call(journal, "a")
    journal.stop()
    journal.stop()
    assert (journal.unsynced_lines, journal.queued_lines, journal.open_calls) == (0, 0, 0)


def test_the_thread_syncs_without_being_asked(tmp_path):
    with FileJournal(tmp_path, sync_seconds=0.001) as journal:
        call(journal, "a")
        for _ in range(2000):
            if not journal.unsynced_lines:
                break
            time.sleep(0.005)
        assert journal.unsynced_lines == 0


def test_looking_at_a_file_changes_nothing(tmp_path):
    with FileJournal(tmp_path) as journal:
        journal.open(record("a"))
    (path,) = files_of(tmp_path, "0")
    before = path.read_bytes()
    assert [found.id for found in look(path).open_calls] == ["a"]
    assert path.read_bytes() == before


def test_a_recovery_is_told_in_the_log(tmp_path, caplog):
    with FileJournal(tmp_path) as journal:
        journal.open(record("a"))
    with FileJournal(tmp_path):
        pass
    assert [entry.getMessage() for entry in caplog.records] == [
        "the last process was killed: 1 calls are recorded as lost, with all that they had reserved"
    ]


async def test_a_second_server_on_one_directory_writes_beside_the_first(tmp_path):
    async with FileJournal.opened(tmp_path) as first, FileJournal.opened(tmp_path) as second:
        call(first, "a")
        call(second, "b")
    assert {ended.id for ended in ended_calls(tmp_path)} == {"a", "b"}
