"""The journal's files: their format, chain, rotation, recovery and checks."""

from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.usage_records import formed

from modelport.core.record_forms import RecordForm
from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.stores.journal.files import JournalInUse, files_of
from modelport.stores.journal.lines import CLOSE, END, NO_PREVIOUS, DamagedLine, decode_line, encode_record
from modelport.stores.journal.reading import ended_calls, parts, parts_of, verify
from modelport.stores.journal.recovery import look
from modelport.stores.journal.writer import FileJournal, open_journal
from modelport.stores.journal.writes import Damage, Write, sealed


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


class NoForms:
    """Nothing names any."""

    def at(self, offset_bytes: int) -> RecordForm:
        raise AssertionError


NO_FORMS = NoForms()


def call(journal: FileJournal, id: str) -> None:
    journal.open(record(id))
    journal.close(record(id))
    journal.flush()


def data_of(write: Write) -> bytes:
    """Its bytes in the file."""
    return b"".join(write.lines) + write.ending


def kinds_of(write: Write) -> list[str]:
    return [line.split(b'"', 2)[1].decode() for line in write.lines]


def whole(path: Path) -> list[Write]:
    """The file's writes, all of which are whole."""
    found = list(parts_of(path))
    assert not any(isinstance(part, Damage) for part in found)
    return found  # type: ignore[return-value]


@given(st.text(max_size=30), st.floats(min_value=0, max_value=1e6))
def test_a_line_reads_back_as_it_was_written(model, seconds):
    written = record("a", requested_model=model, duration_seconds=seconds)
    line = decode_line(CLOSE + encode_record(written) + END, NO_FORMS)
    assert (line.kind, line.usage(), line.call_id()) == ("close", written, "a")


@pytest.mark.parametrize("line", [b"", b"[]", b'["seal",1]', b'["other",["a"]]', b'["close",["a"]', b'{"close"}'])
def test_what_is_no_line_is_refused(line):
    with pytest.raises(DamagedLine):
        decode_line(line + b"\n", NO_FORMS).usage()


