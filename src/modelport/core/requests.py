"""What is asked, parsed: a request that reached one of these types has passed every check of its schema.

`extra` keeps, by wire name, each body field outside the route's own schema in the Azure AI Model Inference
specification. OpenAI's further fields (`n`, `logprobs`, `top_logprobs`, `logit_bias`, `user`,
`parallel_tool_calls`, `reasoning_effort` …) live there too, on every surface: what differs by surface is only whether
they need the extra-parameters header.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from modelport.core.content import Message, ResponseFormat, Tool
from modelport.core.operations import Operation

ToolChoice = Literal["auto", "none", "required"]
EncodingFormat = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]


class NamedToolChoice(Struct, frozen=True):
    """The one function that must be called."""

    name: str


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a stream is written."""

    include_usage: bool | None = None


class OpenStreamOptions(StreamOptions, frozen=True, omit_defaults=True, kw_only=True):
    """Options with further fields."""

    extra: dict[str, Any]


class ChatRequest(Struct, frozen=True):
    """A chat completion. None means: not sent (null on the wire is the same)."""

    operation: ClassVar[Operation] = Operation.CHAT_COMPLETIONS

    messages: tuple[Message, ...]
    model: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | NamedToolChoice | None = None
    modalities: tuple[str, ...] | None = None
    user_security_context: dict[str, Any] | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    body_bytes: int = 0
    """Length of the body as received: what the prompt estimate starts from."""
    speaks_functions: bool = False
    """The tools came as `functions`, their older name: a call is answered as `function_call`."""

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        n = self.extra.get("n")
        return n if isinstance(n, int) and n > 0 else 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and self.stream_options.include_usage is True


class CompletionsRequest(Struct, frozen=True):
    """A text completion of one or several prompts, each text or token ids of the model's own vocabulary."""

    operation: ClassVar[Operation] = Operation.COMPLETIONS

    prompt: tuple[str | tuple[int, ...], ...] = ("<|endoftext|>",)
    model: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    suffix: str | None = None
    logprobs: int | None = None
    echo: bool = False
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    body_bytes: int = 0

    @property
    def choices(self) -> int:
        """How many answers are asked for, over all prompts."""
        return (self.n or 1) * len(self.prompt)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and self.stream_options.include_usage is True


class EmbeddingsRequest(Struct, frozen=True):
    """Vectors for texts, or for lists of token ids."""

    operation: ClassVar[Operation] = Operation.EMBEDDINGS

    input: tuple[str | tuple[int, ...], ...]
    model: str | None = None
    encoding_format: EncodingFormat = "float"
    dimensions: int | None = None
    input_type: Literal["text", "query", "document"] | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    body_bytes: int = 0
    stream: ClassVar[bool] = False
    max_tokens: ClassVar[None] = None
    choices: ClassVar[int] = 0


class ImageInput(Struct, frozen=True, omit_defaults=True):
    """One picture (data URL or base64), perhaps with a text that belongs to it."""

    image: str
    text: str | None = None


class ImageEmbeddingsRequest(Struct, frozen=True):
    """Vectors for pictures."""

    operation: ClassVar[Operation] = Operation.IMAGE_EMBEDDINGS

    input: tuple[ImageInput, ...]
    model: str | None = None
    encoding_format: EncodingFormat = "float"
    dimensions: int | None = None
    input_type: Literal["text", "query", "document"] | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    body_bytes: int = 0
    stream: ClassVar[bool] = False
    max_tokens: ClassVar[None] = None
    choices: ClassVar[int] = 0


Request = ChatRequest | CompletionsRequest | EmbeddingsRequest | ImageEmbeddingsRequest


_NO_PARAMETERS = frozenset(
    ("messages", "prompt", "input", "model", "stream", "stream_options", "extra", "body_bytes", "speaks_functions")
)


def _defaults(request: type[Request]) -> dict[str, Any]:
    fields = msgspec.structs.fields(request)
    return {field.name: field.default for field in fields if field.name not in _NO_PARAMETERS}


DEFAULTS: dict[type[Request], dict[str, Any]] = {
    kind: _defaults(kind) for kind in (ChatRequest, CompletionsRequest, EmbeddingsRequest, ImageEmbeddingsRequest)
}
"""What stands in a request for each parameter that was not sent."""
