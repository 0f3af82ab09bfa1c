"""Text completions, from their bodies."""

from __future__ import annotations

from typing import Any, Final

from modelport.core.requests import CompletionsRequest
from modelport.dialects.openai_shape import bounds
from modelport.dialects.openai_shape.inputs import inputs_of
from modelport.dialects.openai_shape.parameters import COMPLETIONS as ROWS
from modelport.dialects.openai_shape.request import settle_sampling
from modelport.dialects.openai_shape.schema import BodySchema


def _settle(options: Any) -> bool | None:
    """See BodySchema."""
    options.prompt = ("<|endoftext|>",) if options.prompt is None else inputs_of(options.prompt, bounds.PROMPTS_LIMIT)
    options.echo = options.echo or False
    settle_sampling(options)
    return None if options.prompt is None else False


COMPLETIONS: Final = BodySchema(CompletionsRequest, ROWS, _settle)
