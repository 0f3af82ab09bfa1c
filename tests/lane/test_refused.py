"""Calls that are turned away: one answer and one record, however the turning away goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelport.core.catalog import RateLimits

from .harness import post
from .play import Play
from .shared import CHAT, Client, Scenario, Shared, at_rest, chat, player, shared

CONFIG = """
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments:
  chat: {{model: {{format: Custom, name: served}}, provider: up, default: true}}
  full:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: null, requests_per_minute: 1}}
  tiny:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: 1, wait_seconds: 30}}
  spills:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: 1, requests_per_minute: 1}}
    spillover: chat
"""
REFUSED = {
    "400": chat(model="tiny"),
    "401": chat(key="wrong"),
    "404": chat(model="absent"),
    "422": chat(temperature="hot"),
    "429": chat(model="full"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("refused"), CONFIG) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    """Runs a scenario while the minute of `full` is used up."""
    plays = player(server)

    def played(scenario: Scenario) -> None:
        async def filled(server: Shared, client: Client) -> None:
            pipeline = server.gateway.application.gateway.pipeline
            pipeline.quota.quota.reserve("full", RateLimits(), 0, pipeline.clock.monotonic())
            await scenario(server, client)

        plays(filled)

    return played


@pytest.mark.parametrize("status", REFUSED)
def test_one_answer_and_one_record(play: Callable[[Scenario], None], status: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        known = len(server.gateway.lines())
        answer = await client.ask(REFUSED[status])
        assert str(answer.status) == status
        server.gateway.application.gateway.pipeline.journal.flush()
        lines = server.gateway.lines()[known:]
        # Whom nobody knows leaves a number alone.
        assert [kind for kind, _ in lines] == ([] if status == "401" else ["close"])
        for _, record in lines:
            assert (record["ending"], record["status"]) == ("refused", int(status))
            assert record["error_code"]
            assert not any(record["usage"].values())
        assert not server.upstream.seen
        again = await client.ask(chat())
        assert again.status == 200, "its connection goes on"

    play(scenario)


@pytest.mark.parametrize("status", ["400", "404", "429"])
def test_a_journal_that_takes_no_lines_does_not_change_a_refusal(play: Callable[[Scenario], None], status: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        known = len(server.gateway.lines())
        with Play(server, client, "", "chat").full_disk(1, 2):
            assert str((await client.ask(REFUSED[status])).status) == status
            await at_rest(server.gateway)
        assert (await client.ask(chat())).status == 200
        await at_rest(server.gateway)
        assert [kind for kind, _ in server.gateway.lines()[known:]] == ["close", "open", "close"]

    play(scenario)


@pytest.mark.parametrize("status", REFUSED)
def test_requests_that_were_sent_behind_it_are_answered_in_their_order(
    play: Callable[[Scenario], None], status: str
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        client.write(REFUSED[status] + chat() + REFUSED[status])
        statuses = [(await client.answer()).status for _ in range(3)]
        assert statuses == [int(status), 200, int(status)]

    play(scenario)


@pytest.mark.parametrize("status", REFUSED)
def test_a_client_that_goes_at_once_leaves_the_same_record(play: Callable[[Scenario], None], status: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        known = len(server.gateway.lines())
        client.write(REFUSED[status])
        client.go()
        await asyncio.sleep(0.05)
        await at_rest(server.gateway)
        server.gateway.application.gateway.pipeline.journal.flush()
        lines = server.gateway.lines()[known:]
        assert {record["status"] for _, record in lines} <= {int(status), 499}
        assert len(lines) <= 1

    play(scenario)


def test_what_another_deployment_can_take_over_is_not_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        assert (await client.ask(chat(model="spills"))).status == 200
        assert server.gateway.records()[-1]["spilled_from"] == "spills"

    play(scenario)


def test_of_a_stranger_nothing_is_read_and_nothing_kept(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        assert (await client.ask(chat())).status == 200
        callers: Any = server.gateway.application.gateway.pipeline.callers
        known = set(callers._known)
        assert known
        for number in range(3):
            assert (await client.ask(chat(key=f"wrong-{number}"))).status == 401
            assert (await client.ask(post(CHAT, b"{", key=f"wrong-{number}"))).status == 401
        assert set(callers._known) == known

    play(scenario)
