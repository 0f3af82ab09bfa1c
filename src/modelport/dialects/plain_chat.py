"""The chat that nearly everybody has: texts and sampling parameters in, one text out, whole. Read and written in one
typed step each, for the lane (lane/plain.py). Whatever does not fit takes the general types, with the same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from modelport.core.answers import PlainAnswer
from modelport.dialects.openai_shape import bounds


class PlainMessage(Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One turn that is text."""

    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = None


Turns = Annotated[list[PlainMessage], Meta(min_length=1, max_length=bounds.MESSAGES_LIMIT)]


class PlainChat(Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A request, in the order of fields in which upstreams are asked (openai_chat/upstream_requests.py). Not frozen:
    what was read is written on with the upstream's names."""

    model: str | None = None
    messages: Turns
    frequency_penalty: bounds.Penalty | None = None
    presence_penalty: bounds.Penalty | None = None
    temperature: bounds.Temperature | None = None
    top_p: bounds.TopP | None = None
    seed: bounds.Seed | None = None
    max_tokens: bounds.MaxTokens | None = None
    max_completion_tokens: bounds.MaxTokens | None = None
    stop: bounds.Stop | None = None
    stream: Literal[False] | None = None


class PlainCodec(Struct, frozen=True):
    """How a target is asked a plain chat: what is the same each time, and the two steps."""

    path: str
    headers: tuple[tuple[str, str], ...]
    encode: Callable[[PlainChat], bytes]
    decode: Callable[[bytes], PlainAnswer | None]
    """None: this answer is not plain."""


AROUND_BYTES: Final = 4096
"""What stands around the messages is longer than this only where somebody plays."""


class _Turns(Struct, gc=False):
    """Where the messages are."""

    messages: msgspec.Raw


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode = msgspec.json.Decoder(PlainChat).decode
decode_turns: Final = msgspec.json.Decoder(Turns).decode
"""The value of `messages` alone. Raises UNREADABLE."""
encode_turns: Final = msgspec.json.Encoder().encode
"""The same, written: each field once, whatever the caller repeated."""
_find_turns = msgspec.json.Decoder(_Turns).decode
_encode = msgspec.json.Encoder().encode


def decode_plain(body: bytes, *, has_max_completion_tokens: bool = True) -> PlainChat | None:
    """OpenAI's spelling; None: leave it to the surface's own decoder."""
    try:
        asked = _decode(body)
    except UNREADABLE:
        return None
    if asked.max_completion_tokens is not None and not has_max_completion_tokens:
        return None
    if asked.max_completion_tokens is not None:
        asked.max_tokens, asked.max_completion_tokens = asked.max_completion_tokens, None
    if asked.stop is not None:
        stop = asked.stop
        asked.stop = ((stop,) if isinstance(stop, str) else tuple(filter(None, stop))) if stop else None
        asked.stop = asked.stop or None
    asked.stream = None
    return asked


def decode_plain_inference(body: bytes) -> PlainChat | None:
    """The same on the surface that has no `max_completion_tokens`: there it is an extra."""
    return decode_plain(body, has_max_completion_tokens=False)


def encoder(model: str, max_tokens_name: str | None) -> Callable[[PlainChat], bytes]:
    """Writes requests for the upstream's name of the model, with its spelling of `max_tokens`."""
    is_renamed = max_tokens_name == "max_completion_tokens"

    def encode(asked: PlainChat) -> bytes:
        asked.model = model
        if is_renamed:
            asked.max_completion_tokens, asked.max_tokens = asked.max_tokens, None
        return _encode(asked)

    return encode


def around_turns(body: bytes) -> tuple[bytes, bytes] | None:
    """What stands before and after the value of `messages` in a plain body; None: there may be more of them."""
    turns = bytes(_find_turns(body).messages)
    before, _, after = body.partition(turns)
    is_only_one = before.count(b'"messages"') == 1 and b'"messages"' not in after and turns not in after
    is_spelled_out = b"\\u" not in before
    return (before, after) if is_only_one and is_spelled_out and len(before) + len(after) <= AROUND_BYTES else None
