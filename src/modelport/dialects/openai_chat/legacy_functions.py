"""`functions`, `function_call` and the role `function`, which came before tools: rewritten as tools."""

from __future__ import annotations

from typing import Any


def may_hold_functions(body: bytes) -> bool:
    """Whether the typed decode could overlook one of them. (It refuses the role, so that needs no look.)"""
    return b'"function_call"' in body or b'"functions"' in body


def with_tools(fields: dict[str, Any]) -> dict[str, Any]:
    """The same body in terms of tools; what is not understood stays as it is, for the walk to name."""
    rewritten = dict(fields)
    functions = rewritten.pop("functions", None)
    if isinstance(functions, list):
        functions = [{"type": "function", "function": function} for function in functions]
    if functions is not None and rewritten.get("tools") is None:
        rewritten["tools"] = functions
    choice = rewritten.pop("function_call", None)
    if choice is not None and rewritten.get("tool_choice") is None:
        rewritten["tool_choice"] = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    if isinstance(rewritten.get("messages"), list):
        rewritten["messages"] = _messages(rewritten["messages"])
    return rewritten


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
            rewritten.append({**message, "tool_calls": [tool_call]})
        elif message.get("role") == "function":
            id = ids.get(str(message.get("name")), f"call_{i}")
            rewritten.append({**message, "role": "tool", "tool_call_id": id})
        else:
            rewritten.append(message)
    return rewritten
