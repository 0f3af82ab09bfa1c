"""The same head again on one connection: taken as known where nothing has changed, and never longer than that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from modelport.core.clock import Clock

from .harness import KEY, Answer
from .shared import Client, Scenario, Shared, chat, content, player, shared

OTHER, ENDING = "key-of-another-0123456789abcdef", "key-that-expires-0123456789abcdef"
CONFIG = """
server: {{limits: {{body_bytes: 20000}}}}
providers: {{up: {{type: openai_compatible, base_url: "http://127.0.0.1:{port}/v1"}}}}
keys:
  other: {{key1: env:OTHER, project: theirs}}
  ending: {{key1: env:ENDING, expires: 2100-01-01}}
projects: {{theirs: {{}}}}
deployments:
  chat: {{model: {{format: Custom, name: served}}, provider: up, default: true}}
  second: {{model: {{format: Custom, name: another}}, provider: up}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("repeated"), CONFIG, OTHER=OTHER, ENDING=ENDING) as found:
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    """Runs a scenario on a connection whose head is known."""

    async def known(server: Shared, client: Client) -> None:
        assert (await client.ask(chat())).status == 200
        await known_again(server, client, chat())

    return player(server, known)


async def known_again(server: Shared, client: Client, request: bytes) -> Answer:
    """The answer to a head that the lane has not read anew."""
    before = server.gateway.repeated.count(True)
    answer = await client.ask(request)
    assert answer.status == 200
    assert server.gateway.repeated.count(True) == before + 1
    return answer


async def read_anew(server: Shared, client: Client, request: bytes) -> Answer:
    """The answer to a request that no known head may answer."""
    before = server.gateway.repeated.count(True)
    answer = await client.ask(request)
    assert server.gateway.repeated.count(True) == before
    return answer


def said(answer: Answer, name: str) -> list[str]:
    """The values of a header."""
    return [value for key, value in answer.headers if key == name]


