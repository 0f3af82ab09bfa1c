"""How a call ends: in each of its states, for every cause, it leaves the one record, and nothing is held afterwards.
Whether its answer is decoded in one step or in events, and its request passed on as it is or looked at more closely,
makes no difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from msgspec import Struct

from modelport.core.quota import RollingWindow

from .harness import Answer, normal_request, whole
from .oddities import BEGUN, NEAR, ODDITIES
from .play import Play
from .shared import Client, Shared, answered, at_rest, chat, shared

CONFIG = """
server: {{limits: {{request_seconds: 1.2}}}}
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
deployments:
  chat:
    model: {{format: Custom, name: served}}
    provider: up
    default: true
    limits: {{tokens_per_minute: 1000000, requests_per_minute: 1000}}
  single:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: 1000000, requests_per_minute: 1000, concurrent_requests: 1}}
  impatient:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: null, requests_per_minute: 1000}}
    timeouts: {{connect: 1, first_event: 0.1, between_events: 0.1, whole: 0.2}}
  small:
    model: {{format: Custom, name: served}}
    provider: up
    limits: {{tokens_per_minute: 100, requests_per_minute: 50}}
"""


class Outcome(Struct):
    """All that can be seen of one."""

    answer: Any
    upstream: list[bytes]
    started: list[tuple[str, str]]
    records: list[dict[str, Any]]
    lines: list[tuple[str, dict[str, Any]]]
    booked: tuple[int, int]
    """Requests and tokens in the quota's window."""


UNSEEN = 7 + 9
"""Tokens of a whole answer that nobody has seen: the likely prompt, and what was asked for."""
Scenario = Callable[[Play], Coroutine[Any, Any, Answer | None]]
FORMS = {"short": (" " * 8, True), "with extras": (', "n": 1', True), "in events": (" " * 8, False)}
"""What is in the request besides, and whether the provider decodes whole answers in one step."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("ends"), CONFIG) as found:
        yield found


@pytest.fixture
def compare(server: Shared, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Plays a scenario in all forms; the outcome, which is one for all."""

    def compared(scenario: Scenario, deployment: str = "chat", *, at_once: bool | None = None) -> Outcome:
        """`at_once`: whether an answer was decoded in one step, where that may be; None: it may or may not."""
        outcomes, taken = {}, {}
        codec: Any = server.gateway.application.gateway.pipeline.runtime.provider("up")
        for form, (filler, is_whole) in FORMS.items():
            with monkeypatch.context() as patches:
                if not is_whole:
                    patches.setattr(type(codec), "whole_answer", lambda *_: None)
                outcomes[form] = played(server, scenario, filler, deployment)
            taken[form] = len(server.gateway.at_once)
        assert taken["short"] == taken["with extras"]
        assert not taken["in events"]
        assert at_once is None or at_once == bool(taken["short"])
        first = outcomes["short"]
        for form, outcome in outcomes.items():
            assert outcome.answer == first.answer, form
            assert outcome.records == first.records, form
            assert outcome.started == first.started, form
            assert outcome.lines == first.lines, form
            assert outcome.booked == first.booked, form
            if form != "with extras":
                assert outcome.upstream == first.upstream, form
        return first

    return compared


def played(server: Shared, scenario: Scenario, filler: str, deployment: str) -> Outcome:
    """On one server."""
    found: list[Outcome] = []

    async def play() -> None:
        server.again()
        client = await Client.of(server.gateway)
        assert (await client.ask(chat())).status == 200  # so that there is a connection, and its replies are known
        await at_rest(server.gateway)
        client.go()
        server.again()
        gateway = server.gateway.application.gateway
        quota: Any = gateway.pipeline.quota.quota
        account = quota.account(deployment, gateway.pipeline.clock.monotonic())
        account.requests, account.tokens, account.rolls_at = RollingWindow(), RollingWindow(), 0.0
        known = len(server.gateway.lines())
        client = await Client.of(server.gateway)
        try:
            async with asyncio.timeout(10):
                answer = await scenario(Play(server, client, filler, deployment))
            await at_rest(server.gateway)
        finally:
            client.go()
        gateway.pipeline.journal.flush()
        assert (account.running, account.held_tokens) == (0, 0)
        metrics = gateway.metrics()
        text = metrics if isinstance(metrics, bytes) else await metrics
        assert b'modelport_calls_in_flight{operation="chat_completions"} 0.0' in text
        assert b"modelport_journal_open_calls 0.0" in text
        found.append(
            Outcome(
                answer.normal if answer is not None else None,
                [normal_request(seen, server.upstream.port) for seen in server.upstream.seen],
                list(server.gateway.seen.started),
                server.gateway.records(),
                server.gateway.lines()[known:],
                (account.requests.total, account.tokens.total),
            )
        )

    server.run(play())
    return found[0]


