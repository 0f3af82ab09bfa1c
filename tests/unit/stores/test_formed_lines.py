"""Lines of a journal that name a form: read as whole records, wherever one begins to read, whatever becomes of the
form's own line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.usage_records import formed, read_lines, record

from modelport.core.usage import Ending, TokenUsage, UsageRecord
from modelport.gateway.forms import encoded, form
from modelport.stores.journal.files import files_of
from modelport.stores.journal.formed import FORM_BYTES
from modelport.stores.journal.lines import encode_form
from modelport.stores.journal.reading import ended_calls, parts, parts_of, verify
from modelport.stores.journal.writer import FileJournal
from modelport.stores.journal.writes import Damage, Write, sealed
from modelport.stores.shipping.tail import read_batch


def opened(journal: FileJournal, told: UsageRecord, by_form: bool = True) -> None:
    if by_form:
        journal.open_formed(told.id, *formed(told))
    else:
        journal.open(told)


def closed(journal: FileJournal, told: UsageRecord, by_form: bool = True) -> None:
    if by_form:
        journal.close_formed(told.id, *formed(told))
    else:
        journal.close(told)


def call(journal: FileJournal, told: UsageRecord) -> None:
    opened(journal, told)
    closed(journal, told)
    journal.flush()


def the_file(directory: Path) -> Path:
    (path,) = files_of(directory, "0")
    return path


def kinds(path: Path) -> list[str]:
    return [line.kind for line in read_lines(path)]


calls = st.lists(
    st.tuples(
        st.builds(
            record,
            principal=st.sampled_from(["alice", "bob", "%b", 'c"]\n']),
            deployment=st.sampled_from(["gpt", "模型", None]),
            usage=st.builds(TokenUsage, input=st.integers(0, 9), cached_input=st.integers(0, 2)),
            cost=st.none() | st.just("0.5"),
        ),
        st.booleans(),
        st.sampled_from(["stays open", "by form", "whole"]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(told_of=calls, rotate_bytes=st.sampled_from([3000, 10**9]))
def test_they_say_what_whole_ones_say(
    told_of: list[tuple[UsageRecord, bool, str, bool]], rotate_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    with FileJournal(directory, rotate_bytes=rotate_bytes) as journal:
        for told, opens_by_form, end, is_flushed in told_of:
            opened(journal, told, opens_by_form)
            if end != "stays open":
                closed(journal, told, end == "by form" and opens_by_form)
            if is_flushed:
                journal.flush()
    closings = [told for told, _, end, _ in told_of if end != "stays open"]
    lost = [told for told, _, end, _ in told_of if end == "stays open"]
    assert list(ended_calls(directory)) == closings
    lines = [line for path in files_of(directory, "0") for line in read_lines(path)]
    assert [line.usage() for line in lines if line.kind == "open"] == [told for told, *_ in told_of]
    found = verify(directory)
    assert (found.faults, found.open_calls, found.lines) == ((), len(lost), journal.sequence)
    with FileJournal(directory) as journal:
        assert journal.recovered.lost_calls == len(lost)
    assert [told.id for told in ended_calls(directory) if told.ending == Ending.LOST] == [told.id for told in lost]
    assert verify(directory).faults == ()


def test_a_form_is_told_once_in_each_file(tmp_path: Path) -> None:
    with FileJournal(tmp_path, rotate_bytes=4000) as journal:
        for number in range(40):
            call(journal, record(principal="ab"[number % 2]))
    files = files_of(tmp_path, "0")
    assert len(files) > 2
    for path in files[:-1]:
        assert kinds(path).count("form") == 2
    assert verify(tmp_path).faults == ()


def test_one_form_for_both_lines_of_a_call_is_told_once(tmp_path: Path) -> None:
    with FileJournal(tmp_path) as journal:
        call(journal, record())
        call(journal, record())
    assert kinds(the_file(tmp_path)) == ["begin", "form", "open", "close", "open", "close"]


def test_forms_that_differ_in_their_places_alone_are_two(tmp_path: Path) -> None:
    one, other = record(cost=None, client_request_id=None), record(cost=None, client_request_id="c")
    with FileJournal(tmp_path) as journal:
        call(journal, one)
        journal.open(other)
        names = ("id", "started_at", "usage", "client_request_id")
        journal.close_formed(other.id, form(other, names), encoded([getattr(other, name) for name in names]))
    assert kinds(the_file(tmp_path)).count("form") == 2
    assert list(ended_calls(tmp_path)) == [one, other]


def test_a_call_that_is_carried_over_is_told_as_a_whole(tmp_path: Path) -> None:
    long = record(principal="carol")
    with FileJournal(tmp_path, rotate_bytes=2000) as journal:
        opened(journal, long)
        for _ in range(30):
            call(journal, record())
    *older, last = files_of(tmp_path, "0")
    assert older
    for path in older:
        path.unlink()
    assert [line.usage() for line in read_lines(last) if line.kind == "carried"] == [long]


def test_a_new_process_tells_its_forms_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with FileJournal(tmp_path) as journal:
            call(journal, record())
    assert kinds(the_file(tmp_path)) == ["begin", "form", "open", "close", "form", "open", "close"]
    assert verify(tmp_path).faults == ()


def test_one_can_begin_to_read_behind_the_form(tmp_path: Path) -> None:
    given = [record() for _ in range(5)]
    with FileJournal(tmp_path) as journal:
        for told in given:
            call(journal, told)
    path, position, found = the_file(tmp_path), None, []
    for _ in range(7):
        batch = read_batch(tmp_path, "0", position, 1)
        position = batch.position
        found += batch.records
    assert found == given
    ends = [part.offset_bytes for part in parts_of(path)]
    with path.open("rb") as file:
        assert [len(part.closings()) for part in parts(file, ends[2]) if isinstance(part, Write)] == [1] * 3


def test_more_forms_than_are_remembered_are_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.stores.journal.formed.FORMS", 3)
    given = [record(principal=str(number % 5)) for number in range(20)]
    with FileJournal(tmp_path) as journal:
        for told in given:
            call(journal, told)
    assert kinds(the_file(tmp_path)).count("form") == 3
    assert list(ended_calls(tmp_path)) == given
    assert verify(tmp_path).faults == ()


def test_a_form_that_is_too_long_to_be_found_is_not_named(tmp_path: Path) -> None:
    given = [record(requested_model="m" * FORM_BYTES) for _ in range(2)]
    with FileJournal(tmp_path) as journal:
        for told in given:
            call(journal, told)
    assert "form" not in kinds(the_file(tmp_path))
    assert list(ended_calls(tmp_path)) == given


def test_a_form_whose_write_failed_stands_where_its_lines_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [record(), record(principal="bob")]
    with FileJournal(tmp_path) as journal:
        call(journal, record(principal="zoe"))
        write = os.write

        def half(descriptor: int, data: bytes) -> int:
            write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        opened(journal, given[0])
        monkeypatch.setattr(os, "write", half)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                journal.flush()
        opened(journal, given[1])
        monkeypatch.undo()
        for told in given:
            closed(journal, told)
        journal.flush()
    assert list(ended_calls(tmp_path))[1:] == given
    assert verify(tmp_path).faults == ()


@pytest.fixture
def two_calls(tmp_path: Path) -> tuple[Path, list[Write], list[UsageRecord]]:
    """A file of the form's write with its first call, and a second call's."""
    given = [record(), record()]
    with FileJournal(tmp_path) as journal:
        for told in given:
            call(journal, told)
    path = the_file(tmp_path)
    writes = [part for part in parts_of(path) if isinstance(part, Write)]
    return path, writes, given


def test_nothing_is_believed_that_names_a_damaged_form(two_calls: tuple[Path, list[Write], list[UsageRecord]]) -> None:
    path, *_ = two_calls
    damaged = path.read_bytes().replace(b'"alice"', b'"mallo"')
    path.write_bytes(damaged)
    assert [type(part) for part in parts_of(path)] == [Write, Damage, Write]
    assert [fault.what for fault in verify(path).faults] == [
        "lines 3 to 6: the seal is wrong",
        "the form is not what was written",
        "the form is not what was written",
    ]
    batch = read_batch(path.parent, "0", None, 100)
    assert (list(batch.records), batch.damaged_lines) == ([], 4)
    with FileJournal(path.parent) as journal:
        assert journal.recovered.damaged == "0.00000001.jsonl, line 3"
        assert journal.number == 2
    assert path.read_bytes() == damaged


def test_a_form_that_was_rewritten_and_sealed_anew_breaks_the_chain(
    two_calls: tuple[Path, list[Write], list[UsageRecord]],
) -> None:
    path, writes, _ = two_calls
    told = formed(record(principal="mallo"))[0]
    at = path.read_bytes().index(b'["form",')
    line = b'["form",%b]\n' % encode_form(told)
    assert len(line) == len(writes[1].lines[0])
    forged, _ = sealed(line + b"".join(writes[1].lines[1:]), writes[1].sequence, writes[1].previous.encode())
    data = path.read_bytes()
    path.write_bytes(data[:at] + forged + data[writes[1].offset_bytes :])
    (fault,) = verify(path).faults
    assert "the chain is broken" in fault.what


@pytest.mark.parametrize("offset", ["0", "1", "999999", "99999999999999999", "9" * 30, "-5", "7x", ""])
def test_a_place_where_no_form_stands_is_damage(
    offset: str, two_calls: tuple[Path, list[Write], list[UsageRecord]]
) -> None:
    path, writes, given = two_calls
    *_, values = writes[2].lines[1].split(b",", 2)
    line = b'["close",%b,%b' % (offset.encode(), values)
    forged, _ = sealed(writes[2].lines[0] + line, writes[2].sequence, writes[2].previous.encode())
    path.write_bytes(path.read_bytes()[: writes[1].offset_bytes] + forged)
    (fault,) = verify(path).faults
    assert fault.line == 8
    batch = read_batch(path.parent, "0", None, 100)
    assert (list(batch.records), batch.damaged_lines) == (given[:1], 1)


def test_other_than_as_many_values_as_places_is_damage(
    two_calls: tuple[Path, list[Write], list[UsageRecord]],
) -> None:
    path, writes, given = two_calls
    for changed in (b'"x",', b"5,6,7,", b"]["):
        line = writes[2].lines[1].replace(b",[", b",[" + changed)
        forged, _ = sealed(writes[2].lines[0] + line, writes[2].sequence, writes[2].previous.encode())
        path.write_bytes(path.read_bytes()[: writes[1].offset_bytes] + forged)
        assert [(fault.line, fault.what) for fault in verify(path).faults] == [(8, "this is no line of a journal")]
        assert list(read_batch(path.parent, "0", None, 100).records) == given[:1]
