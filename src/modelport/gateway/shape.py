"""What may be asked: a parsed request × a model's profile → the request as the model can take it.

Extras are settled first, then every parameter is held against the profile: a known
parameter that the model cannot take is 422, or dropped where the caller said `drop`. Last, the request is rewritten
where a model needs it: system text folded into the first user turn, a safety prompt put in front, `max_tokens` capped.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgspec

from modelport.core.catalog import Deployment, ExtraParametersMode, ModelProfile, Range
from modelport.core.content import ImagePart, Message, TextPart
from modelport.core.errors import ExtraParametersOptionUnknown, ExtraParametersRefused, InvalidParameters, Offence
from modelport.core.ports.stages import Refusal
from modelport.core.requests import (
    DEFAULTS,
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    Request,
)
from modelport.gateway.extras import RULES, extra_offences
from modelport.gateway.fitting import beyond_context
from modelport.gateway.strict import strict_refusal

R = TypeVar("R", bound=Request)
EXAMINED: Final = frozenset(RULES)
MODES: Final = {"error": "error", "drop": "drop", "pass-through": "pass-through"}


class Shaped(msgspec.Struct, frozen=True):
    """The request that goes on, and the names of what was dropped from it, in the order met."""

    request: Request
    dropped: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """A parameter that the model takes within bounds, or not at all."""

    name: str
    range: Range | None
    neutral: Any = None
    """The value that says the same as none."""


class Accepted(msgspec.Struct, frozen=True):
    """Chats that a model takes as they are, in terms that are quick to look at."""

    rules: tuple[Rule, ...] = ()
    formats: frozenset[str] | None = None
    takes_tools: bool = True
    takes_parts: bool = True
    """Contents that are more than one text."""
    context: int | None = None
    """Tokens."""
    examined: frozenset[str] | None = None
    """Further parameters that are looked at more closely; the others are passed on. None: all are."""

    def has(self, request: ChatRequest) -> bool:
        """Whether this is one. False: look more closely."""
        if request.modalities is not None:
            return False
        if request.extra and (self.examined is None or not self.examined.isdisjoint(request.extra)):
            return False
        if not (request.tools and self.takes_tools) and (request.tools or request.tool_choice is not None):
            return False
        for rule in self.rules:
            value = getattr(request, rule.name)
            if value is None or value == rule.neutral:
                continue
            if rule.range is None or not isinstance(value, int | float) or not within(value, rule.range):
                return False
        wanted = request.response_format
        if wanted is not None and self.formats is not None and wanted.type not in self.formats:
            return False
        if self.context is not None and beyond_context(request, self.context) is not None:
            return False
        return self.takes_parts or all(type(message.content) is str for message in request.messages)


def accepted(deployment: Deployment, *, header: str | None, checks_extras: bool, strict: bool) -> Accepted | None:
    """What `shape` with these arguments lets pass unchanged. None: nothing does without a closer look."""
    profile = deployment.profile
    mode = mode_of(header, deployment.extra_parameters) if checks_extras else "pass-through"
    examined = EXAMINED | profile.unsupported_extras if mode == "pass-through" else None
    if strict or mode is None or profile.system_role == "fold":
        return None
    if not profile.known:
        return Accepted(context=profile.context, examined=examined)
    rules = [
        Rule(name, rule if isinstance(rule, Range) else None, DEFAULTS[ChatRequest].get(name))
        for name, rule in profile.parameters.items()
        if rule is not True and name in ChatRequest.__struct_fields__
    ]
    if profile.max_output is not None:
        rules.append(Rule("max_tokens", Range(None, profile.max_output)))
    takes_tools, takes_parts = profile.tools is not False, profile.inputs is None
    return Accepted(tuple(rules), profile.formats, takes_tools, takes_parts, profile.context, examined)


def shape(
    request: Request,
    deployment: Deployment,
    *,
    header: str | None,
    checks_extras: bool,
    strict: bool = False,
) -> Shaped | Refusal:
    """`header`: the extra-parameters header as sent; `checks_extras`: whether the surface knows it at all."""
    mode = mode_of(header, deployment.extra_parameters) if checks_extras else "pass-through"
    if mode is None:
        return Refusal(ExtraParametersOptionUnknown(str(header)))
    if strict and (error := strict_refusal(request, checks_extras=checks_extras, mode=mode)) is not None:
        return Refusal(error)
    dropped: list[str] = []
    if request.extra and mode == "error":
        return Refusal(ExtraParametersRefused(tuple(request.extra)))
    if request.extra and mode == "drop":
        dropped.extend(request.extra)
        request = msgspec.structs.replace(request, extra={})
    offences = extra_offences(request, deployment.profile, deployment.model.name)
    checked = [*unsupported(request, deployment, strict=strict)]
    if mode == "drop":
        resets = DEFAULTS[type(request)]
        droppable = [name for name, _ in checked if name in resets]
        if "tools" in droppable and isinstance(request, ChatRequest) and request.tool_choice is not None:
            droppable.append("tool_choice")  # it means nothing without them, and some models refuse it then
        dropped.extend(droppable)
        request = msgspec.structs.replace(request, **{name: resets[name] for name in droppable})
        checked = [(name, offence) for name, offence in checked if name not in droppable]
    offences.extend(offence for _, offence in checked)
    if offences:
        return Refusal(InvalidParameters(offences))
    if (beyond := beyond_context(request, deployment.profile.context)) is not None:
        return Refusal(beyond)
    if isinstance(request, ChatRequest) and not request.tools:
        request, without_tools = without_tool_options(request)
        dropped.extend(without_tools)
    return Shaped(rewritten(request, deployment.profile), tuple(dict.fromkeys(dropped)))


def without_tool_options(request: ChatRequest) -> tuple[ChatRequest, list[str]]:
    """The request without what is said about tools though it has none, and the names: many upstreams refuse that."""
    dropped = ["tool_choice"] if request.tool_choice is not None else []
    extra = request.extra
    if "parallel_tool_calls" in extra:
        dropped.append("parallel_tool_calls")
        extra = {name: value for name, value in extra.items() if name != "parallel_tool_calls"}
    return (msgspec.structs.replace(request, tool_choice=None, extra=extra), dropped) if dropped else (request, [])


def mode_of(header: str | None, default: ExtraParametersMode) -> ExtraParametersMode | None:
    """The mode a header asks for (`pass_through` is `pass-through`); None: it names none."""
    if header is None:
        return default
    return cast("ExtraParametersMode | None", MODES.get(header.strip().lower().replace("_", "-")))


def unsupported(request: Request, deployment: Deployment, *, strict: bool) -> list[tuple[str, Offence]]:
    """Every parameter that the model's profile rules out, by name."""
    profile, model = deployment.profile, deployment.model.name
    if not profile.known:
        return []
    if isinstance(request, ChatRequest):
        return [*parameter_offences(request, profile, model, strict), *chat_offences(request, profile, model)]
    if isinstance(request, CompletionsRequest):
        return parameter_offences(request, profile, model, strict)
    return embeddings_offences(request, profile, model)


