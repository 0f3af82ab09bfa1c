"""`functions`, `function_call` and the role `function`, which came before tools: rewritten as tools."""

from __future__ import annotations

from typing import Any

from modelport.core.errors import InvalidParameters, Offence


def speaks_functions(fields: dict[str, Any]) -> bool:
    """Whether the caller knows calls as `function_call`, and not as `tool_calls`."""
    return bool(fields.get("functions")) and fields.get("tools") is None


def with_tools(fields: dict[str, Any]) -> dict[str, Any]:
    """The same body in terms of tools; what is not understood, or is said in both ways, stays as it is."""
    rewritten = dict(fields)
    if rewritten.get("tools") is None:
        functions = rewritten.pop("functions", None)
        if isinstance(functions, list):
            functions = [{"type": "function", "function": function} for function in functions]
        rewritten["tools"] = functions
    if rewritten.get("tool_choice") is None:
        choice = rewritten.pop("function_call", None)
        rewritten["tool_choice"] = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    if isinstance(rewritten.get("messages"), list):
        rewritten["messages"] = _messages(rewritten["messages"])
    return rewritten


def named_as_sent(error: InvalidParameters, fields: dict[str, Any]) -> InvalidParameters:
    """The same offences at the places that the caller knows."""

    def place(loc: tuple[str, ...]) -> tuple[str, ...]:
        match loc:
            case ("body", "tools", index, "function", *rest) if "functions" in fields:
                return ("body", "functions", index, *rest)
            case ("body", "tools", *rest) if "functions" in fields:
                return ("body", "functions", *rest)
            case ("body", "tool_choice", "function", *rest) if "function_call" in fields:
                return ("body", "function_call", *rest)
            case ("body", "tool_choice", *rest) if "function_call" in fields:
                return ("body", "function_call", *rest)
        return loc

    return InvalidParameters([Offence(one.type, place(one.loc), one.msg, one.input) for one in error.offences])


def _messages(messages: list[Any]) -> list[Any]:
    """Calls get the ids that they lacked; a result answers the last call of its function."""
    ids: dict[Any, str] = {}
    rewritten: list[Any] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            rewritten.append(message)
            continue
        call = message.get("function_call")
        if message.get("role") == "assistant" and isinstance(call, dict) and not message.get("tool_calls"):
            id = f"call_{i}"
            ids[str(call.get("name"))] = id
            tool_call = {"id": id, "type": "function", "function": call}
            rest = {name: value for name, value in message.items() if name != "function_call"}
            rewritten.append({**rest, "tool_calls": [tool_call]})
        elif message.get("role") == "function":
            id = ids.get(str(message.get("name")), f"call_{i}")
            rewritten.append({**message, "role": "tool", "tool_call_id": id})
        else:
            rewritten.append(message)
    return rewritten
