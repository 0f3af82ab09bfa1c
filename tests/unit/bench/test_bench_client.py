"""The client of `modelport bench` against servers that answer as a script says, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from modelport.cli.bench_client import Bounds, Question, Sample, ask_once, message_of, run

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
WHOLE = b'{"choices": [{"message": {"content": "Hi"}}], "usage": {"completion_tokens": 7}}'
EVENTS = (
    b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "Hel"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "lo"}}]}\n\n',
    b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n',
)
DONE = b"data: [DONE]\n\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answered(body: bytes, *, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def streamed(*events: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


async def taken(reader: asyncio.StreamReader) -> bool:
    """One request; False when the client has gone."""
    try:
        await reader.readuntil(b"\r\n\r\n{}")
    except asyncio.IncompleteReadError:
        return False
    return True


def always(*parts: bytes, keeps: bool = True) -> Script:
    """The same answer to every request, in these pieces."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await taken(reader):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if not keeps:
                return

    return script


class Counted:
    """A server that counts what comes to it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.script(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Counted]:
    counted = Counted(script)
    async with await asyncio.start_server(counted, "127.0.0.1", 0) as server:
        counted.port = server.sockets[0].getsockname()[1]
        yield counted


def question(port: int, timeout_seconds: float = 30) -> Question:
    return Question("127.0.0.1", port, None, REQUEST, timeout_seconds)


async def asked(script: Script, timeout_seconds: float = 30) -> Sample:
    async with serving(script) as server:
        return await ask_once(question(server.port, timeout_seconds))


async def test_a_whole_answer_has_its_reported_tokens_and_no_first_token() -> None:
    sample = await asked(always(answered(WHOLE)))
    assert (sample.status, sample.problem, sample.tokens, sample.are_tokens_reported) == (200, None, 7, True)
    assert sample.first is None
    assert sample.ended >= sample.started


async def test_only_events_with_content_are_tokens() -> None:
    sample = await asked(always(streamed(*EVENTS, DONE)))
    assert (sample.problem, sample.tokens, sample.are_tokens_reported) == (None, 2, False)
    assert sample.first is not None
    assert len(sample.gaps) == 1


async def test_the_endpoints_own_count_wins() -> None:
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 30}}\n\n'
    sample = await asked(always(streamed(*EVENTS, usage, DONE)))
    assert (sample.tokens, sample.are_tokens_reported) == (30, True)


@pytest.mark.parametrize("step", [1, 7, 64])
async def test_a_stream_may_be_cut_anywhere(step: int) -> None:
    whole = streamed(*EVENTS, DONE)
    sample = await asked(always(*(whole[at : at + step] for at in range(0, len(whole), step))))
    assert (sample.problem, sample.tokens) == (None, 2)


async def test_a_stream_without_its_end_is_a_failure() -> None:
    sample = await asked(always(streamed(*EVENTS)))
    assert sample.problem == "the stream ended without [DONE]"


async def test_an_error_within_a_stream_is_a_failure_in_the_endpoints_words() -> None:
    error = b'data: {"error": {"message": "The model\\n is gone."}}\n\n'
    sample = await asked(always(streamed(EVENTS[1], error, DONE)))
    assert sample.problem == "the answer broke off: The model is gone."


async def test_a_refusal_keeps_its_status_words_and_patience() -> None:
    body = json.dumps({"error": {"code": "429", "message": "Slow down."}}).encode()
    sample = await asked(always(answered(body, status="429 Too Many Requests", extra="Retry-After: 2\r\n")))
    assert (sample.status, sample.problem, sample.retry_after) == (429, "429 Slow down.", 2.0)


async def test_a_refusal_without_json_is_named_by_its_status() -> None:
    sample = await asked(always(answered(b"<html>", status="502 Bad Gateway")))
    assert sample.problem == "502 Bad Gateway"


async def test_an_answer_that_is_no_json_is_a_failure() -> None:
    sample = await asked(always(answered(b"<html>")))
    assert sample.problem is not None
    assert sample.problem.startswith("not an answer: ")


async def test_an_answer_may_end_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    sample = await asked(always(head, WHOLE, keeps=False))
    assert (sample.problem, sample.tokens) == (None, 7)


async def test_an_answer_cut_short_is_a_failure() -> None:
    sample = await asked(always(answered(WHOLE)[:-5], keeps=False))
    assert sample.problem == "the connection was closed in the middle of an answer"


async def test_interim_answers_are_read_over() -> None:
    sample = await asked(always(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", answered(WHOLE)))
    assert (sample.status, sample.problem) == (200, None)


async def test_silence_ends_with_the_timeout() -> None:
    sample = await asked(always(b"HTTP/1.1 200 OK\r\n"), timeout_seconds=0.05)
    assert sample.problem == "no whole answer within 0.05 s"


async def test_nobody_there_is_a_failure_not_an_exception() -> None:
    async with serving(always()) as server:
        port = server.port
    sample = await ask_once(question(port))
    assert (sample.status, sample.problem) == (0, "no connection: Connection refused")


async def test_a_redirect_is_not_followed() -> None:
    async with serving(always(answered(WHOLE))) as elsewhere:
        there = f"Location: http://127.0.0.1:{elsewhere.port}/\r\n"
        sample = await asked(always(answered(b"", status="307 Temporary Redirect", extra=there)))
        assert (sample.status, sample.problem) == (307, "307 Temporary Redirect")
        assert elsewhere.connections == 0


async def measured(server: Counted, connections: int, bounds: Bounds) -> list[Sample]:
    samples: list[Sample] = []
    told: list[int] = []
    await run(question(server.port), connections, bounds, samples, lambda count, elapsed: told.append(count))
    assert told == list(range(1, len(samples) + 1))
    return samples


async def test_a_run_asks_exactly_so_often_over_kept_connections() -> None:
    async with serving(always(answered(WHOLE))) as server:
        samples = await measured(server, 4, Bounds(50, 60))
    assert len(samples) == 50
    assert server.connections <= 4
    assert not [sample.problem for sample in samples if sample.problem]


async def test_no_more_connections_than_requests() -> None:
    async with serving(always(answered(WHOLE))) as server:
        assert len(await measured(server, 100, Bounds(3, 60))) == 3
    assert server.connections <= 3


async def test_a_connection_closed_between_answers_is_opened_again() -> None:
    async with serving(always(answered(WHOLE), keeps=False)) as server:
        samples = await measured(server, 1, Bounds(5, 60))
    assert [sample.problem for sample in samples] == [None] * 5
    assert server.connections >= 5


async def test_time_bounds_a_run() -> None:
    async with serving(always(answered(WHOLE))) as server:
        samples = await measured(server, 1, Bounds(10**9, 0.05))
    assert samples
    assert samples[-1].started - samples[0].started < 10


async def test_a_refusing_endpoint_is_not_hammered() -> None:
    refusal = answered(b"{}", status="429 Too Many Requests", extra="Retry-After: 60\r\n")
    async with serving(always(refusal)) as server:
        samples = await measured(server, 1, Bounds(10**9, 0.1))
    assert len(samples) == 1


def test_every_form_of_an_error_has_a_message() -> None:
    assert message_of({"error": {"message": "a"}}) == "a"
    assert message_of({"error": {"code": "b"}}) == "b"
    assert message_of({"error": "c"}) == "c"
    assert message_of({"message": "d"}) == "d"
    assert message_of(["e"]) == "['e']"
    assert len(message_of({"error": {"message": "x" * 5000}})) == 200