def ended(outcome: Outcome) -> tuple[str, int, int]:
    """How the only call ended, in record and journal alike."""
    (record,) = outcome.records
    assert [kind for kind, _ in outcome.lines] == ["open", "close"]
    assert outcome.lines[1][1] == record
    total: int = sum(record["usage"].values())
    assert outcome.booked == (1, total)
    return record["ending"], record["status"], total


CUTS = {
    "client": (Play.leave, "cancelled", 499),
    "limit": (Play.limit, "failed", 504),
    "stop": (Play.stop, "failed", 503),
}


@pytest.mark.parametrize("cause", CUTS)
@pytest.mark.parametrize("pieces", [[], BEGUN], ids=["asked", "begun"])
def test_cut_off_while_the_upstream_works(compare: Callable[..., Outcome], cause: str, pieces: list[bytes]) -> None:
    cut, ending, status = CUTS[cause]

    async def scenario(play: Play) -> Answer | None:
        play.above.pieces, play.above.ends = pieces, "waits"
        await play.asked()
        await asyncio.sleep(0.05)
        await cut(play)
        assert play.above.gone is not None
        await play.above.gone.wait()
        return None if cause == "client" else await play.last_words()

    outcome = compare(scenario, at_once=False)
    assert ended(outcome) == (ending, status, UNSEEN)
    assert outcome.records[0]["usage_source"] == "estimated"
    assert outcome.records[0]["target"] == "up/served"
    assert outcome.answer is None or outcome.answer[0] == status


@pytest.mark.parametrize("cause", CUTS)
def test_cut_off_before_its_beginning_is_written(compare: Callable[..., Outcome], cause: str) -> None:
    cut, ending, status = CUTS[cause]

    async def scenario(play: Play) -> Answer | None:
        with play.held_back(1) as held:
            play.client.write(play.request())
            await held.reached()
            await cut(play)
            answer = None if cause == "client" else await play.last_words()
            await at_rest(play.server.gateway)
            held.release()
            await asyncio.sleep(0.02)
            return answer

    outcome = compare(scenario, at_once=False)
    assert ended(outcome) == (ending, status, 0)
    assert not outcome.upstream
    assert outcome.records[0]["target"] is None


@pytest.mark.parametrize("cause", CUTS)
def test_cut_off_when_all_is_answered_but_its_end_not_written(compare: Callable[..., Outcome], cause: str) -> None:
    """What was made is made: the record says so, whatever the client still hears."""
    cut, _, status = CUTS[cause]

    async def scenario(play: Play) -> Answer | None:
        with play.held_back(2) as held:
            play.client.write(play.request())
            await held.reached()
            await cut(play)
            answer = None if cause == "client" else await play.last_words()
            await at_rest(play.server.gateway)
            held.release()
            await asyncio.sleep(0.02)
            return answer

    outcome = compare(scenario, at_once=True)
    assert ended(outcome) == ("completed", 200, 7)
    assert outcome.answer is None or outcome.answer[0] == status


@pytest.mark.parametrize("number", [1, 2])
def test_lines_that_are_written_late_change_nothing(compare: Callable[..., Outcome], number: int) -> None:
    async def scenario(play: Play) -> Answer | None:
        with play.held_back(number) as held:
            play.client.write(play.request())
            await held.reached()
            await asyncio.sleep(0.02)
            held.release()
            return await play.last_words()

    assert ended(compare(scenario, at_once=True)) == ("completed", 200, 7)


