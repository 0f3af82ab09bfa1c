"""Tools by prompt and grammar: what the model is told of them, and what it may write.

The engine's own tool calling follows the tags of each model's template, which small models do not; a grammar they
cannot but follow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.schemas import Constraint, make_constraint

_TOOLS_LIMIT: Final = 128
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BYTES_LIMIT: Final = 262144
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}, "additionalProperties": False}

# A text answer begins with none of what a call begins with: an object, a tag, a fence of JSON.
_TEXT_RULE: Final = r"text: /([^{<`]|`([^`]|`([^`]|`([^j]|j([^s]|s[^o])))))(.|\n)*/"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers."""

    name: str
    description: str
    parameters: JsonObject
    constraint: Constraint


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request and how they may be used."""

    tools: Mapping[str, Tool]
    mode: Literal["auto", "forced"]
    is_parallel: bool
    constraint: Constraint = field(repr=False)

    def engine_fields(self) -> dict[str, Any]:
        """What the engine is told."""
        if self.mode == "forced":
            return self.constraint.engine_fields()
        schema = msgspec.json.encode(self.constraint.grammar_schema).decode()
        calls = r"(obj (/\n/ obj)*)" if self.is_parallel else "obj"
        rules = (f'start: {calls} | "```json\\n" {calls} "\\n```" | text', f"obj: %json {schema}", _TEXT_RULE)
        return {"grammar": "%llguidance {}\n" + "\n".join(rules) + "\n"}

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
    """The request's `tools` and `tool_choice`; None where no tool may be called. `ability`: auto, forced or none."""
    offered, choice = request.get("tools"), request.get("tool_choice")
    if not offered:
        if choice not in (None, "none", "auto"):
            raise WorkerError.invalid("tool_choice", "'tool_choice' needs 'tools'.")
        return None
    tools = _tools(offered)
    if choice == "none":
        return None
    chosen = _chosen(choice, tools)
    if ability == "none" or (ability == "forced" and chosen is None):
        param, message = "tools", "This model does not support tools."
        if ability == "forced":
            message = "This model cannot decide about tools itself; name one in 'tool_choice', or use 'required'."
        raise WorkerError.unsupported(param, message)
    usable = tools if chosen is None else chosen
    return ToolUse(
        tools={tool.name: tool for tool in usable},
        mode="auto" if chosen is None else "forced",
        is_parallel=request.get("parallel_tool_calls") is not False,
        constraint=_calls_constraint(usable),
    )


def _chosen(choice: Any, tools: Sequence[Tool]) -> Sequence[Tool] | None:
    match choice:
        case None | "auto":
            return None
        case "required":
            return tools
        case {"function": {"name": str(name)}}:
            named = [tool for tool in tools if tool.name == name]
            if named:
                return named
    raise WorkerError.invalid("tool_choice", "'tool_choice' must be auto, none, required or name one of the tools.")


def _tools(offered: Any) -> list[Tool]:
    if not isinstance(offered, list) or len(offered) > _TOOLS_LIMIT:
        raise WorkerError.invalid("tools", f"'tools' must be a list of at most {_TOOLS_LIMIT} functions.")
    tools: list[Tool] = []
    for entry in offered:
        match entry:
            case {"type": "function", "function": {"name": str(name)} as function} if _NAME.fullmatch(name):
                parameters = _parameters(function.get("parameters"))
                description = str(function.get("description") or "")
                tools.append(Tool(name, description, parameters, make_constraint(parameters, "tools")))
            case _:
                raise WorkerError.invalid("tools", "Every tool must be a function with a name of 1-64 letters, _ or -.")
    if sum(len(msgspec.json.encode(tool.parameters)) for tool in tools) > _BYTES_LIMIT:
        raise WorkerError.invalid("tools", f"'tools' are larger than {_BYTES_LIMIT} bytes together.")
    if len({tool.name for tool in tools}) < len(tools):
        raise WorkerError.invalid("tools", "Two tools have the same name.")
    return tools


def _parameters(schema: Any) -> JsonObject:
    if not schema:
        return _NO_PARAMETERS
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise WorkerError.invalid("tools", "A function's parameters must be a JSON schema of type object.")
    return {"type": "object", **schema}


def _calls_constraint(tools: Sequence[Tool]) -> Constraint:
    """One call of any of the tools: `{"name": …, "arguments": …}`."""
    calls, definitions = [], {}
    for index, tool in enumerate(tools):
        arguments = _moved(tool.parameters, f"#/$defs/tool{index}")
        if "properties" in arguments and "$ref" not in arguments:
            arguments.setdefault("additionalProperties", False)  # small models otherwise invent arguments
        definitions[f"tool{index}"] = arguments
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": {"$ref": f"#/$defs/tool{index}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = {**calls[0], "$defs": definitions} if len(calls) == 1 else {"anyOf": calls, "$defs": definitions}
    return make_constraint(schema, "tools", are_parts_checked=True)


def _moved(node: Any, place: str) -> Any:
    """A schema whose references are right when it stands at `place` of another."""
    if isinstance(node, list):
        return [_moved(inner, place) for inner in node]
    if not isinstance(node, dict):
        return node
    return {
        key: place + value[1:] if key == "$ref" and isinstance(value, str) else _moved(value, place)
        for key, value in node.items()
    }
