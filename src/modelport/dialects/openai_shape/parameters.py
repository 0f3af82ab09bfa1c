"""The parameters of each operation, one row each. The schemas of bodies, their lenient reading and what upstreams are
sent all follow from these rows; core/requests.py gives each its attribute and default, in the same order."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

from msgspec import Meta, Struct

from modelport.core.content import Message, ResponseFormat, Tool
from modelport.core.requests import EncodingFormat, ImageInput, StreamOptions, ToolChoice
from modelport.dialects.fields import FieldWalk, Read, integer, literal, number
from modelport.dialects.openai_shape import bounds, inputs, messages, options

InputType = Literal["text", "query", "document"]
_Choices = Annotated[int, Meta(ge=1, le=bounds.CHOICES_LIMIT)]
_TokenIds = tuple[bounds.TokenId, ...]


class Parameter(NamedTuple):
    """One field of a body."""

    name: str
    type: Any
    """What msgspec takes as it is, beside null."""
    read: Read
    """For what that type refuses."""
    attribute: str = ""
    """Of the request, where it is another parameter's: then this row counts if both were sent."""


class NamedFunction(Struct, frozen=True):
    """The function inside a named `tool_choice`."""

    name: str


class NamedFunctionChoice(Struct, frozen=True):
    """`tool_choice` as an object."""

    function: NamedFunction
    type: Literal["function"] = "function"


_MODEL: Final = Parameter("model", str, FieldWalk.string)
_SAMPLING: Final = (
    Parameter("frequency_penalty", bounds.Penalty, number(-bounds.PENALTY_MAXIMUM, bounds.PENALTY_MAXIMUM)),
    Parameter("presence_penalty", bounds.Penalty, number(-bounds.PENALTY_MAXIMUM, bounds.PENALTY_MAXIMUM)),
    Parameter("temperature", bounds.Temperature, number(0.0, bounds.TEMPERATURE_MAXIMUM)),
    Parameter("top_p", bounds.TopP, number(0.0, 1.0)),
    Parameter("seed", bounds.Seed, integer(bounds.SEED_MINIMUM, bounds.SEED_MAXIMUM)),
    Parameter("max_tokens", bounds.MaxTokens, integer(0, bounds.TOKEN_LIMIT)),
    Parameter("stop", bounds.Stop, options.stop),
    Parameter("stream", bool, FieldWalk.boolean),
    Parameter("stream_options", StreamOptions, options.stream_options),
)
CHAT: Final = (
    Parameter(
        "messages",
        Annotated[tuple[Message, ...], Meta(min_length=1, max_length=bounds.MESSAGES_LIMIT)],
        messages.messages,
    ),
    _MODEL,
    *_SAMPLING,
    Parameter("response_format", ResponseFormat, options.response_format),
    Parameter("tools", Annotated[tuple[Tool, ...], Meta(max_length=bounds.TOOLS_LIMIT)], options.tools),
    Parameter("tool_choice", ToolChoice | NamedFunctionChoice, options.tool_choice),
    Parameter(
        "modalities",
        Annotated[tuple[Literal["text", "audio"], ...], Meta(max_length=bounds.MODALITIES_LIMIT)],
        options.modalities,
    ),
    Parameter("user_security_context", dict[str, Any], options.security_context),
)
"""Of the inference API, and `stream_options`, which its clients send all the same."""
OPENAI_CHAT: Final = (
    *CHAT,
    Parameter("max_completion_tokens", bounds.MaxTokens, integer(0, bounds.TOKEN_LIMIT), "max_tokens"),
)
"""With the newer name of `max_tokens`, which wins."""
COMPLETIONS: Final = (
    Parameter("prompt", str | tuple[str | bounds.TokenId | _TokenIds, ...], inputs.reader(bounds.PROMPTS_LIMIT)),
    _MODEL,
    *_SAMPLING,
    Parameter("n", _Choices, integer(1, bounds.CHOICES_LIMIT)),
    Parameter("best_of", _Choices, integer(1, bounds.CHOICES_LIMIT)),
    Parameter("suffix", str, FieldWalk.string),
    Parameter("logprobs", Annotated[int, Meta(ge=0, le=bounds.LOGPROBS_LIMIT)], options.completion_logprobs),
    Parameter("echo", bool, FieldWalk.boolean),
)
_VECTORS: Final = (
    _MODEL,
    Parameter("encoding_format", EncodingFormat, literal(*get_args(EncodingFormat))),
    Parameter("dimensions", Annotated[int, Meta(ge=1, le=bounds.TOKEN_LIMIT)], integer(1, bounds.TOKEN_LIMIT)),
    Parameter("input_type", InputType, literal(*get_args(InputType))),
)
EMBEDDINGS: Final = (
    Parameter("input", str | tuple[str | bounds.TokenId | _TokenIds, ...], inputs.reader(bounds.INPUTS_LIMIT)),
    *_VECTORS,
)
IMAGE_EMBEDDINGS: Final = (
    Parameter(
        "input", Annotated[tuple[ImageInput, ...], Meta(min_length=1, max_length=bounds.INPUTS_LIMIT)], inputs.images
    ),
    *_VECTORS,
)
NAMES: Final = frozenset(row.name for rows in (OPENAI_CHAT, COMPLETIONS, EMBEDDINGS) for row in rows)
"""All of them."""
