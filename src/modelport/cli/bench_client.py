"""Asks one endpoint the same question again and again over kept connections, and notes when what came."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import httptools
import msgspec

from modelport.core.errors import UpstreamFailed
from modelport.dialects.sse import DONE_PAYLOAD, EventStreamParser

READ_BYTES = 65536
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MESSAGE_CHARACTERS = 200
MAX_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Question:
    """One HTTP request, and where it goes. Nothing else is ever sent, and to nobody else."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    request: bytes
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What became of one request; times are seconds. `problem` None: it was answered well."""

    started: float
    ended: float
    status: int = 0
    first: float | None = None
    """From the start to the first token of a stream."""
    gaps: tuple[float, ...] = ()
    """Between the tokens of a stream, as they were read."""
    tokens: int | None = None
    are_tokens_reported: bool = False
    problem: str | None = None
    retry_after: float | None = None


class Usage(msgspec.Struct):
    """How many tokens the endpoint says that it made."""

    completion_tokens: int | None = None


class Delta(msgspec.Struct):
    """What may stand in one event of a stream."""

    content: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct):
    """One alternative of an event."""

    delta: Delta | None = None


class Chunk(msgspec.Struct):
    """An event of a stream, or a whole answer, as far as it matters here."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


class Answer:
    """One answer as httptools reads it. Interim ones (1xx) are read over."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.has_head = False
        self.is_over = False
        self.is_kept = True
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200
        self.is_kept = self._parser.should_keep_alive() and not self.ends_with_connection
        if not self.has_head:
            self.headers.clear()

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.is_over = self.has_head

    def taken(self) -> bytes:
        """The body's bytes since the last time."""
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data

    @property
    def is_stream(self) -> bool:
        """Whether it comes as server-sent events."""
        return self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def ends_with_connection(self) -> bool:
        """Whether closing is how this answer ends."""
        return self.has_head and "content-length" not in self.headers and "transfer-encoding" not in self.headers


class Reading:
    """What is known of one answer while it comes."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.events = EventStreamParser()
        self.whole = bytearray()
        self.first: float | None = None
        self.last = 0.0
        self.gaps: list[float] = []
        self.pieces = 0
        self.reported: int | None = None
        self.is_done = False
        self.problem: str | None = None

    def take(self, data: bytes, now: float, is_stream: bool) -> None:
        """Some of the body."""
        if not is_stream:
            if len(self.whole) < MAX_ANSWER_BYTES:
                self.whole += data
            return
        for event in self.events.feed(data):
            if event == DONE_PAYLOAD:
                self.is_done = True
                continue
            chunk = msgspec.json.decode(event, type=Chunk)
            self.note(chunk)
            if any(has_token(choice) for choice in chunk.choices):
                self.token(now)

    def token(self, now: float) -> None:
        """An event with something in it."""
        self.pieces += 1
        if self.first is None:
            self.first = now - self.started
        else:
            self.gaps.append(now - self.last)
        self.last = now

    def note(self, chunk: Chunk) -> None:
        """What the endpoint says about itself."""
        if chunk.error is not None:
            self.problem = f"the answer broke off: {message_of({'error': chunk.error})}"
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self.reported = chunk.usage.completion_tokens

    def sample(self, answer: Answer, now: float) -> Sample:
        """The answer is over."""
        found = Sample(self.started, now, answer.status, self.first, tuple(self.gaps))
        if answer.status != 200:
            said = refusal(answer.status, self.whole)
            return replace(found, problem=said, retry_after=retry_after(answer.headers))
        if not answer.is_stream:
            self.note(msgspec.json.decode(self.whole, type=Chunk))
        elif not self.is_done and self.problem is None:
            self.problem = "the stream ended without [DONE]"
        tokens = self.reported if self.reported is not None else (self.pieces if answer.is_stream else None)
        return replace(found, tokens=tokens, are_tokens_reported=self.reported is not None, problem=self.problem)


class Connection:
    """One kept connection; opened when it is needed, and again when the endpoint closed it."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> Sample:
        """One request and its answer. Never raises for what the endpoint or the network does."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._question.timeout_seconds):
                return await self._asked(started)
        except TimeoutError:
            problem = f"no whole answer within {self._question.timeout_seconds:g} s"
        except (msgspec.MsgspecError, UpstreamFailed, httptools.HttpParserError) as error:
            problem = f"not an answer: {error}"
        except ssl.SSLCertVerificationError as error:
            problem = f"the certificate is not trusted: {error.verify_message}"
        except OSError as error:
            problem = f"no connection: {reason(error)}"
        except EOFError:
            problem = "the connection was closed in the middle of an answer"
        self.close()
        return Sample(started, time.perf_counter(), problem=problem)

    async def _asked(self, started: float) -> Sample:
        was_kept = self._streams is not None
        try:
            return await self._exchange(started)
        except StaleError:
            self.close()
            if not was_kept:
                raise EOFError from None
            return await self._exchange(started)

    async def _exchange(self, started: float) -> Sample:
        """Raises StaleError when the connection was closed before a byte came."""
        question = self._question
        if self._streams is None:
            name = question.host if question.tls is not None else None
            self._streams = await asyncio.open_connection(
                question.host, question.port, ssl=question.tls, server_hostname=name
            )
        answer, reading = Answer(), Reading(started)
        async for data in self._sent(*self._streams):
            if not data and not answer.ends_with_connection:
                raise EOFError
            if data:
                answer.feed(data)
            if answer.pieces:
                reading.take(answer.taken(), time.perf_counter(), answer.is_stream)
            if answer.is_over or not data:
                break
        if not answer.is_kept:
            self.close()
        return reading.sample(answer, time.perf_counter())

    async def _sent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
        """What comes for the request, ended by an empty piece. Raises StaleError if nothing ever comes."""
        has_come = False
        try:
            writer.write(self._question.request)
            await writer.drain()
            while data := await reader.read(READ_BYTES):
                has_come = True
                yield data
        except ConnectionError:
            if has_come:
                raise
        if not has_come:
            raise StaleError
        yield b""

    def close(self) -> None:
        """Ends the connection; the next question opens another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class StaleError(Exception):
    """A kept connection was closed while nobody used it."""


