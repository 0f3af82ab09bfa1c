"""A Redis that is slow to connect to and quick to answer: the 50 ms of an answer are not those of connecting."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from redis.asyncio import Redis

from budget_keepers import Books
from modelport.core.budgets import Budget
from modelport.core.catalog import RateLimits
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.stores.allotments import SharedQuota, StoreGone
from modelport.stores.budgets import SharedBudgets
from modelport.stores.redis.budgets import RedisBudgetBank
from modelport.stores.redis.link import RedisLink
from modelport.stores.redis.quota import RedisBank
from redis_server import RedisServer
from slow_to_connect import SlowToConnect, slow_to_connect

CONNECT_SECONDS = 0.9
ANSWER_SECONDS = 0.45
"""Fifty milliseconds and the hundred and twenty of connecting, in longer: the machine that tests run on may be slow."""
LIMITS = RateLimits(tokens_per_minute=100_000, requests_per_minute=1000)
ECHO = "return ARGV[1]"


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def distant(redis: RedisServer) -> Iterator[SlowToConnect]:
    with slow_to_connect(redis.port, CONNECT_SECONDS) as proxy:
        yield proxy


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def quota_at(port: int) -> SharedQuota:
    bank = RedisBank(url(port), prefix=f"modelport:test:{secrets.token_hex(8)}:")
    return SharedQuota(bank, SystemClock(), on_outage="refuse", budget_seconds=ANSWER_SECONDS)


async def taken(quota: SharedQuota, subject: str = "a") -> object:
    outcome = quota.reserve(subject, LIMITS, 10, time.monotonic())
    return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome


async def until_taken(quota: SharedQuota, subject: str = "a") -> None:
    async with asyncio.timeout(60):
        while isinstance(await taken(quota, subject), Refusal):
            await asyncio.sleep(0.05)


async def test_who_has_started_is_connected_before_the_first_call(distant):
    quota = quota_at(distant.port)
    try:
        quota.start()
        await quota.opened()
        assert not quota.is_degraded
        assert not isinstance(await taken(quota), Refusal)
        assert quota.failures == 0
    finally:
        await quota.close()


async def test_calls_for_many_limits_at_once_share_the_one_connection(distant):
    quota = quota_at(distant.port)
    try:
        quota.start()
        await quota.opened()
        outcomes = await asyncio.gather(*(taken(quota, f"subject {number}") for number in range(50)))
        assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
        assert distant.connections == 1
    finally:
        await quota.close()


async def test_connecting_goes_on_when_the_call_that_began_it_is_refused(distant):
    quota = quota_at(distant.port)
    try:
        assert isinstance(await taken(quota), Refusal)
        assert quota.is_silent
        quota.start()
        await until_taken(quota)
        assert distant.connections == 1
    finally:
        await quota.close()


async def test_a_lost_connection_is_made_again_beside_the_calls(distant):
    quota = quota_at(distant.port)
    try:
        quota.start()
        await quota.opened()
        await taken(quota)
        distant.break_all()
        assert isinstance(await taken(quota, "another"), Refusal)
        await until_taken(quota, "another")
        assert distant.connections == 2
    finally:
        await quota.close()


async def test_a_store_that_is_not_there_yet_is_found_without_a_call(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    server.kill()
    quota = quota_at(server.port)
    try:
        quota.start()
        await quota.opened()
        assert quota.is_degraded
        assert isinstance(await taken(quota), Refusal)
        server.start()
        await until_taken(quota)
        assert not quota.is_silent
    finally:
        await quota.close()
        server.kill()


async def test_a_store_that_comes_before_the_first_call_refuses_none(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    server.kill()
    quota = quota_at(server.port)
    try:
        quota.start()
        await quota.opened()
        server.start()
        async with asyncio.timeout(60):
            while quota.is_degraded:
                await asyncio.sleep(0.05)
        assert not isinstance(await taken(quota), Refusal)
    finally:
        await quota.close()
        server.kill()


async def test_budgets_are_connected_before_the_first_call_and_again_after_a_loss(distant):
    bank = RedisBudgetBank(url(distant.port), prefix=f"modelport:test:{secrets.token_hex(8)}:")
    budgets = SharedBudgets(bank, Books(), SystemClock(), answer_seconds=ANSWER_SECONDS)
    some = tuple(Budget(f"key:{number}", amount=Decimal(100)) for number in range(20))

    async def reserved(budget: Budget, amount: int) -> object:
        outcome = budgets.reserve((budget,), Decimal(amount), 0, time.time())
        return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome

    try:
        await budgets.start(some)
        assert not budgets.is_degraded
        outcomes = await asyncio.gather(*(reserved(budget, 1) for budget in some))
        assert not any(isinstance(outcome, Refusal) for outcome in outcomes)
        assert distant.connections == 1
        distant.break_all()
        assert isinstance(await reserved(some[0], 50), Refusal)
        async with asyncio.timeout(60):
            while isinstance(await reserved(some[0], 50), Refusal):
                await asyncio.sleep(0.05)
        assert distant.connections == 2
    finally:
        await budgets.close()


async def test_an_answer_that_nobody_waits_for_costs_no_connection(redis, distant):
    link = RedisLink(url(distant.port), ECHO)
    try:
        await link.open()
        redis.stop()
        late = asyncio.ensure_future(link.run("key", "late"))
        await asyncio.sleep(0.1)
        late.cancel()
        redis.go_on()
        assert await link.run("key", "in time") == b"in time"
        assert distant.connections == 1
    finally:
        redis.go_on()
        await link.close()


async def test_a_redis_that_has_forgotten_its_scripts_is_told_again(redis):
    link, other = RedisLink(url(redis.port), ECHO), Redis.from_url(url(redis.port))
    try:
        await link.open()
        await other.script_flush()
        assert await asyncio.gather(*(link.run("key", str(n)) for n in range(5))) == [b"%d" % n for n in range(5)]
    finally:
        await link.close()
        await other.aclose()


async def test_a_script_that_fails_fails_for_who_asked(redis):
    link = RedisLink(url(redis.port), "return redis.call('INCRBY', KEYS[1], ARGV[1])")
    try:
        failed, found = await asyncio.gather(
            link.run("number", "nonsense"), link.run("number", "7"), return_exceptions=True
        )
        assert isinstance(failed, StoreGone)
        assert found == 7
    finally:
        await link.close()


async def test_nobody_there_is_said_at_once_to_all_who_ask():
    link = RedisLink("redis://127.0.0.1:1/0", ECHO)
    try:
        outcomes = await asyncio.gather(link.open(), link.run("key", "a"), return_exceptions=True)
        assert all(isinstance(outcome, StoreGone) for outcome in outcomes)
    finally:
        await link.close()
