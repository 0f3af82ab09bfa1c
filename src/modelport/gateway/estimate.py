"""How many tokens a call may need, guessed from what is known before a model sees it: bytes, pictures, `max_tokens`.

Two questions, two answers. *What must be reserved?* An amount that the prompt stays below in nearly every language: a
token for three bytes of the body. *What was it, when nobody counted?* The likely amount: a token for four bytes of
text. Neither reads the text, so both cost the same for any prompt of one length. What was reserved too much is given
back at the end; what was too little is booked then (docs/guides/quotas.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from modelport.core.catalog import RateLimits
from modelport.core.content import AudioPart, AudioUrlPart, ImagePart, Message, TextPart
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    Request,
)
from modelport.core.usage import TokenUsage

COUNTED: Final = frozenset({"n", "best_of", "max_completion_tokens", "service_tier"})
"""Further parameters that change what a call needs or costs."""
EMBEDDING: Final = (EmbeddingsRequest, ImageEmbeddingsRequest)
RESERVED_BYTES_PER_TOKEN: Final = 3
"""Prose in any script and most code need fewer tokens than one in three bytes of UTF-8."""
LIKELY_BYTES_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
"""What a chat template puts around each turn."""
IMAGE_TOKENS: Final = 1445
"""A picture in full detail: 85 and 170 for each of at most eight tiles."""
LOW_DETAIL_IMAGE_TOKENS: Final = 85
AUDIO_BYTES_PER_TOKEN: Final = 1000
"""Base64 bytes of the densest common sound (64 kbit/s at ten tokens a second)."""
LINKED_AUDIO_TOKENS: Final = 600
"""A sound by address, whose length we cannot see: a minute of it."""


class Need(Struct, frozen=True):
    """What a call reserves. `bounded`: the caller named a `max_tokens`, so `completion` is all it can become; if not,
    it is topped up by `step` as tokens are made."""

    prompt: int
    completion: int
    step: int
    bounded: bool
    total: int
    """What is reserved at first."""
    is_usual: bool = False
    """A chat of texts, with nothing that changes what it costs."""


def need(request: Request, limits: RateLimits, reserve_tokens: int) -> Need:
    """What this request reserves under these limits; `reserve_tokens` is the step where it names no `max_tokens`."""
    prompt, most = 0, None
    if (
        type(request) is ChatRequest
        and not request.modalities
        and not (request.extra and not COUNTED.isdisjoint(request.extra))
    ):
        messages, most = request.messages, request.max_tokens
        prompt = -(-(request.body_bytes or text_bytes(request)) // RESERVED_BYTES_PER_TOKEN)
        prompt += MESSAGE_TOKENS * (len(messages) + 1)
        for message in messages:
            if type(message.content) is tuple:
                prompt = 0
                break
    is_usual = prompt > 0
    if not is_usual:
        prompt = reserved_prompt(request)
        if isinstance(request, EMBEDDING):
            return Need(prompt, 0, reserve_tokens, True, prompt)
        most = completion_limit(request)
        if most is not None:
            most *= generated_choices(request)
    if most is not None:
        return Need(prompt, most, reserve_tokens, True, prompt + most, is_usual)
    step = reserve_tokens
    if limits.tokens_per_minute is not None and prompt < limits.tokens_per_minute:
        # A step that never fits would refuse every open-ended call under a small limit.
        step = min(step, limits.tokens_per_minute - prompt)
    return Need(prompt, step, step, False, prompt + step, is_usual)


def completion_limit(request: ChatRequest | CompletionsRequest) -> int | None:
    """The most tokens of one choice, if the caller named it under either of its two names."""
    named = (request.max_tokens, request.extra.get("max_completion_tokens"))
    return max((value for value in named if isinstance(value, int)), default=None)


def generated_choices(request: ChatRequest | CompletionsRequest) -> int:
    """How many completions are generated: `best_of` makes more than it shows."""
    if isinstance(request, CompletionsRequest):
        return max(request.n or 1, request.best_of or 1) * len(request.prompt)
    if not request.extra:
        return 1
    best_of = request.extra.get("best_of")
    return max(request.choices, best_of if isinstance(best_of, int) else 1)


def reserved_prompt(request: Request) -> int:
    """The prompt's part of a reservation."""
    if type(request) is ChatRequest:
        media_bytes, images, audio = media(request.messages)
        length = request.body_bytes - media_bytes if request.body_bytes else text_bytes(request)
        turns = MESSAGE_TOKENS * (len(request.messages) + 1)
        return tokens_in(max(0, length), RESERVED_BYTES_PER_TOKEN) + turns + images + audio
    if type(request) is CompletionsRequest:
        return prompt_tokens(request.prompt, RESERVED_BYTES_PER_TOKEN)
    if type(request) is EmbeddingsRequest:
        # Encoders put a begin and an end token around each text.
        return prompt_tokens(request.input, RESERVED_BYTES_PER_TOKEN) + 2 * len(request.input)
    assert isinstance(request, ImageEmbeddingsRequest)
    return tokens_in(text_bytes(request), RESERVED_BYTES_PER_TOKEN) + IMAGE_TOKENS * len(request.input)


