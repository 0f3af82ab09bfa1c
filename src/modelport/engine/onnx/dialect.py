"""The embeddings part of the OpenAI dialect: request fields checked before anything is computed, and the answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelport.engine.backend import JsonObject, WorkerError

KNOWN_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "input_type", "user"})
INPUT_TYPES = ("text", "query", "document")


def check_fields(request: JsonObject) -> None:
    """Refuses a field that nothing here would honour."""
    for name in request:
        if name not in KNOWN_FIELDS:
            raise WorkerError.unsupported(name, f"This embedding model does not support {name!r}.")


def wants_base64(request: JsonObject) -> bool:
    """Whether vectors travel as base64 of little-endian float32."""
    encoding = request.get("encoding_format")
    if encoding in (None, "float"):
        return False
    if encoding == "base64":
        return True
    raise WorkerError.unsupported("encoding_format", "This worker writes embeddings as 'float' or 'base64'.")


def input_type(request: JsonObject) -> str:
    """What the texts are for."""
    value = request.get("input_type")
    if value is None:
        return "text"
    if value not in INPUT_TYPES:
        raise WorkerError.invalid("input_type", "'input_type' must be one of text, query, document.")
    return str(value)


def dimensions(request: JsonObject, whole: int, *, may_cut: bool) -> int:
    """The length of the vectors: the model's own, or a shorter one if the operator allows cutting."""
    value = request.get("dimensions")
    if value is None or value == whole:
        return whole
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WorkerError.invalid("dimensions", "'dimensions' must be a whole number of at least 1.")
    if not may_cut or value > whole:
        raise WorkerError.unsupported("dimensions", f"This model's embeddings have {whole} dimensions.")
    return value


def text_inputs(request: JsonObject, inputs_at_most: int) -> list[str] | list[list[int]]:
    """`input` as a list of texts or a list of token lists; a single one is a list of one."""
    value = request.get("input")
    if value is None:
        raise WorkerError.invalid("input", "'input' is required.")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise WorkerError.invalid("input", "'input' must be a text, or a list of at least one text.")
    if all(_is_token(one) for one in value):
        return [value]
    if len(value) > inputs_at_most:
        raise WorkerError.invalid("input", f"'input' has {len(value)} entries; at most {inputs_at_most} are allowed.")
    if all(isinstance(one, str) for one in value):
        return value
    if all(isinstance(one, list) and one and all(_is_token(token) for token in one) for one in value):
        return value
    raise WorkerError.invalid("input", "'input' must be a list of texts, or of lists of token ids, not a mixture.")


def texts_to_judge(request: JsonObject, texts_at_most: int) -> list[str]:
    """`texts` of a request by the safety filters."""
    texts = request.get("texts")
    if not isinstance(texts, list) or not 1 <= len(texts) <= texts_at_most:
        raise WorkerError.invalid("texts", f"'texts' must be a list of 1 to {texts_at_most} texts.")
    if not all(isinstance(text, str) for text in texts):
        raise WorkerError.invalid("texts", "'texts' must be a list of texts.")
    return texts


def answer(vectors: npt.NDArray[np.float32], *, as_base64: bool, usage: Mapping[str, int]) -> JsonObject:
    """The response body; the vectors are rows."""
    rows: Sequence[Any]
    if as_base64:
        rows = [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in vectors]
    else:
        rows = vectors.tolist()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "usage": dict(usage),
    }


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
