"""Calls whose quota is granted by a store that others share: taken from what is here, and nothing stays held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelport.stores.allotments.account import LocalAccount

from .harness import whole
from .oddities import ODDITIES
from .shared import Client, Scenario, Shared, answered, at_rest, chat, player, shared

CONFIG = """
quota: {{store: sqlite}}
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments:
  chat:
    model: {{format: Custom, name: served}}
    provider: up
    default: true
    limits: {{tokens_per_minute: 1000000, requests_per_minute: 1000}}
  tight:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: 1000000, requests_per_minute: 3}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("shared-quota"), CONFIG) as found:
        yield found


@pytest.fixture(scope="module")
def direct(server: Shared) -> list[bool]:
    """One for each call: whether what it needs was taken without asking the quota."""
    admissions: Any = server.gateway.application.gateway.pipeline.quota
    found, take = list[bool](), admissions.direct

    def noted(*given: Any, **how: Any) -> Any:
        accounts = take(*given, **how)
        found.append(accounts is not None)
        return accounts

    admissions.direct = noted
    return found


@pytest.fixture
def play(server: Shared, direct: list[bool]) -> Callable[[Scenario], None]:
    """Runs a scenario once this process holds a grant."""

    async def granted(server: Shared, client: Client) -> None:
        direct.clear()
        while True not in direct:  # the first one asks the store
            assert (await client.ask(chat())).status == 200
            await at_rest(server.gateway)
        server.again()
        direct.clear()

    return player(server, granted)


def account_of(server: Shared, subject: str = "chat") -> LocalAccount:
    """What this process knows of it."""
    pipeline = server.gateway.application.gateway.pipeline
    quota: Any = pipeline.quota.quota
    account: LocalAccount = quota.account(subject, pipeline.clock.monotonic()).account
    return account


def remaining(answer: Any, kind: str) -> int:
    """As the client is told."""
    return int(dict(answer.headers)[f"x-ratelimit-remaining-{kind}"])


def test_a_call_takes_directly_while_something_is_here(play: Callable[[Scenario], None], direct: list[bool]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        account = account_of(server)
        before = account.own.tokens.total, account.own.requests.total
        first, second = await client.ask(chat()), await client.ask(chat())
        await at_rest(server.gateway)
        assert direct == [True, True]
        assert (account.own.running, account.own.held_tokens) == (0, 0)
        assert (account.own.tokens.total - before[0], account.own.requests.total - before[1]) == (14, 2)
        assert remaining(first, "requests") == remaining(second, "requests") + 1
        assert remaining(first, "tokens") == remaining(second, "tokens") + 7

    play(scenario)


@pytest.mark.parametrize("name", ["500", "garbage", "closes", "no-usage"])
def test_nothing_stays_held_after_another_end(play: Callable[[Scenario], None], direct: list[bool], name: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        account = account_of(server)
        server.upstream.pieces, server.upstream.ends = ODDITIES[name]
        await client.ask(chat())
        await at_rest(server.gateway)
        assert direct == [True]
        assert (account.own.running, account.own.held_tokens) == (0, 0)
        server.upstream.pieces, server.upstream.ends = whole(answered()), "keeps"
        assert (await client.ask(chat())).status == 200

    play(scenario)


def test_what_was_granted_is_void_when_its_call_ends(play: Callable[[Scenario], None], direct: list[bool]) -> None:
    """The store may have taken this process for dead meanwhile."""

    async def scenario(server: Shared, client: Client) -> None:
        account = account_of(server)
        server.upstream.pieces, server.upstream.ends = [], "waits"
        client.write(chat())
        while not server.upstream.seen:
            await asyncio.sleep(0.002)
        grant = account.grant
        account.lapse()
        assert (grant.is_open, account.grant.is_open) == (False, True)
        left = grant.tokens
        client.go()
        await at_rest(server.gateway)
        assert direct == [True]
        assert (account.own.running, account.own.held_tokens) == (0, 0)
        assert grant.tokens > left  # to the one that nobody takes from any more

    play(scenario)


def test_who_waits_for_the_store_goes_first(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        account = account_of(server)
        limits = account.limits
        account.wanted.append(None)  # type: ignore[arg-type]
        try:
            assert not account.grant.take(limits, 1, asyncio.get_running_loop().time())
        finally:
            account.wanted.clear()
        assert account.grant.take(limits, 1, asyncio.get_running_loop().time())
        account.grant.settle(limits, 1, 1, 0.0, asyncio.get_running_loop().time())

    play(scenario)


def test_the_limit_is_the_limit(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        statuses = [(await client.ask(chat(model="tight"))).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]

    play(scenario)
