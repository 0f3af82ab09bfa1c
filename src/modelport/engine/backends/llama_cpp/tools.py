"""Tools by prompt and grammar: what the model is told of them, and what it may write.

The engine's own tool calling follows the tags of each model's template, which small models do not; a grammar they
cannot but follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import msgspec

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.growth import PARTS_LIMIT
from modelport.engine.backends.llama_cpp.schemas import (
    GRAMMAR_HEAD,
    Constraint,
    costly_grammars,
    grammar_rule,
    invalid_schema,
    make_constraint,
)

_TOOLS_LIMIT: Final = 128
_CALLS_LIMIT: Final = 8  # in one answer: small models repeat themselves without end
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BYTES_LIMIT: Final = 262144
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}, "additionalProperties": False}

# A text answer begins with none of what a call begins with: an object, a tag, a fence of JSON. Once it writes
# `{"name": "` it is a call: then only a tool's name and arguments can follow.
_TEXT: Final = r"([^{<`]|`([^`]|`([^`]|`([^j]|j([^s]|s[^o])))))(.|\n)*"
_AUTO_RULES: Final = (
    rf"text: /{_TEXT}/",
    rf'lead[lazy]: /{_TEXT}\{{\s*"name"\s*:\s*"/',
    r'end: "" | "\n```" | "\n</tool_call>"',
    r"between: /\n((```|<\/tool_call>)\n+)?((```(json)?|<tool_call>)\n)?/",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers."""

    name: str
    description: str
    parameters: JsonObject
    constraint: Constraint

    def arguments(self) -> JsonObject:
        """The canonical schema of its arguments."""
        schema = self.constraint.schema.document()
        if "properties" in schema and schema.keys().isdisjoint(("$ref", "allOf", "anyOf", "oneOf")):
            schema = {"additionalProperties": False, **schema}  # small models otherwise invent arguments
        return schema


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request and how they may be used."""

    tools: Mapping[str, Tool]
    mode: Literal["auto", "forced"]
    is_parallel: bool

    def grammar(self) -> str:
        """What the model may write: one call where it is forced, else text, calls, or text and then calls."""
        more = f"(between call){{0,{_CALLS_LIMIT - 1}}}" if self.is_parallel else ""
        tails = " | ".join(rf'"{name}\", \"arguments\": " arguments{at} "}}"' for at, name in enumerate(self.tools))
        rules = [r'call: "{\"name\": \"" tail', f"tail: {tails}"]
        rules += [f"arguments{at}: {grammar_rule(tool.arguments())}" for at, tool in enumerate(self.tools.values())]
        start = "start: call"
        if self.mode == "auto":
            start = rf'start: text | call {more} | "```json\n" call {more} "\n```" | lead tail {more} end'
            rules += _AUTO_RULES
        return GRAMMAR_HEAD + "\n".join([start, *rules]) + "\n"

    def trials(self) -> list[str]:
        """The grammar, and those of its parts that a walk through it may not meet."""
        calls = replace(self, mode="forced").grammar() if self.mode == "auto" else ""
        costly = costly_grammars([tool.constraint.schema for tool in self.tools.values()])
        return [self.grammar(), *([calls] if calls else ()), *costly]

    def prompt(self) -> str:
        """What the model reads of its tools."""
        offered = "\n".join(
            msgspec.json.encode(
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
            ).decode()
            for t in self.tools.values()
        )
        return (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
            "You are provided with function signatures within <tools></tools> XML tags:\n"
            f"<tools>\n{offered}\n</tools>\n\n"
            "If a function is needed, return a json object with name and arguments:\n"
            '{"name": <function-name>, "arguments": <args-json-object>}\n'
            "If no function is needed, answer the user directly in plain text, without a tool call."
        )


def read_tool_use(request: JsonObject, ability: str) -> ToolUse | None:
    """The request's `tools` and `tool_choice`; None where no tool may be called. `ability`: auto, forced or none.

    The schemas of tools that may not be called are not looked at.
    """
    offered, choice = request.get("tools"), request.get("tool_choice")
    if not offered:
        if choice not in (None, "none", "auto"):
            raise WorkerError.invalid("tool_choice", "'tool_choice' needs 'tools'.")
        return None
    functions = _functions(offered)
    if choice == "none":
        return None
    chosen = _chosen(choice, functions)
    is_forced = choice not in (None, "auto")
    if ability == "none" or (ability == "forced" and not is_forced):
        param, message = "tools", "This model does not support tools."
        if ability == "forced":
            message = "This model cannot decide about tools itself; name one in 'tool_choice', or use 'required'."
        raise WorkerError.unsupported(param, message)
    tools = {name: _tool(name, function) for name, function in _within_bounds(chosen).items()}
    if sum(tool.constraint.parts for tool in tools.values()) > PARTS_LIMIT:
        raise invalid_schema("tools", f"they have more than {PARTS_LIMIT} parts together; offer fewer tools")
    return ToolUse(
        tools=tools,
        mode="forced" if is_forced else "auto",
        is_parallel=request.get("parallel_tool_calls") is not False,
    )


def _chosen(choice: Any, functions: Mapping[str, JsonObject]) -> Mapping[str, JsonObject]:
    """The functions that may be called."""
    match choice:
        case None | "auto" | "required":
            return functions
        case {"function": {"name": str(name)}} if name in functions:
            return {name: functions[name]}
        case str(name) if name in functions:
            return {name: functions[name]}
    raise WorkerError.invalid("tool_choice", "'tool_choice' must be auto, none, required or name one of the tools.")


def _functions(offered: Any) -> dict[str, JsonObject]:
    """The offered functions by name."""
    if not isinstance(offered, list) or len(offered) > _TOOLS_LIMIT:
        raise WorkerError.invalid("tools", f"'tools' must be a list of at most {_TOOLS_LIMIT} functions.")
    functions: dict[str, JsonObject] = {}
    for entry in offered:
        match entry:
            case {"type": "function", "function": {"name": str(name)} as function} if _NAME.fullmatch(name):
                if name in functions:
                    raise WorkerError.invalid("tools", "Two tools have the same name.")
                functions[name] = function
            case _:
                raise WorkerError.invalid("tools", "Every tool must be a function with a name of 1-64 letters, _ or -.")
    return functions


def _within_bounds(chosen: Mapping[str, JsonObject]) -> Mapping[str, JsonObject]:
    if sum(len(msgspec.json.encode(function)) for function in chosen.values()) > _BYTES_LIMIT:
        raise WorkerError.invalid(
            "tools", f"The tools that may be called are larger than {_BYTES_LIMIT} bytes together."
        )
    return chosen


def _tool(name: str, function: JsonObject) -> Tool:
    parameters = _parameters(name, function.get("parameters"))
    constraint = make_constraint(parameters, "tools", of=f"the tool '{name}'")
    return Tool(name, str(function.get("description") or ""), parameters, constraint)


def _parameters(name: str, schema: Any) -> JsonObject:
    if not schema:
        return _NO_PARAMETERS
    if not isinstance(schema, dict) or schema.get("type", "object") not in ("object", ["object"]):
        raise WorkerError.invalid("tools", f"The parameters of the tool '{name}' must be a JSON schema of type object.")
    return {"type": "object", **schema}
