"""Files of before there were seals: each line has a checksum of its own and names the line before it."""

from __future__ import annotations

import os
import time
from binascii import crc32
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.core.usage import Ending, UsageRecord
from modelport.stores.journal import FileJournal, ended_calls, verify
from modelport.stores.journal.files import files_of
from modelport.stores.journal.lines import encode_record
from modelport.stores.journal.old_lines import is_old
from modelport.stores.journal.recovery import look
from modelport.stores.shipping.retention import is_kept
from modelport.stores.shipping.tail import Counter, Position, read_batch, stands
from usage_records import record

# A file that an earlier version has made: one call, of which both lines have the same record.
AS_WRITTEN = (
    b'{"sequence":1,"kind":"begin","previous":"00000000000000000000000000000000","record":{"writer":"0","numbe'
    b'r":1,"carried":0,"begun_at":1795262400.0},"checksum":"9a7d6f48"}\n'
    b'{"sequence":2,"kind":"open","previous":"4729960488f702292349f932c8396ffd","record":["0c5ff0de-0000-4000-'
    b'8000-000000000001",1795262400.0,"alice","alice/key1","openai_v1","chat_completions",true,"gpt","gpt","gp'
    b't-large","house/gpt-large-1",200,"completed",null,{"input":7,"cached_input":5,"output":3,"reasoning":2},'
    b'"reported",30,0.25,1.5,null,null,null,"0.00125","USD","2026-11","priced",null,"house",null],"checksum":"'
    b'447effbf"}\n'
    b'{"sequence":3,"kind":"close","previous":"b94a5b63953ca12a47b66f994a74f53f","record":["0c5ff0de-0000-4000'
    b'-8000-000000000001",1795262400.0,"alice","alice/key1","openai_v1","chat_completions",true,"gpt","gpt","g'
    b'pt-large","house/gpt-large-1",200,"completed",null,{"input":7,"cached_input":5,"output":3,"reasoning":2}'
    b',"reported",30,0.25,1.5,null,null,null,"0.00125","USD","2026-11","priced",null,"house",null],"checksum":'
    b'"a1f2fb1e"}\n'
)
CALL = record(id="0c5ff0de-0000-4000-8000-000000000001")


def old_lines(entries: list[tuple[str, bytes]], sequence: int = 0, previous: str = "0" * 32) -> list[bytes]:
    """As earlier versions wrote them."""
    lines = []
    for kind, content in entries:
        sequence += 1
        head = b'{"sequence":%d,"kind":"%b","previous":"%b","record":%b' % (
            sequence,
            kind.encode(),
            previous.encode(),
            content,
        )
        lines.append(head + b',"checksum":"%08x"}\n' % crc32(head))
        previous = blake2b(lines[-1], digest_size=16).hexdigest()
    return lines


def begin(number: int = 1, carried: int = 0) -> tuple[str, bytes]:
    return "begin", b'{"writer":"0","number":%d,"carried":%d,"begun_at":1795262400.0}' % (number, carried)


def as_object(one: UsageRecord) -> bytes:
    return msgspec.json.encode(one)


def calls(records: list[UsageRecord], encode: Any = encode_record) -> list[tuple[str, bytes]]:
    return [(kind, encode(one)) for one in records for kind in ("open", "close")]


def file_of(directory: Path, lines: list[bytes], number: int = 1) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"0.{number:08d}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