def parameter_offences(
    request: ChatRequest | CompletionsRequest, profile: ModelProfile, model: str, strict: bool
) -> list[tuple[str, Offence]]:
    """Standard parameters against the profile's table."""
    found: list[tuple[str, Offence]] = []
    resets = DEFAULTS[type(request)]
    for name, rule in profile.parameters.items():
        value = getattr(request, name, None)
        if value is None or value == resets.get(name):
            continue
        if rule is False:
            found.append((name, refused(name, model, value)))
        elif isinstance(rule, Range) and not within(value, rule) and (strict or name != "temperature"):
            found.append((name, out_of_range(name, model, value, rule)))
    return found


def chat_offences(request: ChatRequest, profile: ModelProfile, model: str) -> list[tuple[str, Offence]]:
    """Formats, tools and the kinds of content."""
    found: list[tuple[str, Offence]] = []
    wanted = request.response_format
    if wanted is not None and profile.formats is not None and wanted.type not in profile.formats:
        found.append(("response_format", refused("response_format", model, plain(wanted), word=wanted.type)))
    if profile.tools is False:
        if request.tools:
            found.append(("tools", refused("tools", model, plain(request.tools))))
        if request.tool_choice not in (None, "none", "auto"):
            found.append(("tool_choice", refused("tool_choice", model, plain(request.tool_choice))))
    if request.modalities and any(kind not in ("text",) for kind in request.modalities):
        found.append(("modalities", refused("modalities", model, list(request.modalities))))
    if profile.inputs is not None:
        found.extend(("messages", offence) for offence in content_offences(request, profile.inputs, model))
    return found


def content_offences(request: ChatRequest, inputs: frozenset[str], model: str) -> list[Offence]:
    """Parts that the model cannot read, each with its place."""
    found = []
    for i, message in enumerate(request.messages):
        if not isinstance(message.content, tuple):
            continue
        for j, part in enumerate(message.content):
            kind = "text" if isinstance(part, TextPart) else "image" if isinstance(part, ImagePart) else "audio"
            if kind not in inputs:
                loc = ("body", "messages", str(i), "content", str(j), "type")
                text = f"Model '{model}' does not support {kind} input"
                found.append(Offence("parameter_not_supported", loc, text, plain(part)["type"]))
    return found


