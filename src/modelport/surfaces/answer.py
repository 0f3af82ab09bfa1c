"""An inference call at its door: builds the Call from the request's head, and holds the pipeline open while it writes
the answer, as one JSON object or as server-sent events.

The response's head goes out only when there is an answer, so a refusal keeps its own status. An answer that breaks in
the middle ends in a broken connection (contract: an error chunk, no `[DONE]`, no terminating chunk).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import Final

from modelport.core.answers import AnswerHead
from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import InternalError, ModelportError, RouteNotFound, Unavailable, UpstreamTimedOut
from modelport.core.events import Event
from modelport.core.quota import QuotaState
from modelport.core.requests import Request
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.call import Answer, Call
from modelport.gateway.fold import fold_of, folded
from modelport.surfaces.asgi import EVENT_STREAM, JSON, Headers
from modelport.surfaces.door import Door, Inference, Speech, StreamWriter
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import listed, printable, quota_headers

STOPPED_RETRY_SECONDS: Final = 5
STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
LAST_WORD_SECONDS: Final = 1.0
"""How long we try to tell a client, that may have stopped reading, why its stream ends."""


async def infer(exchange: Exchange, door: Door, inference: Inference) -> None:
    """Answers one inference call. Raises ModelportError; if the response has started by then, cut the connection."""
    speech = inference.speech()
    deadline = asyncio.timeout(exchange.options.limits.request_seconds)
    call = called(exchange, door, inference, speech, deadline)
    reasoning = inference.reasoning(exchange.head.query.get("api-version"))
    writer: StreamWriter | None = None
    try:
        async with deadline, exchange.gateway.run(call) as answer:
            head = AnswerHead(
                id=speech.new_id(),
                created=math.floor(exchange.options.clock.now()),
                model=answer.deployment.answered_name,
            )
            if speech.stream is not None and answer.request.stream:
                writer = speech.stream(head, answer.request, reasoning)
                await stream(exchange, answer, writer)
            else:
                await whole(exchange, answer, speech, head, reasoning)
    except TimeoutError:
        if not deadline.expired():
            raise
        if not exchange.body.complete:
            raise exchange.body.late() from None
        if writer is not None and exchange.started:
            await last_word(exchange, writer, too_late())
        raise too_late() from None
    except asyncio.CancelledError:
        if writer is not None and exchange.is_stopped_by_us:
            await last_word(exchange, writer, stopped())
        raise


def too_late() -> UpstreamTimedOut:
    """The answer outlasted the request's own limit."""
    return UpstreamTimedOut("The answer took longer than the server allows for one request.")


def called(exchange: Exchange, door: Door, inference: Inference, speech: Speech, deadline: asyncio.Timeout) -> Call:
    """The Call that this request's head makes."""
    head = exchange.head

    async def read() -> bytes:
        body = await exchange.body.read()
        exchange.hangup.listen()
        return body

    def decode(body: bytes) -> Request:
        # Here and not at once: who is not known is told nothing about versions.
        if head.api_version is None and inference.needs_api_version_when_strict and exchange.options.strict:
            raise RouteNotFound
        return speech.read(body, exchange.options.limits)

    def why_cancelled() -> ModelportError | None:
        # `expired` is true already while the cancellation travels.
        if not deadline.expired():
            return stopped() if exchange.is_stopped_by_us else None
        return too_late() if exchange.body.complete else exchange.body.late()

    return Call(
        operation=inference.operation,
        surface=door.surface,
        credential=head.credential,
        selector=inference.selector(head, exchange.parameters),
        read=read,
        decode=decode,
        extra_parameters=head.extra_parameters if inference.checks_extras else None,
        checks_extras=inference.checks_extras,
        request_id=head.request_id,
        client_request_id=head.client_request_id,
        deadline=exchange.options.clock.monotonic() + exchange.options.limits.request_seconds,
        why_cancelled=why_cancelled,
    )


async def whole(
    exchange: Exchange, answer: Answer, speech: Speech, head: AnswerHead, reasoning: ReasoningPlace
) -> None:
    """Writes the answer as one JSON object."""
    made = await folded(answer.events, fold_of(answer.request))
    body = speech.whole(head, answer.request, made, reasoning)
    headers = answer_headers(answer.quota, answer.deployment, answer.snapshot, answer.dropped)
    headers.append((b"content-length", b"%d" % len(body)))
    await exchange.start(200, JSON, headers)
    await exchange.finish(body)


async def stream(exchange: Exchange, answer: Answer, writer: StreamWriter) -> None:
    """Writes the answer as it comes, one piece per batch; a slow reader slows the source."""
    headers = answer_headers(answer.quota, answer.deployment, answer.snapshot, answer.dropped)
    headers += STREAM_HEADERS
    await exchange.start(200, EVENT_STREAM, headers)
    try:
        async for batch in answer.events:
            data = writer.feed(batch)
            if data:
                await exchange.write(data)
        last = writer.end()
    except ModelportError as error:
        await last_word(exchange, writer, error)
        raise
    except Exception:
        await last_word(exchange, writer, InternalError())
        raise
    finally:
        await closed(answer.events)
    await exchange.finish(last)


def stopped() -> Unavailable:
    """What a call hears that was still running when the time to drain was over."""
    return Unavailable("The server is shutting down.", retry_after=STOPPED_RETRY_SECONDS)


async def closed(events: AsyncIterator[list[Event]]) -> None:
    """Ends what makes the events, where they were left before their end."""
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


async def last_word(exchange: Exchange, writer: StreamWriter, error: ModelportError) -> None:
    """The error chunk before the cut, if the client still reads."""
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS):
            await exchange.write(writer.broken(error))
    except TimeoutError:
        return


def answer_headers(quota: QuotaState, deployment: Deployment, snapshot: Snapshot, dropped: Sequence[str]) -> Headers:
    """What a 200 says about how it was made."""
    headers = quota_headers(quota)
    headers.append((b"x-ms-deployment-name", printable(deployment.name)))
    headers.append((b"x-modelport-snapshot", printable(snapshot.id)))
    if dropped:
        headers.append((b"x-modelport-dropped-parameters", listed(dropped)))
    return headers
