"""The script's format: replies, when each is given, and what can go wrong on purpose."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from modelport.core.events import FinishReason
from modelport.core.operations import Operation

DEFAULT_DIMENSIONS: Final = 1024
DIMENSIONS_LIMIT: Final = 16_384

Delay = Annotated[float, Field(ge=0, le=3600)]
Dimensions = Annotated[int, Field(ge=1, le=DIMENSIONS_LIMIT)]
ScriptedOperation = Literal["chat_completions", "completions", "embeddings", "image_embeddings"]
_TEXT_OPERATIONS: Final = frozenset({Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS})


class ScriptFault(ValueError):
    """The script cannot be read; the text names the file and each wrong key."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as exc:
        raise ValueError(f"is not a regular expression ({exc})") from None
    return value


class Match(_Part):
    """When a reply is given: all conditions that are written must hold."""

    operation: ScriptedOperation | None = None
    contains: str | None = None
    """In the last user message (or the prompt, or the texts to embed), whatever the case."""
    regex: Annotated[str, AfterValidator(_expression)] | None = None
    """Found anywhere in the same text."""
    model: str | None = None
    """What the deployment's target calls the model."""
    call: Annotated[int, Field(ge=1)] | None = None
    """Only the nth of the calls for which the other conditions hold, counted from 1."""


class ToolCallReply(_Part):
    """One tool call of a reply."""

    name: str
    arguments: dict[str, JsonValue] | str | None = None
    """Absent: made from the tool's schema. A string is sent as it is, valid JSON or not."""
    id: Annotated[str, Field(min_length=1, max_length=40)] | None = None


class EmbeddingReply(_Part):
    """How vectors are made."""

    dimensions: Dimensions = DEFAULT_DIMENSIONS
    vector: Annotated[list[float], Field(min_length=1, max_length=DIMENSIONS_LIMIT)] | None = None
    """This one for every input, instead of one from the text's hash."""


class FaultReply(_Part):
    """An answer of an upstream that says no, or breaks."""

    status: Annotated[int, Field(ge=400, le=599)] = 500
    code: str | None = None
    message: str = "The script says that this call fails."
    param: str | None = None
    retry_after: Annotated[int, Field(ge=1)] | None = None
    engine: bool = False
    """Fail as a model that runs here, not as an upstream elsewhere."""


class Reply(_Part):
    """One answer, or one failure."""

    match: Match = Match()
    text: str | None = None
    echo: bool = False
    """Answer with JSON that says exactly what was asked."""
    chunks: list[str] | None = None
    """The text, cut as it is to be streamed."""
    json_value: JsonValue = Field(default=None, alias="json")
    """This value, written as JSON."""
    reasoning: str | None = None
    tool_calls: list[ToolCallReply] | Literal["auto", "never"] = "auto"
    logprobs: bool = True
    """False: a model that gives none, asked or not."""
    finish_reason: FinishReason | None = None
    embedding: EmbeddingReply | None = None
    usage: dict[str, JsonValue] | Literal["none"] | None = None
    """`none`: a source that reports nothing. A mapping is what an upstream would write as `usage`."""
    delay_seconds: Delay = 0.0
    delay_between_chunks_seconds: Delay = 0.0
    fault: FaultReply | None = None
    fault_after_chunks: Annotated[int, Field(ge=0)] | None = None
    hang_after_chunks: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Reply:
        said = [name for name in ("text", "chunks", "json") if name in self._given()] + ["echo"] * self.echo
        if len(said) > 1:
            raise ValueError(f"has both {said[0]} and {said[1]}; keep one of them")
        return self

    def _given(self) -> frozenset[str]:
        """Keys that were written, by their names in the script."""
        return frozenset("json" if name == "json_value" else name for name in self.model_fields_set)

    @property
    def says_text(self) -> bool:
        """Does it say what the text is?"""
        return self.echo or not self._given().isdisjoint({"text", "chunks", "json"})

    @property
    def text_given(self) -> str | None:
        """The text that is written, other than JSON."""
        return "".join(self.chunks) if self.chunks is not None else self.text

    @property
    def gives_json(self) -> bool:
        """Is a JSON value written?"""
        return "json" in self._given()

    def suits(self, operation: Operation) -> bool:
        """A reply that only says what the text is does not answer an embeddings call, nor the reverse."""
        says_chat = self.says_text or self.reasoning is not None or isinstance(self.tool_calls, list)
        if operation in _TEXT_OPERATIONS:
            return says_chat or self.embedding is None
        return self.embedding is not None or not says_chat


class Script(_Part):
    """The whole script; the keys of a script file."""

    replies: list[Reply] = Field(default_factory=list)
    seed: int = 0
    """Vectors and log-probabilities are drawn from it."""
    dimensions: Dimensions = DEFAULT_DIMENSIONS
    """Of vectors, where a reply does not say."""


class Settings(Script):
    """The keys beside `type: scripted`: the script itself, or the file that holds it."""

    script: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Settings:
        if self.script is not None and len(self.model_fields_set) > 1:
            raise ValueError("has script and other keys; write them into the script file")
        return self


def loaded(settings: Settings) -> Script:
    """The script that is meant. Raises ScriptFault."""
    if settings.script is None:
        return settings
    try:
        data: Any = yaml.safe_load(settings.script.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ScriptFault(f"{settings.script}: cannot be read ({exc.__class__.__name__})") from exc
    except yaml.YAMLError as exc:
        raise ScriptFault(f"{settings.script}: is not YAML: {exc}") from exc
    if isinstance(data, list):
        data = {"replies": data}
    try:
        return Script.model_validate(data if data is not None else {})
    except ValidationError as exc:
        raise ScriptFault("\n".join(_lines(settings.script, exc))) from exc


def _lines(path: Path, exc: ValidationError) -> list[str]:
    lines = []
    for error in exc.errors(include_url=False, include_context=False):
        place = ".".join(str(part) for part in error["loc"]) or "the script"
        what = "is not a key" if error["type"] == "extra_forbidden" else error["msg"]
        lines.append(f"{path}: {place}: {what}")
    return lines