def likely_prompt(request: Request) -> TokenUsage:
    """The prompt's likely tokens by class, for a call whose source reported none."""
    match request:
        case ChatRequest():
            _, images, audio = media(request.messages)
            text = tokens_in(text_bytes(request), LIKELY_BYTES_PER_TOKEN) + MESSAGE_TOKENS * len(request.messages)
            return TokenUsage(input=text, image=images, audio_input=audio)
        case CompletionsRequest():
            return TokenUsage(input=prompt_tokens(request.prompt, LIKELY_BYTES_PER_TOKEN))
        case EmbeddingsRequest():
            return TokenUsage(input=prompt_tokens(request.input, LIKELY_BYTES_PER_TOKEN))
        case ImageEmbeddingsRequest():
            text = tokens_in(text_bytes(request), LIKELY_BYTES_PER_TOKEN)
            return TokenUsage(input=text, image=IMAGE_TOKENS * len(request.input))


def tokens_in(length_bytes: int, bytes_per_token: int) -> int:
    """Rounded up: a single byte is a token."""
    return -(-length_bytes // bytes_per_token)


def prompt_tokens(prompts: Iterable[str | tuple[int, ...]], bytes_per_token: int) -> int:
    """Texts by their length; token ids exactly."""
    return sum(
        tokens_in(byte_length(prompt), bytes_per_token) if isinstance(prompt, str) else len(prompt)
        for prompt in prompts
    )


def byte_length(text: str) -> int:
    """Bytes of UTF-8, without encoding what is ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def text_bytes(request: ChatRequest | ImageEmbeddingsRequest) -> int:
    """Bytes of all text that the model will read."""
    if isinstance(request, ImageEmbeddingsRequest):
        return sum(byte_length(item.text) for item in request.input if item.text is not None)
    total = message_bytes(request.messages)
    for tool in request.tools:
        function = tool.function
        # A schema's text is about as long as its repr; the exact JSON is not worth making.
        total += byte_length(function.name) + byte_length(function.description or "")
        total += byte_length(repr(function.parameters)) if function.parameters else 0
    return total


def message_bytes(messages: Iterable[Message]) -> int:
    """Bytes of the text in messages, and of the calls that they repeat."""
    total = 0
    for message in messages:
        if isinstance(message.content, str):
            total += byte_length(message.content)
        elif message.content is not None:
            total += sum(byte_length(part.text) for part in message.content if isinstance(part, TextPart))
        for call in message.tool_calls or ():
            total += byte_length(call.function.name) + byte_length(call.function.arguments)
    return total


def media(messages: Iterable[Message]) -> tuple[int, int, int]:
    """(bytes in the body that are no text, tokens of the pictures, tokens of the sounds)."""
    length = images = audio = 0
    for message in messages:
        if message.content is None or isinstance(message.content, str):
            continue
        for part in message.content:
            match part:
                case ImagePart():
                    length += len(part.image_url.url)
                    images += LOW_DETAIL_IMAGE_TOKENS if part.image_url.detail == "low" else IMAGE_TOKENS
                case AudioPart():
                    length += len(part.input_audio.data)
                    audio += tokens_in(len(part.input_audio.data), AUDIO_BYTES_PER_TOKEN)
                case AudioUrlPart():
                    length += len(part.audio_url.url)
                    audio += LINKED_AUDIO_TOKENS
                case TextPart():
                    pass
    return length, images, audio
