"""Guessing tokens before they are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelport.core.catalog import RateLimits
from modelport.core.content import (
    AudioPart,
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    InputAudio,
    Message,
    TextPart,
    Tool,
)
from modelport.core.requests import ChatRequest, EmbeddingsRequest, ImageEmbeddingsRequest, ImageInput
from modelport.core.usage import TokenUsage
from modelport.gateway.estimate import likely_prompt, need, reserved_prompt


def asked(*content: object, body_bytes: int = 0, **fields: object) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=tuple(content)),), body_bytes=body_bytes, **fields)


def test_a_picture_counts_as_a_picture_and_not_as_its_bytes():
    url = "data:image/png;base64," + "A" * 1_000_000
    request = asked(TextPart("What is this?"), ImagePart(ImageUrl(url)), body_bytes=len(url) + 60)
    assert reserved_prompt(request) == 20 + 8 + 1445
    assert likely_prompt(request) == TokenUsage(input=4 + 4, image=1445)


def test_a_picture_in_low_detail_is_small():
    assert likely_prompt(asked(ImagePart(ImageUrl("https://x/y.png", "low")))).image == 85


def test_sound_counts_by_its_length():
    request = asked(AudioPart(InputAudio(data="A" * 50_000, format="wav")), body_bytes=50_060)
    assert likely_prompt(request).audio_input == 50
    assert reserved_prompt(request) == 20 + 8 + 50


def test_without_a_body_length_the_texts_are_measured():
    request = asked(TextPart("x" * 300), tools=(Tool(FunctionDefinition("add", "adds", {"type": "object"})),))
    assert reserved_prompt(request) > 100 + 8


def test_token_ids_count_exactly():
    assert likely_prompt(EmbeddingsRequest(input=((1, 2, 3), (4, 5)))) == TokenUsage(input=5)


def test_image_embeddings_count_pictures_and_their_texts():
    request = ImageEmbeddingsRequest(input=(ImageInput("data:…", "a dog!!!"), ImageInput("data:…")))
    assert likely_prompt(request) == TokenUsage(input=2, image=2890)


def test_either_name_of_the_limit_bounds_a_call():
    named = ChatRequest(messages=(), max_tokens=None, extra={"max_completion_tokens": 40})
    assert (need(named, RateLimits(), 1024).completion, need(named, RateLimits(), 1024).bounded) == (40, True)


def test_a_limit_of_nought_is_a_limit():
    assert need(ChatRequest(messages=(), max_tokens=0), RateLimits(), 1024).completion == 0


@given(st.text(max_size=400))
def test_the_reservation_is_never_below_the_likely_amount(text):
    request = ChatRequest(messages=(Message(role="user", content=text),), body_bytes=len(text.encode()) + 40)
    assert reserved_prompt(request) >= likely_prompt(request).prompt