@dataclass(frozen=True)
class Bounds:
    """When a run ends: whichever comes first."""

    requests: int
    seconds: float


async def run(
    question: Question, connections: int, bounds: Bounds, samples: list[Sample], tell: Callable[[int, float], None]
) -> None:
    """Asks over so many connections until a bound is met; what is under way then is waited for. Fills `samples`."""
    begun = time.perf_counter()
    left = bounds.requests

    async def worker() -> None:
        nonlocal left
        connection = Connection(question)
        try:
            while left > 0 and time.perf_counter() - begun < bounds.seconds:
                left -= 1
                sample = await connection.ask()
                samples.append(sample)
                tell(len(samples), time.perf_counter() - begun)
                if sample.problem is not None and sample.status in (0, 429, 503):
                    remaining = bounds.seconds - (time.perf_counter() - begun)
                    await asyncio.sleep(max(0.0, min(sample.retry_after or 0.1, MAX_PAUSE_SECONDS, remaining)))
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(connections, bounds.requests)):
            group.create_task(worker())


async def ask_once(question: Question) -> Sample:
    """The first question: shows whether there is anything to measure."""
    connection = Connection(question)
    try:
        return await connection.ask()
    finally:
        connection.close()


def reason(error: OSError) -> str:
    """The system's words; event loops have others for the same."""
    if error.errno is not None and error.errno > 0:  # names that cannot be found have negative ones
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def has_token(choice: Choice) -> bool:
    """Whether an event brings anything that was generated."""
    delta = choice.delta
    return delta is not None and bool(delta.content or delta.reasoning_content or delta.tool_calls)


def refusal(status: int, body: bytes | bytearray) -> str:
    """The endpoint's own words, in short."""
    try:
        said = message_of(json.loads(bytes(body)))
    except ValueError:
        said = ""
    with contextlib.suppress(ValueError):
        said = said or http.HTTPStatus(status).phrase
    return f"{status} {said}".strip()


def message_of(value: Any) -> str:
    """The message of an error in any of the usual forms."""
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or ""
    return " ".join(str(error).split())[:MESSAGE_CHARACTERS]


def retry_after(headers: dict[str, str]) -> float | None:
    """Seconds, where the endpoint names them."""
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None
