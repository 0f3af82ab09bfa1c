"""Bodies: too large, too slow, cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelport.core.errors import BodyTooLarge, RequestTimedOut
from modelport.surfaces.asgi import Message
from modelport.surfaces.limits import Body
from modelport.surfaces.options import Limits

from .test_headers import head

GONE: Message = {"type": "http.disconnect"}
CHUNKED = ("transfer-encoding", "chunked")


def piece(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


class Arriving:
    """A client that sends these messages and then nothing more."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    async def __call__(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)


def body(arriving: Arriving, *headers: tuple[str, str], **limits: Any) -> Body:
    return Body(arriving, head(*headers), Limits(**limits))


async def test_pieces_are_joined() -> None:
    assert await body(Arriving(piece(b"ab"), piece(b"c", more=False)), CHUNKED).read() == b"abc"


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    assert await body(Arriving(piece(b"abcd", more=False)), ("content-length", "4"), body_bytes=4).read() == b"abcd"


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    assert await body(Arriving()).read() == b""


async def test_an_announced_length_over_the_limit_is_refused_unread() -> None:
    arriving = Arriving(piece(b"abcde", more=False))
    with pytest.raises(BodyTooLarge, match="4 bytes"):
        await body(arriving, ("content-length", "5"), body_bytes=4).read()
    assert len(arriving.messages) == 1


async def test_a_chunked_body_is_refused_as_soon_as_it_is_over_the_limit() -> None:
    arriving = Arriving(piece(b"abc"), piece(b"de"), piece(b"f", more=False))
    with pytest.raises(BodyTooLarge):
        await body(arriving, CHUNKED, body_bytes=4).read()
    assert len(arriving.messages) == 1


async def test_a_body_that_stands_still_times_out() -> None:
    with pytest.raises(RequestTimedOut):
        await body(Arriving(piece(b"abc")), CHUNKED, idle_seconds=0.01).read()


async def test_a_body_that_trickles_times_out() -> None:
    class Trickling(Arriving):
        async def __call__(self) -> Message:
            await asyncio.sleep(0.001)
            return piece(b"a")

    with pytest.raises(RequestTimedOut):
        await body(Trickling(), CHUNKED, idle_seconds=10, request_seconds=0.05).read()


async def test_a_client_that_hangs_up_in_its_own_body_cancels_the_call() -> None:
    cut = body(Arriving(piece(b"abc"), GONE), CHUNKED)
    with pytest.raises(asyncio.CancelledError):
        await cut.read()
    assert cut.client_gone


async def test_an_unread_rest_is_read_away_before_an_answer() -> None:
    arriving = Arriving(piece(b"a" * 100), piece(b"b", more=False))
    assert await body(arriving, CHUNKED).discard()
    assert not arriving.messages


async def test_the_rest_of_a_late_body_is_not_waited_for() -> None:
    late = body(Arriving(piece(b"abc")), ("content-length", "9"), idle_seconds=0.01)
    with pytest.raises(RequestTimedOut):
        await late.read()
    assert not await late.discard()


async def test_a_body_that_waits_for_our_word_is_not_asked_for_in_vain() -> None:
    arriving = Arriving(piece(b"a", more=False))
    asked = body(arriving, ("content-length", "1"), ("expect", "100-continue"))
    assert not await asked.discard()
    assert arriving.messages