def test_bodies_of_other_lengths_come_under_the_same_head(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        ids = []
        for text in ("a", "b" * 90, "ü" * 2000, "c"):
            answer = await known_again(server, client, chat(messages=[{"role": "user", "content": text}]))
            assert json.loads(server.upstream.seen[-1].partition(b"\r\n\r\n")[2])["messages"][0]["content"] == text
            ids += said(answer, "x-request-id")
        assert len(set(ids)) == 4
        assert [record.id for record in server.gateway.seen.records[-4:]] == ids

    play(scenario)


def test_a_client_s_request_id_is_told_back_each_time(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        name = "x-ms-client-request-id"
        assert (await client.ask(chat(f"{name}: first"))).status == 200
        for number in range(3):
            answer = await known_again(server, client, chat(f"{name}: id-{'x' * number}"))
            assert said(answer, name) == [f"id-{'x' * number}"]
            assert server.gateway.seen.records[-1].client_request_id == f"id-{'x' * number}"
        for unfit in ("x" * 129, "x" * 300, "two words", "ümlaut"):
            answer = await client.ask(chat(f"{name}: {unfit}"))
            assert answer.status == 200
            assert said(answer, name) != [unfit]
            assert server.gateway.seen.records[-1].client_request_id is None
        answer = await client.ask(chat(f"{name}:"))
        assert answer.status == 200
        assert server.gateway.seen.records[-1].client_request_id is None

    play(scenario)


def test_another_key_is_another_caller(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        assert (await read_anew(server, client, chat(key=OTHER))).status == 200
        record = server.gateway.seen.records[-1]
        assert (record.principal, record.key_id, record.project) == ("other", "other/key1", "theirs")
        await known_again(server, client, chat(key=OTHER))
        assert server.gateway.seen.records[-1].principal == "other"
        assert (await read_anew(server, client, chat())).status == 200
        assert server.gateway.seen.records[-1].principal == "operator"

    play(scenario)


@pytest.mark.parametrize("key", [KEY[:-1] + "x", KEY + "x", KEY[:-1], ""], ids=["last", "longer", "shorter", "none"])
def test_another_credential_is_refused(play: Callable[[Scenario], None], key: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        asked = len(server.upstream.seen)
        answer = await read_anew(server, client, chat(key=key))
        assert answer.status == 401
        assert len(server.upstream.seen) == asked
        assert (await client.ask(chat())).status == 200
        assert (await client.ask(chat(key=key))).status == 401

    play(scenario)


def test_a_removed_key_is_refused_from_the_next_request_on(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        pipeline = server.gateway.application.gateway.pipeline
        current = pipeline.snapshot
        kept = {digest: entry for digest, entry in current().keys.items() if entry.principal.name != "operator"}
        without = replace(current(), id="without", keys=kept)
        pipeline.snapshot = lambda: without
        try:
            assert (await read_anew(server, client, chat())).status == 401
            assert (await client.ask(chat(key=OTHER))).status == 200
            assert server.gateway.seen.records[-1].snapshot == "without"
        finally:
            pipeline.snapshot = current
        assert (await read_anew(server, client, chat())).status == 200
        await known_again(server, client, chat())

    play(scenario)


def test_a_removed_deployment_is_gone_from_the_next_request_on(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        pipeline = server.gateway.application.gateway.pipeline
        await known_again(server, client, chat(model="second"))
        current = pipeline.snapshot
        without = replace(current(), id="without", deployments={"chat": current().deployments["chat"]})
        pipeline.snapshot = lambda: without
        try:
            assert (await read_anew(server, client, chat(model="second"))).status == 404
        finally:
            pipeline.snapshot = current

    play(scenario)


class Later:
    """A clock that can be put forward."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self.seconds = 0.0

    def now(self) -> float:
        return self._inner.now() + self.seconds

    def monotonic(self) -> float:
        return self._inner.monotonic()


def test_a_key_that_expires_between_two_requests_is_refused(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        pipeline = server.gateway.application.gateway.pipeline
        assert (await client.ask(chat(key=ENDING))).status == 200
        await known_again(server, client, chat(key=ENDING))
        clock, pipeline.clock = pipeline.clock, Later(pipeline.clock)
        expires = 4_102_444_800.0  # 2100-01-01
        try:
            pipeline.clock.seconds = expires - clock.now() - 60
            await known_again(server, client, chat(key=ENDING))
            pipeline.clock.seconds = expires - clock.now()
            assert (await client.ask(chat(key=ENDING))).status == 401
            assert (await client.ask(chat())).status == 200
        finally:
            pipeline.clock = clock

    play(scenario)


def test_a_drain_refuses_the_next_request_and_closes(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        asked = len(server.upstream.seen)
        server.gateway.application.gateway.draining = True
        try:
            answer = await client.ask(chat())
            assert answer.status == 503
            assert said(answer, "connection") == ["close"]
            assert await client.ended()
        finally:
            server.gateway.application.gateway.draining = False
        assert len(server.upstream.seen) == asked

    play(scenario)


def test_the_body_still_decides(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        for deployment, named in (("second", "another"), ("chat", "served"), ("second", "another")):
            await known_again(server, client, chat(model=deployment))
            body = json.loads(server.upstream.seen[-1].partition(b"\r\n\r\n")[2])
            assert body["model"] == named
            assert server.gateway.seen.records[-1].deployment == deployment
        for status, fields in (
            (422, {"messages": []}),
            (422, {"temperature": 9}),
            (404, {"model": "absent"}),
        ):
            answer = await client.ask(chat(**fields))
            assert answer.status == status, fields
        answer = await client.ask(chat(messages=[{"role": "user", "content": "x" * 30_000}]))
        assert answer.status == 413

    play(scenario)


def test_a_stream_is_one_under_the_same_head_too(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await known_again(server, client, chat(stream=True))
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert b'"stream":true' in server.upstream.seen[-1]
        await known_again(server, client, chat())

    play(scenario)


def test_other_requests_in_between_change_nothing(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        info = chat().replace(b"POST /v1/chat/completions", b"GET /info", 1)
        for request, status in ((info, 200), (chat(key="wrong"), 401), (chat(target="/nowhere"), 404)):
            assert (await client.ask(request)).status == status
            assert content(await client.ask(chat())) == "Hello"
            assert server.gateway.seen.records[-1].principal == "operator"

    play(scenario)


def test_two_at_once_are_two_calls(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        asked = len(server.upstream.seen)
        first, second = (chat(messages=[{"role": "user", "content": text}]) for text in "12")
        client.write(first + second + first[:-7])
        assert (await client.answers(2)).count(b"HTTP/1.1 200 OK") == 2
        assert (await client.ask(first[-7:])).status == 200
        texts = [json.loads(seen.partition(b"\r\n\r\n")[2])["messages"][0]["content"] for seen in server.upstream.seen]
        assert texts[asked:] == ["1", "2", "1"]

    play(scenario)


@pytest.mark.parametrize("cut", [1, 30, -30, -1])
def test_one_in_two_reads_is_read_anew(play: Callable[[Scenario], None], cut: int) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        client.write(chat()[:cut])
        await client.pause()
        assert (await read_anew(server, client, chat()[cut:])).status == 200
        await client.ask(chat())

    play(scenario)


def test_who_asks_to_close_is_closed(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await read_anew(server, client, chat("Connection: close"))
        assert (answer.status, said(answer, "connection")) == (200, ["close"])
        assert await client.ended()

    play(scenario)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Content-Length: ", b"Content-Length: +", 400),
        (b"Content-Length: ", b"Content-Length: 0", 200),
        (b"Content-Length: ", b"Transfer-Encoding: chunked\r\nContent-Length: ", 400),
        (b"Content-Length: ", b"Content-Length: 3\r\nContent-Length: ", 400),
        (b" HTTP/1.1", b" HTTP/1.7", 505),
        (b"POST ", b"\r\nPOST ", 200),
        (b"POST ", b"PUT ", 405),
        (b"/v1/", b"/v2/", 404),
    ],
)
def test_a_head_that_is_nearly_the_same_is_what_it_is(
    play: Callable[[Scenario], None], old: bytes, new: bytes, status: int
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        asked = len(server.upstream.seen)
        answer = await client.ask(chat().replace(old, new, 1))
        assert answer.status == status
        assert len(server.upstream.seen) == asked + (status == 200)

    play(scenario)
