"""Log-probabilities of tokens that nobody weighed: drawn from a hash, in the wire shapes of both operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelport.providers.scripted.vectors import likelihood


def chat_logprobs(pieces: Sequence[str], top: int, seed: int) -> dict[str, Any]:
    """`{"content": […]}` for one delta."""
    return {
        "content": [
            {**_entry(token, seed), "top_logprobs": [_entry(one, seed) for one in _likeliest(token, top)]}
            for token in pieces
        ]
    }


def completion_logprobs(pieces: Sequence[str], top: int, offset: int, seed: int) -> dict[str, Any]:
    """The four arrays of text completions; `offset` is where the first token starts in the whole text."""
    offsets = []
    for token in pieces:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": list(pieces),
        "token_logprobs": [likelihood(seed, token) for token in pieces],
        "top_logprobs": [{one: likelihood(seed, one) for one in _likeliest(token, top)} for token in pieces]
        if top
        else None,
        "text_offset": offsets,
    }


def _entry(token: str, seed: int) -> dict[str, Any]:
    return {"token": token, "logprob": likelihood(seed, token), "bytes": list(token.encode("utf-8", "replace"))}


def _likeliest(token: str, count: int) -> list[str]:
    """The token itself and made-up rivals."""
    return [token, *(f"{token}{place}" for place in range(1, count))][: max(0, count)]
