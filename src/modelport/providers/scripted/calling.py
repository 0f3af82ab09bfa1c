"""Which tools the scripted model calls: the script's wish, within what the request allows and demands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelport.core.content import Tool
from modelport.core.errors import InvalidParameters, Offence
from modelport.core.requests import ChatRequest, NamedToolChoice
from modelport.providers.scripted.script import Reply, ToolCallReply

_FREE: Final = (None, "auto")


def choose_calls(request: ChatRequest, reply: Reply, text: str) -> tuple[ToolCallReply, ...]:
    """The calls of one choice; none means that the model answers with text. `text`: what the user said last.

    `required` and a named tool force a call in every turn; otherwise the model calls until a tool has answered, so that
    a script cannot run in circles. Raises InvalidParameters for a choice that no tool fits.
    """
    choice = request.tool_choice
    _check_choice(request)
    if not request.tools or choice == "none":
        return ()
    written = reply.tool_calls if isinstance(reply.tool_calls, list) else []
    if choice in _FREE:
        if request.messages[-1].role == "tool" or reply.tool_calls == "never":
            return ()
        calls = [*written] or ([] if reply.says_text else [_fitting_call(request.tools, text)])
    elif isinstance(choice, NamedToolChoice):
        calls = [call for call in written if call.name == choice.name] or [ToolCallReply(name=choice.name)]
    else:
        calls = [*written] or [_fitting_call(request.tools, text)]
    return tuple(calls[:1] if request.extra.get("parallel_tool_calls") is False else calls)


def _check_choice(request: ChatRequest) -> None:
    choice = request.tool_choice
    if choice in (*_FREE, "none"):
        return
    if not request.tools:
        raise _wrong("'tool_choice' needs 'tools'", choice)
    if isinstance(choice, NamedToolChoice) and all(tool.function.name != choice.name for tool in request.tools):
        raise _wrong(f"'tool_choice' names '{choice.name}', which is none of the tools", choice.name)


def _wrong(what: str, value: Any) -> InvalidParameters:
    return InvalidParameters([Offence("invalid_value", ("body", "tool_choice"), what, value)])


def _fitting_call(candidates: Sequence[Tool], text: str) -> ToolCallReply:
    """A call of the tool whose name has most words in common with what the user said; the first of equals."""
    said = set(text.lower().split())

    def shared(tool: Tool) -> int:
        return len(said.intersection(tool.function.name.lower().replace("-", "_").split("_")))

    return ToolCallReply(name=max(candidates, key=shared).function.name)