def embeddings_offences(
    request: EmbeddingsRequest | ImageEmbeddingsRequest, profile: ModelProfile, model: str
) -> list[tuple[str, Offence]]:
    """`dimensions`, `input_type`, `encoding_format` and the number of inputs."""
    found: list[tuple[str, Offence]] = []
    wanted = request.dimensions
    if wanted is not None:
        sizes = profile.dimensions or ()
        if profile.dimensions_selectable is False:
            found.append(("dimensions", refused("dimensions", model, wanted)))
        elif profile.dimensions_selectable and len(sizes) > 1 and wanted not in sizes:
            found.append(("dimensions", refused("dimensions", model, wanted, word=str(wanted))))
        elif profile.dimensions_selectable and sizes and wanted > max(sizes):
            found.append(("dimensions", out_of_range("dimensions", model, wanted, Range(1, max(sizes)))))
    kind = request.input_type
    if kind is not None and profile.input_types is not None and kind not in profile.input_types:
        found.append(("input_type", refused("input_type", model, kind, word=kind)))
    encoding = request.encoding_format
    if profile.encoding_formats is not None and encoding not in profile.encoding_formats:
        found.append(("encoding_format", refused("encoding_format", model, encoding, word=encoding)))
    if profile.max_inputs is not None and len(request.input) > profile.max_inputs:
        text = f"Model '{model}' takes at most {profile.max_inputs} inputs in one call, {len(request.input)} were sent"
        found.append(("input", Offence("too_long", ("body", "input"), text, len(request.input))))
    return found


def rewritten(request: Request, profile: ModelProfile) -> Request:
    """The request as this model needs it."""
    if not profile.known or not isinstance(request, ChatRequest | CompletionsRequest):
        return request
    changes: dict[str, Any] = {}
    if profile.max_output is not None and request.max_tokens is not None and request.max_tokens > profile.max_output:
        changes["max_tokens"] = profile.max_output
    temperature = profile.parameters.get("temperature")
    if isinstance(temperature, Range) and request.temperature is not None:
        changes["temperature"] = clamped(request.temperature, temperature)
    if isinstance(request, ChatRequest):
        messages = request.messages
        if profile.safety_prompt is not None:
            asked = [name for name in ("safe_prompt", "safe_mode") if name in request.extra]
            if any(request.extra[name] is True for name in asked):
                messages = (Message(role="system", content=profile.safety_prompt), *messages)
            if asked:
                changes["extra"] = {k: v for k, v in request.extra.items() if k not in asked}
        if profile.system_role == "fold":
            messages = folded(messages)
        if messages is not request.messages:
            changes["messages"] = messages
    return cast(Request, msgspec.structs.replace(request, **changes)) if changes else request


def folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """System and developer text in front of the first user turn, a blank line between; alone, it becomes one."""
    system = [m.text() for m in messages if m.role in ("system", "developer")]
    if not system:
        return messages
    rest = [m for m in messages if m.role not in ("system", "developer")]
    text = "\n\n".join(system)
    for i, message in enumerate(rest):
        if message.role != "user":
            continue
        if isinstance(message.content, tuple):
            content: str | tuple[Any, ...] = (TextPart(text + "\n\n"), *message.content)
        else:
            content = f"{text}\n\n{message.content or ''}"
        rest[i] = msgspec.structs.replace(message, content=content)
        return tuple(rest)
    return (Message(role="user", content=text), *rest)


def within(value: Any, rule: Range) -> bool:
    """Whether a number is inside inclusive bounds."""
    return (rule.minimum is None or value >= rule.minimum) and (rule.maximum is None or value <= rule.maximum)


def clamped(value: float, rule: Range) -> float:
    """The nearest number inside the bounds."""
    low = value if rule.minimum is None else max(value, rule.minimum)
    return low if rule.maximum is None else min(low, rule.maximum)


def refused(name: str, model: str, value: Any, *, word: str | None = None) -> Offence:
    """The sentence for a parameter the model does not have."""
    what = f"'{name}'" if word is None else f"'{name}' = {word}"
    return Offence("parameter_not_supported", ("body", name), f"Model '{model}' does not support {what}", plain(value))


def out_of_range(name: str, model: str, value: Any, rule: Range) -> Offence:
    """The sentence for a number outside the model's bounds."""
    bounds = (
        f"between {rule.minimum:g} and {rule.maximum:g}" if None not in (rule.minimum, rule.maximum) else "in range"
    )
    return Offence("out_of_range", ("body", name), f"Model '{model}' takes '{name}' {bounds}", value)


def plain(value: Any) -> Any:
    """The value as it stood on the wire."""
    return msgspec.to_builtins(value)
