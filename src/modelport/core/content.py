"""What a message is made of. Shapes follow the chat-completions vocabulary that all our surfaces share.

Each type refuses fields that it does not name. A value that came with such fields has the `Open…` subclass of its type:
its `extra` holds them by wire name, those of an inner object under that object's name, and they go on to the upstream.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

RoleName = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str


class ImageUrl(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An image by data URL or https address."""

    url: str
    detail: str | None = None


class ImagePart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="image_url"):
    """A picture for a model that can see."""

    image_url: ImageUrl


class InputAudio(Struct, frozen=True, forbid_unknown_fields=True):
    """Base64 sound."""

    data: str
    format: str


class AudioPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="input_audio"):
    """A sound for a model that can hear."""

    input_audio: InputAudio


class AudioUrl(Struct, frozen=True, forbid_unknown_fields=True):
    """A sound by address."""

    url: str


class AudioUrlPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio_url"):
    """A sound by address, for a model that can hear."""

    audio_url: AudioUrl


class OpenTextPart(TextPart, frozen=True):
    """A text part with further fields (`cache_control` …)."""

    extra: dict[str, Any]


class RefusalPart(TextPart, frozen=True):
    """An earlier answer's refusal; models without that notion read it as text."""

    extra: dict[str, Any]


class OpenImagePart(ImagePart, frozen=True):
    """A picture with further fields."""

    extra: dict[str, Any]


class OpenAudioPart(AudioPart, frozen=True):
    """A sound with further fields."""

    extra: dict[str, Any]


class OpenAudioUrlPart(AudioUrlPart, frozen=True):
    """A sound by address, with further fields."""

    extra: dict[str, Any]


Part = TextPart | ImagePart | AudioPart | AudioUrlPart


class FunctionCall(Struct, frozen=True, forbid_unknown_fields=True):
    """What the model wants called; `arguments` is JSON text, possibly unfinished or wrong: the model wrote it."""

    name: str
    arguments: str = "{}"


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True):
    """One call the assistant asked for."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class OpenToolCall(ToolCall, frozen=True, kw_only=True):
    """A call with further fields (`extra_content` …)."""

    extra: dict[str, Any]


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One turn. `content` is None only beside tool calls (assistant) or for a tool with nothing to say."""

    role: RoleName
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None

    def text(self) -> str:
        """All text of the turn, parts joined without a separator."""
        if self.content is None:
            return self.refusal or ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class OpenMessage(Message, frozen=True, omit_defaults=True, kw_only=True):
    """A turn that has further fields (`reasoning_details` …), or a part or a call with such."""

    extra: dict[str, Any] = {}


class FunctionDefinition(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function the model may call; `parameters` is a JSON schema and may be absent."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool; functions are the only kind the API knows."""

    function: FunctionDefinition
    type: Literal["function"] = "function"


class OpenTool(Tool, frozen=True, kw_only=True):
    """A tool with further fields."""

    extra: dict[str, Any]


class JsonSchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named schema that the answer must obey."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`text`, `json_object` (with a schema beside it, as several hosts take it), or `json_schema` with its schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    schema: dict[str, Any] | None = None

    @property
    def wanted_schema(self) -> dict[str, Any] | None:
        """What the answer must match, in whichever form it was sent."""
        return self.schema if self.json_schema is None else self.json_schema.schema


class OpenResponseFormat(ResponseFormat, frozen=True, omit_defaults=True, kw_only=True):
    """A format with further fields."""

    extra: dict[str, Any]
