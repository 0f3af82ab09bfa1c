"""Chat requests, from their bodies."""

from __future__ import annotations

from typing import Any, Final

from modelport.core.content import ResponseFormat
from modelport.core.requests import ChatRequest, NamedToolChoice
from modelport.dialects.openai_shape.bounds import is_name
from modelport.dialects.openai_shape.messages import is_sound
from modelport.dialects.openai_shape.parameters import CHAT, OPENAI_CHAT, NamedFunctionChoice
from modelport.dialects.openai_shape.schema import BodySchema


def settle_sampling(options: Any) -> None:
    """Null is the same as nothing; an empty string stops nothing."""
    stop = options.stop
    if stop != ():
        options.stop = () if not stop else (stop,) if isinstance(stop, str) else tuple(filter(None, stop))
    if options.stream is None:
        options.stream = False


def _settle(options: Any) -> bool | None:
    """See BodySchema. What types cannot say is looked at here; a rare field is left to the walk altogether."""
    for message in options.messages:
        if type(message.content) is str and message.tool_calls is None and message.role != "tool":
            continue
        if not is_sound(message):
            return None
    if options.user_security_context is not None:
        return None
    is_free = False
    if options.tools:
        is_free = True
        for tool in options.tools:
            if not is_name(tool.function.name):
                return None
    elif options.tools is None:
        options.tools = ()
    if type(options.tool_choice) is NamedFunctionChoice:
        name = options.tool_choice.function.name
        if not is_name(name):
            return None
        options.tool_choice = NamedToolChoice(name)
    if options.response_format is not None:
        if not _is_whole(options.response_format):
            return None
        is_free = is_free or options.response_format.type != "text"
    if options.stop != () or options.stream is None:
        settle_sampling(options)
    if options.modalities is not None:
        options.modalities = options.modalities or None
    return is_free


def _settle_openai(options: Any) -> bool | None:
    """The same, with the newer name of `max_tokens`."""
    if options.max_completion_tokens is not None:
        options.max_tokens = options.max_completion_tokens
    return _settle(options)


def _is_whole(format: ResponseFormat) -> bool:
    """Whether each type of format has what belongs to it, and nothing else."""
    if format.schema is not None and format.type != "json_object":
        return False
    if format.json_schema is None:
        return format.type != "json_schema"
    return format.type == "json_schema" and is_name(format.json_schema.name)


INFERENCE: Final = BodySchema(ChatRequest, CHAT, _settle)
OPENAI: Final = BodySchema(ChatRequest, OPENAI_CHAT, _settle_openai, left=("functions", "function_call"))