def test_each_flush_is_one_write_under_one_seal_that_names_the_one_before(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        for id in "bcd":
            journal.open(record(id))
        journal.flush()
        journal.flush()
        for id in "bcd":
            journal.close(record(id))
    (path,) = files_of(tmp_path, "0")
    begun, one, opened, closed = writes = whole(path)
    assert [kinds_of(write) for write in writes] == [
        ["begin"],
        ["open", "close"],
        ["open"] * 3,
        ["close"] * 3,
    ]
    assert [write.sequence for write in writes] == [1, 3, 6, 9]
    assert [write.first_line for write in writes] == [1, 3, 6, 10]
    assert [write.previous for write in writes] == [NO_PREVIOUS, begun.digest, one.digest, opened.digest]
    assert b"".join(data_of(write) for write in writes) == path.read_bytes()
    seals = [line for line in path.read_bytes().splitlines() if line.startswith(b'["seal",')]
    assert seals[-1] == f'["seal",9,"{opened.digest}","{closed.digest}"]'.encode()
    assert len(seals) == 4
    assert verify(tmp_path).lines == journal.sequence == 9


def test_a_digest_is_of_the_lines_and_of_the_seal_before_it(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
    (path,) = files_of(tmp_path, "0")
    _, write = whole(path)
    covered, _, rest = data_of(write).rpartition(b",")
    assert rest == f'"{blake2b(covered, digest_size=16).hexdigest()}"]\n'.encode()


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


@settings(max_examples=100, deadline=None)
@given(share=st.floats(min_value=0, max_value=1))
def test_a_file_cut_anywhere_recovers_to_one_record_a_call(share, tmp_path_factory):
    directory = tmp_path_factory.mktemp("journal")
    with FileJournal(directory) as journal:
        for number in range(6):
            if number % 3:
                journal.open_formed(str(number), *formed(record(str(number))))
            else:
                journal.open(record(str(number)))
            if number % 2:
                journal.flush()
        journal.close(record("0"))
        journal.close(record("2"))
        journal.close_formed("4", *formed(record("4")))
    (path,) = files_of(directory, "0")
    data, writes = path.read_bytes(), whole(path)
    first = writes[0].offset_bytes
    cut = first + round(share * (len(data) - first))
    path.write_bytes(data[:cut])
    opened = sum(kinds_of(write).count("open") for write in writes if write.offset_bytes <= cut)
    with FileJournal(directory) as journal:
        assert journal.recovered.damaged is None
    ended = [call.id for call in ended_calls(directory)]
    assert len(ended) == len(set(ended)) == opened
    assert verify(directory).faults == ()


@pytest.fixture(scope="module")
def busy_file(tmp_path_factory) -> Path:
    """Writes of one to nine lines."""
    directory = tmp_path_factory.mktemp("busy")
    with FileJournal(directory) as journal:
        for number in range(1, 10):
            for one in range(number):
                told = record(f"{number}-{one}", principal=f"p{number % 3}")
                journal.open(told)
                if one % 2:
                    journal.close(told)
                elif one % 3:
                    journal.close_formed(told.id, *formed(told))
            journal.flush()
    return files_of(directory, "0")[0]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_of_a_file_is_found(data, busy_file):
    changed = bytearray(busy_file.read_bytes())
    writes = whole(busy_file)
    position = data.draw(st.integers(min_value=0, max_value=len(changed) - 1))
    changed[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    path = busy_file.with_name("changed")
    path.write_bytes(changed)
    assert verify(path).faults
    found = {part.digest for part in parts_of(path) if isinstance(part, Write)}
    hurt = next(number for number, write in enumerate(writes) if write.offset_bytes > position)
    assert writes[hurt].digest not in found
    # A seal that is not found any more makes its lines run on into the next write.
    assert {write.digest for write in writes[:hurt] + writes[hurt + 2 :]} <= found <= {one.digest for one in writes}


def test_writes_of_any_size_are_read_as_they_were_written(tmp_path):
    sizes = [1, 700, 3, 2000, 1, 1, 950, 40]  # of lines: what is read at once ends in the middle of most
    with FileJournal(tmp_path) as journal:
        for size in sizes:
            for number in range(size):
                journal.open(record(f"{size}-{number}"))
            journal.flush()
        journal.flush()
    (path,) = files_of(tmp_path, "0")
    writes = whole(path)
    assert [len(write.lines) for write in writes] == [1, *sizes]
    assert b"".join(map(data_of, writes)) == path.read_bytes()
    ends = list(accumulate(len(data_of(write)) for write in writes))
    assert [write.offset_bytes for write in writes] == ends
    with path.open("rb") as file:  # from the middle
        assert [part.offset_bytes for part in parts(file, ends[3])] == ends[4:]


def test_a_torn_last_write_is_cut_off(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
    (path,) = files_of(tmp_path, "0")
    data = path.read_bytes()
    torn = b'["open",["b"]]\n["seal",4,"'
    path.write_bytes(data + torn)
    assert [(fault.line, fault.what) for fault in verify(path).faults] == [
        (6, "lines 6 to 7: no seal follows: the write was cut off")
    ]
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.cut_bytes == len(torn)
    assert path.read_bytes() == data


def test_a_line_damaged_in_the_middle_is_left_alone_and_reported(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        journal.open(record("b"))
    (path,) = files_of(tmp_path, "0")
    damaged = path.read_bytes().replace(b'["open",["a"', b'["open",["x"', 1)
    path.write_bytes(damaged)
    with FileJournal(tmp_path) as journal:
        assert journal.recovered.damaged == "0.00000001.jsonl, line 3"
        assert journal.recovered.lost_calls == 1
    assert path.read_bytes() == damaged
    assert [(fault.line, fault.what) for fault in verify(path).faults] == [(3, "lines 3 to 5: the seal is wrong")]
    assert [fault.line for fault in verify(tmp_path).faults] == [3]
    assert verify(files_of(tmp_path, "0")[1]).faults == ()


def test_a_damaged_seal_takes_the_next_write_with_it_and_no_more(tmp_path):
    with FileJournal(tmp_path) as journal:
        for id in "abc":
            call(journal, id)
    (path,) = files_of(tmp_path, "0")
    path.write_bytes(path.read_bytes().replace(b'["seal",3,', b'["sael",3,', 1))
    assert [fault.what for fault in verify(path).faults] == ["lines 3 to 8: the seal is wrong"]
    assert verify(path).calls == 1


def test_a_file_that_was_named_before_it_was_finished_is_ignored(tmp_path):
    with FileJournal(tmp_path) as journal:
        journal.open(record("a"))
    (tmp_path / "0.00000002.jsonl").write_bytes(b"")
    (tmp_path / "0.00000002.new").write_bytes(b"half")
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.lost_calls, journal.number) == (1, 1)
    assert not (tmp_path / "0.00000002.new").exists()


def resealed(write: Write, data: bytes) -> bytes:
    """What somebody writes in its place who knows how."""
    return sealed(data, write.sequence, write.previous.encode())[0]


@pytest.fixture
def three_calls(tmp_path):
    """A file of the writes of three calls."""
    with FileJournal(tmp_path) as journal:
        for id in "abc":
            call(journal, id)
    (path,) = files_of(tmp_path, "0")
    return path, [data_of(write) for write in whole(path)]


FOREIGN = b'{"sequence":1,"kind":"begin","record":{"writer":"0"},"checksum":"9a7d6f48"}\n' * 3


def test_files_in_which_nothing_can_be_read_are_named_and_set_aside(tmp_path, caplog):
    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")

    for number in (1, 2):
        (tmp_path / f"0.0000000{number}.jsonl").write_bytes(FOREIGN)
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
    assert names() == ["0.00000001.jsonl", "0.00000001.unreadable", "0.00000002.unreadable"]
    assert (tmp_path / "0.00000001.unreadable").read_bytes() == FOREIGN
    for number in (1, 2):
        assert (
            f"0.0000000{number}.jsonl cannot be read: it was set aside as 0.0000000{number}.unreadable" in caplog.text
        )
    (tmp_path / "0.00000002.jsonl").write_bytes(FOREIGN[:-9])
    with FileJournal(tmp_path) as journal:
        call(journal, "b")
    assert names() == [
        "0.00000001.jsonl",
        "0.00000001.unreadable",
        "0.00000002.unreadable",
        "0.00000002.unreadable.1",
    ]
    assert [one.id for one in ended_calls(tmp_path)] == ["a", "b"]
    assert verify(tmp_path).faults == ()


def test_one_that_is_followed_by_readable_files_is_set_aside_too(tmp_path):
    with FileJournal(tmp_path, rotate_bytes=1) as journal:
        call(journal, "a")
    last = files_of(tmp_path, "0")[-1]
    (tmp_path / "0.00000001.jsonl").write_bytes(FOREIGN)
    with FileJournal(tmp_path) as journal:
        call(journal, "b")
    assert (tmp_path / "0.00000001.unreadable").exists()
    assert files_of(tmp_path, "0") == [last]


def test_an_open_call_whose_record_cannot_be_read_does_not_stop_the_start(tmp_path, caplog):
    journal = FileJournal(tmp_path)
    call(journal, "a")
    journal._queue += (b'["open",', b'["id",1700000000.5,"principal"]', END)
    journal.flush()
    journal.stop()
    with FileJournal(tmp_path) as journal:
        call(journal, "b")
    assert "0.00000001.jsonl, line 6" in caplog.text
    assert [path.name for path in files_of(tmp_path, "0")] == ["0.00000001.jsonl", "0.00000002.jsonl"]


def test_a_write_that_was_rewritten_and_sealed_anew_breaks_the_chain_at_the_next_one(tmp_path, three_calls):
    path, writes = three_calls
    forged = CLOSE + encode_record(record("a", usage=TokenUsage())) + END
    kept = whole(path)[1].lines[0]
    writes[1] = resealed(whole(path)[1], kept + forged)
    path.write_bytes(b"".join(writes))
    (fault,) = verify(tmp_path).faults
    assert fault.line == 6
    assert "the chain is broken" in fault.what


def test_a_removed_write_breaks_the_chain(tmp_path, three_calls):
    path, writes = three_calls
    path.write_bytes(b"".join(writes[:2] + writes[3:]))
    assert [(fault.line, fault.what.split(":")[0]) for fault in verify(tmp_path).faults] == [
        (6, "number 6 follows 3"),
        (6, "the chain is broken"),
    ]


def test_a_removed_line_is_found(tmp_path):
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        call(journal, "b")
    (path,) = files_of(tmp_path, "0")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert [fault.line for fault in verify(tmp_path).faults] == [3]


def test_writes_that_changed_places_are_found(tmp_path):
    with FileJournal(tmp_path) as journal:
        for id in "abcd":
            call(journal, id)
    (path,) = files_of(tmp_path, "0")
    writes = [data_of(write) for write in whole(path)]
    path.write_bytes(b"".join([*writes[:2], writes[3], writes[2], writes[4]]))
    assert {fault.line for fault in verify(tmp_path).faults} == {6, 9, 12}


def test_a_file_without_its_last_writes_breaks_the_chain_at_the_next_file(tmp_path):
    with FileJournal(tmp_path, rotate_bytes=2000) as journal:
        for number in range(8):
            call(journal, str(number))
    first, second, *_ = files_of(tmp_path, "0")
    first.write_bytes(first.read_bytes()[: whole(first)[-2].offset_bytes])
    assert {(fault.path, fault.line) for fault in verify(tmp_path).faults} == {(str(second), 1)}


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


def test_a_write_under_way_is_waited_for(tmp_path: Path) -> None:
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
        call(journal, "b")
    (path,) = files_of(tmp_path, "0")
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) // 4):
        path.write_bytes(whole[:-cut])

        def write_on(rest: bytes = whole[-cut:]) -> None:
            time.sleep(0.02)
            with path.open("ab") as file:
                file.write(rest)

        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(write_on)
            assert [record.id for record in ended_calls(tmp_path)] == ["a", "b"]
            done.result()
        assert not verify(tmp_path).faults


@pytest.mark.parametrize("torn", [b'["open",["0197"]]\n["seal",4,"', b'["open",["0197"]]\n' * 3])
def test_a_torn_end_that_is_mended_meanwhile_damages_nothing_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    with FileJournal(tmp_path) as journal:
        call(journal, "a")
    (path,) = files_of(tmp_path, "0")
    before = path.stat().st_size
    with FileJournal(tmp_path) as journal:
        call(journal, "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:before] + torn)

    def mended(_: float) -> None:
        with path.open("r+b") as writing:
            writing.truncate(before)
            writing.seek(before)
            writing.write(whole[before:])

    monkeypatch.setattr("modelport.stores.journal.writes.time", SimpleNamespace(sleep=mended))
    with path.open("rb") as file:
        assert [type(part) for part in parts(file, before)] == [Write]