@pytest.mark.parametrize("cause", ["limit", "stop"])
def test_a_connection_goes_on_after_a_call_that_was_cut_off(compare: Callable[..., Outcome], cause: str) -> None:
    async def scenario(play: Play) -> Answer | None:
        play.above.pieces, play.above.ends = [], "waits"
        await play.asked()
        await CUTS[cause][0](play)
        first = await play.last_words()
        assert first is not None
        assert first.status in (503, 504)
        play.above.pieces, play.above.ends = whole(answered()), "keeps"
        if ("connection", "close") in first.headers:
            return first
        return await play.client.ask(play.request())

    compare(scenario)


@pytest.mark.parametrize("numbers", [(1,), (1, 2, 3, 4), (2,), (2, 3, 4)], ids=["open", "open-on", "close", "close-on"])
def test_a_journal_that_takes_no_lines(compare: Callable[..., Outcome], numbers: tuple[int, ...]) -> None:
    async def scenario(play: Play) -> Answer | None:
        with play.full_disk(*numbers):
            answer = await play.client.ask(play.request())
            await at_rest(play.server.gateway)
            return answer

    outcome = compare(scenario, at_once=numbers[0] != 1)
    assert outcome.answer[0] == 503
    if numbers[0] == 1:
        assert not outcome.upstream
        assert ended(outcome)[1:] == (503, 0)
    else:
        assert ended(outcome) == ("completed", 200, 7)


def test_a_journal_whose_queue_is_full(compare: Callable[..., Outcome]) -> None:
    async def scenario(play: Play) -> Answer | None:
        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        play.journal.open = play.journal.open_formed = refuse
        try:
            return await play.client.ask(play.request())
        finally:
            del play.journal.open, play.journal.open_formed

    outcome = compare(scenario, at_once=False)
    assert outcome.answer[0] == 503
    assert (outcome.booked, outcome.upstream) == ((0, 0), [])
    assert [kind for kind, _ in outcome.lines] == ["close"]


@pytest.mark.parametrize("name", ODDITIES)
def test_what_an_upstream_does(compare: Callable[..., Outcome], name: str) -> None:
    async def scenario(play: Play) -> Answer | None:
        play.above.pieces, play.above.ends = ODDITIES[name]
        answer = await play.client.ask(play.request())
        await at_rest(play.server.gateway)
        return answer

    outcome = compare(scenario)
    _, status, _ = ended(outcome)
    assert status == outcome.answer[0]


def test_an_upstream_that_is_late(compare: Callable[..., Outcome]) -> None:
    async def scenario(play: Play) -> Answer | None:
        play.above.pieces, play.above.ends = [], "waits"
        return await play.client.ask(play.request())

    assert ended(compare(scenario, deployment="impatient", at_once=False)) == ("failed", 504, UNSEEN)


def test_a_place_is_free_again_after_every_end(compare: Callable[..., Outcome]) -> None:
    async def scenario(play: Play) -> Answer | None:
        for pieces, ends in (ODDITIES["500"], ODDITIES["garbage"], ODDITIES["closes"], ODDITIES["no-usage"]):
            play.above.pieces, play.above.ends = pieces, ends
            assert (await play.client.ask(play.request())).status != 429
        play.above.pieces, play.above.ends = whole(answered()), "keeps"
        return await play.client.ask(play.request())

    outcome = compare(scenario, deployment="single")
    assert outcome.answer[0] == 200
    assert len(outcome.records) == 5


@pytest.mark.parametrize("name", NEAR)
def test_near_the_limit(compare: Callable[..., Outcome], name: str) -> None:
    """The first call of a deployment under a small limit, and the next ones."""
    body, fields = NEAR[name]

    def asking(count: int) -> Scenario:
        async def scenario(play: Play) -> Answer | None:
            play.above.pieces = whole(body)
            answer = None
            for _ in range(count):
                answer = await play.client.ask(play.request(**{"max_tokens": None, **fields}))
                await at_rest(play.server.gateway)
            return answer

        return scenario

    outcome = compare(asking(1), deployment="small")
    if name != "too-long-a-prompt":
        assert ended(outcome)[1] == outcome.answer[0] == 200
    else:
        assert (outcome.answer[0], outcome.booked) == (400, (0, 0))
    outcome = compare(asking(3), deployment="small")
    assert len(outcome.records) == 3
