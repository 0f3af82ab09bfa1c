"""How answers say what a content filter has found: Azure's fields, on every surface that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from modelport.core.events import Annotation, ExtraFields

RESULTS: Final = "content_filter_results"
PROMPT_RESULTS: Final = "prompt_filter_results"
NAMELESS: Final = {"id": "", "object": "", "created": 0, "model": ""}
"""What chunks of annotations alone say of themselves at Azure."""

_encode = msgspec.json.Encoder().encode


def prompt_fields(annotations: Sequence[Annotation], *, always: bool) -> dict[str, Any]:
    """`prompt_filter_results`. `always`: also those that are not notable."""
    found = [
        {"prompt_index": annotation.prompt, RESULTS: annotation.results}
        for annotation in annotations
        if always or annotation.is_notable
    ]
    return {PROMPT_RESULTS: found} if found else {}


def beside(extra: dict[str, Any], annotations: Sequence[Annotation], *, always: bool) -> dict[str, Any]:
    """An answer's further fields with what is said of its prompt, which counts more than what its source says."""
    return {**extra, **prompt_fields(annotations, always=always)} if annotations else extra


def beside_choice(extra: ExtraFields | None, annotation: Annotation | None, *, always: bool) -> ExtraFields | None:
    """The same for a choice."""
    if annotation is None or not (always or annotation.is_notable):
        return extra
    known = extra or ExtraFields()
    return ExtraFields(known.answer, {**known.choice, **choice_fields(annotation)}, known.message)


def choice_fields(annotation: Annotation) -> dict[str, Any]:
    """What stands in a choice; of an asynchronous filter with the text it is about."""
    offsets = annotation.offsets
    if offsets is None:
        return {RESULTS: annotation.results}
    where = {"check_offset": offsets.check, "start_offset": offsets.start, "end_offset": offsets.end}
    return {RESULTS: annotation.results, "content_filter_raw": [], "content_filter_offsets": where}


def prompt_chunk(annotations: Sequence[Annotation]) -> bytes:
    """The chunk that Azure OpenAI's streams begin with."""
    fields = prompt_fields(annotations, always=True)
    return b"data: " + _encode({**NAMELESS, **fields, "choices": [], "usage": None}) + b"\n\n"


def bare_chunk(annotation: Annotation) -> bytes:
    """An annotation by itself, exactly as Azure documents it: without a delta."""
    choice = {"index": annotation.choice, "finish_reason": None, **choice_fields(annotation)}
    return b"data: " + _encode({**NAMELESS, "choices": [choice], "usage": None}) + b"\n\n"
