"""How much of what one request may ask for, checked before anything is allocated for it; what a model can really do is
its profile's and may be less."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Annotated

from msgspec import Meta

MESSAGES_LIMIT = 4096
PARTS_LIMIT = 1024
"""Parts of one message."""
TOOL_CALLS_LIMIT = 128
"""Calls in one message."""
TOOLS_LIMIT = 128
STOP_LIMIT = 16
MODALITIES_LIMIT = 8
PROMPTS_LIMIT = 128
CHOICES_LIMIT = 128
"""`n` and `best_of`."""
INPUTS_LIMIT = 2048
"""Texts, token lists or pictures of one embeddings call."""
LOGPROBS_LIMIT = 20
"""Alternatives per token of a text completion."""
TOKEN_LIMIT = 2**31 - 1
"""The largest count of tokens and the largest token id."""
SEED_MINIMUM, SEED_MAXIMUM = -(2**63), 2**63 - 1

NAME = re.compile(r"[A-Za-z0-9_-]+")
"""Of a function or a schema; at most NAME_LIMIT characters."""
NAME_LIMIT = 64

TEMPERATURE_MAXIMUM = 2.0
PENALTY_MAXIMUM = 2.0

Temperature = Annotated[float, Meta(ge=0.0, le=TEMPERATURE_MAXIMUM)]
TopP = Annotated[float, Meta(ge=0.0, le=1.0)]
Penalty = Annotated[float, Meta(ge=-PENALTY_MAXIMUM, le=PENALTY_MAXIMUM)]
MaxTokens = Annotated[int, Meta(ge=0, le=TOKEN_LIMIT)]
Seed = Annotated[int, Meta(ge=SEED_MINIMUM, le=SEED_MAXIMUM)]
TokenId = Annotated[int, Meta(ge=0, le=TOKEN_LIMIT)]
Stop = str | Annotated[tuple[str, ...], Meta(max_length=STOP_LIMIT)]


def is_name(text: str) -> bool:
    """May a function or a schema be called this?"""
    return len(text) <= NAME_LIMIT and (
        (text.isascii() and text.isidentifier()) or NAME.fullmatch(text) is not None  # the first is quick
    )


SECURITY_CONTEXT = MappingProxyType(
    {"application_name": (0, 100), "end_user_id": (36, 36), "end_user_tenant_id": (36, 36), "source_ip": (2, 45)}
)
"""Least and greatest length of what `user_security_context` may say."""
