"""The model lists of `/openai/models`, `/openai/v1/models` and `/v1/models`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct


class ListedModel(Struct, frozen=True, kw_only=True):
    """One deployment as clients list it: `id` is its name, `created` unix seconds, `owned_by` its publisher."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


def model_list(models: Iterable[ListedModel]) -> bytes:
    """All of them."""
    return msgspec.json.encode({"object": "list", "data": list(models)})


def model(listed: ListedModel) -> bytes:
    """One of them, alone."""
    return msgspec.json.encode(listed)
