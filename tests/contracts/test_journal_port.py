"""What every journal promises. A new one joins by adding itself to JOURNALS; `ended` reads back what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.core.usage import Ending, TokenUsage, UsageRecord, UsageSource
from modelport.stores.journal.reading import ended_calls
from modelport.stores.journal.writer import FileJournal

JOURNALS: dict[str, tuple[Callable[[Path], FileJournal], Callable[[Path], list[UsageRecord]]]] = {
    "file": (FileJournal, lambda directory: list(ended_calls(directory)))
}


@pytest.fixture(params=sorted(JOURNALS))
def kept(request, tmp_path):
    make, ended = JOURNALS[request.param]
    return lambda: make(tmp_path), lambda: ended(tmp_path)


def record(id: str, *, reserved: int = 30, ending: str = Ending.COMPLETED, usage: TokenUsage | None = None):
    return UsageRecord(
        id=id,
        started_at=1700000000.5,
        principal="alice",
        key_id="k1",
        surface="azure_inference",
        operation="chat_completions",
        streamed=True,
        requested_model="Gpt",
        deployment="gpt",
        ending=ending,
        status=200,
        usage=usage if usage is not None else TokenUsage(input=7, output=3),
        usage_source=UsageSource.REPORTED,
        reserved_tokens=reserved,
    )


def test_a_closed_call_is_kept_as_it_was_given(kept):
    make, ended = kept
    with make() as journal:
        journal.open(record("a"))
        journal.close(record("a"))
    assert ended() == [record("a")]


def test_nothing_is_kept_before_flush_and_all_of_it_after(kept):
    make, ended = kept
    with make() as journal:
        journal.open(record("a"))
        journal.close(record("a"))
        assert ended() == []
        journal.flush()
        assert ended() == [record("a")]


def test_a_call_that_was_refused_before_it_opened_has_its_record(kept):
    make, ended = kept
    with make() as journal:
        journal.close(record("a", ending=Ending.REFUSED, reserved=0, usage=TokenUsage()))
    assert [call.ending for call in ended()] == [Ending.REFUSED]


def test_a_call_that_is_open_at_the_end_is_lost_and_charged_with_its_reservation(kept):
    make, ended = kept
    with make() as journal:
        journal.open(record("a", usage=TokenUsage(input=10, output=20)))
    with make():
        pass
    (lost,) = ended()
    assert (lost.id, lost.ending, lost.status) == ("a", Ending.LOST, 0)
    assert lost.usage == TokenUsage(input=10, output=20)
    assert lost.usage_source == UsageSource.ESTIMATED


def test_a_lost_call_is_charged_with_its_last_reservation(kept):
    make, ended = kept
    with make() as journal:
        journal.open(record("a", reserved=30))
        journal.flush()
        journal.open(record("a", reserved=1054))
        journal.flush()
    with make():
        pass
    assert [call.usage.total for call in ended()] == [1054]


def test_recovering_twice_finds_nothing_more(kept):
    make, ended = kept
    with make() as journal:
        journal.open(record("a"))
    for _ in range(3):
        with make():
            pass
    assert len(ended()) == 1