@pytest.fixture(params=[encode_record, as_object], ids=["lists", "objects"])
def encode(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    assert b"".join(old_lines([begin(), *calls([CALL])])) == AS_WRITTEN
    file_of(tmp_path, [AS_WRITTEN])
    assert list(ended_calls(tmp_path)) == list(read_batch(tmp_path, "0", None, 9).records) == [CALL]
    assert verify(tmp_path).faults == ()


def test_they_are_read_and_verified(tmp_path: Path, encode: Any) -> None:
    one, running = [record() for _ in range(5)], record()
    file_of(tmp_path, old_lines([begin(), ("open", encode(running)), *calls(one, encode)]))
    assert list(ended_calls(tmp_path)) == one
    found = verify(tmp_path)
    assert (found.lines, found.calls, found.open_calls, found.faults) == (12, 5, 1, ())
    assert found.tokens == sum(kept.usage.total for kept in one)


def test_a_chain_of_old_files_is_verified(tmp_path: Path) -> None:
    one, other = [record() for _ in range(3)], [record() for _ in range(3)]
    lines = old_lines([begin(), *calls(one), begin(2), *calls(other)])
    file_of(tmp_path, lines[:7])
    second = file_of(tmp_path, lines[7:], 2)
    assert verify(tmp_path).faults == ()
    second.write_bytes(b"".join([lines[7], *lines[9:]]))
    assert {fault.line for fault in verify(tmp_path).faults} == {2}


def test_a_line_that_was_rewritten_breaks_the_chain(tmp_path: Path) -> None:
    lines = old_lines([begin(), *calls([record() for _ in range(3)])])
    (forged,) = old_lines([("close", encode_record(record()))], 2, blake2b(lines[1], digest_size=16).hexdigest())
    file_of(tmp_path, [*lines[:2], forged, *lines[3:]])
    assert [fault.line for fault in verify(tmp_path).faults] == [4]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(data: st.DataObject, tmp_path_factory: Any) -> None:
    lines = old_lines([begin(), *calls([record() for _ in range(3)])])
    changed = bytearray(b"".join(lines))
    position = data.draw(st.integers(min_value=0, max_value=len(changed) - 1))
    changed[position] ^= data.draw(st.integers(min_value=1, max_value=255))
    path = file_of(tmp_path_factory.mktemp("journal"), [bytes(changed)])
    assert verify(path).faults
    assert look(path).is_old


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_they_are_shipped_from_where_an_earlier_version_has_left_them(tmp_path: Path, encode: Any, limit: int) -> None:
    given_records = [record() for _ in range(8)]
    lines = old_lines([begin(), *calls(given_records, encode)])
    file_of(tmp_path, lines)
    shipped = sum(map(len, lines[:7]))
    digest = blake2b(lines[6], digest_size=16).hexdigest()
    position: Position | None = Position(1, shipped, len(lines[6]), digest, 7)
    found: list[UsageRecord] = []
    while not (batch := read_batch(tmp_path, "0", position, limit)).is_last or batch.records:
        assert len(batch.records) <= limit
        found += batch.records
        position = batch.position
        assert position is not None
        assert stands(tmp_path, "0", position)
        if batch.is_last:
            break
    assert found == given_records[3:]
    assert position is not None
    assert position.sequence == 17
    counter = Counter()
    counter.count(tmp_path, "0")
    assert counter.closed == 8


def test_a_damaged_line_is_passed_over_and_costs_no_other(tmp_path: Path) -> None:
    one = [record() for _ in range(4)]
    lines = old_lines([begin(), *calls(one)])
    lines[4] = lines[4].replace(b'"close"', b'"clone"')
    file_of(tmp_path, [*lines, b'{"sequence":10,"kind":"op'])
    batch = read_batch(tmp_path, "0", None, 100)
    assert list(batch.records) == [one[0], *one[2:]]
    assert batch.damaged_lines == 1


def test_a_start_goes_on_in_a_file_with_seals_and_loses_no_call(tmp_path: Path, encode: Any) -> None:
    ended, running = [record() for _ in range(3)], [record() for _ in range(2)]
    lines = old_lines([begin(), *(("open", encode(one)) for one in running), *calls(ended, encode)])
    first = file_of(tmp_path, [*lines, b'{"sequence":10,"kind":"op'])
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.lost_calls, journal.recovered.cut_bytes, journal.recovered.damaged) == (2, 25, None)
        assert journal.number == 2
        new = record()
        journal.open(new)
        journal.close(new)
    assert first.read_bytes() == b"".join(lines)
    first, second = files_of(tmp_path, "0")
    kinds = [line.split(b",")[0] for line in second.read_bytes().splitlines()]
    assert kinds[:4] == [b'["begin"', b'["carried"', b'["carried"', b'["seal"']
    seal = second.read_bytes().splitlines()[3]
    assert seal.startswith(b'["seal",%d,"%b",' % (12, blake2b(lines[-1], digest_size=16).hexdigest().encode()))
    checked = verify(tmp_path)
    assert (checked.faults, checked.calls, checked.open_calls) == ((), 6, 0)
    assert {one.id for one in ended_calls(tmp_path) if one.ending == Ending.LOST} == {one.id for one in running}
    batch = read_batch(tmp_path, "0", None, 100)
    assert (len(batch.records), batch.damaged_lines) == (6, 0)
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.lost_calls, journal.number) == (0, 2)


