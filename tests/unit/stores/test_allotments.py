"""The bank's arithmetic, and that Redis's script is the same."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelport.stores.allotments import Amount, Ask, Bank, MemoryBank, StoreGone
from modelport.stores.allotments.bank import RECOVERY_MS, UNLIMITED
from modelport.stores.redis.quota import RedisBank
from modelport.stores.sqlite_quota import SqliteBank
from redis_server import RedisServer, named_url


class SettableClock:
    def __init__(self) -> None:
        self.time = 5000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def milliseconds(self) -> int:
        return int(self.time * 1000)


def message(number: int = 1, **fields: Any) -> Ask:
    given: dict[str, Any] = {
        "subject": "a",
        "holder": "h1",
        "number": number,
        "epoch": "",
        "fresh_epoch": "e1",
        "keep": Amount(),
        "batch": 0,
        "spent": (),
        "need": Amount(),
        "want": Amount(),
        "limits": Amount(1000, 10, 5),
        "lifetime_ms": 10_000,
    }
    return Ask(**{**given, **fields})


def bank_of_memory() -> tuple[SettableClock, MemoryBank]:
    clock = SettableClock()
    return clock, MemoryBank(clock)


def test_a_message_that_comes_twice_is_booked_once():
    _, bank = bank_of_memory()
    spent = ((0, 100, 1),)
    bank.exchanged(message(1, batch=1, spent=spent))
    assert bank.exchanged(message(2, batch=1, spent=spent)).free == Amount(900, 9, 5)


def test_a_message_that_was_overtaken_changes_nothing():
    _, bank = bank_of_memory()
    bank.exchanged(message(2, keep=Amount(100)))
    assert bank.exchanged(message(1, keep=Amount(900))).status == "stale"
    assert bank.exchanged(message(3)).free == Amount(1000, 10, 5)


def test_a_grant_whose_answer_was_lost_is_undone_by_the_next_message():
    _, bank = bank_of_memory()
    assert bank.exchanged(message(1, need=Amount(400), want=Amount(400))).granted.tokens == 400
    assert bank.exchanged(message(2, keep=Amount())).free.tokens == 1000


def test_grants_beyond_the_need_leave_enough_for_others_and_end_at_the_limit():
    _, bank = bank_of_memory()
    bank.exchanged(message(1, holder="h2"))
    assert bank.exchanged(message(1, want=Amount(9999))).granted.tokens == 250
    exact = bank.exchanged(message(2, keep=Amount(250), need=Amount(750), want=Amount(9999)))
    assert (exact.granted.tokens, exact.free.tokens) == (750, 0)


def test_after_a_loss_of_data_nothing_is_granted_until_all_have_told_what_they_used():
    clock, bank = bank_of_memory()
    lost = bank.exchanged(message(1, epoch="before", need=Amount(1), want=Amount(1)))
    assert (lost.status, lost.epoch) == ("lost", "e1")
    told = message(2, epoch="e1", batch=1, spent=((5000, 600, 2),), need=Amount(1), want=Amount(1))
    assert bank.exchanged(told).status == "recovering"
    assert bank.exchanged(message(1, holder="h2", need=Amount(1), want=Amount(1))).status == "recovering"
    clock.time += RECOVERY_MS / 1000
    assert bank.exchanged(message(2, holder="h2")).free.tokens == 400


def test_a_clock_that_goes_back_stands_still():
    clock, bank = bank_of_memory()
    bank.exchanged(message(1, batch=1, spent=((0, 1000, 0),)))
    clock.time -= 3600
    assert bank.exchanged(message(2, need=Amount(1), want=Amount(1), batch=1)).status == "refused"


SPENT = st.tuples(st.integers(0, 70_000), st.integers(0, 500), st.integers(0, 3))
AMOUNTS = st.builds(Amount, st.integers(0, 700), st.integers(0, 6), st.integers(0, 4))
LIMITS = st.builds(
    Amount, st.sampled_from([UNLIMITED, 1000]), st.sampled_from([UNLIMITED, 10]), st.sampled_from([UNLIMITED, 5])
)


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[int, Ask]]:
    """(milliseconds passed, message): of three holders, with messages lost, doubled, late and of other epochs."""
    spoken = []
    for _ in range(draw(st.integers(1, 25))):
        need = draw(AMOUNTS)
        more = draw(AMOUNTS)
        ask = message(
            draw(st.integers(0, 30)),
            holder=draw(st.sampled_from(["h1", "h2", "h3"])),
            epoch=draw(st.sampled_from(["", "e1", "other"])),
            keep=draw(AMOUNTS),
            batch=draw(st.integers(0, 8)),
            spent=tuple(draw(st.lists(SPENT, max_size=3))),
            need=need,
            want=Amount(need.tokens + more.tokens, need.requests + more.requests, need.places + more.places),
            limits=draw(LIMITS),
        )
        spoken.append((draw(st.integers(0, 15_000)), ask))
    return spoken


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if (named := named_url()) is not None:
        yield named
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


@contextmanager
def closing(bank: Bank, runner: asyncio.Runner) -> Iterator[Bank]:
    try:
        yield bank
    finally:
        runner.run(bank.close())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations())
def test_the_script_says_what_the_arithmetic_says(redis_url, conversation):
    clock, memory = bank_of_memory()
    with asyncio.Runner() as runner:
        there = RedisBank(redis_url, prefix=f"modelport:test:{secrets.token_hex(8)}:", now_ms=clock.milliseconds)
        with closing(there, runner) as redis:
            for passed, ask in conversation:
                clock.time += passed / 1000
                assert runner.run(redis.exchange(ask)) == memory.exchanged(ask)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations())
def test_a_file_says_what_the_arithmetic_says(tmp_path, conversation):
    clock, memory = bank_of_memory()
    path = tmp_path / f"{secrets.token_hex(8)}.sqlite"
    with asyncio.Runner() as runner, closing(SqliteBank(path, now_ms=clock.milliseconds), runner) as file:
        for passed, ask in conversation:
            clock.time += passed / 1000
            assert runner.run(file.exchange(ask)) == memory.exchanged(ask)


def test_a_redis_of_nobody_is_gone(free_port):
    url = f"redis://127.0.0.1:{free_port}/0"
    with asyncio.Runner() as runner, closing(RedisBank(url), runner) as bank, pytest.raises(StoreGone):
        runner.run(bank.exchange(message()))


def test_a_file_that_is_no_database_is_gone_and_told_of_without_its_content(tmp_path):
    path = tmp_path / "quota.sqlite"
    path.write_bytes(b"this is no database at all, and far longer than a header" * 100)
    with asyncio.Runner() as runner, closing(SqliteBank(path), runner) as bank, pytest.raises(StoreGone) as gone:
        runner.run(bank.exchange(message()))
    assert "this is no" not in str(gone.value)
