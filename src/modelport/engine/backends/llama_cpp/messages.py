"""Reads the messages of a chat request into the turns of a template."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from modelport.dialects.body import JSON_CONTAINERS, holds_more
from modelport.engine.backend import JsonObject, WorkerError
from modelport.engine.backends.llama_cpp.prompts import Role, Turn
from modelport.engine.backends.llama_cpp.segments import Segment

_MESSAGES_LIMIT: Final = 4096
_ROLES: Final[dict[str, Role]] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


# Mistral's own words for `safe_prompt`, which some documents call `safe_mode`.
_SAFETY_TEXT: Final = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)


def read_turns(request: JsonObject, tools_text: str | None) -> list[Turn]:
    """The conversation; `tools_text` tells the model of its tools, in the system turn."""
    turns = _turns(request.get("messages"))
    if tools_text is not None:
        turns = _with_system(turns, Segment(tools_text), is_first=False)
    for name in ("safe_prompt", "safe_mode"):
        if request.get(name) not in (None, False, True):
            raise WorkerError.invalid(name, f"'{name}' must be true or false.")
    is_safe = request.get("safe_prompt") or request.get("safe_mode")
    return _with_system(turns, Segment(_SAFETY_TEXT), is_first=True) if is_safe else turns


def _turns(messages: Any) -> list[Turn]:
    if not isinstance(messages, list) or not messages:
        raise WorkerError.invalid("messages", "'messages' must be a list that is not empty.")
    if len(messages) > _MESSAGES_LIMIT:
        raise WorkerError.invalid("messages", f"'messages' takes at most {_MESSAGES_LIMIT} messages.")
    turns: list[Turn] = []
    for message in messages:
        turn = _turn(message)
        is_next_result = (
            bool(turns) and _is_tool(message) and turns[-1].role == "user" and turns[-1].content[0] == _OPEN
        )
        if is_next_result:  # results of one turn's calls are one turn
            turns[-1] = Turn("user", (*turns[-1].content, Segment("\n", is_trusted=True), *turn.content))
        else:
            turns.append(turn)
    return turns


_USUAL_SYSTEM: Final = Segment("You are a helpful assistant.")
_OPEN: Final = Segment("<tool_response>\n", is_trusted=True)
_CLOSE: Final = Segment("\n</tool_response>", is_trusted=True)


def _with_system(turns: list[Turn], text: Segment, *, is_first: bool) -> list[Turn]:
    """The text as a part of the system turn."""
    told, rest = (turns[0].content, turns[1:]) if turns[0].role == "system" else ((_USUAL_SYSTEM,), turns)
    between = Segment("\n\n")
    return [Turn("system", (text, between, *told) if is_first else (*told, between, text)), *rest]


def _is_tool(message: JsonObject) -> bool:
    return message.get("role") == "tool"


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict):
        raise WorkerError.invalid("messages", "Every message must be an object.")
    role = message.get("role")
    if role == "tool":
        return Turn("user", (_OPEN, *_content(message), _CLOSE))
    if role not in _ROLES:
        raise WorkerError.invalid("messages", "A message's role must be system, developer, user, assistant or tool.")
    if role == "assistant":
        return Turn("assistant", (*_content(message), *_tool_calls(message.get("tool_calls"))))
    if message.get("content") is None:
        raise WorkerError.invalid("messages", f"A message of role {role} must have content.")
    return Turn(_ROLES[role], tuple(_content(message)))


def _content(message: JsonObject) -> list[Segment]:
    content = message.get("content")
    if not content and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    if content is None:
        return []
    if isinstance(content, str):
        return [Segment(content)]
    if not isinstance(content, list):
        raise WorkerError.invalid("messages", "A message's content must be a text or a list of parts.")
    return [Segment("".join(_part(part) for part in content))]


def _part(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "image_url" | "input_audio" | "audio_url" | "file" as kind}:
            raise WorkerError.unsupported("messages", f"This model reads text only, not '{kind}'.")
        case _:
            raise WorkerError.invalid("messages", "A content part must have a known type and its value.")


def _tool_calls(calls: Any) -> list[Segment]:
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise WorkerError.invalid("messages", "'tool_calls' must be a list.")
    segments: list[Segment] = []
    for call in calls:
        match call:
            case {"function": {"name": str(name), "arguments": arguments}}:
                written = msgspec.json.encode({"name": name, "arguments": _arguments(arguments)}).decode()
            case _:
                raise WorkerError.invalid("messages", "A tool call must have a function with name and arguments.")
        segments += [
            Segment("\n<tool_call>\n", is_trusted=True),
            Segment(written),
            Segment("\n</tool_call>", is_trusted=True),
        ]
    return segments


def _arguments(arguments: Any) -> Any:
    """Arguments come as the JSON text that the model wrote, which need not be JSON."""
    if not isinstance(arguments, str):
        return arguments
    if holds_more(arguments.encode("utf-8", "replace"), JSON_CONTAINERS):
        return arguments  # a text that the request's own count has not looked into
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