def test_an_old_file_that_was_changed_after_it_was_left_breaks_the_chain(tmp_path: Path) -> None:
    lines = old_lines([begin(), *calls([record() for _ in range(3)])])
    first = file_of(tmp_path, lines)
    with FileJournal(tmp_path):
        pass
    first.write_bytes(b"".join(lines[:-1]))
    assert {Path(fault.path).name for fault in verify(tmp_path).faults} == {"0.00000002.jsonl"}


def test_a_damaged_old_file_is_left_as_it_is(tmp_path: Path) -> None:
    lines = old_lines([begin(), ("open", encode_record(record())), *calls([record()])])
    lines[2] = lines[2].replace(b'"alice"', b'"malice"')
    first = file_of(tmp_path, [*lines, b"torn"])
    before = first.read_bytes()
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.damaged, journal.number) == ("0.00000001.jsonl, line 3", 2)
    assert first.read_bytes() == before


@settings(max_examples=60, deadline=None)
@given(share=st.floats(min_value=0, max_value=1))
def test_a_file_cut_anywhere_recovers_to_one_record_a_call(share: float, tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("journal")
    one = [record() for _ in range(4)]
    lines = old_lines([begin(), *(("open", encode_record(each)) for each in one), ("close", encode_record(one[1]))])
    whole = b"".join(lines)
    cut = len(lines[0]) + round(share * (len(whole) - len(lines[0])))
    opened = whole[:cut].count(b"\n") - 1 - (cut == len(whole))
    file_of(directory, [whole[:cut]])
    with FileJournal(directory) as journal:
        assert journal.recovered.damaged is None
    ended = [call.id for call in ended_calls(directory)]
    assert len(ended) == len(set(ended)) == opened
    assert verify(directory).faults == ()


def test_an_old_file_whose_beginning_was_not_finished_is_no_last_file(tmp_path: Path) -> None:
    running = record()
    file_of(tmp_path, old_lines([begin(), ("open", encode_record(running))]))
    lines = old_lines([begin(2, carried=2), ("carried", encode_record(running))], 2)
    file_of(tmp_path, lines, 2)
    with FileJournal(tmp_path) as journal:
        assert (journal.recovered.lost_calls, journal.number) == (1, 2)
    with files_of(tmp_path, "0")[1].open("rb") as file:
        assert not is_old(file)
    assert verify(tmp_path).faults == ()


def test_one_that_is_in_the_ledger_may_go(tmp_path: Path) -> None:
    one = [record() for _ in range(3)]
    path = file_of(tmp_path, old_lines([begin(), *calls(one)]))
    os.utime(path, (time.time() - 90_000,) * 2)
    asked: list[UsageRecord] = []
    assert is_kept(path, lambda records: asked.extend(records) or [])
    assert asked == one
    assert not is_kept(path, lambda records: records[:1])
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_kept(path, lambda records: [])
